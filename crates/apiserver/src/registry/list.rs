//! LIST: a filter over a snapshot and a concatenation of bytes. Whole lists stream out of the snapshot while the client reads;
//! no object is copied before its turn, and no lock is held.

use super::get::wait;
use super::history::{self, History, Paged};
use super::list_body::ListBody;
use super::page::{At, Page, encode_token};
use super::selection::Selection;
use super::{Resource, Scope, streaming};
use crate::cache::{Entry, Position, Snapshot};
use crate::error::ApiResult;
use crate::gzip;
use crate::respond::{self, Reply};
use crate::serve::Follows;
use bytes::Bytes;
use http::StatusCode;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Clients read pages of this size; larger ones are few.
const LARGE_PAGE: usize = 500;

pub(super) async fn list(scope: &Scope) -> ApiResult<Reply> {
    let selection = Selection::of(&scope.call, &*scope.resource.kind)?;
    let page = Page::of(&scope.call.query)?;
    // What is past is read while it is written, and what is converted is whole in memory, so neither is begun without a seat.
    let seat = match is_past(scope, &page) || is_converted(scope, &page) {
        true => Some(scope.server.in_flight.large_list().await),
        false => None,
    };
    let items = read(scope, &selection, &page).await?;
    reply(scope, &selection, &page, items, seat).await
}

/// Whether a list that may be large has to be read from the store.
fn is_past(scope: &Scope, page: &Page) -> bool {
    let At::Exactly(at) = page.at else { return false };
    may_be_large(page) && scope.resource.cache.snapshot().1 > at
}

/// Whether a list that is large has to be converted.
fn is_converted(scope: &Scope, page: &Page) -> bool {
    let resource = &scope.resource;
    may_be_large(page) && resource.has_form() && resource.cache.snapshot().0.len() > LARGE_PAGE
}

fn may_be_large(page: &Page) -> bool {
    page.limit == 0 || page.limit > LARGE_PAGE
}

/// Entries of a list at one revision.
#[derive(Clone)]
pub(super) struct Items {
    source: Source,
    revision: i64,
    next: Option<String>,
    remaining: Option<i64>,
}

#[derive(Clone)]
enum Source {
    Snapshot(Cursor),
    Entries(std::vec::IntoIter<Arc<Entry>>),
    History(Box<History>),
}

impl Items {
    /// The next entry that needs not be waited for.
    pub(super) fn take(&mut self) -> Option<Arc<Entry>> {
        match &mut self.source {
            Source::Snapshot(cursor) => cursor.next(),
            Source::Entries(entries) => entries.next(),
            Source::History(history) => history.take(),
        }
    }

    /// Shows the next entries that need not be waited for, until `each` has had enough or there are no more; says whether it had enough.
    pub(super) fn show(&mut self, mut each: impl FnMut(&Entry) -> ApiResult<bool>) -> ApiResult<bool> {
        loop {
            let shown = match &mut self.source {
                Source::Snapshot(cursor) => cursor.step().map(|entry| each(entry)),
                Source::Entries(entries) => entries.next().map(|entry| each(&entry)),
                Source::History(history) => history.take().map(|entry| each(&entry)),
            };
            let Some(enough) = shown else { return Ok(false) };
            if enough? {
                return Ok(true);
            }
        }
    }

    /// Whether entries must be loaded before more can be taken.
    pub(super) fn is_dry(&self) -> bool {
        matches!(&self.source, Source::History(history) if history.is_dry())
    }

    /// Loads entries, if there are more.
    pub(super) async fn load(&mut self) -> ApiResult<()> {
        match &mut self.source {
            Source::History(history) => history.load().await,
            Source::Snapshot(_) | Source::Entries(_) => Ok(()),
        }
    }

    /// The next entry, waited for.
    pub(super) async fn next(&mut self) -> ApiResult<Option<Arc<Entry>>> {
        if self.is_dry() {
            self.load().await?;
        }
        Ok(self.take())
    }
}

/// Walks the selected entries of a snapshot. Which keys are in the range is found out once, and not by looking at each.
#[derive(Clone)]
pub(super) struct Cursor {
    snapshot: Snapshot,
    position: Position,
    end: Position,
    /// `None` selects everything in the range.
    selection: Option<Selection>,
}

