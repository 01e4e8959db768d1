//! A container's standard streams: pipes or a terminal on one side, the log and attached clients on the other. A slow client
//! holds the container's output back for a bounded time, then it is let go. It must not know the protocol.

use super::fault::{Fault, While};
use super::log::{Lines, LogFile, Stream};
use crate::spec::ContainerSpec;
use crate::sys::check_int;
use nauplius_base::time;
use rustix::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use rustix::pipe::{PipeFlags, pipe_with};

/// How long an attached client may be full before it is let go.
const STALL_LIMIT_NS: i64 = 10_000_000_000;

/// What the shim waits for on one of these descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Output of the container, by its index.
    Output(usize),
    /// Room in the container's input.
    Input,
    /// Input from an attached client, by its index.
    ClientInput(usize),
    /// Room in an attached client's output.
    ClientOutput(usize),
}

struct Output {
    fd: Option<OwnedFd>,
    stream: Stream,
    lines: Lines,
}

struct Sink {
    fd: OwnedFd,
    pending: Vec<u8>,
}

/// Someone who watches, and perhaps types.
pub(crate) struct Client {
    input: Option<OwnedFd>,
    /// For standard output and standard error.
    sinks: [Option<Sink>; 2],
    stalled_since_ns: Option<i64>,
}

impl Client {
    /// A client from the descriptors that it sent; they are made non-blocking.
    pub(crate) fn new(
        input: Option<OwnedFd>,
        output: Option<OwnedFd>,
        error: Option<OwnedFd>,
    ) -> Result<Self, Fault> {
        for fd in [&input, &output, &error].into_iter().flatten() {
            set_nonblocking(fd)?;
        }
        let sink = |fd: Option<OwnedFd>| fd.map(|fd| Sink { fd, pending: Vec::new() });
        Ok(Self { input, sinks: [sink(output), sink(error)], stalled_since_ns: None })
    }

    fn is_full(&self, index: usize) -> bool {
        self.sinks[index].as_ref().is_some_and(|sink| !sink.pending.is_empty())
    }

    fn offer(&mut self, index: usize, bytes: &[u8]) {
        let Some(sink) = &mut self.sinks[index] else { return };
        sink.pending.extend_from_slice(bytes);
        self.flush(index);
    }

