//! The shim: one small single-threaded process for each pod. It starts the pod's containers, reaps them, writes their logs, keeps
//! their streams and their exit codes, and serves the server over a socket, whether a server is there or not. It must not
//! know Kubernetes or CRI, and carries no async runtime.

mod connection;
mod container;
mod fault;
mod init;
mod launch;
mod log;
mod pause;
mod procfs;
mod rootfs;
mod streams;

pub(crate) use container::{NOT_STARTED, SPEC_FILE, STATE_FILE};

use crate::spec::{ContainerState, Namespaces, PidNamespace, Process};
use crate::sys::process as sys;
use crate::wire::{Answer, KILL_BYTE, Request};
use connection::Connection;
use container::{Born, Container};
use fault::{Fault, While};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use streams::{Client, Interest};

/// Bytes read at once from a container or a client.
const BUFFER: usize = 16 * 1024;
/// The file in the sandbox's directory with the shim's pid. A shim that ends because it was told to takes it away.
pub(crate) const PID_FILE: &str = "shim.pid";

/// Runs a shim. `arguments` are what follows `shim` on the command line: the sandbox's directory. Descriptor 0 is the listening
/// socket. Must be called before the process has a second thread.
pub fn shim_main(arguments: impl IntoIterator<Item = OsString>) -> ! {
    let Some(directory) = arguments.into_iter().next() else {
        eprintln!("usage: shim DIRECTORY, with a listening socket on standard input");
        sys::exit_now(2)
    };
    match Shim::begin(Path::new(&directory)) {
        Ok(mut shim) => loop {
            if let Err(fault) = shim.turn() {
                eprintln!("shim: {fault}");
                sys::exit_now(1)
            }
        },
        Err(fault) => {
            eprintln!("shim: {fault}");
            sys::exit_now(1)
        }
    }
}

/// A command that was executed in a container, and who waits for its end.
struct Session {
    pid: i32,
    connection: Option<Connection>,
}

/// What a ready descriptor is.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Child,
    Stream(usize, Interest),
    Session(usize),
    Subscriber(usize),
}

struct Shim {
    pid_file: PathBuf,
    listener: OwnedFd,
    signals: OwnedFd,
    containers: Vec<Container>,
    sessions: Vec<Session>,
    subscribers: Vec<Connection>,
    /// The first process of the pod's shared pid namespace, and the namespace.
    pod_pids: Option<(i32, OwnedFd)>,
    buffer: Box<[u8; BUFFER]>,
    polled: Vec<libc::pollfd>,
    sources: Vec<Source>,
}

