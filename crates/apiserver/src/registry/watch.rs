//! WATCH: initial objects from a snapshot, then changes from the resource's ring at the client's own pace, with bookmarks. A
//! client that falls behind the ring is told 410 and closed.

use super::get::wait;
use super::list::{Cursor, converted};
use super::outgoing::{Gone, Outgoing};
use super::selection::Selection;
use super::watch_options::Options;
use super::{Resource, Scope};
use crate::cache::{Batch, Change, Entries, Entry, Held, Piece, Place, Subscription, TooOld};
use crate::error::{ApiResult, too_old};
use crate::frames::{EventType, Frames, Others};
use crate::metrics::Events;
use crate::respond::{self, Reply};
use crate::serve::Follows;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use nauplius_base::task::{CancellationToken, spawn};
use nauplius_base::time::{Instant, Sleep, monotonic, sleep_until};
use nauplius_client::transport::BoxError;
use nauplius_meta::error::ApiError;
use nauplius_streaming::{accept_messages, is_websocket_request};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How often a quiet watch gets a bookmark; upstream's.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// How long before its end a watch gets a last bookmark; upstream's.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

pub(super) async fn watch(scope: &Scope) -> ApiResult<Reply> {
    let selection = Selection::of(&scope.call, &*scope.resource.kind)?;
    let options = Options::of(&scope.call.query)?;
    let frames = Frames::new(scope.view())?;
    if let Some(version) = options.wait_for.as_deref() {
        wait(scope, Some(version).filter(|version| !version.is_empty())).await?;
    }
    let watcher = Watcher::new(scope, selection, &options, frames).await?;
    if is_websocket_request(&scope.call.parts.headers) {
        return over_websocket(scope, watcher);
    }
    let mut reply = respond::bytes(StatusCode::OK, watcher.frames.content_type(), Bytes::new());
    // In a box, for it goes in and out of the future of each piece.
    let chunks = stream::unfold(Box::new(watcher), |mut watcher| async move {
        match watcher.next_piece().await? {
            Ok(piece) => Some((Ok::<_, BoxError>(Frame::data(piece)), watcher)),
            Err(Gone) => Some((Err("the watcher fell behind within an object".into()), watcher)),
        }
    });
    *reply.body_mut() = StreamBody::new(chunks).boxed_unsync();
    reply.extensions_mut().insert(Follows);
    Ok(reply)
}

/// Each event is a message: text for JSON, and binary without its length for protobuf.
fn over_websocket(scope: &Scope, mut watcher: Watcher) -> ApiResult<Reply> {
    let mut request = Request::from_parts(scope.call.parts.clone(), ());
    let (answer, socket) = match accept_messages(&mut request) {
        Ok(accepted) => accepted,
        Err(refusal) => return Ok(plain(refusal.into_response())),
    };
    let mut answer = plain(answer);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(watcher.frames.content_type()));
    watcher.out.keep_whole();
    let messages = stream::unfold(watcher, |mut watcher| async move {
        // Without the object that it fell behind in, the stream ends.
        let piece = watcher.next_piece().await?.ok()?;
        Some((stream::iter(watcher.frames.messages(&piece)), watcher))
    });
    let seat = scope.call.seat.clone();
    spawn("watch over a WebSocket", async move {
        let _seat = seat;
        if let Err(error) = socket.send_all(messages.flatten()).await {
            tracing::debug!(%error, "a watch over a WebSocket ended");
        }
    });
    Ok(answer)
}

