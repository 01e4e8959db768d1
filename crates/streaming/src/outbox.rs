//! The way out of a connection: every stream's writer, and the reader that has to answer, queue here; one task encodes and
//! writes. Data is bounded by permits, so a slow peer makes its writers wait. What the items mean on the wire is the
//! encoder's business.

use crate::spdy::Headers;
use crate::{CHUNK_BYTES, CONTROL_QUEUE, OUTBOX_CHUNKS, StreamError};
use bytes::{Bytes, BytesMut};
use nauplius_base::time::{Instant, MissedTickBehavior, monotonic};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long saying goodbye on the transport may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection can send.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Opens a stream (SPDY).
    Open(u32, Headers),
    /// Accepts a stream (SPDY).
    Reply(u32),
    /// A piece of data, at most a chunk.
    Data(u32, Bytes),
    /// No more data follows on the stream.
    Finish(u32),
    /// The stream is not wanted (SPDY), and why.
    Reset(u32, u32),
    /// So many more bytes may be sent on the stream (SPDY).
    Credit(u32, u32),
    /// We count bytes: so many may be sent on each new stream (SPDY).
    Settings(u32),
    /// Asks for a sign of life.
    Ping,
    /// Answers a ping with what it carried.
    Pong(Bytes),
    /// Ends the connection with a code (WebSocket).
    Close(u16),
}

/// Turns items into bytes of one protocol.
pub(crate) trait Encode: Send + 'static {
    /// Appends the item to the buffer.
    fn encode(&mut self, item: Outgoing, buffer: &mut BytesMut);
    /// Appends what is said when nobody uses the connection any more.
    fn goodbye(&mut self, buffer: &mut BytesMut);
}

struct Queued {
    item: Outgoing,
    /// Given back when the item has left the queue.
    _permit: Option<OwnedSemaphorePermit>,
}

/// A handle to queue with. The clone that an application holds keeps the connection in use.
#[derive(Clone)]
pub(crate) struct Outbox {
    queue: UnboundedSender<Queued>,
    data: Arc<Semaphore>,
    control: Arc<Semaphore>,
    _in_use: Option<Arc<DropGuard>>,
}

impl Outbox {
    /// The semaphore whose permits data needs.
    pub(crate) fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.data)
    }

    /// Queues data under a permit.
    pub(crate) fn data(&self, item: Outgoing, permit: OwnedSemaphorePermit) -> Result<(), StreamError> {
        self.queue.send(Queued { item, _permit: Some(permit) }).map_err(|_| StreamError::Closed)
    }

    /// Queues an answer that a peer can provoke: bounded, and too many are an error.
    pub(crate) fn answer(&self, item: Outgoing) -> Result<(), StreamError> {
        let permit = Arc::clone(&self.control).try_acquire_owned();
        let permit = permit.map_err(|_| StreamError::Limit("answers wait to be sent"))?;
        self.data(item, permit)
    }

    /// Queues what our own side sends once for each stream or less often than data: its number is bounded by theirs.
    pub(crate) fn now(&self, item: Outgoing) -> Result<(), StreamError> {
        self.queue.send(Queued { item, _permit: None }).map_err(|_| StreamError::Closed)
    }
}

/// Counts what was written, and when, so that others see whether anything was.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<watch::Sender<(u64, Instant)>>);

impl Activity {
    pub(crate) fn count(&self) -> u64 {
        self.0.borrow().0
    }

    /// When something was written last, or the connection began.
    pub(crate) fn last(&self) -> Instant {
        self.0.borrow().1
    }

    /// Waits until more than `written` was written.
    pub(crate) async fn after(&self, written: u64) {
        // The sender lives in self, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|(count, _)| *count > written).await;
    }

    fn note(&self) {
        self.0.send_modify(|(count, at)| (*count, *at) = (*count + 1, monotonic()));
    }
}

/// The two ends of a connection's life, and its way out.
pub(crate) struct Way {
    /// For the reading side: it keeps nothing in use.
    pub(crate) outbox: Outbox,
    /// Makes handles for applications, while there still is one.
    pub(crate) users: Weak<DropGuard>,
    /// Cancelled when no application holds a handle any more.
    pub(crate) unused: CancellationToken,
    /// Cancelled when, after that, everything queued was sent.
    pub(crate) drained: CancellationToken,
    /// Cancelled when the connection is over, by whoever notices first.
    pub(crate) closed: CancellationToken,
    /// Counts writes.
    pub(crate) activity: Activity,
}

