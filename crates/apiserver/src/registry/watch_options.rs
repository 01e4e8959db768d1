//! What a client says of a watch: where it begins, whether objects come first, whether there are bookmarks, how long it lasts. What is
//! sent is not known here.

use super::get::parse_revision;
use super::page::refuse;
use crate::error::{ApiResult, malformed_version};
use crate::request::Query;
use nauplius_base::id;
use nauplius_meta::error::ApiError;
use nauplius_meta::field::{FieldError, Path};
use std::time::Duration;

/// The shortest watch when the client does not say; the longest is twice that, as upstream's `--min-request-timeout`.
const MIN_TIMEOUT_S: u64 = 1_800;
/// The longest that a client may ask for: ten years, which any clock can add to its time.
const MAX_TIMEOUT_S: u64 = 10 * 366 * 86_400;

/// Where a watch begins and how long it lasts.
pub(super) struct Options {
    /// Wait until the cache is this new before the snapshot is taken: empty is everything acknowledged.
    pub wait_for: Option<String>,
    /// The revision after which changes are sent; `None` is the snapshot's.
    pub after: Option<i64>,
    /// Whether the objects that are there come first.
    pub initial_events: bool,
    /// Whether a bookmark says that they were the last of them.
    pub end_bookmark: bool,
    /// Whether there are bookmarks once in a while.
    pub bookmarks: bool,
    /// How long it lasts.
    pub timeout: Duration,
}

impl Options {
    pub fn of(query: &Query) -> ApiResult<Self> {
        check(query)?;
        let version = query.get("resourceVersion").unwrap_or_default();
        let from_now = matches!(version, "" | "0");
        let requested = query.non_empty("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
        let initial_events = requested.unwrap_or(from_now);
        let explicit = !from_now && !initial_events;
        let revision = || parse_revision(version).map_err(malformed_version);
        let bookmarks = query.flag("allowWatchBookmarks");
        Ok(Self {
            wait_for: (!explicit).then(|| version.to_owned()),
            after: if explicit { Some(revision()?) } else { None },
            initial_events,
            end_bookmark: requested == Some(true) && bookmarks,
            bookmarks,
            timeout: timeout(query)?,
        })
    }
}

fn check(query: &Query) -> ApiResult<()> {
    let mut errors = Vec::new();
    let path = Path::new("resourceVersionMatch");
    let wanted = query.non_empty("resourceVersionMatch");
    let initial = query.non_empty("sendInitialEvents").is_some();
    if initial && wanted != Some("NotOlderThan") {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(&path, detail));
    }
    if let Some(wanted) = wanted {
        if !initial {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(&path, detail));
        }
        if wanted != "NotOlderThan" {
            errors.push(FieldError::not_supported(&path, wanted, &["NotOlderThan"]));
        }
        if query.non_empty("continue").is_some() {
            let detail = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    refuse(errors)
}

fn timeout(query: &Query) -> ApiResult<Duration> {
    let seconds = match query.non_empty("timeoutSeconds") {
        Some(text) => text.parse::<i64>().map_err(|_| {
            ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        })?,
        None => 0,
    };
    let seconds = match seconds {
        0 => MIN_TIMEOUT_S + id::below(MIN_TIMEOUT_S),
        // Time that is up before it began: such a watch ends at once.
        seconds => u64::try_from(seconds).unwrap_or(0).min(MAX_TIMEOUT_S),
    };
    Ok(Duration::from_secs(seconds))
}
