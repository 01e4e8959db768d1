//! GET of one object: straight from the cache's bytes once the cache is as new as asked for.

use super::Scope;
use crate::error::{ApiResult, malformed_version, stale, too_large};
use crate::respond::Reply;
use http::StatusCode;

pub(crate) async fn get(scope: &Scope) -> ApiResult<Reply> {
    wait(scope, scope.call.query.non_empty("resourceVersion")).await?;
    let entry = scope.resource.cache.get(scope.namespace(), scope.name()).ok_or_else(|| scope.not_found())?;
    let entry = scope.resource.shown_one(entry).await?;
    scope.view().one(StatusCode::OK, entry.stored(), entry.layout(), entry.revision())
}

/// Waits until the cache is as new as `version` wants: unset is everything acknowledged, 0 is anything.
pub(crate) async fn wait(scope: &Scope, version: Option<&str>) -> ApiResult<()> {
    let caches = &scope.resource.caches;
    match version {
        None => caches.catch_up().await.map_err(stale),
        Some("0") => Ok(()),
        Some(version) => {
            let revision = parse_revision(version).map_err(malformed_version)?;
            caches.reach(revision).await.map_err(too_large)
        }
    }
}

/// A resourceVersion that is none; it says so as upstream does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MalformedVersion {
    version: String,
    /// A number, but too large a one.
    out_of_range: bool,
}

impl std::fmt::Display for MalformedVersion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (version, problem) =
            (&self.version, if self.out_of_range { "value out of range" } else { "invalid syntax" });
        write!(
            formatter,
            "resourceVersion: Invalid value: {version:?}: strconv.ParseUint: parsing {version:?}: {problem}"
        )
    }
}

/// Reads a resourceVersion. Those beyond the store's numbers are of a future that does not come.
pub(super) fn parse_revision(version: &str) -> Result<i64, MalformedVersion> {
    let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    match version.parse::<u64>() {
        Ok(revision) if digits => Ok(i64::try_from(revision).unwrap_or(i64::MAX)),
        _ => Err(MalformedVersion { version: version.to_owned(), out_of_range: digits }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        let check = |version: &str, expected: Result<i64, &str>| {
            let found = parse_revision(version).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{version}");
        };
        check("0", Ok(0));
        check("17", Ok(17));
        check("18446744073709551615", Ok(i64::MAX));
        check(
            "x",
            Err("resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax"),
        );
        check(
            "-1",
            Err("resourceVersion: Invalid value: \"-1\": strconv.ParseUint: parsing \"-1\": invalid syntax"),
        );
        check(
            "+1",
            Err("resourceVersion: Invalid value: \"+1\": strconv.ParseUint: parsing \"+1\": invalid syntax"),
        );
        check(
            "18446744073709551616",
            Err("resourceVersion: Invalid value: \"18446744073709551616\": strconv.ParseUint: parsing \
                 \"18446744073709551616\": value out of range"),
        );
    }
}
