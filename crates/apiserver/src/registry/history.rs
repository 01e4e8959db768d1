//! The entries of a list in the past, read from the store a bit at a time while the list is written: however large it is, little of it
//! is in memory. What becomes of them is not known here.

use super::Resource;
use super::page::{Page, encode_token};
use super::selection::Selection;
use crate::cache::Entry;
use crate::error::{ApiResult, from_read, unreadable};
use crate::metrics::storage;
use nauplius_meta::error::ApiError;
use nauplius_store::{KeyValue, RangeRequest, Revision, StoreError};
use std::collections::VecDeque;
use std::sync::Arc;

/// Key values read from the store at once.
const MOST: usize = 500;
/// So many of those that are there now tell how large they may have been.
const SAMPLES: usize = 8;
/// Bytes that are read at once, about.
const WANTED_BYTES: usize = 2 << 20;
/// Bytes of a page that are kept while its end is looked for. A larger page is read again.
const KEPT_BYTES: usize = 4 << 20;

/// Walks the selected entries at a revision.
#[derive(Clone)]
pub(super) struct History {
    resource: Arc<Resource>,
    selection: Selection,
    request: RangeRequest,
    loaded: VecDeque<Arc<Entry>>,
    /// Where the client's token said to begin.
    start: Option<String>,
    /// So many more are shown.
    limit: usize,
    ended: bool,
}

impl History {
    pub fn new(resource: &Arc<Resource>, selection: &Selection, page: &Page, at: i64) -> Self {
        let prefix = resource.cache.namespace_prefix(&selection.namespace);
        let mut request = RangeRequest {
            limit: 1,
            at: Some(Revision(at)),
            uncounted: true,
            ..RangeRequest::prefix(prefix.clone().into_bytes())
        };
        if let Some(start) = &page.start {
            request.start =
                format!("{}{start}", resource.cache.prefix()).into_bytes().max(prefix.into_bytes()).into();
        }
        request.limit = at_once(largest_now(resource, &request.start));
        Self {
            resource: Arc::clone(resource),
            selection: selection.clone(),
            request,
            loaded: VecDeque::new(),
            start: page.start.clone(),
            limit: usize::MAX,
            ended: false,
        }
    }

    /// The next entry, if it was read already.
    pub fn take(&mut self) -> Option<Arc<Entry>> {
        let entry = self.loaded.pop_front().filter(|_| self.limit > 0)?;
        self.limit -= 1;
        Some(entry)
    }

    /// Whether there may be more that was not read yet.
    pub fn is_dry(&self) -> bool {
        self.loaded.is_empty() && !self.ended && self.limit > 0
    }

    /// Reads on until there is an entry or the list has ended.
    pub async fn load(&mut self) -> ApiResult<()> {
        while self.is_dry() {
            let read = self.resource.store.range(self.request.clone());
            let read = storage::measured("list", &self.resource.group_resource, read).await;
            let read = read.map_err(|error| self.expired(error))?;
            let bytes: usize = read.kvs.iter().map(|kv| kv.value.len()).sum();
            self.request.limit = at_once(bytes / read.kvs.len().max(1));
            match read.kvs.last() {
                Some(last) if read.more => self.request.start = [&last.key[..], b"\0"].concat().into(),
                _ => self.ended = true,
            }
            let entries: ApiResult<Vec<_>> =
                read.kvs.into_iter().map(|kv| historic(&self.resource, kv)).collect();
            let shown = self.resource.shown(entries?).await?;
            self.loaded.extend(shown.into_iter().filter(|entry| self.selection.matches(entry)));
        }
        Ok(())
    }

    async fn next(&mut self) -> ApiResult<Option<Arc<Entry>>> {
        self.load().await?;
        Ok(self.take())
    }