impl Shim {
    fn begin(directory: &Path) -> Result<Self, Fault> {
        detach()?;
        // Whatever the server's ancestors have left open must not be held for years.
        sys::close_from(3).while_doing("close descriptors")?;
        let listener = take_listener()?;
        std::env::set_current_dir("/").while_doing("chdir")?;
        sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).while_doing("become a subreaper")?;
        sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).while_doing("clear the dumpable flag")?;
        let pid = rustix::process::getpid().as_raw_nonzero().to_string();
        let pid_file = directory.join(PID_FILE);
        std::fs::write(&pid_file, pid).while_doing("write the pid file")?;
        Ok(Self {
            pid_file,
            listener,
            signals: watch_children()?,
            containers: Vec::new(),
            sessions: Vec::new(),
            subscribers: Vec::new(),
            pod_pids: None,
            buffer: Box::new([0; BUFFER]),
            polled: Vec::new(),
            sources: Vec::new(),
        })
    }

    /// Waits for something to happen and acts on all that has.
    fn turn(&mut self) -> Result<(), Fault> {
        let timeout_ms = if self.gather() { 1000 } else { -1 };
        // SAFETY: the array outlives the call and its length is passed.
        let found =
            unsafe { libc::poll(self.polled.as_mut_ptr(), self.polled.len() as libc::nfds_t, timeout_ms) };
        if found < 0 && std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return Err(std::io::Error::last_os_error()).while_doing("poll");
        }
        let ready: Vec<(Source, i16)> = std::iter::zip(&self.sources, &self.polled)
            .filter(|(_, polled)| found > 0 && polled.revents != 0)
            .map(|(source, polled)| (*source, polled.revents))
            .collect();
        let mut gone = Vec::new();
        for (source, revents) in ready {
            self.act(source, revents, &mut gone);
        }
        self.sweep(&gone);
        Ok(())
    }

    /// Lists what to poll. Returns whether time matters, too.
    fn gather(&mut self) -> bool {
        self.polled.clear();
        self.sources.clear();
        let mut wait = |fd, events, source| {
            self.polled.push(libc::pollfd { fd, events, revents: 0 });
            self.sources.push(source);
        };
        wait(self.listener.as_raw_fd(), libc::POLLIN, Source::Listener);
        wait(self.signals.as_raw_fd(), libc::POLLIN, Source::Child);
        let mut timed = false;
        for (index, container) in self.containers.iter().enumerate() {
            timed |= container
                .streams
                .interests(|fd, events, interest| wait(fd, events, Source::Stream(index, interest)));
        }
        for (index, session) in self.sessions.iter().enumerate() {
            if let Some(connection) = &session.connection {
                wait(connection.as_raw_fd(), libc::POLLIN, Source::Session(index));
            }
        }
        for (index, subscriber) in self.subscribers.iter().enumerate() {
            wait(subscriber.as_raw_fd(), libc::POLLIN, Source::Subscriber(index));
        }
        timed
    }

    fn act(&mut self, source: Source, revents: i16, gone: &mut Vec<usize>) {
        match source {
            Source::Listener => match Connection::accept(&self.listener) {
                Ok(connection) => self.serve(connection),
                Err(fault) => eprintln!("shim: {fault}"),
            },
            Source::Child => self.reap(),
            Source::Stream(index, interest) => {
                if let Some(container) = self.containers.get_mut(index) {
                    container.streams.ready(interest, revents, &mut *self.buffer);
                }
            }
            Source::Session(index) => self.hear_session(index),
            // A subscriber says nothing; it is readable because it has gone.
            Source::Subscriber(index) => gone.push(index),
        }
    }

    /// Indices that [`Self::gather`] gave out are good until here.
    fn sweep(&mut self, gone: &[usize]) {
        let mut index = 0;
        self.subscribers.retain(|_| {
            index += 1;
            !gone.contains(&(index - 1))
        });
        for container in &mut self.containers {
            container.streams.sweep();
            if !container.state.running() {
                container.streams.let_go_of_flushed();
            }
        }
    }

    fn serve(&mut self, connection: Connection) {
        let answered = match connection.request() {
            Ok((Request::Subscribe, _)) => self.subscribe(connection),
            Ok((Request::Exec { id, process }, fds)) => self.exec(connection, &id, &process, fds),
            Ok((Request::Shutdown, _)) => self.shut_down(&connection),
            Ok((request, fds)) => {
                let answer = match self.handle(request, fds) {
                    Ok(answer) => answer,
                    Err(fault) => Answer::Failed { message: fault.0 },
                };
                connection.answer(&answer, &[])
            }
            Err(fault) => Err(fault),
        };
        if let Err(fault) = answered {
            eprintln!("shim: {fault}");
        }
        give_memory_back();
    }

    fn handle(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, Fault> {
        match request {
            Request::Start { directory } => return self.start(Path::new(&directory)),
            Request::Kill { id, signal } => self.container(&id)?.kill(signal)?,
            Request::Attach { id, stdin, stdout, stderr } => {
                let mut fds = fds.into_iter();
                let mut take = |wanted: bool| if wanted { fds.next() } else { None };
                let client = Client::new(take(stdin), take(stdout), take(stderr))?;
                let container = self.container(&id)?;
                if !container.state.running() {
                    return Err(Fault(format!("container {id} is not running")));
                }
                container.streams.attach(client);
            }
            Request::Resize { id, width, height } => self.container(&id)?.streams.resize(width, height)?,
            Request::ReopenLog { id } => self.container(&id)?.streams.reopen_log()?,
            Request::Forget { id } => {
                self.containers.retain(|container| container.state.id != id || container.state.running())
            }
            Request::Subscribe | Request::Exec { .. } | Request::Shutdown => {
                return Err(Fault("this request needs its connection".to_owned()));
            }
        }
        Ok(Answer::Done)
    }

    fn container(&mut self, id: &str) -> Result<&mut Container, Fault> {
        let found = self.containers.iter_mut().find(|container| container.state.id == id);
        found.ok_or_else(|| Fault(format!("container {id} was not started here")))
    }

    fn start(&mut self, directory: &Path) -> Result<Answer, Fault> {
        let spec = container::read_spec(directory)?;
        if self.container(&spec.id).is_ok() {
            return Err(Fault(format!("container {} was started before", spec.id)));
        }
        let pids = match &spec.namespaces.pid {
            PidNamespace::Private | PidNamespace::Host => None,
            PidNamespace::Pod => Some(self.pod_pid_namespace(&spec.namespaces)?),
            PidNamespace::Target(id) => {
                let target = self.container(id)?;
                if !target.state.running() {
                    return Err(Fault(format!("target container {id} is not running")));
                }
                Some(open_pid_namespace(target.state.pid)?)
            }
        };
        let container = Container::start(directory, &spec, pids.as_ref())?;
        let (pid, state) = (container.state.pid, container.state.clone());
        self.containers.push(container);
        self.publish(&state);
        Ok(Answer::Started { pid })
    }

    /// The shared pid namespace lives as long as its first process, which is made for the first container that wants it.
    fn pod_pid_namespace(&mut self, namespaces: &Namespaces) -> Result<OwnedFd, Fault> {
        let (pid, namespace) = match self.pod_pids.take() {
            Some(known) => known,
            None => {
                let pid = container::start_pause(namespaces)?;
                (pid, open_pid_namespace(pid)?)
            }
        };
        let copy = rustix::io::fcntl_dupfd_cloexec(&namespace, 3);
        self.pod_pids = Some((pid, namespace));
        copy.while_doing("duplicate the pod's pid namespace")
    }

    fn exec(
        &mut self,
        connection: Connection,
        id: &str,
        process: &Process,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Fault> {
        let mut fds = fds.into_iter();
        let streams = if process.tty { [None, None, None] } else { std::array::from_fn(|_| fds.next()) };
        match self.container(id).and_then(|container| container.exec(process, streams)) {
            Ok(Born { pid, terminal }) => {
                let terminal: Vec<BorrowedFd<'_>> = terminal.iter().map(AsFd::as_fd).collect();
                let answered = connection.answer(&Answer::Started { pid }, &terminal);
                self.sessions.push(Session { pid, connection: Some(connection) });
                answered
            }
            Err(fault) => connection.answer(&Answer::Failed { message: fault.0 }, &[]),
        }
    }

    fn hear_session(&mut self, index: usize) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        match session.connection.as_ref().and_then(Connection::later_byte) {
            Some(KILL_BYTE) => {
                // The command leads its own group, and may have ended.
                let _ = sys::kill(-session.pid, libc::SIGKILL);
            }
            Some(_) => {}
            // Upstream's runtimes leave a command alone whose client has gone; its streams tell it.
            None => session.connection = None,
        }
    }

    fn subscribe(&mut self, connection: Connection) -> Result<(), Fault> {
        let containers: Vec<ContainerState> =
            self.containers.iter().map(|container| container.state.clone()).collect();
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        connection.answer(&Answer::Snapshot { pid, containers }, &[])?;
        self.subscribers.push(connection);
        Ok(())
    }

    /// Tells every subscriber. One that does not take it is closed, and subscribes again.
    fn publish(&mut self, state: &ContainerState) {
        let answer = Answer::State(state.clone());
        self.subscribers.retain(|subscriber| subscriber.answer(&answer, &[]).is_ok());
    }

    fn reap(&mut self) {
        drain(&self.signals);
        while let Some((pid, status)) = sys::reap() {
            // The kernel kills a namespace with its first process; the next container gets a new one.
            self.pod_pids.take_if(|(first, _)| *first == pid);
            if let Some(index) = self
                .containers
                .iter()
                .position(|container| container.state.running() && container.state.pid == pid)
            {
                self.containers[index].finish(status, &mut *self.buffer);
                let state = self.containers[index].state.clone();
                self.publish(&state);
            } else if let Some(index) = self.sessions.iter().position(|session| session.pid == pid) {
                let session = self.sessions.swap_remove(index);
                if let Some(connection) = session.connection {
                    // A client that has gone does not want to know.
                    let _ = connection.answer(&Answer::Exited { code: sys::exit_code(status) }, &[]);
                }
            }
        }
        give_memory_back();
    }

    fn shut_down(&mut self, connection: &Connection) -> Result<(), Fault> {
        for session in &self.sessions {
            // It may have ended.
            let _ = sys::kill(-session.pid, libc::SIGKILL);
        }
        for container in &self.containers {
            if let Err(fault) = container.kill(libc::SIGKILL) {
                eprintln!("shim: {fault}");
            }
        }
        if let Some((pid, _)) = self.pod_pids.take() {
            // It may have ended.
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        while self.containers.iter().any(|container| container.state.running()) {
            let mut child = libc::pollfd { fd: self.signals.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one entry is passed and outlives the call.
            unsafe { libc::poll(&raw mut child, 1, -1) };
            self.reap();
        }
        if let Err(fault) = std::fs::remove_file(&self.pid_file).while_doing("remove the pid file") {
            eprintln!("shim: {fault}");
        }
        // The server may have gone meanwhile; the work is done.
        let _ = connection.answer(&Answer::Done, &[]);
        sys::exit_now(0)
    }
}

/// Leaves the server's process tree and session, so that nothing that ends the server ends this process.
fn detach() -> Result<(), Fault> {
    // SAFETY: the process has one thread.
    if unsafe { sys::fork_into(0) }.while_doing("fork")? != 0 {
        sys::exit_now(0);
    }
    rustix::process::setsid().while_doing("setsid").map(drop)
}

/// Moves the socket away from descriptor 0 and puts `/dev/null` there.
fn take_listener() -> Result<OwnedFd, Fault> {
    // SAFETY: the server has placed the socket there, and nothing else in this process owns it.
    let given = unsafe { OwnedFd::from_raw_fd(0) };
    let listener = rustix::io::fcntl_dupfd_cloexec(&given, 3).while_doing("take the listening socket")?;
    // From now on connections carry this process's credentials, not the server's.
    rustix::net::listen(&listener, 16).while_doing("listen")?;
    let flags = rustix::fs::OFlags::RDWR;
    let null =
        rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).while_doing("open /dev/null")?;
    for target in [0, 1] {
        // SAFETY: descriptor 0 is `given`, which is forgotten below; nothing owns descriptor 1.
        crate::sys::check_int(unsafe { libc::dup2(null.as_raw_fd(), target) })
            .while_doing("place /dev/null")?;
    }
    std::mem::forget(given);
    sys::close_on_exec_from(3).while_doing("close descriptors")?;
    Ok(listener)
}

/// A descriptor that is readable when a child has ended. SIGCHLD stays blocked; children unblock it for themselves.
fn watch_children() -> Result<OwnedFd, Fault> {
    // SAFETY: the set is initialised by sigemptyset before use, and the new descriptor is ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        crate::sys::check_int(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))
            .while_doing("block SIGCHLD")?;
        let fd =
            crate::sys::check_int(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))
                .while_doing("watch SIGCHLD")?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn drain(signals: &OwnedFd) {
    let mut info = [0_u8; 128];
    // It only matters that it is empty afterwards; every child is asked for anyway.
    while matches!(rustix::io::read(signals, &mut info), Ok(length) if length > 0) {}
}

fn open_pid_namespace(pid: i32) -> Result<OwnedFd, Fault> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/pid"));
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).while_doing("open a pid namespace")
}

/// A shim idles for days: what a request has used goes back to the machine. That includes the program's own pages, which the
/// kernel maps generously and which come back from the page cache when they are needed.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: any value is allowed.
    unsafe {
        libc::malloc_trim(0);
    }
    unsafe extern "C" {
        // Set by the linker: where the program's read-only segments begin and where its code ends.
        static __executable_start: u8;
        static etext: u8;
    }
    const PAGE: usize = 4096;
    let start = (&raw const __executable_start).addr().next_multiple_of(PAGE);
    let end = (&raw const etext).addr() / PAGE * PAGE;
    // SAFETY: the range is mapped read-only from a file and never written, so dropped pages read the same again.
    unsafe {
        // Only an optimisation: when the kernel refuses, the pages stay.
        let _ = libc::madvise(
            std::ptr::without_provenance_mut(start),
            end.saturating_sub(start),
            libc::MADV_DONTNEED,
        );
    }
}