    fn flush(&mut self, index: usize) {
        let Some(sink) = &mut self.sinks[index] else { return };
        match rustix::io::write(&sink.fd, &sink.pending) {
            Ok(written) => {
                sink.pending.drain(..written);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // The client is gone.
            Err(_) => self.sinks[index] = None,
        }
        let full = self.is_full(0) || self.is_full(1);
        self.stalled_since_ns =
            if full { self.stalled_since_ns.or_else(|| Some(time::unix_nanos())) } else { None };
    }

    fn is_gone(&self) -> bool {
        let stalled = self.stalled_since_ns.is_some_and(|since| time::unix_nanos() - since > STALL_LIMIT_NS);
        stalled || (self.input.is_none() && self.sinks.iter().all(Option::is_none))
    }
}

/// The streams of one container.
pub(crate) struct Streams {
    outputs: Vec<Output>,
    /// The writing end of standard input, or the terminal.
    input: Option<OwnedFd>,
    input_pending: Vec<u8>,
    input_once: bool,
    terminal: bool,
    log: Option<LogFile>,
    clients: Vec<Client>,
}

type ChildEnds = [Option<OwnedFd>; 3];

impl Streams {
    /// Makes the pipes that the spec asks for and opens the log. The second value is the container's ends.
    pub(crate) fn open(spec: &ContainerSpec) -> Result<(Self, ChildEnds), Fault> {
        let log = match &spec.log_path {
            Some(path) => Some(LogFile::open(path).while_doing(format!("open log {}", path.display()))?),
            None => None,
        };
        let mut streams = Self {
            outputs: Vec::new(),
            input: None,
            input_pending: Vec::new(),
            input_once: spec.stdin_once,
            terminal: spec.process.tty,
            log,
            clients: Vec::new(),
        };
        let mut ends = [None, None, None];
        if spec.process.tty {
            return Ok((streams, ends));
        }
        if spec.stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).while_doing("make a pipe")?;
            set_nonblocking(&write)?;
            (ends[0], streams.input) = (Some(read), Some(write));
        }
        for (index, stream) in [(1, Stream::Stdout), (2, Stream::Stderr)] {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).while_doing("make a pipe")?;
            set_nonblocking(&read)?;
            streams.outputs.push(Output { fd: Some(read), stream, lines: Lines::default() });
            ends[index] = Some(write);
        }
        Ok((streams, ends))
    }

    /// Takes the master of the container's terminal.
    pub(crate) fn set_terminal(&mut self, master: OwnedFd) -> Result<(), Fault> {
        set_nonblocking(&master)?;
        self.input = Some(rustix::io::fcntl_dupfd_cloexec(&master, 3).while_doing("duplicate the terminal")?);
        self.outputs.push(Output { fd: Some(master), stream: Stream::Stdout, lines: Lines::default() });
        Ok(())
    }

    /// Tells the terminal its size.
    pub(crate) fn resize(&self, width: u16, height: u16) -> Result<(), Fault> {
        let Some(master) =
            self.outputs.first().and_then(|output| output.fd.as_ref()).filter(|_| self.terminal)
        else {
            return Ok(());
        };
        let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(master, size).while_doing("resize the terminal")
    }

    /// Continues the log in a new file.
    pub(crate) fn reopen_log(&mut self) -> Result<(), Fault> {
        self.log.as_mut().map_or(Ok(()), LogFile::reopen).while_doing("reopen the log")
    }

    /// Lets a client join.
    pub(crate) fn attach(&mut self, mut client: Client) {
        if self.input.is_none() {
            client.input = None;
        }
        self.clients.push(client);
    }

    /// Calls `wait` with everything that there is to wait for. Returns whether a client is stalled, so that time matters.
    pub(crate) fn interests(&self, mut wait: impl FnMut(RawFd, i16, Interest)) -> bool {
        for (index, output) in self.outputs.iter().enumerate() {
            if let Some(fd) =
                output.fd.as_ref().filter(|_| !self.clients.iter().any(|client| client.is_full(index)))
            {
                wait(fd.as_raw_fd(), libc::POLLIN, Interest::Output(index));
            }
        }
        if let Some(input) = self.input.as_ref().filter(|_| !self.input_pending.is_empty()) {
            wait(input.as_raw_fd(), libc::POLLOUT, Interest::Input);
        }
        for (index, client) in self.clients.iter().enumerate() {
            if let Some(input) = client.input.as_ref().filter(|_| self.input_pending.is_empty()) {
                wait(input.as_raw_fd(), libc::POLLIN, Interest::ClientInput(index));
            }
            for sink in client.sinks.iter().flatten() {
                // Without pending bytes this only notices that the other end has gone.
                let events = if sink.pending.is_empty() { 0 } else { libc::POLLOUT };
                wait(sink.fd.as_raw_fd(), events, Interest::ClientOutput(index));
            }
        }
        self.clients.iter().any(|client| client.stalled_since_ns.is_some())
    }

    /// Acts on what poll has found.
    pub(crate) fn ready(&mut self, interest: Interest, revents: i16, buffer: &mut [u8]) {
        match interest {
            Interest::Output(index) => {
                self.read_output(index, buffer);
            }
            Interest::Input => self.flush_input(),
            Interest::ClientInput(index) => self.read_client(index, buffer),
            Interest::ClientOutput(index) => {
                let Some(client) = self.clients.get_mut(index) else { return };
                if revents & libc::POLLERR != 0 {
                    client.sinks = [None, None];
                }
                client.flush(0);
                client.flush(1);
            }
        }
    }

    /// Drops clients that have gone or never read. Indices given to [`Self::interests`] end here.
    pub(crate) fn sweep(&mut self) {
        self.clients.retain(|client| !client.is_gone());
    }

    /// Reads one piece of output; false when there is nothing now.
    fn read_output(&mut self, index: usize, buffer: &mut [u8]) -> bool {
        let Some(output) = self.outputs.get_mut(index) else { return false };
        let Some(fd) = &output.fd else { return false };
        let mut records = Vec::new();
        let length = match rustix::io::read(fd, &mut *buffer) {
            Ok(length) => length,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return false,
            // A terminal says EIO when its last user has closed it.
            Err(_) => 0,
        };
        let now = time::unix_nanos();
        if length == 0 {
            output.lines.finish(output.stream, now, &mut records);
            output.fd = None;
        } else {
            output.lines.feed(&buffer[..length], output.stream, now, &mut records);
        }
        if let Some(log) = self.log.as_mut().filter(|_| !records.is_empty()) {
            log.write(&records);
        }
        for client in &mut self.clients {
            client.offer(index, &buffer[..length]);
        }
        length > 0
    }

    fn read_client(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(client) = self.clients.get_mut(index) else { return };
        let Some(fd) = &client.input else { return };
        match rustix::io::read(fd, &mut *buffer) {
            Ok(0) => {
                client.input = None;
                if self.input_once && !self.terminal {
                    self.input = None;
                }
            }
            Ok(length) => {
                self.input_pending.extend_from_slice(&buffer[..length]);
                self.flush_input();
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => client.input = None,
        }
    }

    fn flush_input(&mut self) {
        let Some(fd) = &self.input else { return self.input_pending.clear() };
        match rustix::io::write(fd, &self.input_pending) {
            Ok(written) => {
                self.input_pending.drain(..written);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // The container has closed its input; what was typed has no reader.
            Err(_) => {
                self.input = None;
                self.input_pending.clear();
            }
        }
    }

    /// After the first process has ended: everything that it wrote goes to the log, then the clients are let go.
    pub(crate) fn finish(&mut self, buffer: &mut [u8]) {
        for index in 0..self.outputs.len() {
            while self.read_output(index, buffer) {}
            let Some(output) = self.outputs.get_mut(index) else { continue };
            if output.fd.take().is_some() {
                let mut records = Vec::new();
                output.lines.finish(output.stream, time::unix_nanos(), &mut records);
                if let Some(log) = &mut self.log {
                    log.write(&records);
                }
            }
        }
        self.input = None;
        self.input_pending = Vec::new();
        for client in &mut self.clients {
            client.input = None;
        }
        self.let_go_of_flushed();
        self.log = None;
    }

    /// Closes the ends of clients that have everything, once the container's output has ended.
    pub(crate) fn let_go_of_flushed(&mut self) {
        if self.outputs.iter().all(|output| output.fd.is_none()) {
            self.clients.retain(|client| client.is_full(0) || client.is_full(1));
        }
    }
}

fn set_nonblocking(fd: &OwnedFd) -> Result<(), Fault> {
    let flag = libc::c_int::from(true);
    // SAFETY: FIONBIO reads one int that outlives the call.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONBIO, &raw const flag) };
    check_int(result).while_doing("make a descriptor non-blocking").map(drop)
}
