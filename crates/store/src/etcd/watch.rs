//! Watches. A task follows one gRPC stream, puts fragments together, and goes on at the next revision with another member when the
//! stream breaks; its reader notices nothing. What the reader has not taken yet is bounded: the stream then waits, and etcd keeps history.
//!
//! Asked for progress, the watch says so once everything up to the store's present revision has been delivered. Where etcd's own
//! answer cannot be trusted (see `version`), the range is widened by one key at the end of our keys, and that key is written:
//! its event cannot overtake others. It is never shown.

use super::keys::Place;
use super::members::Again;
use super::refusal::Refusal;
use super::{EtcdStore, kv, version, wire};
use crate::{
    Event, KeyRange, ProgressHandle, Revision, StoreError, StoreResult, WatchMessage, WatchSource,
    WatchStream,
};
use bytes::Bytes;
use futures_core::future::BoxFuture;
use nauplius_base::backoff::Backoff;
use nauplius_base::task;
use nauplius_base::time::{Instant, monotonic, sleep, sleep_until, timeout};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use wire::maintenance_client::MaintenanceClient;
use wire::watch_client::WatchClient;
use wire::watch_request::RequestUnion;

/// Messages that wait for the reader.
const UNREAD: usize = 16;
/// How long a member may take to begin a watch.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often progress is asked for until it is told; as upstream.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// How often it is written down until its event comes.
const WRITE_INTERVAL: Duration = Duration::from_secs(2);

/// Starts a watch.
pub(super) async fn start(
    store: &EtcdStore,
    range: KeyRange,
    from: Option<Revision>,
    previous: bool,
) -> StoreResult<WatchStream> {
    let now = store.newest().await?;
    let from = from.unwrap_or(now.next()).max(Revision(1));
    if from <= now {
        refuse_compacted(store, from).await?;
    }
    let (messages, unread) = mpsc::channel(UNREAD);
    let asked = Arc::new(Notify::new());
    let nowhere = || Place { key: store.0.keys.beyond(), end: Bytes::new() };
    let pump = Pump {
        place: store.0.keys.place(&range).unwrap_or_else(nowhere),
        store: store.clone(),
        range,
        previous,
        next: from,
        parts: Vec::new(),
        wanted: None,
        messages,
        asked: Arc::clone(&asked),
    };
    task::spawn("etcd watch", pump.run());
    Ok(WatchStream::new(now, Box::new(Source { unread, asked, ended: None })))
}

async fn refuse_compacted(store: &EtcdStore, from: Revision) -> StoreResult<()> {
    let key = store.0.keys.nobody();
    let request =
        wire::RangeRequest { key, revision: store.0.keys.raw(from), count_only: true, ..Default::default() };
    match store.range_rpc(request).await {
        Ok(_) => Ok(()),
        Err(Refusal::Compacted) => Err(store.compacted().await),
        Err(refusal) => Err(refusal.into_error("watch", 0, 0)),
    }
}