    /// How many keys there are after `last`.
    async fn left_after(&self, last: &Entry) -> ApiResult<usize> {
        let request = RangeRequest {
            start: [&last.key()[..], b"\0"].concat().into(),
            count_only: true,
            uncounted: false,
            limit: 0,
            ..self.request.clone()
        };
        let counted =
            storage::measured("list", &self.resource.group_resource, self.resource.store.range(request));
        let counted = counted.await.map_err(|error| self.expired(error))?;
        Ok(usize::try_from(counted.count).unwrap_or(usize::MAX))
    }

    /// Upstream's 410: for a page, with a token that goes on at the newest revision.
    fn expired(&self, error: StoreError) -> ApiError {
        let (StoreError::Compacted { .. }, Some(start)) = (&error, &self.start) else {
            return match error {
                StoreError::Compacted { .. } => {
                    ApiError::Expired("The resourceVersion for the provided list is too old.".to_owned())
                }
                other => from_read(other),
            };
        };
        tracing::debug!(resource = %self.resource.group_resource, "a continue token expired");
        ApiError::ExpiredContinue {
            message: "The provided continue parameter is too old to display a consistent list result. You can start a new \
                      list without the continue parameter, or use the continue token in this response to retrieve the \
                      remainder of the results. Continuing with the provided token results in an inconsistent list - \
                      objects that were created, modified, or deleted between the time the first chunk was returned and \
                      now may show up in the list."
                .to_owned(),
            continue_token: encode_token(-1, start.trim_end_matches('\0'), None),
        }
    }
}

/// How many of such a size may be read at once.
fn at_once(bytes_each: usize) -> usize {
    (WANTED_BYTES / bytes_each.max(1)).clamp(1, MOST)
}

/// The size of the largest of some objects that are there now, from `start` on.
fn largest_now(resource: &Resource, start: &[u8]) -> usize {
    let (snapshot, _) = resource.cache.snapshot();
    let (mut position, mut largest) = (snapshot.seek(start), 0);
    for _ in 0..SAMPLES {
        let Some(entry) = snapshot.at(position) else { break };
        largest = entry.stored().len().max(largest);
        position = snapshot.after(position);
    }
    largest
}

/// The entries of one page.
pub(super) enum Paged {
    /// They are few.
    Kept(Vec<Arc<Entry>>),
    /// They are to be read again.
    Again(Box<History>),
}

/// Looks for the end of a page; with it comes how many are left after it, at least 1 if there are any.
pub(super) async fn page(
    resource: &Arc<Resource>,
    selection: &Selection,
    page: &Page,
    at: i64,
) -> ApiResult<(Paged, Option<Arc<Entry>>, usize)> {
    let mut history = History::new(resource, selection, page, at);
    let again = History { limit: page.limit, ..history.clone() };
    let (mut kept, mut bytes, mut last, mut count) = (Vec::new(), 0, None, 0);
    while count < page.limit {
        let Some(entry) = history.next().await? else { break };
        count += 1;
        bytes += entry.stored().len();
        if bytes <= KEPT_BYTES {
            kept.push(Arc::clone(&entry));
        } else {
            kept = Vec::new();
        }
        last = Some(entry);
    }
    let paged = if bytes <= KEPT_BYTES { Paged::Kept(kept) } else { Paged::Again(Box::new(again)) };
    let more = history.next().await?.is_some();
    let left = match (&last, page.left) {
        _ if !more => 0,
        (_, Some(left)) => left.saturating_sub(page.limit).max(1),
        (Some(last), None) if selection.is_everything() => history.left_after(last).await?.max(1),
        // With selectors nobody knows how many.
        _ => 1,
    };
    Ok((paged, last, left))
}

fn historic(resource: &Resource, kv: KeyValue) -> ApiResult<Arc<Entry>> {
    // Objects of custom resources are stored in one version of theirs, whatever version is asked for.
    let kind = if resource.is_custom() { resource.cache.kind() } else { &resource.kind };
    Entry::from_stored(&**kind, resource.cache.prefix().len(), kv).map(Arc::new).map_err(unreadable)
}