impl Cursor {
    pub(super) fn new(
        resource: &Resource,
        snapshot: Snapshot,
        selection: Selection,
        start: Option<&str>,
    ) -> Self {
        let cache = &resource.cache;
        let namespaced = resource.kind.descriptor().namespaced;
        let (first, end) = match selection.single_name() {
            Some(name) if !namespaced || !selection.namespace.is_empty() => {
                let key = cache.key(&selection.namespace, name).into_bytes();
                let after = [&key[..], b"\0"].concat();
                (key, after)
            }
            _ => {
                let prefix = cache.namespace_prefix(&selection.namespace).into_bytes();
                let mut end = prefix.clone();
                // It ends with a slash.
                if let Some(last) = end.last_mut() {
                    *last += 1;
                }
                (prefix, end)
            }
        };
        let from = match start {
            Some(start) => format!("{}{start}", cache.prefix()).into_bytes().max(first),
            None => first,
        };
        let (position, end) = (snapshot.seek(&from), snapshot.seek(&end));
        Self { snapshot, position, end, selection: (!selection.is_everything()).then_some(selection) }
    }

    /// How many entries of the range come now, selected or not.
    fn left(&self) -> usize {
        self.snapshot.between(self.position, self.end)
    }
}

impl Cursor {
    /// The next entry, which stays the snapshot's: to count its readers costs as much as to copy it.
    fn step(&mut self) -> Option<&Arc<Entry>> {
        while self.position < self.end {
            let position = self.position;
            if position.is_first_of_chunk() {
                // Who reads slowly keeps nothing that was replaced behind its back.
                self.snapshot.leave_behind(position);
            }
            let entry = self.snapshot.at(position)?;
            self.snapshot.ahead_of(position);
            self.position = self.snapshot.after(position);
            if self.selection.as_ref().is_none_or(|selection| selection.matches(entry)) {
                return self.snapshot.at(position);
            }
        }
        None
    }
}

impl Iterator for Cursor {
    type Item = Arc<Entry>;

    fn next(&mut self) -> Option<Arc<Entry>> {
        self.step().cloned()
    }
}

/// Reads what `page` asks for.
pub(super) async fn read(scope: &Scope, selection: &Selection, page: &Page) -> ApiResult<Items> {
    match page.at {
        At::Newest => wait(scope, None).await?,
        At::Any => {}
        At::NotOlderThan(revision) => wait(scope, Some(&revision.to_string())).await?,
        At::Exactly(revision) => return exactly(scope, selection, page, revision).await,
    }
    let (snapshot, revision) = scope.resource.current();
    from_snapshot(&scope.resource, snapshot, selection, page, revision).await
}

/// A list of a snapshot. Objects that must be converted first are converted all at once, as far as they are on the page.
async fn from_snapshot(
    resource: &Resource,
    snapshot: Snapshot,
    selection: &Selection,
    page: &Page,
    revision: i64,
) -> ApiResult<Items> {
    let start = page.start.as_deref();
    if !resource.has_form() {
        let cursor = Cursor::new(resource, snapshot, selection.clone(), start);
        return Ok(limited(cursor, selection, page.limit, revision));
    }
    // What the selectors look at may be elsewhere in the stored version.
    let mut cursor = Cursor::new(resource, snapshot, selection.without_selectors(), start);
    let (mut entries, at_once) = (Vec::new(), if page.limit == 0 { usize::MAX } else { page.limit });
    // With selectors one more must be found to know that there are more.
    let enough = at_once.saturating_add(usize::from(!selection.is_everything()));
    while entries.len() < enough {
        let stored: Vec<Arc<Entry>> = cursor.by_ref().take(at_once).collect();
        if stored.is_empty() {
            break;
        }
        let shown = resource.shown(stored).await?;
        entries.extend(shown.into_iter().filter(|entry| selection.matches(entry)));
    }
    let left = cursor.left() + entries.len().saturating_sub(at_once);
    entries.truncate(at_once);
    Ok(page_of(entries, selection, left, revision))
}

/// The selected entries of a snapshot in the resource's own version.
pub(super) async fn converted(
    resource: &Resource,
    snapshot: Snapshot,
    selection: &Selection,
    start: Option<&str>,
) -> ApiResult<Vec<Arc<Entry>>> {
    // What the selectors look at may be elsewhere in the stored version.
    let everything = selection.without_selectors();
    let all: Vec<Arc<Entry>> = Cursor::new(resource, snapshot, everything, start).collect();
    let mut entries = resource.shown(all).await?;
    entries.retain(|entry| selection.matches(entry));
    Ok(entries)
}

/// A list at a revision: from the snapshot when nothing changed since, else from the store.
async fn exactly(scope: &Scope, selection: &Selection, page: &Page, at: i64) -> ApiResult<Items> {
    wait(scope, Some(&at.to_string())).await?;
    let resource = &scope.resource;
    let (snapshot, newest) = resource.cache.snapshot();
    if newest <= at {
        return from_snapshot(resource, snapshot, selection, page, at).await;
    }
    from_history(resource, selection, page, at).await
}

