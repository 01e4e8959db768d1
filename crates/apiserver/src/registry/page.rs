//! Pages of a list: the continue token, and upstream's rules for resourceVersion, its match, limit and continue.

use super::get::parse_revision;
use crate::error::ApiResult;
use crate::request::Query;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, Engine as _};
use nauplius_meta::error::ApiError;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::gvk::GroupKind;
use nauplius_meta::json;
use serde_json::json;

/// The only token version that upstream writes.
const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// At which revision to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// Everything acknowledged so far.
    Newest,
    /// Whatever the cache has.
    Any,
    /// At least this.
    NotOlderThan(i64),
    /// Exactly this.
    Exactly(i64),
}

/// What part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub at: At,
    /// 0 for all.
    pub limit: usize,
    /// The path (`namespace/name`) to start at, from a continue token.
    pub start: Option<String>,
    /// How many there are from there on, from the same token: so that no later page has to count them.
    pub left: Option<usize>,
}

impl Page {
    /// Reads the query.
    pub fn of(query: &Query) -> ApiResult<Self> {
        let number = |name: &str| match query.non_empty(name).map(|text| (text, text.parse::<i64>())) {
            Some((_, Ok(number))) => Ok(number),
            Some((text, Err(_))) => {
                let message = format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
                Err(ApiError::bad_request(message))
            }
            None => Ok(0),
        };
        let limit = number("limit")?;
        // A list takes the time that it takes, but the number has to be one.
        number("timeoutSeconds")?;
        check(query)?;
        // Upstream takes a negative limit for none.
        let limit = usize::try_from(limit).unwrap_or(0);
        let version = query.non_empty("resourceVersion");
        if let Some(token) = query.non_empty("continue") {
            return Self::from_token(token, version, limit);
        }
        let exact = query.get("resourceVersionMatch") == Some("Exact");
        let explicit = query.non_empty("resourceVersionMatch").is_some();
        let at = match version {
            None => At::Newest,
            Some("0") => At::Any,
            Some(version) => {
                let revision = parse_revision(version)
                    .map_err(|error| ApiError::bad_request(format!("invalid resource version: {error}")))?;
                // Without a match, a limited list means exactly that revision.
                if exact || (!explicit && limit > 0) {
                    At::Exactly(revision)
                } else {
                    At::NotOlderThan(revision)
                }
            }
        };
        // As of today, upstream's cache shows all that it has to who takes anything.
        let limit = if at == At::Any { 0 } else { limit };
        Ok(Self { at, limit, start: None, left: None })
    }

    fn from_token(token: &str, version: Option<&str>, limit: usize) -> ApiResult<Self> {
        let Token { revision, start, left } = decode_token(token).map_err(|reason| {
            ApiError::bad_request(format!("invalid continue token: continue key is not valid: {reason}"))
        })?;
        if version.is_some_and(|version| version != "0") {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        // A token from an expired list goes on at the newest revision.
        let at = if revision < 0 { At::Newest } else { At::Exactly(revision) };
        Ok(Self { at, limit, start: Some(start), left: left.filter(|_| revision > 0) })
    }
}

fn check(query: &Query) -> ApiResult<()> {
    let mut errors = Vec::new();
    let path = Path::new("resourceVersionMatch");
    if let Some(wanted) = query.non_empty("resourceVersionMatch") {
        let version = query.non_empty("resourceVersion");
        let mut forbid = |detail: &str| errors.push(FieldError::forbidden(&path, detail));
        if version.is_none() {
            forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if query.non_empty("continue").is_some() {
            forbid("resourceVersionMatch is forbidden when continue is provided");
        }
        if wanted == "Exact" && version == Some("0") {
            forbid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        if !matches!(wanted, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(&path, wanted, &["Exact", "NotOlderThan", ""]));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        let path = Path::new("sendInitialEvents");
        errors.push(FieldError::forbidden(&path, "sendInitialEvents is forbidden for list"));
    }
    refuse(errors)
}

/// 422 for list options.
pub(super) fn refuse(errors: Vec<FieldError>) -> ApiResult<()> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&GroupKind::new("meta.k8s.io", "ListOptions"), "", errors))
}