impl Way {
    /// A handle for an application; `None` when all applications have left.
    pub(crate) fn user(&self) -> Option<Outbox> {
        let guard = self.users.upgrade()?;
        Some(Outbox { _in_use: Some(guard), ..self.outbox.clone() })
    }
}

/// Starts the writing task; returns the way out and the first application handle.
pub(crate) fn start<W, E>(io: W, encoder: E, ping: Option<Duration>) -> (Way, Outbox)
where
    W: AsyncWrite + Unpin + Send + 'static,
    E: Encode,
{
    let (queue, mail) = unbounded_channel();
    let unused = CancellationToken::new();
    let guard = Arc::new(unused.clone().drop_guard());
    let outbox = Outbox {
        queue,
        data: Arc::new(Semaphore::new(OUTBOX_CHUNKS)),
        control: Arc::new(Semaphore::new(CONTROL_QUEUE)),
        _in_use: None,
    };
    let way = Way {
        outbox,
        users: Arc::downgrade(&guard),
        unused,
        drained: CancellationToken::new(),
        closed: CancellationToken::new(),
        activity: Activity(Arc::new(watch::Sender::new((0, monotonic())))),
    };
    let writer = Writer {
        io,
        encoder,
        mail,
        buffer: BytesMut::new(),
        unused: way.unused.clone(),
        drained: way.drained.clone(),
        closed: way.closed.clone(),
        activity: way.activity.clone(),
        permits: way.outbox.permits(),
    };
    let user = Outbox { _in_use: Some(guard), ..way.outbox.clone() };
    nauplius_base::task::spawn("stream-writer", writer.run(ping));
    (way, user)
}

struct Writer<W, E> {
    io: W,
    encoder: E,
    mail: UnboundedReceiver<Queued>,
    buffer: BytesMut,
    unused: CancellationToken,
    drained: CancellationToken,
    closed: CancellationToken,
    activity: Activity,
    permits: Arc<Semaphore>,
}

impl<W: AsyncWrite + Unpin, E: Encode> Writer<W, E> {
    async fn run(mut self, ping: Option<Duration>) {
        if let Err(error) = self.write_all(ping).await {
            tracing::debug!(%error, "writing to a stream connection failed");
        }
        self.closed.cancel();
        self.permits.close();
        // The connection is over either way: how its end is taken changes nothing.
        let _ = nauplius_base::time::timeout(SHUTDOWN_TIMEOUT, self.io.shutdown()).await;
    }

    async fn write_all(&mut self, ping: Option<Duration>) -> std::io::Result<()> {
        let mut pings = nauplius_base::time::interval(ping.unwrap_or(Duration::from_secs(3600)));
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.reset();
        let mut goodbye_said = false;
        loop {
            tokio::select! {
                biased;
                () = self.closed.cancelled() => return Ok(()),
                item = self.mail.recv() => match item {
                    Some(queued) => self.take(queued),
                    None => return Ok(()),
                },
                // After the queue is empty: whatever was queued goes first.
                () = self.unused.cancelled(), if !goodbye_said => {
                    goodbye_said = true;
                    self.encoder.goodbye(&mut self.buffer);
                }
                _ = pings.tick(), if ping.is_some() => self.encoder.encode(Outgoing::Ping, &mut self.buffer),
            }
            self.send().await?;
            if goodbye_said {
                self.drained.cancel();
            }
        }
    }

    fn take(&mut self, first: Queued) {
        self.encoder.encode(first.item, &mut self.buffer);
        while self.buffer.len() < CHUNK_BYTES {
            let Ok(queued) = self.mail.try_recv() else { return };
            self.encoder.encode(queued.item, &mut self.buffer);
        }
    }

    async fn send(&mut self) -> std::io::Result<()> {
        let (io, buffer) = (&mut self.io, &mut self.buffer);
        let written = async {
            io.write_all_buf(buffer).await?;
            io.flush().await
        };
        tokio::select! {
            biased;
            () = self.closed.cancelled() => return Ok(()),
            result = written => result?,
        }
        self.activity.note();
        Ok(())
    }
}