/// The compacted revision: what a watch from the beginning is told.
pub(super) async fn compact_revision(store: &EtcdStore) -> StoreResult<Revision> {
    let unavailable = |reason: String| StoreError::Unavailable { reason };
    let ask = async {
        let (channel, _) = store.0.members.channel()?;
        let place = Place { key: store.0.keys.nobody(), end: Bytes::new() };
        let (_requests, mut answers) =
            open(channel, create(&place, 1, false)).await.map_err(|s| unavailable(s.to_string()))?;
        loop {
            match answers.message().await {
                Ok(Some(answer)) if answer.compact_revision > 0 => {
                    return Ok(store.0.keys.shown(answer.compact_revision));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(unavailable("etcd ended a watch".to_owned())),
                Err(status) => return Err(unavailable(status.to_string())),
            }
        }
    };
    let late = || Err(StoreError::TimedOut { operation: "ask for the compacted revision" });
    timeout(BEGIN_TIMEOUT, ask).await.unwrap_or_else(|_| late())
}

type Requests = mpsc::Sender<wire::WatchRequest>;

async fn open(
    channel: Channel,
    create: wire::WatchRequest,
) -> Result<(Requests, Streaming<wire::WatchResponse>), tonic::Status> {
    let (requests, queued) = mpsc::channel(4);
    let queued = futures_util::stream::unfold(queued, |mut queued| async move {
        queued.recv().await.map(|request| (request, queued))
    });
    // There is a place for it, and the receiver is right here.
    let _ = requests.send(create).await;
    let mut request = Request::new(queued);
    // A member that has lost its leader shall end the watch instead of going silent.
    request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let answers = WatchClient::new(channel).max_decoding_message_size(usize::MAX).watch(request).await?;
    Ok((requests, answers.into_inner()))
}

fn create(place: &Place, from: i64, previous: bool) -> wire::WatchRequest {
    let create = wire::WatchCreateRequest {
        key: place.key.clone(),
        range_end: place.end.clone(),
        start_revision: from,
        progress_notify: true,
        prev_kv: previous,
        watch_id: 0,
        fragment: true,
    };
    wire::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

struct Source {
    unread: mpsc::Receiver<StoreResult<WatchMessage>>,
    asked: Arc<Notify>,
    ended: Option<StoreError>,
}

impl WatchSource for Source {
    fn next(&mut self) -> BoxFuture<'_, StoreResult<WatchMessage>> {
        Box::pin(async move {
            if let Some(error) = &self.ended {
                return Err(error.clone());
            }
            let message = self.unread.recv().await.unwrap_or(Err(StoreError::Closed));
            if let Err(error) = &message {
                self.ended = Some(error.clone());
            }
            message
        })
    }

    fn progress(&self) -> ProgressHandle {
        let asked = Arc::clone(&self.asked);
        ProgressHandle::new(move || asked.notify_one())
    }
}

struct Pump {
    store: EtcdStore,
    range: KeyRange,
    place: Place,
    previous: bool,
    /// The first revision that was not delivered.
    next: Revision,
    /// Fragments of a message that is not whole yet.
    parts: Vec<wire::Event>,
    /// The progress that somebody waits for.
    wanted: Option<Revision>,
    messages: mpsc::Sender<StoreResult<WatchMessage>>,
    asked: Arc<Notify>,
}

/// Why a stream ended.
enum Ended {
    /// Nobody reads any more.
    Unread,
    /// History that was not read yet is gone.
    Compacted(Revision),
    /// It can be resumed.
    Broken(String),
}

impl Pump {
    async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2)).with_jitter(0.5);
        loop {
            let messages = self.messages.clone();
            let ended = tokio::select! {
                () = messages.closed() => return,
                ended = self.follow(&mut backoff) => ended,
            };
            match ended {
                Ended::Unread => return,
                Ended::Compacted(compact_revision) => {
                    // The reader may have gone meanwhile.
                    let _ = self.messages.send(Err(StoreError::Compacted { compact_revision })).await;
                    return;
                }
                Ended::Broken(reason) => {
                    tracing::debug!(reason, next = %self.next, "a watch of etcd is resumed");
                    self.parts.clear();
                    sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    async fn follow(&mut self, backoff: &mut Backoff) -> Ended {
        let (channel, turn) = match self.store.0.members.channel() {
            Ok(connected) => connected,
            Err(error) => return Ended::Broken(error.to_string()),
        };
        let ended = match timeout(BEGIN_TIMEOUT, self.begin(channel)).await {
            Ok(Ok((mut stream, first))) => match self.take(first, backoff).await {
                Ok(()) => self.pump(&mut stream, backoff).await,
                Err(ended) => ended,
            },
            Ok(Err(status)) => Ended::Broken(status.to_string()),
            Err(_) => Ended::Broken("a member did not begin a watch in time".to_owned()),
        };
        if matches!(ended, Ended::Broken(_)) {
            self.store.0.members.failed(turn);
        }
        ended
    }

    async fn begin(&self, channel: Channel) -> Result<(Stream, wire::WatchResponse), tonic::Status> {
        let status = MaintenanceClient::new(channel.clone()).status(wire::StatusRequest {}).await?;
        let tells_progress = version::tells_progress(&status.into_inner().version);
        let place = if tells_progress { self.place.clone() } else { self.widened() };
        let (requests, mut answers) =
            open(channel, create(&place, self.store.0.keys.raw(self.next), self.previous)).await?;
        let first = answers.message().await?;
        let first = first.ok_or_else(|| tonic::Status::unavailable("the watch ended as it began"))?;
        Ok((Stream { requests, answers, tells_progress }, first))
    }

    /// The range up to and including the key that is written for progress.
    fn widened(&self) -> Place {
        let end = [&self.store.0.keys.beyond()[..], b"\0"].concat();
        Place { key: self.place.key.clone(), end: end.into() }
    }

    async fn pump(&mut self, stream: &mut Stream, backoff: &mut Backoff) -> Ended {
        let asked = Arc::clone(&self.asked);
        let mut revision: Option<BoxFuture<'static, StoreResult<Revision>>> = None;
        let mut ask_at = monotonic();
        loop {
            let step = tokio::select! {
                answer = stream.answers.message() => match answer {
                    Ok(Some(answer)) => self.take(answer, backoff).await,
                    Ok(None) => Err(Ended::Broken("the watch ended".to_owned())),
                    Err(status) => Err(Ended::Broken(status.to_string())),
                },
                () = asked.notified(), if revision.is_none() => {
                    let store = self.store.clone();
                    revision = Some(Box::pin(async move { store.newest().await }));
                    Ok(())
                }
                now = ready(&mut revision) => {
                    revision = None;
                    ask_at = monotonic();
                    self.want(now).await
                }
                () = until(self.wanted.map(|_| ask_at)) => {
                    let asked = self.ask(stream).await;
                    ask_at = monotonic() + if stream.tells_progress { ASK_INTERVAL } else { WRITE_INTERVAL };
                    asked
                }
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    async fn want(&mut self, now: StoreResult<Revision>) -> Result<(), Ended> {
        match now {
            Ok(now) => {
                self.wanted = Some(self.wanted.map_or(now, |wanted| wanted.max(now)));
                self.tell().await
            }
            // Whoever asked waits with a limit of its own.
            Err(error) => {
                tracing::debug!(%error, "the revision that a watch should reach is not known");
                Ok(())
            }
        }
    }

    /// Makes the member tell its progress.
    async fn ask(&self, stream: &Stream) -> Result<(), Ended> {
        if stream.tells_progress {
            let request = RequestUnion::ProgressRequest(wire::WatchProgressRequest {});
            let sent = stream.requests.send(wire::WatchRequest { request_union: Some(request) }).await;
            return sent.map_err(|_| Ended::Broken("the watch takes no requests".to_owned()));
        }
        let put = wire::PutRequest { key: self.store.0.keys.beyond(), ..Default::default() };
        let call = |channel| {
            let put = put.clone();
            async move { kv(channel).put(put).await }
        };
        // Tried again at the next turn.
        if let Err(refusal) = self.store.0.members.call(Again::Harmless, call).await {
            tracing::debug!(?refusal, "the progress of a watch cannot be written");
        }
        Ok(())
    }

    async fn take(&mut self, mut answer: wire::WatchResponse, backoff: &mut Backoff) -> Result<(), Ended> {
        if answer.canceled {
            return Err(match answer.compact_revision {
                0 => Ended::Broken(answer.cancel_reason),
                revision => Ended::Compacted(self.store.0.keys.shown(revision)),
            });
        }
        if answer.created {
            backoff.reset();
            return Ok(());
        }
        self.parts.append(&mut answer.events);
        if answer.fragment {
            return Ok(());
        }
        let parts = std::mem::take(&mut self.parts);
        // The header of a message with events may be ahead of events that are still to come.
        let through = match parts.last().and_then(|event| event.kv.as_ref()) {
            Some(last) => self.store.0.keys.shown(last.mod_revision),
            None => self.store.0.keys.of_header(answer.header.as_ref()),
        };
        let events: Vec<Event> = parts.into_iter().filter_map(|event| self.event(event)).collect();
        if !events.is_empty() {
            self.send(WatchMessage::Events { events, revision: through }).await?;
        }
        self.next = self.next.max(through.next());
        self.tell().await
    }

    /// Tells progress, if it is waited for and reached.
    async fn tell(&mut self) -> Result<(), Ended> {
        let reached = Revision(self.next.0 - 1);
        if self.wanted.is_some_and(|wanted| wanted <= reached) {
            self.wanted = None;
            self.send(WatchMessage::Progress { revision: reached }).await?;
        }
        Ok(())
    }

    async fn send(&self, message: WatchMessage) -> Result<(), Ended> {
        self.messages.send(Ok(message)).await.map_err(|_| Ended::Unread)
    }

    fn event(&self, event: wire::Event) -> Option<Event> {
        let keys = &self.store.0.keys;
        let kind = event.r#type();
        // What is written for progress is nobody's.
        let kv = keys.key_value(event.kv.filter(|kv| kv.key != keys.beyond())?);
        if kv.mod_revision < self.next || !self.range.contains(&kv.key) {
            return None;
        }
        let previous = event.prev_kv.map(|kv| keys.key_value(kv)).filter(|_| self.previous);
        Some(match kind {
            wire::event::EventType::Put => Event::Put { kv, previous },
            wire::event::EventType::Delete => {
                Event::Delete { key: kv.key, revision: kv.mod_revision, previous }
            }
        })
    }
}

struct Stream {
    requests: Requests,
    answers: Streaming<wire::WatchResponse>,
    tells_progress: bool,
}

async fn ready<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
