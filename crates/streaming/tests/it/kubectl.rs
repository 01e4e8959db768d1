//! The real kubectl against our server: 1.28 over SPDY, 1.33 over WebSocket. Just enough of an API answers for it to find the
//! pod.

use crate::server::{Body, Seen, answer, eventually, spawn_http, text};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use nauplius_streaming::TerminalSize;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// How often kubectl may be told too early.
const TRIES: usize = 10;

const POD: &str = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"default","uid":"u"},
"spec":{"containers":[{"name":"c","image":"i"}]},"status":{"phase":"Running"}}"#;
const RESOURCES: &str = r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[
{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get","list"]}]}"#;

/// The requests that upgraded, by protocol.
type Upgrades = Arc<Mutex<Vec<String>>>;

async fn api(request: Request<Incoming>, seen: Arc<Seen>, upgrades: Upgrades) -> Response<Body> {
    if let Some(upgrade) = request.headers().get("upgrade") {
        upgrades.lock().unwrap().push(upgrade.to_str().unwrap().to_ascii_lowercase());
        return answer(request, seen).await;
    }
    let body = match request.uri().path() {
        "/api" => r#"{"kind":"APIVersions","versions":["v1"]}"#,
        "/apis" => r#"{"kind":"APIGroupList","apiVersion":"v1","groups":[]}"#,
        "/api/v1" => RESOURCES,
        "/api/v1/namespaces/default/pods/p" => POD,
        _ => return text(StatusCode::NOT_FOUND, "no such path"),
    };
    let mut response = text(StatusCode::OK, body);
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

struct Cluster {
    address: SocketAddr,
    seen: Arc<Seen>,
    upgrades: Upgrades,
    home: tempfile::TempDir,
}

async fn cluster() -> Cluster {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, upgrades) = (Arc::new(Seen::default()), Upgrades::default());
    let cluster = Cluster {
        address,
        seen: Arc::clone(&seen),
        upgrades: Arc::clone(&upgrades),
        home: tempfile::tempdir().unwrap(),
    };
    nauplius_base::task::spawn("api", async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (seen, upgrades) = (Arc::clone(&seen), Arc::clone(&upgrades));
            spawn_http(
                socket,
                service_fn(move |request| {
                    let answer = api(request, Arc::clone(&seen), Arc::clone(&upgrades));
                    async move { Ok::<_, Infallible>(answer.await) }
                }),
            );
        }
    });
    cluster
}

impl Cluster {
    fn kubectl(&self, binary: &PathBuf, arguments: &[&str]) -> Child {
        Command::new(binary)
            .args(["--server", &format!("http://{}", self.address)])
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Runs to the end with this input; returns exit code, output and error output.
    /// A kubectl that is told of an end before it has made its streams drops that ("Unknown stream id") and succeeds: a fault of its
    /// own, for which it is run again.
    async fn run(&self, binary: &PathBuf, arguments: &[&str], input: &[u8]) -> (i32, Vec<u8>, String) {
        for _ in 0..TRIES {
            let outcome = self.once(binary, arguments, input).await;
            if !outcome.2.contains("Unknown stream id") {
                return outcome;
            }
        }
        panic!("kubectl was told too early {TRIES} times");
    }

    async fn once(&self, binary: &PathBuf, arguments: &[&str], input: &[u8]) -> (i32, Vec<u8>, String) {
        let mut child = self.kubectl(binary, arguments);
        let mut stdin = child.stdin.take().unwrap();
        let feed = async move {
            let _ = stdin.write_all(input).await; // kubectl without -i does not read it.
        };
        let (output, ()) = tokio::join!(
            nauplius_base::time::timeout(Duration::from_secs(60), child.wait_with_output()),
            feed
        );
        let output = output.expect("kubectl ends").unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), output.stdout, errors)
    }
}

/// Where kubectl is, in this version; prints why the test is skipped when it is not.
fn find(version: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .filter_map(|directory| directory.join("kubectl").canonicalize().ok())
        .map(|kubectl| kubectl.with_file_name(format!("kubectl.{version}")))
        .find(|kubectl| kubectl.exists());
    if found.is_none() {
        println!("SKIP: kubectl {version} is not installed");
    }
    found
}

async fn exec_works(version: &str, protocol: &str) {
    let Some(kubectl) = find(version) else { return };
    let cluster = cluster().await;
    let (code, output, errors) = cluster.run(&kubectl, &["exec", "p", "--", "both"], b"").await;
    assert_eq!((code, &output[..], errors.as_str()), (0, &b"to stdout\n"[..], "to stderr\n"));
    let (code, _, errors) = cluster.run(&kubectl, &["exec", "p", "--", "exit", "3"], b"").await;
    assert_eq!((code, errors.as_str()), (3, "command terminated with exit code 3\n"));
    let (code, _, errors) = cluster.run(&kubectl, &["exec", "p", "--", "fail"], b"").await;
    assert_eq!(code, 1);
    assert!(errors.contains("error executing command in container: no such file"), "{errors}");

    let input: Vec<u8> = (0..700_000u32).map(|number| (number % 251) as u8).collect();
    let (code, output, errors) = cluster.run(&kubectl, &["exec", "-i", "p", "--", "cat"], &input).await;
    assert_eq!((code, output == input, errors.as_str()), (0, true, ""));
    for _ in 0..5 {
        let (code, output, _) = cluster.run(&kubectl, &["exec", "p", "--", "big", "3000000"], b"").await;
        assert_eq!((code, output.len()), (0, 3_000_000));
    }
    let upgrades = cluster.upgrades.lock().unwrap().clone();
    assert!(upgrades.iter().all(|upgrade| upgrade == protocol), "{upgrades:?}");
    eventually("all commands have ended", || *cluster.seen.ended.lock().unwrap() == 9).await;
}

