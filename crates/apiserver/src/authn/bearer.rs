//! Where a bearer token stands in a request: the `Authorization` header, or for browsers, which cannot set that on a WebSocket, one
//! of its subprotocols. Whose token it is is not known here.

use super::InvalidCredentials;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};

const PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

fn refused(reason: &str) -> InvalidCredentials {
    InvalidCredentials { reason: reason.to_owned() }
}

/// The token of a request, if it carries one.
///
/// # Errors
/// When a subprotocol says that it is a token and is none.
pub fn token(headers: &HeaderMap) -> Result<Option<String>, InvalidCredentials> {
    match header_token(headers) {
        Some(token) => Ok(Some(token.to_owned())),
        None => protocol_token(headers),
    }
}

fn header_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(wanted))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

fn protocol_token(headers: &HeaderMap) -> Result<Option<String>, InvalidCredentials> {
    if !is_websocket(headers) {
        return Ok(None);
    }
    let (tokens, others): (Vec<&str>, Vec<&str>) =
        protocols(headers).partition(|protocol| protocol.starts_with(PROTOCOL));
    let encoded = match tokens.as_slice() {
        [] => return Ok(None),
        [one] => &one[PROTOCOL.len()..],
        _ => return Err(refused("multiple base64.bearer.authorization tokens specified")),
    };
    let decoded = URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(|| refused("invalid base64.bearer.authorization token encoding"))?;
    if others.is_empty() {
        // The answer must choose one, and it cannot be the token.
        return Err(refused("missing additional subprotocol"));
    }
    Ok(Some(decoded).filter(|token| !token.is_empty()))
}

/// Takes the token out of the headers: nobody behind authentication needs it, a kubelet least of all.
pub(crate) fn conceal(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    if !protocols(headers).any(|protocol| protocol.starts_with(PROTOCOL)) {
        return;
    }
    let kept: Vec<&str> = protocols(headers).filter(|protocol| !protocol.starts_with(PROTOCOL)).collect();
    let kept = HeaderValue::from_str(&kept.join(", "));
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    // Parts of a header value make a header value.
    if let Ok(kept) = kept {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn websocket(protocols: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocols));
        headers
    }

    #[test]
    fn tokens_stand_in_headers_and_in_subprotocols() {
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers), Ok(None));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer  abc "));
        assert_eq!(token(&headers), Ok(Some("abc".to_owned())));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic abc"));
        assert_eq!(token(&headers), Ok(None));
        let mut headers = websocket("base64url.bearer.authorization.k8s.io.YWJj, v5.channel.k8s.io");
        assert_eq!(token(&headers), Ok(Some("abc".to_owned())));
        conceal(&mut headers);
        assert_eq!(headers[header::SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
        assert_eq!(token(&headers), Ok(None));
    }

    #[test]
    fn broken_subprotocols_are_refused() {
        let cases = [
            ("base64url.bearer.authorization.k8s.io.YWJj", "missing additional subprotocol"),
            (
                "base64url.bearer.authorization.k8s.io.%%, v4.channel.k8s.io",
                "invalid base64.bearer.authorization token encoding",
            ),
            (
                "base64url.bearer.authorization.k8s.io.YQ, base64url.bearer.authorization.k8s.io.YQ, x",
                "multiple base64.bearer.authorization tokens specified",
            ),
        ];
        for (protocols, expected) in cases {
            assert_eq!(token(&websocket(protocols)).unwrap_err().reason, expected, "{protocols}");
        }
    }
}
