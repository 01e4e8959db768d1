//! One netlink socket: a request and its acknowledgement, a dump, or a whole batch. Knows the protocol's framing and errors,
//! no family's meaning.

use crate::error::{Context, Error, Result};
use crate::wire::{Attributes, Encoder, Head, Messages, Received, ne32};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

pub(crate) const NLM_F_REQUEST: u16 = 1;
pub(crate) const NLM_F_ACK: u16 = 4;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

const NETLINK_CAP_ACK: libc::c_int = 10;
const NETLINK_EXT_ACK: libc::c_int = 11;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// How often an interrupted dump is started again.
const DUMP_ATTEMPTS: usize = 16;
/// Large enough for the errors of a batch with many bad messages; grown only for batches.
const BATCH_RECEIVE_BUFFER: usize = 1 << 20;

/// What a request is called in errors.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub request: &'static str,
    pub name: &'a str,
}

/// An error that the kernel reported for one message of a batch.
pub(crate) struct Refusal {
    pub sequence: u32,
    pub source: io::Error,
    pub message: Option<String>,
}

pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub fn open(protocol: Option<Protocol>) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
            .call("open a netlink socket")?;
        rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, 0)).call("bind a netlink socket")?;
        for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK] {
            set_option(&fd, option)?;
        }
        Ok(Self { fd, sequence: 0, buffer: Vec::new() })
    }

    /// Numbers for `count` messages.
    pub fn sequences(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    /// Sends one request and waits until the kernel has done it.
    pub fn request(
        &mut self,
        subject: Subject<'_>,
        kind: u16,
        flags: u16,
        header: &[u8],
        body: impl FnOnce(&mut Encoder),
    ) -> Result<()> {
        let sequence = self.send(subject, kind, NLM_F_REQUEST | NLM_F_ACK | flags, header, body)?;
        self.answers(subject, sequence, &mut |_| {}).map(|_| ())
    }

    /// Sends one request and hands over the one message that answers it.
    pub fn query<T>(
        &mut self,
        subject: Subject<'_>,
        kind: u16,
        header: &[u8],
        body: impl FnOnce(&mut Encoder),
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        let sequence = self.send(subject, kind, NLM_F_REQUEST | NLM_F_ACK, header, body)?;
        let mut found = None;
        self.answers(subject, sequence, &mut |received| found = read(received.payload))?;
        Ok(found)
    }

    /// Reads a whole table; starts again when it changed meanwhile.
    pub fn dump<T>(
        &mut self,
        subject: Subject<'_>,
        kind: u16,
        header: &[u8],
        body: impl Fn(&mut Encoder),
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.send(subject, kind, NLM_F_REQUEST | NLM_F_DUMP, header, &body)?;
            let mut rows = Vec::new();
            let complete =
                self.answers(subject, sequence, &mut |received| rows.extend(read(received.payload)))?;
            if complete {
                return Ok(rows);
            }
        }
        Err(Error::Unstable { request: subject.request })
    }

    fn send(
        &mut self,
        subject: Subject<'_>,
        kind: u16,
        flags: u16,
        header: &[u8],
        body: impl FnOnce(&mut Encoder),
    ) -> Result<u32> {
        let sequence = self.sequences(1);
        let mut encoder = Encoder::default();
        encoder.message(Head { kind, flags, sequence }, header, body);
        if encoder.overlong() {
            return Err(Error::TooLong { request: subject.request, subject: subject.name.to_owned() });
        }
        self.send_bytes(encoder.bytes())?;
        Ok(sequence)
    }

    fn send_bytes(&self, bytes: &[u8]) -> Result<()> {
        let kernel = netlink::SocketAddrNetlink::new(0, 0);
        loop {
            match rustix::net::sendto(&self.fd, bytes, SendFlags::empty(), &kernel) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).call("send on a netlink socket"),
            }
        }
    }

    /// Reads until the request is acknowledged or the dump is done. False: the table changed while it was dumped.
    fn answers(
        &mut self,
        subject: Subject<'_>,
        sequence: u32,
        each: &mut dyn FnMut(Received<'_>),
    ) -> Result<bool> {
        let mut complete = true;
        loop {
            let datagram = self.receive(RecvFlags::empty())?;
            let mut done = false;
            for received in Messages(&datagram).filter(|received| received.sequence == sequence) {
                complete &= received.flags & NLM_F_DUMP_INTR == 0;
                match received.kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        done = true;
                        acknowledged(subject, received)?;
                    }
                    _ => each(received),
                }
            }
            self.buffer = datagram;
            if done {
                return Ok(complete);
            }
        }
    }

    /// One datagram of any size: peeked at for its length first, because a dump's is not known.
    fn receive(&mut self, flags: RecvFlags) -> Result<Vec<u8>> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let length = self.receive_into(&mut [0u8; 0], flags | RecvFlags::PEEK | RecvFlags::TRUNC)?;
        buffer.clear();
        buffer.resize(length, 0);
        let length = self.receive_into(&mut buffer, flags)?;
        buffer.truncate(length);
        Ok(buffer)
    }

    fn receive_into(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<usize> {
        loop {
            match rustix::net::recv(&self.fd, &mut *buffer, flags) {
                Ok((_, length)) => return Ok(length),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).call("receive on a netlink socket"),
            }
        }
    }

    /// Sends prepared messages in one datagram. The kernel works on them before `send` returns, so all its answers
    /// are there then. Returns its refusals and whether `last` was acknowledged.
    pub fn batch(&mut self, bytes: &[u8], last: u32) -> Result<(Vec<Refusal>, bool)> {
        self.make_room(bytes.len())?;
        self.send_bytes(bytes)?;
        let (mut refusals, mut acknowledged) = (Vec::new(), false);
        loop {
            let datagram = match self.receive(RecvFlags::DONTWAIT) {
                Ok(datagram) => datagram,
                Err(error) if error.errno() == Some(libc::EAGAIN) => return Ok((refusals, acknowledged)),
                Err(error) => return Err(error),
            };
            for received in Messages(&datagram).filter(|received| received.kind == NLMSG_ERROR) {
                match refusal(received) {
                    Some(refusal) => refusals.push(refusal),
                    None => acknowledged |= received.sequence == last,
                }
            }
            self.buffer = datagram;
        }
    }

    fn make_room(&self, length: usize) -> Result<()> {
        // The kernel keeps 32 bytes for itself.
        let wanted = length + 64;
        let current =
            rustix::net::sockopt::socket_send_buffer_size(&self.fd).call("read the send buffer size")?;
        if current < wanted
            && rustix::net::sockopt::set_socket_send_buffer_size_force(&self.fd, wanted).is_err()
        {
            // Without CAP_NET_ADMIN over the initial namespace there is only the capped way.
            rustix::net::sockopt::set_socket_send_buffer_size(&self.fd, wanted)
                .call("grow the send buffer")?;
        }
        // Losing refusals only makes the report shorter, so a small receive buffer is no error.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&self.fd, BATCH_RECEIVE_BUFFER);
        Ok(())
    }
}

