//! A small server to stream with: commands named by the query, and ports that echo.

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nauplius_streaming::{
    PortForwardOptions, PortForwardSession, RemoteCommandOptions, RemoteCommandSession, Target, TerminalSize,
    Timeouts, accept_port_forward, accept_remote_command, forward_upgrade,
};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, copy};

/// What the server saw, for tests to wait for.
#[derive(Default)]
pub struct Seen {
    pub sizes: Mutex<Vec<TerminalSize>>,
    /// Output of `yes` that was accepted so far.
    pub written: Mutex<usize>,
    /// Commands that have ended.
    pub ended: Mutex<usize>,
}

pub type Body = BoxBody<Bytes, hyper::Error>;

fn full(response: Response<Full<Bytes>>) -> Response<Body> {
    response.map(|body| body.map_err(|never| match never {}).boxed())
}

pub fn timeouts() -> Timeouts {
    Timeouts { linger: Duration::from_secs(5), ..Timeouts::default() }
}

/// Values of a query parameter; tests escape nothing but slashes and spaces.
fn values<'a>(uri: &'a Uri, name: &'a str) -> Vec<String> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let matching = pairs.filter(|(key, _)| *key == name);
    matching.map(|(_, value)| value.replace("%2F", "/").replace('+', " ")).collect()
}

fn is_true(uri: &Uri, name: &str) -> bool {
    values(uri, name).iter().any(|value| value == "true" || value == "1")
}

pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = full(Response::new(Full::new(body.into())));
    *response.status_mut() = status;
    response
}

/// Answers exec and port-forward on paths that end in these words.
pub async fn answer(mut request: Request<Incoming>, seen: Arc<Seen>) -> Response<Body> {
    let uri = request.uri().clone();
    if uri.path().ends_with("/exec") || uri.path().ends_with("/attach") {
        let options = RemoteCommandOptions {
            stdin: is_true(&uri, "stdin"),
            stdout: is_true(&uri, "stdout"),
            stderr: is_true(&uri, "stderr"),
            tty: is_true(&uri, "tty"),
        };
        match accept_remote_command(&mut request, options, timeouts()) {
            Ok((response, session)) => {
                nauplius_base::task::spawn("command", async move {
                    run(&values(&uri, "command"), session.await.unwrap(), &seen).await;
                    *seen.ended.lock().unwrap() += 1;
                });
                full(response)
            }
            Err(refusal) => full(refusal.into_response()),
        }
    } else if uri.path().ends_with("/portforward") {
        let options = PortForwardOptions { timeouts: timeouts(), ..PortForwardOptions::default() };
        match accept_port_forward(&mut request, options) {
            Ok((response, session)) => {
                nauplius_base::task::spawn("ports", async move {
                    forward(session.await.unwrap()).await;
                    *seen.ended.lock().unwrap() += 1;
                });
                full(response)
            }
            Err(refusal) => full(refusal.into_response()),
        }
    } else {
        text(StatusCode::NOT_FOUND, format!("no {uri}"))
    }
}

async fn run(command: &[String], session: RemoteCommandSession, seen: &Seen) {
    let RemoteCommandSession { stdin, stdout, stderr, mut resize, outcome } = session;
    let (mut stdin, mut stdout) = (stdin, stdout.unwrap());
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match words[..] {
        ["cat"] => {
            copy(stdin.as_mut().unwrap(), &mut stdout).await.unwrap();
            stdout.shutdown().await.unwrap();
            outcome.success();
        }
        ["both"] => {
            stdout.write_all(b"to stdout\n").await.unwrap();
            stderr.unwrap().write_all(b"to stderr\n").await.unwrap();
            drop(stdout);
            outcome.success();
        }
        ["exit", code] => {
            drop(stdout);
            outcome.exit_code(code.parse().unwrap());
        }
        ["fail"] => outcome.failure("error executing command in container: no such file"),
        ["vanish"] => drop(outcome),
        ["big", bytes] => {
            let mut left: usize = bytes.parse().unwrap();
            while left > 0 {
                let length = left.min(50_000);
                stdout.write_all(&vec![b'x'; length]).await.unwrap();
                left -= length;
            }
            drop(stdout);
            outcome.success();
        }
        ["yes"] => {
            while let Ok(length) = stdout.write(&[b'y'; 1000]).await {
                *seen.written.lock().unwrap() += length;
            }
        }
        ["sizes", count] => {
            for _ in 0..count.parse().unwrap() {
                let size = resize.recv().await.unwrap();
                seen.sizes.lock().unwrap().push(size);
            }
            drop(stdout);
            outcome.success();
        }
        // Waits for its input to end, as a shell does.
        ["wait"] => {
            let mut input = Vec::new();
            stdin.as_mut().unwrap().read_to_end(&mut input).await.unwrap();
            outcome.exit_code(7);
        }
        _ => outcome.failure("unknown command"),
    }
}

