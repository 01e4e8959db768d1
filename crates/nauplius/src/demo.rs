//! The demo application: a small HTTP server that tells which pod and node answered, and whose health can be made to fail.
//! It runs in containers, so it is plain threads and standard library: a few hundred kilobytes.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const ADDRESS: &str = "0.0.0.0:8080";
const CONNECTIONS_MAX: usize = 256;
const LINE_MAX: u64 = 8192;
const HEADERS_MAX: usize = 100;
const IDLE_MAX: Duration = Duration::from_secs(30);
/// After SIGTERM requests are still served for so long: those that were routed here before the endpoint went.
const DRAIN: Duration = Duration::from_secs(2);
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const STACK_BYTES: usize = 64 << 10;

static TERMINATING: AtomicBool = AtomicBool::new(false);

struct App {
    pod: String,
    node: String,
    alive: AtomicBool,
    ready: AtomicBool,
    connections: AtomicUsize,
}

struct Request {
    method: String,
    path: String,
    keep_alive: bool,
    body_bytes: u64,
}

/// Serves until SIGTERM.
pub fn run() -> std::process::ExitCode {
    let listener = match TcpListener::bind(ADDRESS) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("demo: cannot listen on {ADDRESS}: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    exit_on_sigterm();
    let (pod, node) = (pod_name(), node_name());
    println!("demo: pod {pod} on node {node} serves on port 8080");
    let app = Arc::new(App {
        pod,
        node,
        alive: AtomicBool::new(true),
        ready: AtomicBool::new(true),
        connections: AtomicUsize::new(0),
    });
    for connection in listener.incoming() {
        match connection {
            Ok(stream) => accept(&app, stream),
            Err(error) => eprintln!("demo: cannot accept: {error}"),
        }
    }
    std::process::ExitCode::SUCCESS
}

fn accept(app: &Arc<App>, stream: TcpStream) {
    if app.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
        app.connections.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let served = Arc::clone(app);
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        if let Err(error) = serve(&served, stream) {
            eprintln!("demo: connection: {error}");
        }
        served.connections.fetch_sub(1, Ordering::Relaxed);
    });
    if let Err(error) = thread {
        app.connections.fetch_sub(1, Ordering::Relaxed);
        eprintln!("demo: cannot start a thread: {error}");
    }
}

fn serve(app: &App, stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE_MAX))?;
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(4096, stream);
    loop {
        let request = match read_request(&mut reader) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) if is_quiet(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        std::io::copy(&mut (&mut reader).take(request.body_bytes), &mut std::io::sink())?;
        let (code, text) = answer(app, &request, &peer.to_string());
        if !request.path.ends_with('z') {
            println!("{} {} {code} from {peer}", request.method, request.path);
        }
        let keep_alive = request.keep_alive && !TERMINATING.load(Ordering::Relaxed);
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {code}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            text.len()
        );
        let body = if request.method == "HEAD" { "" } else { &text };
        writer.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())?;
        if !keep_alive {
            return Ok(());
        }
    }
}

/// A client that goes away or idles is nothing to talk about.
fn is_quiet(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionReset, TimedOut, WouldBlock};
    matches!(error.kind(), ConnectionReset | TimedOut | WouldBlock)
}

fn read_line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    let read = reader.by_ref().take(LINE_MAX).read_line(&mut line)?;
    if read as u64 == LINE_MAX {
        return Err(std::io::Error::other("a header line is too long"));
    }
    Ok(line.trim_end().to_owned())
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let line = read_line(reader)?;
    let mut words = line.split_ascii_whitespace();
    let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Ok(None);
    };
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        keep_alive: version == "HTTP/1.1",
        body_bytes: 0,
    };
    for _ in 0..HEADERS_MAX {
        let header = read_line(reader)?.to_ascii_lowercase();
        match header.split_once(':').map(|(name, value)| (name, value.trim())) {
            None => return Ok(Some(request)),
            Some(("connection", value)) => request.keep_alive = !value.contains("close"),
            Some(("content-length", value)) => request.body_bytes = value.parse().unwrap_or(0),
            Some(_) => {}
        }
    }
    Err(std::io::Error::other("too many headers"))
}

fn answer(app: &App, request: &Request, peer: &str) -> (&'static str, String) {
    let health = |healthy: &AtomicBool| {
        if healthy.load(Ordering::Relaxed) {
            ("200 OK", "ok\n".to_owned())
        } else {
            ("503 Service Unavailable", "failing on request\n".to_owned())
        }
    };
    let set = |healthy: &AtomicBool, value: bool| {
        healthy.store(value, Ordering::Relaxed);
        ("200 OK", format!("{} is now {}\n", app.pod, if value { "healthy" } else { "failing" }))
    };
    match request.path.split('?').next().unwrap_or_default() {
        "/healthz" => health(&app.alive),
        "/readyz" => health(&app.ready),
        "/fail/healthz" => set(&app.alive, false),
        "/fail/readyz" => set(&app.ready, false),
        "/restore/healthz" => set(&app.alive, true),
        "/restore/readyz" => set(&app.ready, true),
        "/exit" => {
            println!("exiting on request");
            std::process::exit(1)
        }
        _ => ("200 OK", describe(app, request, peer)),
    }
}

fn describe(app: &App, request: &Request, peer: &str) -> String {
    format!(
        "Hello from Nauplius!\npod:     {}\nnode:    {}\nrequest: {} {}\nfrom:    {peer}\n\n\
         /healthz and /readyz tell health; /fail/healthz, /fail/readyz and /restore/... change it; /exit crashes.\n",
        app.pod, app.node, request.method, request.path
    )
}

fn pod_name() -> String {
    std::env::var("POD_NAME")
        .ok()
        .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

/// From the environment, or from what the projected service account token says about its pod.
fn node_name() -> String {
    let from_token = || {
        let token = std::fs::read_to_string(TOKEN).ok()?;
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
        claims["kubernetes.io"]["node"]["name"].as_str().map(str::to_owned)
    };
    std::env::var("NODE_NAME").ok().or_else(from_token).unwrap_or_else(|| "unknown".to_owned())
}

/// As process 1 of a container, SIGTERM does nothing unless it is handled: a thread waits for it, all others block it.
fn exit_on_sigterm() {
    // SAFETY: the set is initialised by sigemptyset before it is read; no other thread runs yet.
    let signals = unsafe {
        let mut signals = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut signals);
        libc::sigaddset(&raw mut signals, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
        signals
    };
    let waiter = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        let mut signal = 0;
        // SAFETY: both pointers are to live locals.
        while unsafe { libc::sigwait(&raw const signals, &raw mut signal) } != 0 {}
        TERMINATING.store(true, Ordering::Relaxed);
        std::thread::sleep(DRAIN);
        println!("demo: terminated");
        std::process::exit(0);
    });
    if let Err(error) = waiter {
        eprintln!("demo: cannot wait for SIGTERM: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_request_and_refuses_endless_lines() {
        let mut input = "GET /x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nrest".as_bytes();
        let request = read_request(&mut input).unwrap().unwrap();
        assert_eq!(
            (request.method.as_str(), request.path.as_str(), request.keep_alive),
            ("GET", "/x?y", false)
        );
        let endless = "G".repeat(10_000);
        assert!(read_request(&mut endless.as_bytes()).is_err());
        assert!(read_request(&mut "".as_bytes()).unwrap().is_none());
    }
}