fn set_option(fd: &OwnedFd, option: libc::c_int) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and length describe `on`, which outlives the call.
    let outcome = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            std::ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(Error::last("set a netlink socket option")) }
}

fn acknowledged(subject: Subject<'_>, received: Received<'_>) -> Result<()> {
    match refusal(received) {
        None => Ok(()),
        Some(Refusal { source, message, .. }) => Err(Error::Refused {
            request: subject.request,
            subject: subject.name.to_owned(),
            source,
            message,
        }),
    }
}

/// The error in an NLMSG_ERROR or NLMSG_DONE message; None for a plain acknowledgement.
fn refusal(received: Received<'_>) -> Option<Refusal> {
    let code = received.payload.get(..4).and_then(ne32).unwrap_or(0).cast_signed();
    if code == 0 {
        return None;
    }
    Some(Refusal {
        sequence: received.sequence,
        source: io::Error::from_raw_os_error(code.wrapping_neg()),
        message: extended_message(received),
    })
}

/// The text of the extended acknowledgement, which follows the echoed header (or the whole echoed message).
fn extended_message(received: Received<'_>) -> Option<String> {
    if received.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let echoed = received.payload.get(4..8).and_then(ne32)? as usize;
    let echoed = if received.kind == NLMSG_DONE {
        0
    } else if received.flags & NLM_F_CAPPED != 0 {
        crate::wire::HEADER_LEN
    } else {
        echoed.next_multiple_of(4)
    };
    let attributes = Attributes(received.payload.get(4 + echoed..)?);
    attributes.find(NLMSGERR_ATTR_MSG).map(crate::wire::string)
}
