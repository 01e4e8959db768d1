//! A client that watches: steadily, slowly, or one that vanishes in the middle and comes back at a revision of its past.

use super::requests::{Door, How, list, open, revision_of, value_of};
use super::{COLLECTION, SELECTOR, Ticks};
use crate::chance::Chance;
use crate::history::{Change, Event, History, Segment};
use http_body_util::BodyExt;
use nauplius_base::time::{sleep, timeout};
use nauplius_client::transport::Body;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::watch;

/// How long a stream may be silent before its client looks whether it is to end.
const SILENCE: Duration = Duration::from_millis(200);
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
        let from = match (ended, watcher.past.last().copied()) {
            (Ended::Broken, Some(last)) => last,
            (Ended::Vanished, Some(_)) => watcher.somewhere_back(),
            _ => match list(&*transport, &ticks, How::Whole).await {
                Some(listing) => {
                    let revision = listing.pages[0];
                    watcher.history.lists.push(listing);
                    watcher.past = vec![revision];
                    revision
                }
                None => {
                    sleep(AFTER_FAILURE).await;
                    transport = door.connect().await;
                    continue;
                }
            },
        };
        let path = format!("{COLLECTION}?{SELECTOR}&watch=1&allowWatchBookmarks=true&resourceVersion={from}");
        ended = match open(&*transport, &path).await {
            Ok((200, body)) => watcher.follow(body, from, &end).await,
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

    async fn follow(&mut self, mut body: Body, from: i64, end: &watch::Receiver<Option<i64>>) -> Ended {
        let watcher = self.name.clone();
        let mut segment = Segment { watcher, from, through: from, events: Vec::new() };
        let mut rest: Vec<u8> = Vec::new();
        let ended = loop {
            if end.borrow().is_some_and(|end| segment.through >= end) {
                break Ended::Enough;
            }
            let frame = match timeout(SILENCE, body.frame()).await {
                Err(_) => continue,
                Ok(Some(Ok(frame))) => frame,
                Ok(_) => break Ended::Broken,
            };
            rest.extend_from_slice(&frame.into_data().unwrap_or_default());
            match self.lines(&mut rest, &mut segment).await {
                Some(ended) => break ended,
                None if self.manner == Manner::Vanishing && self.chance.permille(30) => {
                    break Ended::Vanished;
                }
                None => {}
            }
        };
        self.past.extend(segment.events.iter().map(|event| event.revision));
        self.past.sort_unstable();
        self.past.dedup();
        self.history.watches.push(segment);
        ended
    }

    /// Takes the whole lines; says so when the stream is over.
    async fn lines(&mut self, rest: &mut Vec<u8>, segment: &mut Segment) -> Option<Ended> {
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let event: Value =
                serde_json::from_slice(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
            if !take(&event, segment) {
                return Some(Ended::TooOld);
            }
            if self.manner == Manner::Slow {
                sleep(Duration::from_millis(self.chance.below(8))).await;
            }
        }
        None
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
