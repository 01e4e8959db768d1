//! A connection: one task reads frames and deals them out to streams. Streams come from the peer and are accepted or
//! rejected by who serves them, or are opened by us. What streams are for is unknown here.

use super::frame::{CANCEL, Frame, FrameReader, FrameWriter, PROTOCOL_ERROR, REFUSED_STREAM};
use super::headers::Headers;
use super::state::{RECEIVE_WINDOW, StreamState};
use crate::byte_stream::{ByteReader, ByteWriter, Duplex, Inbox};
use crate::outbox::{self, Outbox, Outgoing, Way};
use crate::{MAX_STREAMS, StreamError, Timeouts, quiet};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

/// The windows that SPDY begins with until a SETTINGS frame says otherwise.
const DEFAULT_WINDOW: u32 = 64 * 1024;
/// How many streams that the peer opened may wait to be looked at.
const BACKLOG: usize = 8;
/// From this many entries on, closed streams are swept before a new one is added.
const SWEEP_FROM: usize = 16;

/// Who we are: clients open odd streams, servers even ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// A stream with the headers it was opened with.
pub(crate) struct SpdyStream {
    pub(crate) id: u32,
    pub(crate) headers: Headers,
    pub(crate) io: Duplex,
}

/// A stream that waits to be accepted. Dropping it rejects it.
pub(crate) struct IncomingStream {
    stream: Option<SpdyStream>,
    outbox: Outbox,
}

impl IncomingStream {
    pub(crate) fn id(&self) -> u32 {
        self.stream.as_ref().map_or(0, |stream| stream.id)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.stream.as_ref()?.headers.get(name)
    }

    /// Tells the peer, which sends nothing before.
    pub(crate) fn accept(mut self) -> Result<SpdyStream, StreamError> {
        let stream = self.stream.take().ok_or(StreamError::Closed)?;
        self.outbox.now(Outgoing::Reply(stream.id))?;
        Ok(stream)
    }
}

impl Drop for IncomingStream {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            // On a closed connection there is nothing to reject.
            let _ = self.outbox.now(Outgoing::Reset(stream.id, CANCEL));
        }
    }
}

struct OpenRequest {
    headers: Headers,
    answer: oneshot::Sender<Result<SpdyStream, StreamError>>,
}

/// Opens streams.
#[derive(Clone)]
pub(crate) struct Opener {
    requests: mpsc::Sender<OpenRequest>,
    _outbox: Outbox,
}

impl Opener {
    /// Opens a stream and waits until the peer has accepted it.
    pub(crate) async fn open(&self, headers: Headers) -> Result<SpdyStream, StreamError> {
        let (answer, answered) = oneshot::channel();
        let request = OpenRequest { headers, answer };
        self.requests.send(request).await.map_err(|_| StreamError::Closed)?;
        answered.await.map_err(|_| StreamError::Closed)?
    }
}

/// An application's hold on a connection. Dropping it and every stream ends the connection.
pub(crate) struct Connection {
    incoming: mpsc::Receiver<IncomingStream>,
    opener: Opener,
}

impl Connection {
    /// Starts to speak SPDY over a transport.
    pub(crate) fn start<T>(io: T, role: Role, timeouts: Timeouts) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(io);
        let last_received = Arc::new(AtomicU32::new(0));
        let first = if role == Role::Client { 1 } else { 2 };
        let writer = FrameWriter::new(first, Arc::clone(&last_received));
        let (way, user) = outbox::start(write, writer, timeouts.ping);
        let (sender, incoming) = mpsc::channel(BACKLOG);
        let (requests, wanted) = mpsc::channel(BACKLOG);
        // A connection that has closed before its first frame is found closed by everybody.
        let _ = way.outbox.now(Outgoing::Settings(RECEIVE_WINDOW));
        let reader = Reader {
            way,
            timeouts,
            role,
            streams: HashMap::new(),
            next_local: first,
            last_received,
            initial_window: DEFAULT_WINDOW,
            counting: Arc::new(AtomicBool::new(false)),
            incoming: sender,
            wanted,
        };
        nauplius_base::task::spawn("spdy-reader", reader.run(FrameReader::new(read)));
        Self { incoming, opener: Opener { requests, _outbox: user } }
    }

    /// The next stream that the peer opens; `None` when the connection is over.
    pub(crate) async fn accept(&mut self) -> Option<IncomingStream> {
        self.incoming.recv().await
    }

    /// What opens streams.
    pub(crate) fn opener(&self) -> Opener {
        self.opener.clone()
    }
}

