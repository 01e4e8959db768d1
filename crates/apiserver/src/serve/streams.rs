//! The streams of an HTTP/2 connection. Each is a task of its own, so that requests of one connection run beside each other; but one that
//! has become a watch, or a list that is only copied, goes on within the connection's turns. A change then wakes the connection once for all
//! of its watches, what they have to send is gathered before anything is encrypted, nobody contends for the connection's state, and no piece
//! goes from thread to thread. What a stream sends is not known here.

use futures_util::stream::FuturesUnordered;
use futures_util::task::AtomicWaker;
use futures_util::{FutureExt, StreamExt};
use nauplius_base::task::spawn;
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::task::coop::unconstrained;

/// A reply whose stream goes on with the connection; in its extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Follows;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    /// Whether the stream that is being polled is to go on with its connection.
    static FOLLOWS: Cell<bool> = const { Cell::new(false) };
}

/// Says of the stream that is being polled that it goes on with its connection.
pub(super) fn follow() {
    FOLLOWS.set(true);
}

/// Starts the streams of one connection.
#[derive(Clone)]
pub(super) struct Starter(Arc<Arrivals>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Starter {
    fn execute(&self, work: F) {
        spawn("http stream", Starting { stream: Some(Box::pin(work)), arrivals: Arc::clone(&self.0) });
    }
}

/// A stream that is still a task.
struct Starting {
    stream: Option<Stream>,
    arrivals: Arc<Arrivals>,
}

impl Future for Starting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(()) };
        FOLLOWS.set(false);
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !FOLLOWS.take() {
            return Poll::Pending;
        }
        let stream = self.stream.take();
        self.arrivals.add(stream);
        Poll::Ready(())
    }
}

/// Streams on their way to their connection; `None` once it has ended.
struct Arrivals {
    streams: Mutex<Option<Vec<Stream>>>,
    connection: AtomicWaker,
}

impl Arrivals {
    fn add(&self, stream: Option<Stream>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        match streams.as_mut() {
            Some(waiting) => waiting.extend(stream),
            // Its connection is gone; what it holds is let go of without the lock.
            None => {
                drop(streams);
                drop(stream);
                return;
            }
        }
        drop(streams);
        self.connection.wake();
    }

    fn take(&self) -> Vec<Stream> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// The streams that go on with their connection.
pub(super) struct Followers {
    arrivals: Arc<Arrivals>,
    streams: FuturesUnordered<Stream>,
}

impl Followers {
    pub fn new() -> (Self, Starter) {
        let arrivals =
            Arc::new(Arrivals { streams: Mutex::new(Some(Vec::new())), connection: AtomicWaker::new() });
        (Self { arrivals: Arc::clone(&arrivals), streams: FuturesUnordered::new() }, Starter(arrivals))
    }

    /// Lets each stream that has something to do go on.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        self.arrivals.connection.register(cx.waker());
        for stream in self.arrivals.take() {
            // All of them have their turn in one of the connection's, which is bounded by what each may send. One that panics ends alone.
            let alone = AssertUnwindSafe(unconstrained(stream)).catch_unwind().map(|ended| {
                if ended.is_err() {
                    tracing::error!("a stream panicked");
                }
            });
            self.streams.push(Box::pin(alone));
        }
        while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(cx) {}
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        let left = self.arrivals.streams.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Executor as _;
    use nauplius_base::time::timeout;
    use std::future::{pending, poll_fn};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::sync::{mpsc, watch};

    async fn turns(mut followers: Followers, turns: Arc<AtomicUsize>) {
        poll_fn(move |cx| {
            turns.fetch_add(1, Ordering::SeqCst);
            followers.poll(cx);
            Poll::Pending
        })
        .await
    }

    #[tokio::test]
    async fn what_follows_runs_in_the_connections_turns_and_all_of_it_in_one() {
        let (followers, starter) = Followers::new();
        let (change, _) = watch::channel(0);
        let (sender, mut seen) = mpsc::unbounded_channel();
        for number in 0..200 {
            let (mut changes, sender) = (change.subscribe(), sender.clone());
            starter.execute(async move {
                follow();
                while changes.changed().await.is_ok() {
                    sender.send((number, *changes.borrow_and_update())).unwrap();
                }
            });
        }
        starter.execute({
            let sender = sender.clone();
            async move { sender.send((1_000, 0)).unwrap() }
        });
        starter.execute(async {
            follow();
            tokio::task::yield_now().await;
            panic!("alone");
        });
        let count = Arc::new(AtomicUsize::new(0));
        let connection = spawn("connection", turns(followers, Arc::clone(&count)));
        assert_eq!(seen.recv().await, Some((1_000, 0)));
        while starter.0.streams.lock().unwrap().as_ref().is_some_and(|waiting| !waiting.is_empty()) {
            tokio::task::yield_now().await;
        }
        let before = count.load(Ordering::SeqCst);
        change.send_replace(7);
        let mut told = Vec::new();
        for _ in 0..200 {
            told.push(timeout(Duration::from_secs(10), seen.recv()).await.unwrap().unwrap());
        }
        told.sort_unstable();
        assert_eq!(told, (0..200).map(|number| (number, 7)).collect::<Vec<_>>());
        // FuturesUnordered lets others run once when it has polled each.
        assert!(
            count.load(Ordering::SeqCst) - before <= 3,
            "{} turns",
            count.load(Ordering::SeqCst) - before
        );
        connection.abort();
        drop(connection.await);
        assert_eq!(change.receiver_count(), 0, "they end with their connection");
        let (held, mut gone) = mpsc::channel::<()>(1);
        starter.execute(async move {
            let _held = held;
            follow();
            pending::<()>().await;
        });
        assert_eq!(
            timeout(Duration::from_secs(10), gone.recv()).await,
            Ok(None),
            "nor do they begin after it"
        );
    }
}
