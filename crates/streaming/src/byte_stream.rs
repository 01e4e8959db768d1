//! One stream's two directions as bytes, the same over SPDY and WebSocket.

use crate::outbox::{Outbox, Outgoing};
use crate::spdy::{RECEIVE_WINDOW, StreamState};
use crate::{CHUNK_BYTES, INBOX_BYTES};
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::PollSemaphore;

/// What a peer sends on one stream. Ends when the peer finished it, or vanished.
pub struct ByteReader {
    inbox: DuplexStream,
    /// Keeps the connection in use, and gives credit back.
    outbox: Outbox,
    stream: u32,
    state: Option<Arc<StreamState>>,
    unacknowledged: usize,
    /// The stream's other direction, when it is finished with this one.
    _partner: Option<ByteWriter>,
}

/// Where a connection's reader puts what came for a stream. It holds as many bytes as a peer that keeps windows may send, so
/// for such a peer the reader never waits: the peer's own credit could be behind what it waits to deliver.
pub(crate) struct Inbox(DuplexStream);

impl Inbox {
    /// Waits for room. Data that nobody reads any more is thrown away.
    pub(crate) async fn put(&mut self, bytes: &[u8]) {
        // The only error is that the reader was dropped: it does not want the data.
        let _ = self.0.write_all(bytes).await;
    }
}

impl ByteReader {
    pub(crate) fn new(outbox: Outbox, stream: u32, state: Option<Arc<StreamState>>) -> (Inbox, Self) {
        let (near, inbox) = tokio::io::duplex(INBOX_BYTES);
        (Inbox(near), Self { inbox, outbox, stream, state, unacknowledged: 0, _partner: None })
    }

    /// Finishes `partner` when this reader is dropped. Upstream's clients take the finish of input's other direction for
    /// the end of all input.
    pub(crate) fn finishing(self, partner: ByteWriter) -> Self {
        Self { _partner: Some(partner), ..self }
    }

    fn acknowledge(&mut self, bytes: usize) {
        let Some(state) = &self.state else { return };
        self.unacknowledged += bytes;
        if state.peer_counts() && self.unacknowledged >= INBOX_BYTES / 2 {
            let credit = u32::try_from(self.unacknowledged).unwrap_or(RECEIVE_WINDOW);
            self.unacknowledged = 0;
            // A closed connection needs no credit; reading goes on to what is left in the inbox.
            let _ = self.outbox.now(Outgoing::Credit(self.stream, credit));
        }
    }
}

impl AsyncRead for ByteReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inbox).poll_read(context, buffer))?;
        self.acknowledge(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

/// What we send on one stream. Shutting it down, or dropping it, finishes the stream.
pub struct ByteWriter {
    outbox: Outbox,
    permits: PollSemaphore,
    permit: Option<OwnedSemaphorePermit>,
    stream: u32,
    state: Option<Arc<StreamState>>,
    finished: bool,
}

impl ByteWriter {
    pub(crate) fn new(outbox: Outbox, stream: u32, state: Option<Arc<StreamState>>) -> Self {
        let permits = PollSemaphore::new(outbox.permits());
        Self { outbox, permits, permit: None, stream, state, finished: false }
    }

    /// Queues one short message whatever is queued already. For the last word on a stream, and nothing else.
    pub(crate) fn last_word(&mut self, message: Bytes) {
        // Nobody is left to be told when the connection is gone.
        let _ = self.outbox.now(Outgoing::Data(self.stream, message));
        self.finish();
    }

    fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        if let Some(state) = &self.state {
            state.finish_locally();
        }
        // A closed connection has finished all its streams.
        let _ = self.outbox.now(Outgoing::Finish(self.stream));
    }

    fn poll_room(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let allowed = match &self.state {
            Some(state) => ready!(state.poll_window(context, wanted))?,
            None => wanted,
        };
        if self.permit.is_none() {
            let permit = ready!(self.permits.poll_acquire(context));
            self.permit = Some(permit.ok_or(io::ErrorKind::BrokenPipe)?);
        }
        Poll::Ready(Ok(allowed))
    }
}

impl AsyncWrite for ByteWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let length = ready!(self.poll_room(context, bytes.len().min(CHUNK_BYTES)))?;
        let Some(permit) = self.permit.take() else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if let Some(state) = &self.state {
            state.take_window(length);
        }
        let item = Outgoing::Data(self.stream, Bytes::copy_from_slice(&bytes[..length]));
        let queued = self.outbox.data(item, permit);
        Poll::Ready(queued.map(|()| length).map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // The writing task flushes after each batch.
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for ByteWriter {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Both directions of one stream.
pub struct Duplex {
    /// From the peer.
    pub reader: ByteReader,
    /// To the peer.
    pub writer: ByteWriter,
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}
