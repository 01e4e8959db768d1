//! A client that watches: steadily, slowly, or one that vanishes in the middle and comes back at a revision of its past. It begins from a
//! list, or has its watch begin with the objects, which must be a list just as well.

use super::requests::{Door, How, list, open, revision_of, value_of};
use super::{COLLECTION, SELECTOR, Ticks};
use crate::chance::Chance;
use crate::history::{Change, Event, History, Listing, Segment};
use http_body_util::BodyExt;
use nauplius_base::time::{sleep, timeout};
use nauplius_client::transport::{Body, Transport};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;

/// How long a stream may be silent before its client looks whether it is to end.
const SILENCE: Duration = Duration::from_millis(200);
/// How long the objects that a watch begins with may take.
const BEGINNING: Duration = Duration::from_secs(20);
/// After a stream that could not be opened.
const AFTER_FAILURE: Duration = Duration::from_millis(20);

/// How it watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Reads on.
    Steady,
    /// Takes its time for each event.
    Slow,
    /// Drops its connection now and then and begins again further back.
    Vanishing,
}

struct Watcher {
    name: String,
    manner: Manner,
    chance: Chance,
    history: History,
    /// Revisions that were seen since the last list: a watch may begin after each.
    past: Vec<i64>,
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Broken,
    TooOld,
    Vanished,
    Enough,
}

/// Watches until it has seen the revision that `end` says at last.
pub async fn watch(
    name: String,
    manner: Manner,
    mut door: Door,
    ticks: Ticks,
    chance: Chance,
    end: watch::Receiver<Option<i64>>,
) -> History {
    let mut watcher = Watcher { name, manner, chance, history: History::default(), past: Vec::new() };
    let mut transport = door.connect().await;
    let mut ended = Ended::TooOld;
    while ended != Ended::Enough {
        let (from, begun) = match (ended, watcher.past.last().copied()) {
            (Ended::Broken, Some(last)) => (last, None),
            (Ended::Vanished, Some(_)) => (watcher.somewhere_back(), None),
            _ => match watcher.anew(&*transport, &ticks).await {
                Some(begun) => begun,
                None => {
                    sleep(AFTER_FAILURE).await;
                    transport = door.connect().await;
                    continue;
                }
            },
        };
        let path = format!("{COLLECTION}?{SELECTOR}&watch=1&allowWatchBookmarks=true&resourceVersion={from}");
        let opened = match begun {
            Some(stream) => Ok((200, stream)),
            None => open(&*transport, &path).await.map(|(code, body)| (code, Stream::new(body))),
        };
        ended = match opened {
            Ok((200, stream)) => watcher.follow(stream, from, &end).await,
            Ok((410, _)) => Ended::TooOld,
            _ => {
                sleep(AFTER_FAILURE).await;
                Ended::Broken
            }
        };
        if matches!(ended, Ended::Broken | Ended::Vanished) {
            transport = door.connect().await;
        }
    }
    watcher.history
}

impl Watcher {
    fn somewhere_back(&mut self) -> i64 {
        let index = self.chance.below(self.past.len() as u64);
        self.past[usize::try_from(index).unwrap_or(0)]
    }

    /// Begins at the newest revision: from a list, or with a stream that shows the objects first.
    async fn anew(&mut self, transport: &dyn Transport, ticks: &Ticks) -> Option<(i64, Option<Stream>)> {
        let (listing, stream) = match self.chance.permille(500) {
            true => (list(transport, ticks, How::Whole).await?, None),
            false => {
                let begun = timeout(BEGINNING, streamed(transport, ticks)).await;
                let (listing, stream) = begun.expect("a watch does not end its beginning")?;
                (listing, Some(stream))
            }
        };
        let revision = listing.pages[0];
        self.history.lists.push(listing);
        self.past = vec![revision];
        Some((revision, stream))
    }

    async fn follow(&mut self, mut stream: Stream, from: i64, end: &watch::Receiver<Option<i64>>) -> Ended {
        let watcher = self.name.clone();
        let mut segment = Segment { watcher, from, through: from, events: Vec::new() };
        let ended = loop {
            if end.borrow().is_some_and(|end| segment.through >= end) {
                break Ended::Enough;
            }
            let event = match timeout(SILENCE, stream.next()).await {
                Err(_) => continue,
                Ok(Some(event)) => event,
                Ok(None) => break Ended::Broken,
            };
            if !take(&event, &mut segment) {
                break Ended::TooOld;
            }
            match self.manner {
                Manner::Slow => sleep(Duration::from_millis(self.chance.below(8))).await,
                Manner::Vanishing if self.chance.permille(30) => break Ended::Vanished,
                Manner::Vanishing | Manner::Steady => {}
            }
        };
        self.past.extend(segment.events.iter().map(|event| event.revision));
        self.past.sort_unstable();
        self.past.dedup();
        self.history.watches.push(segment);
        ended
    }
}

/// The events of a watch.
struct Stream {
    body: Body,
    rest: Vec<u8>,
}

impl Stream {
    fn new(body: Body) -> Self {
        Self { body, rest: Vec::new() }
    }

    /// The next event; `None` at the end or when it breaks. Safe to cancel.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(
                    serde_json::from_slice(&line).unwrap_or_else(|error| panic!("{error}: {line:?}")),
                );
            }
            let frame = self.body.frame().await?.ok()?;
            self.rest.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }
}

/// A watch that begins with the objects. What they and the changes up to its bookmark come to is a list at the bookmark's revision; `None` when
/// it did not come so far.
async fn streamed(transport: &dyn Transport, ticks: &Ticks) -> Option<(Listing, Stream)> {
    let invoked = ticks.next();
    let query = "watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let Ok((200, body)) = open(transport, &format!("{COLLECTION}?{SELECTOR}&{query}")).await else {
        return None;
    };
    let (mut stream, mut shown) = (Stream::new(body), BTreeMap::new());
    loop {
        let event = stream.next().await?;
        let object = &event["object"];
        let (revision, key) = (revision_of(object), object["metadata"]["name"].as_str().unwrap_or_default());
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => drop(shown.insert(key.to_owned(), (revision?, value_of(object)))),
            Some("DELETED") => drop(shown.remove(key)),
            Some("BOOKMARK") if !object["metadata"]["annotations"]["k8s.io/initial-events-end"].is_null() => {
                let items =
                    shown.into_iter().map(|(key, (revision, value))| (key, revision, value)).collect();
                let pages = vec![revision?];
                let listing = Listing { pages, items, consistent: true, invoked, returned: ticks.next() };
                return Some((listing, stream));
            }
            Some("BOOKMARK") => {}
            _ => return None,
        }
    }
}

/// Records an event; false when it is an error.
fn take(event: &Value, segment: &mut Segment) -> bool {
    let object = &event["object"];
    let change = match event["type"].as_str() {
        Some("ADDED") => Change::Added,
        Some("MODIFIED") => Change::Modified,
        Some("DELETED") => Change::Deleted,
        Some("BOOKMARK") => {
            segment.through = segment.through.max(revision_of(object).unwrap_or(0));
            return true;
        }
        _ => {
            assert_eq!(object["code"], 410, "a watch ended with {event}");
            return false;
        }
    };
    let revision = revision_of(object).unwrap_or_else(|| panic!("an event without revision: {event}"));
    let key = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    segment.events.push(Event { revision, key, change, value: value_of(object) });
    segment.through = segment.through.max(revision);
    true
}
