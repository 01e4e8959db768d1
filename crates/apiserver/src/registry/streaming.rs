//! A large list on its way to a client that may be slow or gone. It holds a snapshot and a seat, so it is given up when it is not read.

use super::list_body::ListBody;
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use nauplius_base::task::spawn;
use nauplius_base::time::{Instant, monotonic, sleep_until};
use nauplius_client::transport::{Body, BoxError};
use std::sync::{Arc, Mutex, PoisonError};
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
    /// When the client took the last piece.
    asked: Instant,
}

type Slot = Arc<Mutex<Option<Held>>>;

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
    let slot: Slot = Arc::new(Mutex::new(Some(Held { list, _seat: seat, asked: now })));
    let watchdog = Watchdog(spawn("list watchdog", give_up(Arc::clone(&slot), now + PATIENCE)));
    let pieces = stream::unfold(Some((slot, watchdog)), |state| async move {
        let (slot, watchdog) = state?;
        match next(&slot) {
            Ok(Some(piece)) => Some((Ok(Frame::data(piece)), Some((slot, watchdog)))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// The next piece; `None` after the last one.
fn next(slot: &Slot) -> Result<Option<Bytes>, BoxError> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let held = slot.as_mut().ok_or("the list was not read in time")?;
    held.asked = monotonic();
    let first = held.list.take();
    if !first.is_empty() {
        return Ok(Some(first));
    }
    if held.list.is_done() {
        *slot = None;
        return Ok(None);
    }
    Ok(Some(held.list.piece()?))
}

async fn give_up(slot: Slot, end: Instant) {
    let mut wake = (monotonic() + STALL).min(end);
    loop {
        sleep_until(wake).await;
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = slot.as_ref() else { return };
        wake = (held.asked + STALL).min(end);
        if wake <= monotonic() {
            *slot = None;
            return;
        }
    }
}
