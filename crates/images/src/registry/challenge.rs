//! HTTP authentication: reading challenges, writing answers, asking token services. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::Auth;
use super::exchange::Call;

/// One way in that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Lower case.
    pub(super) scheme: String,
    pub(super) parameters: Vec<(String, String)>,
}

impl Challenge {
    /// One of the parameters.
    pub(super) fn parameter(&self, key: &str) -> Option<&str> {
        self.parameters.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// Reads `WWW-Authenticate` headers; what makes no sense is left out.
pub(super) fn parse<'a>(headers: impl IntoIterator<Item = &'a HeaderValue>) -> Vec<Challenge> {
    // A header that is not text offers nothing.
    headers.into_iter().filter_map(|value| value.to_str().ok()).flat_map(parse_one).collect()
}

/// `Scheme key="value", key=value, Scheme2 ...`: a word without `=` starts a new challenge.
fn parse_one(mut text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    loop {
        text = text.trim_start_matches([' ', ',', '\t']);
        if text.is_empty() {
            return challenges;
        }
        let end = text.find([' ', '=', ',']).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        match (rest.strip_prefix('='), challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, after) = parse_value(value);
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                text = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                text = rest;
            }
        }
    }
}

fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, letter) in quoted.char_indices() {
        match letter {
            _ if escaped => {
                value.push(letter);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            _ => value.push(letter),
        }
    }
    (value, "")
}

/// An `Authorization` header; none for what no header can carry.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

/// An `Authorization` header.
pub(super) fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    sensitive(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?; // Control characters: the caller says whose.
    value.set_sensitive(true);
    Some(value)
}

/// The request to the token service that a challenge names.
pub(super) fn token_call(challenge: &Challenge, default_scope: &str, auth: Option<&Auth>) -> Option<Call> {
    let realm = challenge.parameter("realm")?;
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut query = format!("scope={}", encode(challenge.parameter("scope").unwrap_or(default_scope)));
    if let Some(service) = challenge.parameter("service") {
        query = format!("service={}&{query}", encode(service));
    }
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(Auth::IdentityToken(token)) = auth {
        let form =
            format!("grant_type=refresh_token&client_id=nauplius&refresh_token={}&{query}", encode(token));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let url = realm.to_owned();
        return Some(Call { method: "POST", url, headers, authorization: None, body: Bytes::from(form) });
    }
    let authorization = match auth {
        Some(Auth::Basic { username, password }) => Some(basic(username, password)?),
        _ => None,
    };
    let separator = if realm.contains('?') { '&' } else { '?' };
    let url = format!("{realm}{separator}{query}");
    Some(Call { method: "GET", url, headers, authorization, body: Bytes::new() })
}

/// The token in a token service's answer.
pub(super) fn token_in(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?; // The caller has the words.
    answer.token.or(answer.access_token).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let check = |text: &'static str, expected: &[(&str, &[(&str, &str)])]| {
            let expected: Vec<Challenge> = expected
                .iter()
                .map(|(scheme, parameters)| Challenge {
                    scheme: (*scheme).to_owned(),
                    parameters: parameters
                        .iter()
                        .map(|(key, value)| ((*key).into(), (*value).into()))
                        .collect(),
                })
                .collect();
            assert_eq!(parse([&HeaderValue::from_static(text)]), expected, "{text}");
        };
        check(
            r#"Bearer realm="https://auth.io/token",service="reg.io",scope="repository:a/b:pull,push""#,
            &[(
                "bearer",
                &[
                    ("realm", "https://auth.io/token"),
                    ("service", "reg.io"),
                    ("scope", "repository:a/b:pull,push"),
                ],
            )],
        );
        check(
            r#"Basic realm="a \"b\"", Bearer realm=x"#,
            &[("basic", &[("realm", "a \"b\"")]), ("bearer", &[("realm", "x")])],
        );
        check("Negotiate", &[("negotiate", &[])]);
        check("=x", &[]);
        check("", &[]);
    }

    #[test]
    fn tokens_are_asked_for() {
        let challenge = &parse([&HeaderValue::from_static(r#"Bearer realm="https://a/t",service="s s""#)])[0];
        let call = token_call(challenge, "repository:x:pull", None).unwrap();
        assert_eq!(call.url, "https://a/t?service=s%20s&scope=repository%3Ax%3Apull");
        let call = token_call(challenge, "r", Some(&Auth::IdentityToken("t".into()))).unwrap();
        assert_eq!((call.method, call.url.as_str()), ("POST", "https://a/t"));
        assert_eq!(token_in(br#"{"access_token":"x"}"#), Some("x".into()));
        assert_eq!(token_in(b"<html>"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_survived(text in "[ -~]{0,60}") {
            let _ = parse_one(&text);
        }
    }
}
