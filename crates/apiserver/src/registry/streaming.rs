//! A large list on its way to a client that may be slow or gone. It holds a snapshot and a seat, so it is given up when it is not read.

use super::list_body::ListBody;
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use nauplius_base::task::spawn;
use nauplius_base::time::{Instant, monotonic, sleep_until};
use nauplius_client::transport::{Body, BoxError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

/// How long a list may take; upstream's `--request-timeout`.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a client may take for one piece.
const STALL: Duration = Duration::from_secs(20);

/// What is held while the client reads.
struct Held {
    list: ListBody,
    _seat: OwnedSemaphorePermit,
}

/// A list and what is known of its reader.
struct State {
    /// Not there while the next piece is made.
    held: Option<Held>,
    /// When the client took the last piece.
    asked: Instant,
    working: bool,
}

type Slot = Arc<Mutex<State>>;

/// Lets go of what is held when it is not read; ends with the body.
struct Watchdog(JoinHandle<()>);

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The body of a list that holds a seat until it has ended.
pub(super) fn body(list: ListBody, seat: OwnedSemaphorePermit) -> Body {
    let now = monotonic();
    let held = Some(Held { list, _seat: seat });
    let slot: Slot = Arc::new(Mutex::new(State { held, asked: now, working: false }));
    let watchdog = Watchdog(spawn("list watchdog", give_up(Arc::clone(&slot), now + PATIENCE)));
    let pieces = stream::unfold(Some((slot, watchdog)), |state| async move {
        let (slot, watchdog) = state?;
        match next(&slot).await {
            Ok(Some(piece)) => Some((Ok(Frame::data(piece)), Some((slot, watchdog)))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

fn state(slot: &Slot) -> MutexGuard<'_, State> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next piece; `None` after the last one.
async fn next(slot: &Slot) -> Result<Option<Bytes>, BoxError> {
    let mut held = {
        let mut state = state(slot);
        state.asked = monotonic();
        state.working = true;
        state.held.take().ok_or("the list was not read in time")?
    };
    let piece = piece(&mut held.list).await?;
    let mut state = state(slot);
    state.working = false;
    if piece.is_some() {
        state.held = Some(held);
    }
    Ok(piece)
}

async fn piece(list: &mut ListBody) -> Result<Option<Bytes>, BoxError> {
    let first = list.take();
    if !first.is_empty() {
        return Ok(Some(first));
    }
    if list.is_done() { Ok(None) } else { Ok(Some(list.piece().await?)) }
}

async fn give_up(slot: Slot, end: Instant) {
    let mut wake = (monotonic() + STALL).min(end);
    loop {
        sleep_until(wake).await;
        let now = monotonic();
        let mut state = state(&slot);
        if state.working {
            wake = now + STALL;
            continue;
        }
        if state.held.is_none() {
            return;
        }
        wake = (state.asked + STALL).min(end);
        if wake <= now {
            state.held = None;
            return;
        }
    }
}
