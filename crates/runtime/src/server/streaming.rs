//! The streaming server: exec, attach and port-forward over HTTP upgrades on a loopback port, each behind a token that is good once
//! and for a minute. It must not know the protocols inside the upgrade.

use super::exec::{self, Ends, Pipes};
use super::registry::{Container, find};
use super::shim_client::ShimClient;
use super::{Inner, namespaces};
use crate::wire::Request as ShimRequest;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nauplius_base::{errno, task, time};
use nauplius_cri::{CriError, v1};
use nauplius_streaming::{
    PortForwardOptions, PortForwardSession, PortForwardStream, Refusal, RemoteCommandOptions,
    RemoteCommandSession, ResizeReceiver, Timeouts, accept_port_forward, accept_remote_command,
};
use rustix::fd::{AsFd, OwnedFd};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, split};
use tokio::net::{TcpListener, TcpStream};

/// How long a token waits to be used.
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);
/// Tokens that may wait at once, as upstream's runtimes bound it.
const TOKEN_LIMIT: usize = 1000;
/// How long output may still flow after a command has ended.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// How long a client may still speak to a port after the pod has closed it, as with upstream's runtimes.
const LINGER: Duration = Duration::from_secs(1);

/// What a token stands for.
enum Ticket {
    Exec { container: String, command: Vec<String>, options: RemoteCommandOptions },
    Attach { container: String, options: RemoteCommandOptions },
    PortForward { sandbox: String, ports: Vec<u16> },
}

/// Tokens that wait, and where they are to be presented.
pub(crate) struct Tickets {
    address: SocketAddr,
    waiting: Mutex<HashMap<String, (time::Instant, Ticket)>>,
}

/// Binds the loopback port.
pub(crate) async fn listen() -> io::Result<(Tickets, TcpListener)> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    Ok((Tickets { address: listener.local_addr()?, waiting: Mutex::default() }, listener))
}

impl Tickets {
    fn issue(&self, ticket: Ticket) -> Result<String, CriError> {
        let kind = match ticket {
            Ticket::Exec { .. } => "exec",
            Ticket::Attach { .. } => "attach",
            Ticket::PortForward { .. } => "portforward",
        };
        let token = secret()?;
        let now = time::monotonic();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (until, _)| *until > now);
        if waiting.len() >= TOKEN_LIMIT {
            return Err(CriError::new(
                nauplius_cri::Code::ResourceExhausted,
                "maximum number of in-flight requests exceeded",
            ));
        }
        waiting.insert(token.clone(), (now + TOKEN_LIFETIME, ticket));
        Ok(format!("http://{}/{kind}/{token}", self.address))
    }

    fn redeem(&self, path: &str) -> Option<Ticket> {
        let token = path.rsplit('/').next()?;
        let (until, ticket) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(token)?;
        (until > time::monotonic()).then_some(ticket)
    }
}

