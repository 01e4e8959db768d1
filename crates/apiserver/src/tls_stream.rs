//! The encrypted side of a connection. What HTTP writes in one turn goes out together when the turn ends: in full TLS records, and
//! in as few system calls as the socket takes it in, where HTTP/2 would have a record and a call for each frame. What is written is not
//! known here.

use rustls::ServerConnection;
use std::io::{self, BufRead as _, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes in a full TLS record.
const RECORD_BYTES: usize = 16 << 10;
/// Room for a short answer.
const LITTLE_BYTES: usize = 1 << 10;
/// Bytes of encrypted answers that wait in a connection before the socket is asked to take them; with what one write adds, also the most
/// that wait in a connection whose client does not read.
const MAX_SEALED_BYTES: usize = 64 << 10;

/// A connection's stream.
pub(crate) struct TlsStream(Arc<Mutex<Socket>>);

/// Holds the stream's bytes back while a turn lasts.
pub(crate) struct Cork(Arc<Mutex<Socket>>);

struct Socket {
    io: TcpStream,
    session: ServerConnection,
    /// What does not fill a record yet.
    plain: Vec<u8>,
    /// Bytes that were encrypted and not sent, without what records add.
    sealed: usize,
    /// Whether a turn lasts.
    held: bool,
    eof: bool,
    closing: bool,
    /// What sending at the end of a turn met; the next turn is told.
    broken: Option<io::ErrorKind>,
}

impl TlsStream {
    /// Goes on after a handshake.
    pub fn new(io: TcpStream, mut session: ServerConnection) -> (Self, Cork) {
        // The bound is kept here.
        session.set_buffer_limit(None);
        let socket = Socket {
            io,
            session,
            plain: Vec::new(),
            sealed: 0,
            held: false,
            eof: false,
            closing: false,
            broken: None,
        };
        let socket = Arc::new(Mutex::new(socket));
        (Self(Arc::clone(&socket)), Cork(socket))
    }

    fn socket(&self) -> MutexGuard<'_, Socket> {
        lock(&self.0)
    }
}

fn lock(socket: &Mutex<Socket>) -> MutexGuard<'_, Socket> {
    socket.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drives a connection over a stream to its end. After an upgrade the stream goes on by itself.
pub(crate) struct Driven<C, T, B> {
    cork: Cork,
    begin: B,
    connection: Pin<Box<C>>,
    ended: Option<T>,
}

impl<C: Future<Output = T>, T, B: FnMut(&mut Context<'_>)> Driven<C, T, B> {
    /// Nothing happens before it is polled; each turn begins with `begin`.
    pub fn new(cork: Cork, begin: B, connection: C) -> Self {
        Self { cork, begin, connection: Box::pin(connection), ended: None }
    }

    /// The connection, unless it has ended.
    pub fn connection(&mut self) -> Option<Pin<&mut C>> {
        self.ended.is_none().then_some(self.connection.as_mut())
    }
}

// What is pinned is in a box of its own.
impl<C, T, B> Unpin for Driven<C, T, B> {}

