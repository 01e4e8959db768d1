//! Whether a connection is in use, and how long it has not been. A connection without a request (idle, or with one that does not come
//! to an end) may stay for a while, and for a shorter one when connections run out. What requests are is not known here.

use super::Bounds;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use nauplius_base::time::{Instant, monotonic, sleep_until};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// No request has begun.
const NEVER: u64 = u64::MAX;

/// What one connection does.
pub(super) struct Activity {
    began: Instant,
    requests: AtomicUsize,
    /// When the last request ended, in milliseconds since the connection began.
    ended_ms: AtomicU64,
    /// When the first byte came that belongs to no request yet; [`NEVER`] when none has.
    waiting_ms: AtomicU64,
    /// HTTP/2 connections are told apart by their frames, which need not belong to requests.
    counts_bytes: bool,
}

impl Activity {
    pub(super) fn new(counts_bytes: bool) -> Arc<Self> {
        Arc::new(Self {
            began: monotonic(),
            requests: AtomicUsize::new(0),
            ended_ms: AtomicU64::new(0),
            waiting_ms: AtomicU64::new(NEVER),
            counts_bytes,
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(NEVER - 1)
    }

    /// A request has begun; it is under way until what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.waiting_ms.store(NEVER, Ordering::Release);
        Busy(Arc::clone(self))
    }

    fn received(&self) {
        if self.counts_bytes && self.requests.load(Ordering::Acquire) == 0 {
            // Only the first byte counts; the others find a time there.
            let _ =
                self.waiting_ms.compare_exchange(NEVER, self.now_ms(), Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// When the connection has had enough time without a request; `None` while there is one.
    fn due(&self, bounds: &Bounds, pressed: bool) -> Option<Instant> {
        if self.requests.load(Ordering::Acquire) > 0 {
            return None;
        }
        let at = |ms: u64, patience: Duration| self.began + Duration::from_millis(ms) + patience;
        let idle = if pressed { bounds.pressed } else { bounds.idle };
        let idle = at(self.ended_ms.load(Ordering::Acquire), idle);
        match self.waiting_ms.load(Ordering::Acquire) {
            NEVER => Some(idle),
            waiting => Some(idle.min(at(waiting, bounds.headers))),
        }
    }

    /// Waits until the connection was of no use for too long.
    pub(super) async fn spent(&self, bounds: &Bounds, mut pressed: watch::Receiver<bool>) {
        let shortest = bounds.headers.min(bounds.idle);
        loop {
            let now = monotonic();
            let due = self.due(bounds, *pressed.borrow_and_update());
            if due.is_some_and(|due| due <= now) {
                return;
            }
            // What begins meanwhile is never due before the shortest patience has passed.
            let look_again = due.map_or(now + shortest, |due| due.min(now + shortest));
            tokio::select! {
                () = sleep_until(look_again) => {}
                // The listener has ended: nothing presses any more.
                Ok(()) = pressed.changed() => {}
            }
        }
    }
}

/// A request is under way.
pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.ended_ms.store(self.0.now_ms(), Ordering::Release);
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// An answer's body, with which its request ends.
pub(super) struct Answer<B> {
    body: B,
    _busy: Busy,
}

impl<B> Answer<B> {
    pub(super) fn new(body: B, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that notes when bytes come.
pub(super) struct Noted<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> Noted<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        if into.filled().len() > before {
            self.activity.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_base::time::sleep;

    fn bounds() -> Bounds {
        Bounds {
            headers: Duration::from_secs(32),
            idle: Duration::from_secs(90),
            pressed: Duration::from_secs(5),
            ..Bounds::default()
        }
    }

    async fn spent_after(activity: &Activity, pressed: bool) -> u64 {
        let (_sender, pressed) = watch::channel(pressed);
        let start = monotonic();
        activity.spent(&bounds(), pressed).await;
        start.elapsed().as_secs_f64().round() as u64
    }

    #[tokio::test(start_paused = true)]
    async fn patience_depends_on_what_was_heard() {
        assert_eq!(spent_after(&Activity::new(true), false).await, 90);
        assert_eq!(spent_after(&Activity::new(true), true).await, 5);
        let slow = Activity::new(true);
        slow.received();
        sleep(Duration::from_secs(10)).await;
        slow.received();
        assert_eq!(spent_after(&slow, false).await, 22, "the first byte counts");
        let frames = Activity::new(false);
        frames.received();
        assert_eq!(spent_after(&frames, false).await, 90);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_keeps_a_connection() {
        let activity = Activity::new(true);
        activity.received();
        let busy = activity.begin();
        let (_sender, pressed) = watch::channel(true);
        let bounds = bounds();
        let waiting =
            nauplius_base::time::timeout(Duration::from_secs(600), activity.spent(&bounds, pressed.clone()));
        assert!(waiting.await.is_err());
        drop(busy);
        assert_eq!(spent_after(&activity, false).await, 90);
    }

    #[tokio::test(start_paused = true)]
    async fn pressure_is_noticed_at_once() {
        let activity = Activity::new(true);
        let (sender, pressed) = watch::channel(false);
        let pressing = async {
            sleep(Duration::from_secs(20)).await;
            sender.send_replace(true);
            std::future::pending::<()>().await;
        };
        let (start, bounds) = (monotonic(), bounds());
        tokio::select! {
            () = activity.spent(&bounds, pressed) => {}
            () = pressing => {}
        }
        assert_eq!(start.elapsed().as_secs(), 20);
    }
}
