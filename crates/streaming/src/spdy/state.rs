//! What a stream's writer and the connection's reader share: whether the stream was reset, and how much may be sent.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How many unread bytes we let a peer that counts send on each stream: what an inbox holds, and the protocol's own initial
/// value.
pub(crate) const RECEIVE_WINDOW: u32 = crate::INBOX_BYTES as u32;

struct Sending {
    /// Below zero when data went out before the peer announced a smaller window.
    window: i64,
    reset: bool,
    waiting: Option<Waker>,
}

/// The state of one stream.
pub(crate) struct StreamState {
    sending: Mutex<Sending>,
    finished: AtomicBool,
    /// Of the connection: the peer announced a window, so it counts what is sent and received.
    counting: Arc<AtomicBool>,
}

impl StreamState {
    pub(super) fn new(initial_window: u32, counting: Arc<AtomicBool>) -> Self {
        let sending = Sending { window: i64::from(initial_window), reset: false, waiting: None };
        Self { sending: Mutex::new(sending), finished: AtomicBool::new(false), counting }
    }

    fn lock(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the peer keeps windows.
    pub(crate) fn peer_counts(&self) -> bool {
        self.counting.load(Ordering::Relaxed)
    }

    /// How much of `wanted` may be sent now.
    pub(crate) fn poll_window(&self, context: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let mut sending = self.lock();
        if sending.reset {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if !self.peer_counts() {
            return Poll::Ready(Ok(wanted));
        }
        match usize::try_from(sending.window) {
            Ok(window) if window > 0 => Poll::Ready(Ok(wanted.min(window))),
            _ => {
                sending.waiting = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Takes what is sent off the window.
    pub(crate) fn take_window(&self, bytes: usize) {
        self.lock().window -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    /// Changes the window: by credit, or by a new initial value.
    pub(super) fn add_window(&self, bytes: i64) {
        let mut sending = self.lock();
        sending.window = sending.window.saturating_add(bytes);
        wake(&mut sending);
    }

    /// Fails every later write.
    pub(super) fn reset(&self) {
        let mut sending = self.lock();
        sending.reset = true;
        wake(&mut sending);
    }

    pub(crate) fn finish_locally(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_finished_locally(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }
}

fn wake(sending: &mut Sending) {
    if let Some(waker) = sending.waiting.take() {
        waker.wake();
    }
}