/// A token that cannot be guessed: other users of this machine reach the port, too.
fn secret() -> Result<String, CriError> {
    let mut bytes = [0_u8; 16];
    // SAFETY: the buffer is valid for the length that is passed.
    let result = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(result) != Ok(bytes.len()) {
        return Err(CriError::unknown("the system has no randomness for a token"));
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Inner {
    /// `Exec`.
    pub(crate) fn exec_url(&self, request: v1::ExecRequest) -> Result<String, CriError> {
        let container = self.running(&request.container_id)?.record.id;
        let options = options(request.stdin, request.stdout, request.stderr, request.tty)?;
        self.streaming.issue(Ticket::Exec { container, command: request.cmd, options })
    }

    /// `Attach`.
    pub(crate) fn attach_url(&self, request: &v1::AttachRequest) -> Result<String, CriError> {
        let container = self.running(&request.container_id)?.record.id;
        let options = options(request.stdin, request.stdout, request.stderr, request.tty)?;
        self.streaming.issue(Ticket::Attach { container, options })
    }

    /// `PortForward`.
    pub(crate) fn port_forward_url(&self, request: &v1::PortForwardRequest) -> Result<String, CriError> {
        let sandbox = self.read(|registry| find(&registry.sandboxes, &request.pod_sandbox_id).cloned());
        let sandbox = sandbox.ok_or_else(|| {
            CriError::not_found(format!(
                "failed to find sandbox {:?} in store: not found",
                request.pod_sandbox_id
            ))
        })?;
        if sandbox.cri_state() != v1::PodSandboxState::SandboxReady {
            return Err(super::sandboxes::not_ready(&sandbox.record.id));
        }
        // Only the old WebSocket protocols need them: the newer ones name a port with each stream.
        let ports: Result<Vec<u16>, _> = request.port.iter().map(|port| u16::try_from(*port)).collect();
        let ports =
            ports.map_err(|_| CriError::invalid(format!("not all of {:?} are ports", request.port)))?;
        self.streaming.issue(Ticket::PortForward { sandbox: sandbox.record.id, ports })
    }
}

fn options(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<RemoteCommandOptions, CriError> {
    if !(stdin || stdout || stderr) {
        return Err(CriError::invalid("one of stdin, stdout, or stderr must be set"));
    }
    if tty && stderr {
        return Err(CriError::invalid("tty and stderr cannot both be true"));
    }
    Ok(RemoteCommandOptions { stdin, stdout, stderr, tty })
}

/// Serves the port until the runtime's token is cancelled. Connections end with their streams.
pub(crate) fn serve(inner: &Arc<Inner>, listener: TcpListener) {
    let (weak, token) = (Arc::downgrade(inner), inner.token.clone());
    task::spawn("runtime-streaming", async move {
        loop {
            let accepted = tokio::select! {
                () = token.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match (accepted, weak.upgrade()) {
                (Ok((stream, _)), Some(inner)) => {
                    drop(task::spawn("runtime-stream", serve_connection(inner, stream)))
                }
                (_, None) => return,
                (Err(error), _) => {
                    tracing::warn!(%error, "the streaming server could not accept a connection");
                    time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
}

async fn serve_connection(inner: Arc<Inner>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let answer = answer(&inner, request);
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A client that breaks off in the middle of a request is its own affair.
    let _ = connection.with_upgrades().await;
}

fn answer(inner: &Arc<Inner>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let outcome = match inner.streaming.redeem(request.uri().path()) {
        None => return plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        Some(Ticket::Exec { container, command, options }) => {
            start_command(inner, &mut request, options, Start::Exec { container, command })
        }
        Some(Ticket::Attach { container, options }) => {
            start_command(inner, &mut request, options, Start::Attach { container })
        }
        Some(Ticket::PortForward { sandbox, ports }) => start_forwarding(inner, &mut request, sandbox, ports),
    };
    outcome.unwrap_or_else(Refusal::into_response)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

enum Start {
    Exec { container: String, command: Vec<String> },
    Attach { container: String },
}

fn start_command(
    inner: &Arc<Inner>,
    request: &mut Request<Incoming>,
    options: RemoteCommandOptions,
    start: Start,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let (response, session) = accept_remote_command(request, options, Timeouts::default())?;
    let inner = Arc::clone(inner);
    task::spawn("remote-command", async move {
        match session.await {
            Ok(session) => match start {
                Start::Exec { container, command } => {
                    run_exec(&inner, session, &container, &command, options).await
                }
                Start::Attach { container } => run_attach(&inner, session, &container, options).await,
            },
            Err(error) => tracing::debug!(%error, "a client left before its streams were there"),
        }
    });
    Ok(response)
}

async fn run_exec(
    inner: &Inner,
    session: RemoteCommandSession,
    container: &str,
    command: &[String],
    options: RemoteCommandOptions,
) {
    let RemoteCommandSession { stdin, stdout, stderr, resize, outcome } = session;
    let started = async {
        let container = inner.running_for_exec(container)?;
        if options.tty {
            let (execution, master) = inner.execute(&container, command, true, None).await?;
            let master = master.ok_or_else(|| CriError::unknown("the shim handed over no terminal"))?;
            return Ok((execution, Wiring::Terminal(master)));
        }
        let (mine, ends) = exec::pipes(options.stdin, options.stdout, options.stderr)?;
        let (execution, _) = inner.execute(&container, command, false, Some(ends)).await?;
        Ok::<_, CriError>((execution, Wiring::Pipes(mine)))
    };
    let failed = |what: &str| format!("error executing command in container: {what}");
    let (mut execution, wiring) = match started.await {
        Ok(started) => started,
        Err(error) => return outcome.failure(failed(&error.message)),
    };
    let output = match wiring {
        Wiring::Pipes(pipes) => {
            let input = forward_input(stdin, pipes.stdin);
            task::spawn("exec-output", async move {
                let _input = input;
                futures_util::join!(forward(pipes.stdout, stdout), forward(pipes.stderr, stderr));
            })
        }
        Wiring::Terminal(master) => match forward_terminal(master, stdin, stdout, resize) {
            Ok(output) => output,
            Err(error) => return outcome.failure(failed(&error.to_string())),
        },
    };
    let code = execution.exit_code().await;
    // Descendants that stay behind must not keep the client.
    let stop = output.abort_handle();
    if time::timeout(DRAIN_WAIT, output).await.is_err() {
        stop.abort();
    }
    match code {
        Ok(0) => outcome.success(),
        Ok(code) => outcome.exit_code(code),
        Err(error) => outcome.failure(failed(&error.to_string())),
    }
}

enum Wiring {
    Pipes(Pipes),
    Terminal(OwnedFd),
}

/// The task that carries a client's input. It is aborted with the session: a client may keep its input open for ever.
struct Input(Option<tokio::task::JoinHandle<()>>);

impl Drop for Input {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

fn forward_input<R, W>(from: Option<R>, to: Option<W>) -> Input
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    Input(from.zip(to).map(|(mut from, mut to)| {
        task::spawn("exec-input", async move {
            // Either side may close first; the pipe's end tells the command.
            let _ = copy(&mut from, &mut to).await;
        })
    }))
}

async fn forward<R, W>(from: Option<R>, to: Option<W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if let (Some(mut from), Some(mut to)) = (from, to) {
        // Either side may close first.
        let _ = copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    }
}

/// A terminal's one descriptor serves both directions and its size.
fn forward_terminal<R, W>(
    master: OwnedFd,
    stdin: Option<R>,
    stdout: Option<W>,
    mut resize: ResizeReceiver,
) -> io::Result<tokio::task::JoinHandle<()>>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let writer = super::terminal::Terminal::new(master.try_clone()?)?;
    let sizes = master.try_clone()?;
    let reader = super::terminal::Terminal::new(master)?;
    let sizing = task::spawn("exec-resize", async move {
        while let Some(size) = resize.recv().await {
            let size = rustix::termios::Winsize {
                ws_row: size.height,
                ws_col: size.width,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            // The terminal may be closed already.
            let _ = rustix::termios::tcsetwinsize(&sizes, size);
        }
    });
    let input = forward_input(stdin, Some(writer));
    Ok(task::spawn("exec-output", async move {
        let _input = input;
        forward(Some(reader), stdout).await;
        sizing.abort();
    }))
}

async fn run_attach(
    inner: &Arc<Inner>,
    session: RemoteCommandSession,
    container: &str,
    options: RemoteCommandOptions,
) {
    let RemoteCommandSession { stdin, stdout, stderr, resize, outcome } = session;
    let joined = async {
        let container = inner.running(container)?;
        let (mine, ends) = exec::pipes(options.stdin, options.stdout, options.stderr)?;
        inner.join_streams(&container, options, &ends).await?;
        Ok::<_, CriError>((container, mine))
    };
    let (container, pipes) = match joined.await {
        Ok(joined) => joined,
        Err(error) => return outcome.failure(format!("error attaching to container: {}", error.message)),
    };
    let sizing = task::spawn("attach-resize", follow_sizes(Arc::clone(inner), container, resize));
    // Without output the client stays as long as it sends.
    let watches = pipes.stdout.is_some() || pipes.stderr.is_some();
    if watches {
        let _input = forward_input(stdin, pipes.stdin);
        futures_util::join!(forward(pipes.stdout, stdout), forward(pipes.stderr, stderr));
    } else {
        forward(stdin, pipes.stdin).await;
    }
    sizing.abort();
    outcome.success();
}

async fn follow_sizes(inner: Arc<Inner>, container: Container, mut resize: ResizeReceiver) {
    let client = ShimClient::new(&inner.sandbox_dir(&container.record.sandbox));
    while let Some(size) = resize.recv().await {
        let request =
            ShimRequest::Resize { id: container.record.id.clone(), width: size.width, height: size.height };
        if client.request(&request, &[]).await.is_err() {
            return; // The container has ended; so will the session.
        }
    }
}

impl Inner {
    async fn join_streams(
        &self,
        container: &Container,
        options: RemoteCommandOptions,
        ends: &Ends,
    ) -> Result<(), CriError> {
        let request = ShimRequest::Attach {
            id: container.record.id.clone(),
            stdin: options.stdin,
            stdout: options.stdout,
            stderr: options.stderr,
        };
        let all =
            [(options.stdin, &ends.stdin), (options.stdout, &ends.stdout), (options.stderr, &ends.stderr)];
        let fds: Vec<_> = all.iter().filter(|(wanted, _)| *wanted).map(|(_, fd)| fd.as_fd()).collect();
        let client = ShimClient::new(&self.sandbox_dir(&container.record.sandbox));
        let answer = client.request(&request, &fds).await;
        answer
            .map(drop)
            .map_err(|error| CriError::unknown(format!("failed to attach to the container: {error}")))
    }
}

fn start_forwarding(
    inner: &Arc<Inner>,
    request: &mut Request<Incoming>,
    sandbox: String,
    ports: Vec<u16>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let options = PortForwardOptions { ports, timeouts: Timeouts::default() };
    let (response, session) = accept_port_forward(request, options)?;
    let inner = Arc::clone(inner);
    task::spawn("port-forward", async move {
        match session.await {
            Ok(session) => forward_ports(&inner, session, &sandbox).await,
            Err(error) => tracing::debug!(%error, "a client left before it forwarded a port"),
        }
    });
    Ok(response)
}

async fn forward_ports(inner: &Inner, mut session: PortForwardSession, sandbox: &str) {
    let netns = inner.read(|registry| registry.sandboxes.get(sandbox).map(|sandbox| inner.netns(sandbox)));
    let Some(netns) = netns else { return };
    while let Some(stream) = session.next().await {
        task::spawn("forwarded-port", forward_port(stream, netns.clone(), sandbox.to_owned()));
    }
}

async fn forward_port(mut stream: PortForwardStream, netns: Option<PathBuf>, sandbox: String) {
    let place = netns.as_deref().map_or_else(|| "host".to_owned(), |path| path.display().to_string());
    match dial(netns, stream.port, &sandbox).await {
        Ok(connection) => carry(&mut stream.data, connection).await,
        Err(error) => {
            let port = stream.port;
            stream.error.failure(format!("error forwarding port {port} to pod {sandbox}, uid : failed to execute portforward in network namespace {place:?}: {error}"));
        }
    }
}

/// A client that has said all may still read; once the pod has said all, the client must learn it, and over the old WebSocket
/// protocols it does so only by the end of the session.
async fn carry(client: &mut (impl AsyncRead + AsyncWrite + Unpin), pod: TcpStream) {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_pod, mut to_pod) = pod.into_split();
    let inward = async {
        // Either side may break off: the other then learns it by the end of its stream.
        let _ = copy(&mut from_client, &mut to_pod).await;
        let _ = to_pod.shutdown().await;
    };
    let outward = async {
        // As above.
        let _ = copy(&mut from_pod, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    let (mut inward, mut outward) = (pin!(inward), pin!(outward));
    tokio::select! {
        () = &mut outward => {
            // What the client does not say in this time nobody would hear.
            let _ = time::timeout(LINGER, inward).await;
        }
        () = &mut inward => outward.await,
    }
}

/// Connects to the pod's loopback, IPv4 first; the error is containerd's. A socket belongs to the namespace that it was made in, wherever it is
/// used.
async fn dial(netns: Option<PathBuf>, port: u16, sandbox: &str) -> Result<TcpStream, String> {
    let mut refusals = Vec::new();
    for (network, address) in [
        ("tcp4", SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port))),
        ("tcp6", SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port))),
    ] {
        match dial_at(netns.clone(), address).await {
            Ok(connection) => return Ok(connection),
            Err(error) => {
                refusals.push(format!("dial {network} {address}: connect: {}", errno::words(&error)));
            }
        }
    }
    Err(format!(
        "failed to connect to localhost:{port} inside namespace {sandbox:?}, IPv4: {} ",
        refusals.join(" IPv6 ")
    ))
}

async fn dial_at(netns: Option<PathBuf>, address: SocketAddr) -> io::Result<TcpStream> {
    let make = move || namespaces::inside_network(netns.as_deref(), || new_socket(address));
    let socket = tokio::task::spawn_blocking(make).await.map_err(io::Error::other)??;
    socket.connect(address).await
}

fn new_socket(address: SocketAddr) -> io::Result<tokio::net::TcpSocket> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    Ok(tokio::net::TcpSocket::from_std_stream(std::net::TcpStream::from(socket)))
}
