//! A client that writes, reads and lists.

use super::Ticks;
use super::requests::{Door, How, list, perform};
use crate::chance::Chance;
use crate::history::{Action, History, Operation, Outcome};
use nauplius_base::task::CancellationToken;
use nauplius_base::time::sleep;
use std::collections::HashMap;
use std::time::Duration;

/// Objects that all clients share: few, so that they meet.
const KEYS: u64 = 6;
/// How long a client waits after an answer that did not come: the server is gone, and the next one not there yet.
const AFTER_SILENCE: Duration = Duration::from_millis(100);
/// Operations of one client at most: the search for an order must stay small.
const MAX_OPERATIONS: usize = 400;

/// When a client ends.
pub type Stop = CancellationToken;

/// Works until it is stopped.
pub async fn work(name: String, mut door: Door, ticks: Ticks, mut chance: Chance, stop: Stop) -> History {
    let mut history = History::default();
    let mut known: HashMap<String, i64> = HashMap::new();
    let mut transport = door.connect().await;
    for number in 0..MAX_OPERATIONS {
        if stop.is_cancelled() {
            break;
        }
        if chance.permille(120) {
            let past = known.values().copied().max().map_or(How::Whole, |newest| {
                let oldest = known.values().copied().min().unwrap_or(newest);
                How::At(if chance.permille(500) { newest } else { oldest })
            });
            let hows = [How::Whole, How::Pages, How::Cached, past];
            let how = hows[usize::try_from(chance.below(4)).unwrap_or(0)];
            history.lists.extend(list(&*transport, &ticks, how).await);
            continue;
        }
        let key = format!("k{}", chance.below(KEYS));
        let action = choose(&mut chance, format!("{name}-{number}"), known.get(&key).copied());
        let invoked = ticks.next();
        let Some(outcome) = perform(&*transport, &key, &action).await else { continue };
        let returned = if outcome == Outcome::Unknown { u64::MAX } else { ticks.next() };
        match &outcome {
            Outcome::Written(revision) | Outcome::Found { revision, .. } => {
                known.insert(key.clone(), *revision);
            }
            Outcome::Unknown => {
                sleep(AFTER_SILENCE).await;
                transport = door.connect().await;
            }
            _ => {}
        }
        if action != Action::Read || outcome != Outcome::Unknown {
            history.operations.push(Operation { key, action, outcome, invoked, returned });
        }
    }
    history
}

/// Mostly writes, half of them with a revision that may be an old one.
fn choose(chance: &mut Chance, value: String, known: Option<i64>) -> Action {
    let expected = known.filter(|_| chance.permille(600));
    match chance.below(10) {
        0..=2 => Action::Create { value },
        3..=5 => Action::Update { value, expected },
        6 | 7 => Action::Delete { expected },
        _ => Action::Read,
    }
}