fn limited(mut cursor: Cursor, selection: &Selection, limit: usize, revision: i64) -> Items {
    if limit == 0 {
        return Items { source: Source::Snapshot(cursor), revision, next: None, remaining: None };
    }
    let entries: Vec<Arc<Entry>> = cursor.by_ref().take(limit).collect();
    let left = if selection.is_everything() { cursor.left() } else { usize::from(cursor.next().is_some()) };
    page_of(entries, selection, left, revision)
}

fn page_of(entries: Vec<Arc<Entry>>, selection: &Selection, left: usize, revision: i64) -> Items {
    let last = entries.last().cloned();
    ending(Source::Entries(entries.into_iter()), last.as_deref(), selection, left, revision)
}

/// A page that ends with `last`.
fn ending(source: Source, last: Option<&Entry>, selection: &Selection, left: usize, revision: i64) -> Items {
    let more = left > 0;
    let next = last.filter(|_| more).map(|last| {
        // With selectors nobody knows how many are left.
        encode_token(revision, last.path(), selection.is_everything().then_some(left))
    });
    let remaining = (more && selection.is_everything()).then(|| i64::try_from(left).unwrap_or(i64::MAX));
    Items { source, revision, next, remaining }
}

/// A list from the store. The first entries are read at once, so that what is too old is told before anything is written.
async fn from_history(
    resource: &Arc<Resource>,
    selection: &Selection,
    page: &Page,
    at: i64,
) -> ApiResult<Items> {
    if page.limit == 0 {
        let mut history = History::new(resource, selection, page, at);
        history.load().await?;
        let source = Source::History(Box::new(history));
        return Ok(Items { source, revision: at, next: None, remaining: None });
    }
    let (paged, last, left) = history::page(resource, selection, page, at).await?;
    let source = match paged {
        Paged::Kept(entries) => Source::Entries(entries.into_iter()),
        Paged::Again(history) => Source::History(history),
    };
    Ok(ending(source, last.as_deref(), selection, left, at))
}

impl Resource {
    /// The snapshot and the revision it is exact at.
    pub(super) fn current(&self) -> (Snapshot, i64) {
        // The feed's progress is read first: the snapshot has then seen at least that much.
        let progress = self.caches.revision();
        let (snapshot, newest) = self.cache.snapshot();
        (snapshot, newest.max(progress))
    }
}

pub(super) async fn reply(
    scope: &Scope,
    selection: &Selection,
    page: &Page,
    items: Items,
    seat: Option<OwnedSemaphorePermit>,
) -> ApiResult<Reply> {
    let media_type = scope.output.format.media_type();
    let mut body = begin(scope, items).await?;
    if body.is_done() {
        return Ok(respond::bytes(StatusCode::OK, media_type, body.take()));
    }
    let in_flight = &scope.server.in_flight;
    let seat = match seat.or_else(|| in_flight.try_large_list()) {
        Some(seat) => seat,
        None => {
            // What waits must hold nothing.
            drop(body);
            let seat = in_flight.large_list().await;
            body = begin(scope, read(scope, selection, page).await?).await?;
            seat
        }
    };
    let mut reply = respond::bytes(StatusCode::OK, media_type, Bytes::new());
    // What is only copied is copied where it is encrypted.
    if body.only_copies() {
        reply.extensions_mut().insert(Follows);
    }
    *reply.body_mut() = streaming::body(body, seat);
    Ok(reply)
}

/// The list's body with its first bytes: all of them, if it is a small list.
async fn begin(scope: &Scope, mut items: Items) -> ApiResult<ListBody> {
    let mut metadata = json!({"resourceVersion": items.revision.to_string()});
    if let Some(next) = items.next.take() {
        metadata["continue"] = next.into();
    }
    if let Some(remaining) = items.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    let mut body = ListBody::new(scope.view(), items, &metadata, scope.server.buffers.share()).await?;
    body.fill(gzip::MIN_BYTES).await?;
    Ok(body)
}

#[cfg(test)]
pub(super) mod tests_support {
    use super::{Items, Source};
    use crate::cache::Entry;
    use std::sync::Arc;

    /// A list of these entries.
    pub fn items(entries: Vec<Arc<Entry>>) -> Items {
        Items { source: Source::Entries(entries.into_iter()), revision: 9, next: None, remaining: None }
    }
}
