//! The server's end of a shim's socket: one connection a request. It must not know what the answers mean for CRI.

use crate::sys::socket;
use crate::wire::{Answer, KILL_BYTE, Request, SOCKET, announced, frame};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Why a shim did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShimError {
    /// Nobody listens: the shim is dead.
    #[error("the shim is gone")]
    Gone,
    #[error("cannot talk to the shim: {0}")]
    Io(#[from] io::Error),
    #[error("the shim said something unexpected")]
    Protocol,
    /// It tried, and this is what went wrong.
    #[error("{0}")]
    Refused(String),
}

/// How to reach one shim.
#[derive(Debug, Clone)]
pub(crate) struct ShimClient {
    directory: PathBuf,
}

/// Binds the socket that a new shim is to listen at; connections wait there from now on.
pub(crate) fn bind(directory: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    let opened = std::fs::File::open(directory)?;
    let short = socket::short_path(&opened, SOCKET);
    let listener = std::os::unix::net::UnixListener::bind(&short)?;
    std::fs::set_permissions(directory.join(SOCKET), std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

impl ShimClient {
    /// The shim of the sandbox with this directory.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    async fn connect(&self) -> Result<Wire, ShimError> {
        let opened = std::fs::File::open(&self.directory).map_err(gone_or_io)?;
        let short = socket::short_path(&opened, SOCKET);
        Ok(Wire(UnixStream::connect(short).await.map_err(gone_or_io)?))
    }

    /// Sends a request and waits for its one answer.
    pub(crate) async fn request(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Answer, ShimError> {
        let mut wire = self.connect().await?;
        wire.send(request, fds).await?;
        refused(wire.receive().await?.0)
    }

    /// Follows the states of the shim's containers: the answers of the connection, the snapshot first.
    pub(crate) async fn subscribe(&self) -> Result<Wire, ShimError> {
        let mut wire = self.connect().await?;
        wire.send(&Request::Subscribe, &[]).await?;
        Ok(wire)
    }

    /// Starts a command. With a terminal its master is returned.
    pub(crate) async fn exec(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Execution, Option<OwnedFd>), ShimError> {
        let mut wire = self.connect().await?;
        wire.send(request, fds).await?;
        let (answer, mut received) = wire.receive().await?;
        match refused(answer)? {
            Answer::Started { .. } => Ok((Execution(wire), received.pop())),
            _ => Err(ShimError::Protocol),
        }
    }
}

fn gone_or_io(error: io::Error) -> ShimError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ShimError::Gone,
        _ => lost_or_io(error),
    }
}

/// A shim that ends while it is spoken to closes the connection.
fn lost_or_io(error: io::Error) -> ShimError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ShimError::Gone,
        _ => ShimError::Io(error),
    }
}

fn refused(answer: Answer) -> Result<Answer, ShimError> {
    match answer {
        Answer::Failed { message } => Err(ShimError::Refused(message)),
        answer => Ok(answer),
    }
}

/// A running command.
pub(crate) struct Execution(Wire);

impl Execution {
    /// Waits for its end. Dropping this instead leaves it running.
    pub(crate) async fn exit_code(&mut self) -> Result<i32, ShimError> {
        match refused(self.0.receive().await?.0)? {
            Answer::Exited { code } => Ok(code),
            _ => Err(ShimError::Protocol),
        }
    }

    /// Kills it with its process group.
    pub(crate) async fn kill(&mut self) -> Result<(), ShimError> {
        self.0.send_bytes(&[KILL_BYTE], &[]).await
    }
}

/// A connection that carries frames and descriptors.
pub(crate) struct Wire(UnixStream);

impl Wire {
    async fn send(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), ShimError> {
        self.send_bytes(&frame(request), fds).await
    }

    async fn send_bytes(&mut self, mut bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ShimError> {
        let mut fds = fds;
        while !bytes.is_empty() {
            self.0.writable().await?;
            let sent =
                self.0.try_io(Interest::WRITABLE, || Ok(socket::send_with_fds(self.0.as_fd(), bytes, fds)?));
            match sent {
                Ok(sent) => (bytes, fds) = (&bytes[sent..], &[]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(lost_or_io(error)),
            }
        }
        Ok(())
    }

    /// The next answer. The end of the connection is [`ShimError::Gone`].
    pub(crate) async fn receive(&mut self) -> Result<(Answer, Vec<OwnedFd>), ShimError> {
        let mut fds = Vec::new();
        let mut head = [0; 4];
        self.fill(&mut head, &mut fds).await?;
        let mut body = vec![0; announced(head).ok_or(ShimError::Protocol)?];
        self.fill(&mut body, &mut fds).await?;
        let answer = serde_json::from_slice(&body).map_err(|_| ShimError::Protocol)?;
        Ok((answer, fds))
    }

    async fn fill(&mut self, mut buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<(), ShimError> {
        while !buffer.is_empty() {
            self.0.readable().await?;
            let received = self
                .0
                .try_io(Interest::READABLE, || Ok(socket::receive_with_fds(self.0.as_fd(), buffer, fds)?));
            match received {
                Ok(0) => return Err(ShimError::Gone),
                Ok(length) => buffer = &mut buffer[length..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(lost_or_io(error)),
            }
        }
        Ok(())
    }
}