/// Port 80 echoes, port 81 says hello and hangs up, all others cannot be reached.
async fn forward(mut session: PortForwardSession) {
    while let Some(mut stream) = session.next().await {
        nauplius_base::task::spawn("port", async move {
            match stream.port {
                80 => {
                    let (mut reader, mut writer) = tokio::io::split(&mut stream.data);
                    copy(&mut reader, &mut writer).await.unwrap();
                    writer.shutdown().await.unwrap();
                }
                81 => stream.data.write_all(b"hello").await.unwrap(),
                port => stream.error.failure(format!("error forwarding port {port}: connection refused")),
            }
        });
    }
}

/// Serves one connection.
pub fn serve<T>(io: T, seen: Arc<Seen>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let seen = Arc::clone(&seen);
        async move { Ok::<_, Infallible>(answer(request, seen).await) }
    });
    spawn_http(io, service);
}

pub fn spawn_http<T, S>(io: T, service: S)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    nauplius_base::task::spawn("http", async move {
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        let _ = connection.await; // Clients hang up as they like.
    });
}

/// Passes every request on to a server, over a connection of its own, as an API server does.
pub fn serve_forwarding<T>(io: T, backend: impl Fn() -> DuplexStream + Send + Sync + 'static)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let backend = Arc::new(backend);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let backend = Arc::clone(&backend);
        async move {
            let uri: Uri = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
            let io = backend();
            let answer = forward_upgrade(&mut request, io, uri, "backend", &http::HeaderMap::new()).await;
            Ok::<_, Infallible>(match answer {
                Ok(forwarded) => {
                    if let Some(splice) = forwarded.splice {
                        nauplius_base::task::spawn("splice", splice);
                    }
                    forwarded.response.map(BodyExt::boxed)
                }
                Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
            })
        }
    });
    spawn_http(io, service);
}

/// A client's end of a connection to the server.
pub fn connect(seen: &Arc<Seen>) -> DuplexStream {
    let (client, server) = tokio::io::duplex(4096);
    serve(server, Arc::clone(seen));
    client
}

/// A client's end of a connection through two tunnels.
pub fn connect_through_two(seen: &Arc<Seen>) -> DuplexStream {
    let seen = Arc::clone(seen);
    let kubelet = move || {
        let seen = Arc::clone(&seen);
        let (client, server) = tokio::io::duplex(4096);
        serve_forwarding(server, move || connect(&seen));
        client
    };
    let (client, server) = tokio::io::duplex(4096);
    serve_forwarding(server, kubelet);
    client
}

pub fn target(path: &str) -> Target {
    Target { uri: path.parse().unwrap(), host: "test".to_owned(), ..Target::default() }
}

/// Waits for a condition.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = nauplius_base::time::monotonic() + Duration::from_secs(20);
    while !condition() {
        assert!(nauplius_base::time::monotonic() < deadline, "timed out: {what}");
        nauplius_base::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A plain request, answered with status and body.
pub async fn get(io: DuplexStream, path: &str) -> (StatusCode, String) {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    nauplius_base::task::spawn("client", connection);
    let request = Request::get(path).header("host", "test").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}