impl<C: Future<Output = T>, T, B: FnMut(&mut Context<'_>)> Future for Driven<C, T, B> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if self.ended.is_none() {
            self.cork.hold();
            (self.begin)(cx);
            if let Poll::Ready(output) = self.connection.as_mut().poll(cx) {
                self.ended = Some(output);
            }
        }
        ready!(self.cork.release(cx));
        self.ended.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Cork {
    fn hold(&self) {
        lock(&self.0).held = true;
    }

    fn release(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut socket = lock(&self.0);
        socket.held = false;
        let sent = ready!(socket.send(cx));
        if let Err(error) = sent
            && socket.broken.is_none()
        {
            socket.broken = Some(error.kind());
            // The connection must look again, and end.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(())
    }
}

impl Socket {
    fn check(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Encrypts what fills records and keeps the rest.
    fn take(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered = parts.iter().map(|part| part.len()).sum::<usize>();
        if self.plain.len() + offered < RECORD_BYTES {
            self.keep(parts, offered);
            return Ok(offered);
        }
        let mut left = MAX_SEALED_BYTES;
        let parts = parts.iter().map(|part| {
            let taken = &part[..part.len().min(left)];
            left -= taken.len();
            taken
        });
        let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty()).collect();
        let taken = MAX_SEALED_BYTES - left;
        let whole = (self.plain.len() + taken) / RECORD_BYTES * RECORD_BYTES;
        let plain = std::mem::take(&mut self.plain);
        let mut records = Vec::with_capacity(parts.len() + 1);
        let mut missing = whole;
        for part in std::iter::once(&plain[..]).chain(parts) {
            let (now, later) = part.split_at(part.len().min(missing));
            missing -= now.len();
            records.push(IoSlice::new(now));
            self.plain.extend_from_slice(later);
        }
        self.seal(&records, whole)?;
        Ok(taken)
    }

    /// Keeps what does not fill a record. More than a little is expected to become one.
    fn keep(&mut self, parts: &[IoSlice<'_>], bytes: usize) {
        let wanted = self.plain.len() + bytes;
        if wanted > self.plain.capacity() {
            let room = if wanted > LITTLE_BYTES { RECORD_BYTES } else { LITTLE_BYTES };
            self.plain.reserve_exact(room - self.plain.len());
        }
        parts.iter().for_each(|part| self.plain.extend_from_slice(part));
    }

    fn seal(&mut self, parts: &[IoSlice<'_>], bytes: usize) -> io::Result<()> {
        let sealed = self.session.writer().write_vectored(parts)?;
        self.sealed += sealed;
        // Without a limit of its own it takes everything.
        if sealed == bytes { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn seal_rest(&mut self) -> io::Result<()> {
        if self.plain.is_empty() {
            return Ok(());
        }
        // An idle connection holds no buffer.
        let plain = std::mem::take(&mut self.plain);
        self.seal(&[IoSlice::new(&plain)], plain.len())
    }

    /// Hands everything to the socket.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seal_rest()?;
        while self.session.wants_write() {
            ready!(self.send_some(cx))?;
        }
        self.sealed = 0;
        Poll::Ready(Ok(()))
    }

    fn send_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = blocking(self.session.write_tls(&mut Adapter { io: &mut self.io, cx }));
        let sent = ready!(sent)?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.sealed = self.sealed.saturating_sub(sent);
        Poll::Ready(Ok(()))
    }

    /// Waits until so little is encrypted and not sent that more may be added.
    fn make_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.sealed < MAX_SEALED_BYTES {
            return Poll::Ready(Ok(()));
        }
        while self.session.wants_write() {
            if let Poll::Ready(sent) = self.send_some(cx) {
                sent?;
            } else if self.sealed < MAX_SEALED_BYTES {
                return Poll::Ready(Ok(()));
            } else {
                return Poll::Pending;
            }
        }
        self.sealed = 0;
        Poll::Ready(Ok(()))
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let received = blocking(self.session.read_tls(&mut Adapter { io: &mut self.io, cx }));
        if ready!(received)? == 0 {
            self.eof = true;
        }
        if let Err(error) = self.session.process_new_packets() {
            // The client is told why, if that is still possible; the error itself counts more.
            let _ = self.send_some(cx);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut socket = self.socket();
        let socket = &mut *socket;
        socket.check()?;
        while !socket.eof && socket.session.wants_read() {
            match socket.receive(cx) {
                Poll::Ready(received) => received?,
                // There may be something from before.
                Poll::Pending => break,
            }
        }
        let mut reader = socket.session.reader();
        let found = ready!(blocking(reader.fill_buf()))?;
        let taken = found.len().min(buffer.remaining());
        buffer.put_slice(&found[..taken]);
        reader.consume(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut socket = self.socket();
        socket.check()?;
        ready!(socket.make_room(cx))?;
        Poll::Ready(socket.take(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.socket();
        socket.check()?;
        // The end of the turn sends it.
        if socket.held { Poll::Ready(Ok(())) } else { socket.send(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.socket();
        socket.check()?;
        if !socket.closing {
            socket.closing = true;
            socket.seal_rest()?;
            socket.session.send_close_notify();
        }
        ready!(socket.send(cx))?;
        match ready!(Pin::new(&mut socket.io).poll_shutdown(cx)) {
            // The client was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            other => Poll::Ready(other),
        }
    }
}

/// A socket as rustls wants it.
struct Adapter<'a, 'c> {
    io: &'a mut TcpStream,
    cx: &'a mut Context<'c>,
}

fn blocking<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        other => Poll::Ready(other),
    }
}

fn would_block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl Read for Adapter<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        would_block(Pin::new(&mut *self.io).poll_read(self.cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl Write for Adapter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        would_block(Pin::new(&mut *self.io).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        would_block(Pin::new(&mut *self.io).poll_write_vectored(self.cx, parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use std::task::Waker;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
    use tokio_rustls::{TlsAcceptor, TlsConnector, client};

    type Client = client::TlsStream<TcpStream>;

    async fn pair() -> (TlsStream, Cork, Client) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (acceptor, connector) =
            (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)));
        let address = listener.local_addr().unwrap();
        let accept = async { acceptor.accept(listener.accept().await.unwrap().0).await.unwrap() };
        let connect = async {
            let stream = TcpStream::connect(address).await.unwrap();
            connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
        };
        let (accepted, client) = tokio::join!(accept, connect);
        let (io, session) = accepted.into_inner();
        let (stream, cork) = TlsStream::new(io, session);
        (stream, cork, client)
    }

    #[tokio::test]
    async fn everything_arrives_in_order_however_it_is_written() {
        let (mut stream, cork, mut client) = pair().await;
        let sizes = [1, 9, 16_384, 16_393, 3, 40_000, 100_000, 65_536, 16_375, 0, 1_500, 1_500, 200_000];
        let bytes: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|index| (index % 251) as u8).collect();
        let written = bytes.clone();
        let connection = async move {
            let mut rest = &written[..];
            for (index, size) in sizes.into_iter().enumerate() {
                let (now, later) = rest.split_at(size);
                stream.write_all(now).await.unwrap();
                if index % 2 == 0 {
                    stream.flush().await.unwrap();
                }
                rest = later;
            }
            stream.shutdown().await.unwrap();
            stream
        };
        let driven = Driven::new(cork, |_| {}, connection);
        let mut read = Vec::new();
        let (_stream, end) = tokio::join!(driven, client.read_to_end(&mut read));
        end.unwrap();
        assert!(read == bytes, "{} of {} bytes, or others", read.len(), bytes.len());
    }

    #[tokio::test]
    async fn what_is_flushed_goes_out_when_the_turn_ends() {
        let (mut stream, cork, mut client) = pair().await;
        let socket = Arc::clone(&stream.0);
        let connection = async move {
            stream.write_all(b"one, ").await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(b"two").await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(lock(&socket).plain, b"one, two");
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"ok");
            stream
        };
        let talk = async {
            let mut got = [0; 8];
            client.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"one, two");
            client.write_all(b"ok").await.unwrap();
            client.flush().await.unwrap();
        };
        let (mut stream, ()) = tokio::join!(Driven::new(cork, |_| {}, connection), talk);
        // As after an upgrade: nobody ends a turn, so a flush is one.
        stream.write_all(b"three").await.unwrap();
        stream.flush().await.unwrap();
        let mut got = [0; 5];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"three");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_little() {
        let (mut stream, _cork, _client) = pair().await;
        let (chunk, mut cx) = ([7; 16 << 10], Context::from_waker(Waker::noop()));
        // The system's own buffers take some megabytes.
        for _ in 0..10_000 {
            if Pin::new(&mut stream).poll_write(&mut cx, &chunk).is_pending() {
                let socket = stream.socket();
                assert!(socket.sealed < 2 * MAX_SEALED_BYTES && socket.plain.len() < RECORD_BYTES);
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("it takes everything");
    }

    #[tokio::test]
    async fn a_client_that_is_gone_ends_the_connection() {
        let (mut stream, cork, client) = pair().await;
        drop(client);
        let connection = async move {
            let mut byte = [0];
            while stream.write_all(&[1; 1 << 10]).await.is_ok() {
                stream.flush().await.unwrap_or_default();
                if stream.read(&mut byte).await.is_ok_and(|read| read == 0) {
                    break;
                }
            }
        };
        Driven::new(cork, |_| {}, connection).await;
    }
}