fn plain(response: Response<Full<Bytes>>) -> Reply {
    response.map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

/// Once in a while, and shortly before the watch ends, so that its successor begins where it ended.
fn next_bookmark(now: Instant, deadline: Instant) -> Instant {
    let usual = now + BOOKMARK_INTERVAL;
    match deadline.checked_sub(LAST_BOOKMARK) {
        Some(last) if last > now => usual.min(last),
        _ => usual,
    }
}

/// What two watches have in common that are sent the same: the objects, as they were asked for, and their form.
fn seen(scope: &Scope, selection: &Selection, frames: &Frames) -> String {
    let selector = |name| scope.call.query.get(name).unwrap_or_default();
    let (labels, fields) = (selector("labelSelector"), selector("fieldSelector"));
    let (namespace, name) = (&selection.namespace, &scope.call.info.name);
    format!("{} {namespace:?} {name:?} {labels:?} {fields:?}", frames.likeness())
}

/// One watch in progress. Its future is polled by the connection only when there is room for more.
struct Watcher {
    resource: Arc<Resource>,
    selection: Selection,
    frames: Frames,
    out: Outgoing,
    alarms: Alarms,
    phase: Phase,
    /// Changes up to this revision were sent,
    after: i64,
    /// and so many of the next one's.
    within: usize,
    /// What all watches of the resource were sent.
    sent: Arc<Events>,
    /// The sizes of the objects in the piece that is being made.
    sizes: Vec<usize>,
    /// The same for all watchers that see the same in the same form.
    seen: Arc<str>,
    /// The same for all who see objects in the same form, whichever these are.
    form: Arc<str>,
    /// The entries of the next changes in the resource's own version, by the address of those in the cache; the ring holds these.
    converted: HashMap<usize, Arc<Entry>>,
    prepared: Batch,
}

enum Phase {
    Initial {
        entries: Arc<Held>,
        end_bookmark: bool,
        /// The resource's change that they have seen,
        snapshot: i64,
        /// and how many of them were sent.
        sent: usize,
    },
    Live,
    Ended,
}

/// What wakes a watch. Its timers are kept from one change to the next.
struct Alarms {
    subscription: Subscription,
    token: CancellationToken,
    shutdown: BoxFuture<'static, ()>,
    deadline: Pin<Box<Sleep>>,
    bookmark: Option<Pin<Box<Sleep>>>,
}

enum Wake {
    Changed,
    Bookmark,
    End,
}

impl Alarms {
    fn new(scope: &Scope, options: &Options) -> Self {
        let now = monotonic();
        let deadline = now + options.timeout;
        let token = scope.server.shutdown_token().clone();
        Self {
            subscription: scope.resource.cache.subscribe(),
            shutdown: Box::pin(token.clone().cancelled_owned()),
            token,
            deadline: Box::pin(sleep_until(deadline)),
            bookmark: options.bookmarks.then(|| Box::pin(sleep_until(next_bookmark(now, deadline)))),
        }
    }

    fn is_over(&self) -> bool {
        self.token.is_cancelled() || monotonic() >= self.deadline.deadline()
    }

    async fn next(&mut self) -> Wake {
        let Self { subscription, shutdown, deadline, bookmark, .. } = self;
        let bookmark = async {
            match bookmark {
                Some(bookmark) => bookmark.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = subscription.changed() => Wake::Changed,
            () = shutdown => Wake::End,
            () = deadline => Wake::End,
            () = bookmark => Wake::Bookmark,
        }
    }

    /// The next bookmark's time.
    fn bookmark_was_sent(&mut self) {
        let next = next_bookmark(monotonic(), self.deadline.deadline());
        self.bookmark.iter_mut().for_each(|bookmark| bookmark.as_mut().reset(next));
    }
}

impl Watcher {
    async fn new(scope: &Scope, selection: Selection, options: &Options, frames: Frames) -> ApiResult<Self> {
        let resource = Arc::clone(&scope.resource);
        // It hears of changes from before the snapshot on.
        let alarms = Alarms::new(scope, options);
        // The feed's progress is read first: the snapshot has then seen at least that much.
        let progress = resource.caches.revision();
        let (snapshot, newest) = resource.cache.snapshot();
        let after = options.after.unwrap_or(newest.max(progress));
        let phase = if options.initial_events {
            let entries: Entries = if resource.has_form() {
                Box::new(converted(&resource, snapshot, &selection, None).await?.into_iter())
            } else {
                Box::new(Cursor::new(&resource, snapshot, selection.clone(), None))
            };
            let entries = resource.cache.hold(entries, after);
            Phase::Initial { entries, end_bookmark: options.end_bookmark, snapshot: newest, sent: 0 }
        } else {
            Phase::Live
        };
        Ok(Self {
            out: Outgoing::new(resource.has_form(), Arc::clone(resource.cache.pieces().remains())),
            seen: seen(scope, &selection, &frames).into(),
            form: frames.likeness().into(),
            sizes: Vec::new(),
            resource,
            selection,
            frames,
            alarms,
            phase,
            after,
            within: 0,
            sent: scope.server.metrics.events(scope.gvr()),
            converted: HashMap::new(),
            prepared: Batch::default(),
        })
    }

    /// The next bytes; `None` when the watch has ended.
    async fn next_piece(&mut self) -> Option<Result<Bytes, Gone>> {
        loop {
            if self.out.go_on(&self.frames, self.resource.cache.objects(), &self.form).is_err() {
                self.phase = Phase::Ended;
                return Some(Err(Gone));
            }
            match &mut self.phase {
                Phase::Ended if self.out.is_empty() => return None,
                Phase::Ended => {}
                Phase::Live if self.alarms.is_over() => self.phase = Phase::Ended,
                Phase::Initial { .. } | Phase::Live => {
                    if let Some(piece) = self.go_on().await {
                        return Some(Ok(piece));
                    }
                }
            }
            // Converted changes come one batch at a time; the next one may be there already.
            let more = self.resource.has_form() && self.is_behind(i64::MAX);
            if self.out.is_empty() && matches!(self.phase, Phase::Live) && !more {
                match self.alarms.next().await {
                    Wake::Changed => {}
                    Wake::Bookmark => self.bookmark(),
                    Wake::End => self.phase = Phase::Ended,
                }
            }
            if !self.out.is_empty() {
                self.sizes.drain(..).for_each(|size| self.sent.add(size));
                return Some(Ok(self.out.take()));
            }
        }
    }

    /// Goes on with objects or changes. What others may be sent, too, is returned; the rest is left where it is being made.
    async fn go_on(&mut self) -> Option<Bytes> {
        let from = self.place();
        let may_share = self.out.is_empty() && self.out.is_whole() && self.frames.is_settled();
        if may_share && let Some(piece) = self.resource.cache.pieces().find(&self.seen, from) {
            self.skip_to(piece.reached);
            self.sent.add_all(&piece.counted);
            return Some(piece.bytes.clone());
        }
        if matches!(self.phase, Phase::Initial { .. }) {
            self.initial();
        } else {
            match self.convert().await {
                Ok(()) => self.live(),
                Err(error) => self.fail(&error),
            }
        }
        let made = !self.out.is_empty() && self.out.is_whole() && !matches!(self.phase, Phase::Ended);
        let may_share = may_share && made && self.place().is_like(&from);
        (may_share && self.resource.cache.has_many_watchers()).then(|| self.share(from))
    }

    fn place(&self) -> Place {
        match self.phase {
            Phase::Initial { snapshot, sent, .. } => Place::Within { snapshot, sent },
            Phase::Live | Phase::Ended => Place::After { revision: self.after, sent: self.within },
        }
    }

    /// Goes to a place that another watch has reached from the same one.
    fn skip_to(&mut self, place: Place) {
        match (&mut self.phase, place) {
            (Phase::Initial { entries, sent, .. }, Place::Within { sent: reached, .. }) => {
                if let Some(entries) = &mut *entries.lock() {
                    entries.take(reached - *sent).for_each(drop);
                }
                *sent = reached;
            }
            (_, Place::After { revision, sent }) => (self.after, self.within) = (revision, sent),
            (_, Place::Within { .. } | Place::Object { .. } | Place::Part { .. }) => {}
        }
    }

    /// The piece that was made since a place, which others find from now on.
    fn share(&mut self, from: Place) -> Bytes {
        let (bytes, counted) = (self.out.take(), Events::default());
        self.sizes.drain(..).for_each(|size| counted.add(size));
        self.sent.add_all(&counted);
        let piece = Piece { bytes: bytes.clone(), reached: self.place(), counted };
        self.resource.cache.pieces().keep(&self.seen, from, piece);
        bytes
    }

    fn initial(&mut self) {
        let Phase::Initial { entries, end_bookmark, .. } = &self.phase else { return };
        let (held, end_bookmark) = (Arc::clone(entries), *end_bookmark);
        let mut left = held.lock();
        let Some(entries) = &mut *left else {
            drop(left);
            return self.fall_behind();
        };
        while !self.out.is_full() {
            let Some(entry) = entries.next() else {
                if end_bookmark {
                    self.frames.bookmark(self.out.piece(), self.after, true);
                }
                self.phase = Phase::Live;
                return;
            };
            if let Phase::Initial { sent, .. } = &mut self.phase {
                *sent += 1;
            }
            self.count(&entry);
            let pushed = self.out.push(&self.frames, EventType::Added, &entry, entry.revision(), None);
            if let Err(error) = pushed {
                return self.fail(&error);
            }
        }
    }

    /// The objects that were to come have been taken away, for the changes after them are no longer kept.
    fn fall_behind(&mut self) {
        match self.resource.cache.changes_after(self.after) {
            Err(error) => self.fail(&too_old(error)),
            // Not to be seen: what is too old stays so.
            Ok(_) => self.phase = Phase::Ended,
        }
    }

    /// Has the next changes in the resource's own version before they are written.
    async fn convert(&mut self) -> ApiResult<()> {
        self.converted.clear();
        if !self.resource.has_form() {
            return Ok(());
        }
        let batch = self.resource.cache.changes_after(self.after).map_err(too_old)?;
        let entries: Vec<Arc<Entry>> =
            batch.changes.iter().flat_map(|change| [&change.old, &change.new]).flatten().cloned().collect();
        let keys: Vec<usize> = entries.iter().map(|entry| Arc::as_ptr(entry) as usize).collect();
        let shown = self.resource.shown(entries).await?;
        self.converted = keys.into_iter().zip(shown).collect();
        self.prepared = batch;
        Ok(())
    }

    fn next_changes(&mut self) -> Result<Batch, TooOld> {
        if self.resource.has_form() {
            return Ok(std::mem::take(&mut self.prepared));
        }
        self.resource.cache.changes_after(self.after)
    }

    /// Whether there are changes up to a revision that were not sent; a watch that is too old finds out when it goes on.
    fn is_behind(&self, revision: i64) -> bool {
        let batch = self.resource.cache.changes_after(self.after);
        batch.map_or(true, |batch| batch.changes.first().is_some_and(|next| next.revision <= revision))
    }

    /// Adds changes until the piece is full or there are no more. A piece that is worth sending ends with its stretch, so that
    /// watchers that came to stand at different places stand together again, and are sent the same bytes.
    fn live(&mut self) {
        while !self.out.is_full() {
            let Batch { changes, ends_stretch } = match self.next_changes() {
                Ok(batch) => batch,
                Err(error) => return self.fail(&too_old(error)),
            };
            let Some(last) = changes.last() else {
                if self.resource.cache.is_closed() && !self.is_behind(i64::MAX) {
                    self.phase = Phase::Ended;
                }
                return;
            };
            for (index, change) in changes.iter().enumerate().skip(self.within) {
                if self.out.is_full() {
                    return;
                }
                if let Err(error) = self.change(change) {
                    return self.fail(&error);
                }
                self.passed(change, changes.get(index + 1));
            }
            debug_assert_eq!(self.after, last.revision, "batches hold whole revisions");
            if ends_stretch && self.out.is_worth_sending() {
                return;
            }
        }
    }

    /// Notes that a change was sent; `next` is the one after it in the batch.
    fn passed(&mut self, change: &Change, next: Option<&Arc<Change>>) {
        if next.is_some_and(|next| next.revision == change.revision) {
            self.within += 1;
        } else {
            (self.after, self.within) = (change.revision, 0);
        }
    }

    /// The form of an object that this watcher sees, if it does.
    fn selected<'a>(&'a self, entry: &'a Option<Arc<Entry>>) -> Option<&'a Arc<Entry>> {
        let entry = entry.as_ref()?;
        let converted =
            if self.converted.is_empty() { None } else { self.converted.get(&(Arc::as_ptr(entry) as usize)) };
        Some(converted.unwrap_or(entry)).filter(|entry| self.selection.covers(entry))
    }

    /// What a change means to this watcher: objects enter and leave its selection.
    fn change(&mut self, change: &Change) -> ApiResult<()> {
        let (old, new) = (self.selected(&change.old), self.selected(&change.new));
        let (event, entry) = match (old, new) {
            (None, None) => return Ok(()),
            (None, Some(new)) => (EventType::Added, new),
            (Some(_), Some(new)) => (EventType::Modified, new),
            (Some(old), None) => (EventType::Deleted, old),
        };
        let entry = Arc::clone(entry);
        self.count(&entry);
        let place = Place::Object {
            revision: change.revision,
            number: self.within,
            before: event == EventType::Deleted,
        };
        let cache = &self.resource.cache;
        let others = Others { objects: cache.objects(), form: &self.form, place };
        // What was converted was converted for this watcher alone.
        let others = (self.converted.is_empty() && cache.has_many_watchers()).then_some(&others);
        self.out.push(&self.frames, event, &entry, change.revision, others)
    }

    fn count(&mut self, entry: &Entry) {
        self.sizes.push(entry.stored().len());
    }

    /// Only sent when every change up to its revision was sent.
    fn bookmark(&mut self) {
        let progress = self.resource.caches.revision();
        self.live();
        if matches!(self.phase, Phase::Live) && !self.out.is_full() && !self.is_behind(progress) {
            self.after = self.after.max(progress);
            self.frames.bookmark(self.out.piece(), self.after, false);
            self.alarms.bookmark_was_sent();
        }
    }

    fn fail(&mut self, error: &ApiError) {
        self.frames.error(self.out.piece(), error);
        self.phase = Phase::Ended;
    }
}