struct Entry {
    /// `None` when the peer has finished.
    inbox: Option<Inbox>,
    state: Arc<StreamState>,
    /// A stream of ours that the peer has not accepted yet. Its handles are made when it is: they would keep the connection
    /// in use for a caller who gave up.
    opening: Option<OpenRequest>,
}

impl Entry {
    fn is_over(&self) -> bool {
        self.inbox.is_none() && self.opening.is_none() && self.state.is_finished_locally()
    }
}

fn handles(id: u32, user: Outbox, state: &Arc<StreamState>) -> (Inbox, Duplex) {
    let (inbox, reader) = ByteReader::new(user.clone(), id, Some(Arc::clone(state)));
    let writer = ByteWriter::new(user, id, Some(Arc::clone(state)));
    (inbox, Duplex { reader, writer })
}

struct Reader {
    way: Way,
    timeouts: Timeouts,
    role: Role,
    streams: HashMap<u32, Entry>,
    next_local: u32,
    last_received: Arc<AtomicU32>,
    initial_window: u32,
    counting: Arc<AtomicBool>,
    incoming: mpsc::Sender<IncomingStream>,
    wanted: mpsc::Receiver<OpenRequest>,
}

impl Reader {
    async fn run<R: AsyncRead + Unpin>(mut self, mut frames: FrameReader<R>) {
        if let Err(error) = self.read_all(&mut frames).await {
            tracing::debug!(%error, "a SPDY connection ended");
        }
        self.way.closed.cancel();
        for entry in self.streams.values() {
            entry.state.reset(); // Wakes writers that wait for a window.
        }
    }

    async fn read_all<R: AsyncRead + Unpin>(
        &mut self,
        frames: &mut FrameReader<R>,
    ) -> Result<(), StreamError> {
        loop {
            let frame = tokio::select! {
                frame = quiet::within(&self.way, &self.timeouts, frames.next()) => frame?,
                Some(request) = self.wanted.recv() => {
                    self.open(request)?;
                    continue;
                }
            };
            match frame {
                Some(frame) => self.handle(frame).await?,
                None => return Ok(()),
            }
        }
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), StreamError> {
        match frame {
            Frame::SynStream { stream, headers, fin, unidirectional } => {
                return self.syn_stream(stream, headers, fin, unidirectional).await;
            }
            Frame::Data { stream, bytes, fin } => self.data(stream, bytes, fin).await,
            Frame::SynReply { stream, fin } => {
                self.replied(stream);
                self.finish_remotely(stream, fin);
            }
            Frame::Headers { stream, fin } => self.finish_remotely(stream, fin),
            Frame::RstStream { stream } => self.reset(stream),
            Frame::InitialWindow(window) => self.set_initial_window(window),
            Frame::WindowUpdate { stream, credit } => {
                if let Some(entry) = self.streams.get(&stream) {
                    entry.state.add_window(i64::from(credit));
                }
            }
            Frame::Ping(id) if self.is_peers(id) => {
                self.way.outbox.answer(Outgoing::Pong(Bytes::copy_from_slice(&id.to_be_bytes())))?;
            }
            // After GOAWAY the peer opens no stream; those that are open go on.
            Frame::Ping(_) | Frame::GoAway | Frame::Ignored => {}
        }
        Ok(())
    }

    fn is_peers(&self, id: u32) -> bool {
        (id % 2 == 1) == (self.role == Role::Server)
    }

