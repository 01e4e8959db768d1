//! The shim's end of a connection: one request comes in, answers go out. The server is trusted, yet never waited for long. It must not
//! know what requests mean.

use super::fault::{Fault, While};
use crate::sys::{check_int, socket};
use crate::wire::{Answer, Request, announced, frame};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// How long a server may take for the rest of a request or to take an answer; it is stopped or overloaded beyond that.
const PATIENCE_S: libc::time_t = 5;

/// A connection whose peer is root on this machine.
pub(crate) struct Connection(OwnedFd);

impl Connection {
    /// Takes the next connection that waits at `listener`.
    pub(crate) fn accept(listener: &OwnedFd) -> Result<Self, Fault> {
        let flags = rustix::net::SocketFlags::CLOEXEC;
        let connection = Self(rustix::net::accept_with(listener, flags).while_doing("accept")?);
        let peer = rustix::net::sockopt::socket_peercred(&connection.0).while_doing("ask who connects")?;
        if !peer.uid.is_root() {
            return Err(Fault(format!("refused a connection of uid {}", peer.uid.as_raw())));
        }
        for option in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
            connection.set_timeout(option)?;
        }
        Ok(connection)
    }

    fn set_timeout(&self, option: libc::c_int) -> Result<(), Fault> {
        let timeout = libc::timeval { tv_sec: PATIENCE_S, tv_usec: 0 };
        // SAFETY: the structure outlives the call and its size is passed.
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const timeout).cast(),
                std::mem::size_of::<libc::timeval>() as libc::socklen_t,
            )
        };
        check_int(result).while_doing("set a timeout").map(drop)
    }

    /// Reads the request and the descriptors that came with it.
    pub(crate) fn request(&self) -> Result<(Request, Vec<OwnedFd>), Fault> {
        let mut fds = Vec::new();
        let mut head = [0; 4];
        self.fill(&mut head, &mut fds)?;
        let length = announced(head).ok_or_else(|| Fault("a request is too long".to_owned()))?;
        let mut body = vec![0; length];
        self.fill(&mut body, &mut fds)?;
        let request = serde_json::from_slice(&body)
            .map_err(|error| Fault(format!("a request is malformed: {error}")))?;
        Ok((request, fds))
    }

    fn fill(&self, mut buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<(), Fault> {
        while !buffer.is_empty() {
            match socket::receive_with_fds(&self.0, buffer, fds) {
                Ok(0) => return Err(Fault("a request ended early".to_owned())),
                Ok(length) => buffer = &mut buffer[length..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).while_doing("read a request"),
            }
        }
        Ok(())
    }

    /// Sends an answer, with descriptors on its first byte.
    pub(crate) fn answer(&self, answer: &Answer, fds: &[BorrowedFd<'_>]) -> Result<(), Fault> {
        let bytes = frame(answer);
        let mut rest = bytes.as_slice();
        let mut fds = fds;
        while !rest.is_empty() {
            match socket::send_with_fds(&self.0, rest, fds) {
                Ok(sent) => (rest, fds) = (&rest[sent..], &[]),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).while_doing("send an answer"),
            }
        }
        Ok(())
    }

    /// One byte that was sent after the request; `None` when the peer has closed.
    pub(crate) fn later_byte(&self) -> Option<u8> {
        let mut byte = [0];
        match rustix::io::read(&self.0, &mut byte) {
            Ok(1) => Some(byte[0]),
            _ => None,
        }
    }

    /// For `poll`.
    pub(crate) fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}