#[tokio::test]
async fn exec_works_over_spdy() {
    exec_works("1.28", "spdy/3.1").await;
}

#[tokio::test]
async fn exec_works_over_websocket() {
    exec_works("1.33", "websocket").await;
}

#[tokio::test]
async fn an_interrupted_kubectl_ends_its_command() {
    for version in ["1.28", "1.33"] {
        let Some(kubectl) = find(version) else { return };
        let cluster = cluster().await;
        let mut child = cluster.kubectl(&kubectl, &["exec", "p", "--", "yes"]);
        let mut some = [0; 100];
        child.stdout.as_mut().unwrap().read_exact(&mut some).await.unwrap();
        child.kill().await.unwrap();
        eventually("yes has ended", || *cluster.seen.ended.lock().unwrap() == 1).await;
    }
}

/// A command that ends while its input is open: kubectl must not wait for input.
#[tokio::test]
async fn kubectl_leaves_when_the_command_does() {
    for version in ["1.28", "1.33"] {
        let Some(kubectl) = find(version) else { return };
        let cluster = cluster().await;
        let mut child = cluster.kubectl(&kubectl, &["exec", "-i", "p", "--", "exit", "4"]);
        let stdin = child.stdin.take();
        let status = nauplius_base::time::timeout(Duration::from_secs(30), child.wait()).await;
        assert_eq!(status.expect("kubectl ends").unwrap().code(), Some(4), "{version}");
        drop(stdin);
    }
}

/// `-it` with a real terminal: its size arrives, and kubectl leaves when the command does.
#[tokio::test]
async fn a_terminal_tells_its_size() {
    for version in ["1.28", "1.33"] {
        let Some(kubectl) = find(version) else { return };
        let cluster = cluster().await;
        let (controller, terminal) = terminal(132, 50);
        let mut child = Command::new(&kubectl)
            .args(["--server", &format!("http://{}", cluster.address)])
            .args(["exec", "-it", "p", "--", "sizes", "1"])
            .env_clear()
            .env("HOME", cluster.home.path())
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal.try_clone().unwrap())
            .stderr(terminal)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let status = nauplius_base::time::timeout(Duration::from_secs(30), child.wait()).await;
        assert_eq!(status.expect("kubectl ends").unwrap().code(), Some(0), "{version}");
        let size = TerminalSize { width: 132, height: 50 };
        assert_eq!(cluster.seen.sizes.lock().unwrap().first(), Some(&size), "{version}");
        drop(controller);
    }
}

/// Both ends of a terminal of this size.
fn terminal(columns: u16, rows: u16) -> (OwnedFd, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let terminal = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
    let size = rustix::termios::Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&controller, size).unwrap();
    (controller, terminal)
}

async fn port_forward_works(version: &str, protocol: &str) {
    let Some(kubectl) = find(version) else { return };
    let cluster = cluster().await;
    let mut child =
        cluster.kubectl(&kubectl, &["port-forward", "--address", "127.0.0.1", "pod/p", ":80", ":81", ":82"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ports = Vec::new();
    while ports.len() < 3 {
        let line = nauplius_base::time::timeout(Duration::from_secs(30), lines.next_line());
        let line = line.await.expect("kubectl forwards").unwrap().expect("kubectl runs");
        let local = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
        ports.push(local.expect(&line).parse::<u16>().unwrap());
    }
    for length in [5usize, 400_000] {
        let mut socket = TcpStream::connect(("127.0.0.1", ports[0])).await.unwrap();
        let sent = vec![b'p'; length];
        let (mut reader, mut writer) = socket.split();
        let mut got = vec![0; length];
        let (wrote, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut got));
        wrote.unwrap();
        read.unwrap();
        assert!(got == sent);
    }
    let mut hello = String::new();
    let mut socket = TcpStream::connect(("127.0.0.1", ports[1])).await.unwrap();
    socket.read_to_string(&mut hello).await.unwrap();
    assert_eq!(hello, "hello");
    let mut socket = TcpStream::connect(("127.0.0.1", ports[2])).await.unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let error = nauplius_base::time::timeout(Duration::from_secs(30), errors.next_line());
    let error = error.await.expect("kubectl complains").unwrap().unwrap();
    assert!(error.contains("error forwarding port 82: connection refused"), "{error}");
    let _ = socket.shutdown().await; // kubectl may have closed it.
    child.kill().await.unwrap();
    assert_eq!(*cluster.upgrades.lock().unwrap(), [protocol]);
    eventually("the session has ended", || *cluster.seen.ended.lock().unwrap() == 1).await;
}

#[tokio::test]
async fn port_forward_works_over_spdy() {
    port_forward_works("1.28", "spdy/3.1").await;
}

#[tokio::test]
async fn port_forward_works_in_a_websocket() {
    port_forward_works("1.33", "websocket").await;
}