    async fn syn_stream(
        &mut self,
        stream: u32,
        headers: Headers,
        fin: bool,
        unidirectional: bool,
    ) -> Result<(), StreamError> {
        if !self.is_peers(stream) || stream <= self.last_received.load(Ordering::Relaxed) {
            return self.way.outbox.answer(Outgoing::Reset(stream, PROTOCOL_ERROR));
        }
        self.last_received.store(stream, Ordering::Relaxed);
        let user = self.way.user().filter(|_| self.has_room());
        let Some(user) = user else {
            return self.way.outbox.answer(Outgoing::Reset(stream, REFUSED_STREAM));
        };
        let new = self.add(stream, headers, user);
        self.finish_remotely(stream, fin);
        if unidirectional && let Some(entry) = self.streams.get(&stream) {
            entry.state.reset();
        }
        let waiting = IncomingStream { stream: Some(new), outbox: self.way.outbox.clone() };
        tokio::select! {
            () = self.way.closed.cancelled() => Err(StreamError::Closed),
            // A server that takes no more streams has dropped the receiver: the stream is rejected by its drop.
            _ = self.incoming.send(waiting) => Ok(()),
        }
    }

    fn has_room(&mut self) -> bool {
        if self.streams.len() >= SWEEP_FROM {
            self.streams.retain(|_, entry| !entry.is_over());
        }
        self.streams.len() < MAX_STREAMS
    }

    fn add(&mut self, id: u32, headers: Headers, user: Outbox) -> SpdyStream {
        let state = Arc::new(StreamState::new(self.initial_window, Arc::clone(&self.counting)));
        let (inbox, io) = handles(id, user, &state);
        self.streams.insert(id, Entry { inbox: Some(inbox), state, opening: None });
        SpdyStream { id, headers, io }
    }

    fn open(&mut self, request: OpenRequest) -> Result<(), StreamError> {
        if !self.has_room() {
            // Who gave up asking needs no answer.
            let _ = request.answer.send(Err(StreamError::Limit("streams of a connection")));
            return Ok(());
        }
        let id = self.next_local;
        self.next_local += 2;
        let headers = request.headers.clone();
        let state = Arc::new(StreamState::new(self.initial_window, Arc::clone(&self.counting)));
        self.streams.insert(id, Entry { inbox: None, state, opening: Some(request) });
        self.way.outbox.now(Outgoing::Open(id, headers))
    }

    fn replied(&mut self, stream: u32) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        let Some(request) = entry.opening.take() else { return };
        let Some(user) = self.way.user() else { return };
        let (inbox, io) = handles(stream, user, &entry.state);
        entry.inbox = Some(inbox);
        // Who gave up waiting drops the stream here, which finishes it.
        let _ = request.answer.send(Ok(SpdyStream { id: stream, headers: request.headers, io }));
    }

    async fn data(&mut self, stream: u32, bytes: Bytes, fin: bool) {
        let inbox = self.streams.get_mut(&stream).and_then(|entry| entry.inbox.as_mut());
        if let Some(inbox) = inbox.filter(|_| !bytes.is_empty()) {
            tokio::select! {
                () = self.way.closed.cancelled() => {}
                () = inbox.put(&bytes) => {}
            }
        }
        self.finish_remotely(stream, fin);
    }

    fn finish_remotely(&mut self, stream: u32, fin: bool) {
        if fin && let Some(entry) = self.streams.get_mut(&stream) {
            entry.inbox = None;
        }
    }

    fn reset(&mut self, stream: u32) {
        let Some(entry) = self.streams.remove(&stream) else { return };
        entry.state.reset();
        if let Some(request) = entry.opening {
            // Who gave up asking needs no answer.
            let _ = request.answer.send(Err(StreamError::Reset));
        }
    }

    fn set_initial_window(&mut self, window: u32) {
        let change = i64::from(window) - i64::from(self.initial_window);
        self.initial_window = window;
        self.counting.store(true, Ordering::Relaxed);
        for entry in self.streams.values() {
            entry.state.add_window(change);
        }
    }
}