/// A token that goes on after `last` at `revision`; a negative revision means the newest.
pub(crate) fn encode_token(revision: i64, last: &str, left: Option<usize>) -> String {
    let mut token = json!({"v": TOKEN_VERSION, "rv": revision, "start": format!("{last}\0")});
    if let Some(left) = left {
        token["left"] = left.into();
    }
    URL_SAFE_NO_PAD.encode(token.to_string())
}

/// As Go's decoder says it.
fn illegal_base64(error: &DecodeError) -> String {
    let at = match error {
        DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => *at,
        DecodeError::InvalidLength(length) => length.saturating_sub(1),
        DecodeError::InvalidPadding => 0,
    };
    format!("illegal base64 data at input byte {at}")
}

struct Token {
    revision: i64,
    start: String,
    left: Option<usize>,
}

fn decode_token(token: &str) -> Result<Token, String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|error| illegal_base64(&error))?;
    let token = json::decode(&bytes).map_err(|error| error.to_string())?;
    if token["v"] != TOKEN_VERSION {
        let version = token["v"].as_str().unwrap_or_default();
        return Err(format!("server does not recognize this encoded version {version}"));
    }
    let revision = token["rv"].as_i64().filter(|revision| *revision != 0);
    let revision = revision.ok_or("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")?;
    let start = token["start"].as_str().unwrap_or_default();
    if start.is_empty() {
        return Err("encoded start key empty (version meta.k8s.io/v1)".to_owned());
    }
    let climbs = start.split('/').any(|part| matches!(part, "" | "." | ".."));
    if climbs {
        return Err(start.to_owned());
    }
    let left = token["left"].as_u64().and_then(|left| usize::try_from(left).ok());
    Ok(Token { revision, start: start.to_owned(), left })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_page(query: &str, expected: &str) {
        let shown = match Page::of(&Query::parse(query)) {
            Ok(page) => format!("{:?} {} {:?}", page.at, page.limit, page.start),
            Err(error) => format!("{} {}", error.code(), error.message()),
        };
        assert_eq!(shown, expected, "{query}");
    }

    #[test]
    fn upstreams_rules() {
        let invalid = |rest: &str| format!("422 ListOptions.meta.k8s.io \"\" is invalid: {rest}");
        check_page("", "Newest 0 None");
        check_page("resourceVersion=0", "Any 0 None");
        check_page("resourceVersion=0&limit=5", "Any 0 None");
        check_page("resourceVersion=7", "NotOlderThan(7) 0 None");
        check_page("resourceVersion=7&limit=2", "Exactly(7) 2 None");
        check_page("resourceVersion=7&limit=2&resourceVersionMatch=NotOlderThan", "NotOlderThan(7) 2 None");
        check_page("resourceVersion=7&resourceVersionMatch=Exact", "Exactly(7) 0 None");
        check_page(&format!("continue={}", encode_token(9, "a/b", None)), "Exactly(9) 0 Some(\"a/b\\0\")");
        check_page(
            &format!("limit=3&continue={}", encode_token(-1, "a/b", None)),
            "Newest 3 Some(\"a/b\\0\")",
        );
        check_page(
            "resourceVersionMatch=Exact",
            &invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ),
        );
        check_page(
            "resourceVersionMatch=Exact&resourceVersion=0",
            &invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            ),
        );
        check_page("timeoutSeconds=x", "400 strconv.ParseInt: parsing \"x\": invalid syntax");
        check_page(
            "continue=abc",
            "400 invalid continue token: continue key is not valid: invalid character 'i' looking for beginning of value",
        );
        check_page(
            &format!("resourceVersion=4&continue={}", encode_token(9, "a/b", None)),
            "400 specifying resource version is not allowed when using continue",
        );
    }
}
