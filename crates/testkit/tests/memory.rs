//! What readers who stall make a server hold, counted by the allocator. The server and its clients are one process here; the clients
//! take no more than small windows of HTTP/2. Long run over separate processes: `nauplius bench api --workloads pressure`.

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nauplius_base::task::spawn;
use nauplius_base::time::timeout;
use nauplius_client::kubeconfig;
use nauplius_pki::TlsParts;
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_testkit::solo::{Solo, kubeconfig_in};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn add(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; only numbers are kept.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        add(size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NAMESPACE: &str = "/api/v1/namespaces/default";
const MIB: usize = 1 << 20;
const WATCHERS: usize = 300;
const LISTERS: usize = 60;
const LARGE_OBJECTS: usize = 6;
/// How often objects are replaced that watchers have begun with, how many of them, and how many watchers begin each time.
const REPLACED: usize = 24;
const REPLACED_OBJECTS: usize = 3;
const BEGINNERS: usize = 4;
/// Watchers that are sent the last form of a removed object.
const LEAVERS: usize = 70;
const PAST_LISTERS: usize = 40;
/// What one list of the past may hold, its objects being large: what is read at once, and an object being written.
const PAST_EACH: usize = 10 * MIB;
/// How many of them go on at once.
const SEATS: usize = 16;
/// What one stalled reader may hold on both sides of its stream.
const EACH: usize = 192 << 10;
/// What the caches of a few large objects and a request in progress may take, however many readers there are.
const SHARED: usize = 128 * MIB;
/// What a write of an object of 2.9 MB may take, its client in the same process.
const WRITE: usize = 40 * MIB;
/// The client's windows.
const WINDOW: u32 = 32 << 10;

type Sender = SendRequest<Full<Bytes>>;

async fn connect(kubeconfig: &Path) -> Sender {
    let entry = kubeconfig::load(kubeconfig, None).unwrap();
    let own = TlsParts::from_pem(&entry.client_certificate, &entry.client_key).unwrap();
    let mut roots = RootCertStore::empty();
    TlsParts::certificates(&entry.certificate_authority)
        .unwrap()
        .into_iter()
        .for_each(|one| roots.add(one).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut tls = builder.with_root_certificates(roots).with_client_auth_cert(own.chain, own.key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let address: std::net::SocketAddr = entry.server.trim_start_matches("https://").parse().unwrap();
    let tcp = TcpStream::connect(address).await.unwrap();
    let stream =
        tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(address.ip().into(), tcp).await.unwrap();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(WINDOW).initial_connection_window_size(1 << 24);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    spawn("connection", async move { drop(connection.await) });
    sender
}

async fn send(sender: &Sender, method: Method, path: &str, body: String) -> Response<Incoming> {
    let request = Request::builder().method(method).uri(format!("https://server{NAMESPACE}{path}"));
    let request = request.header("content-type", "application/json").body(Full::new(body.into())).unwrap();
    let mut sender = sender.clone();
    sender.ready().await.unwrap();
    let answer = timeout(Duration::from_secs(60), sender.send_request(request)).await;
    answer.expect("an answer in time").unwrap()
}

async fn ok(sender: &Sender, method: Method, path: &str, body: String) {
    let answer = send(sender, method, path, body).await;
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    answer.into_body().collect().await.unwrap();
}

fn large_pod(name: &str) -> String {
    let argument = "x".repeat(2_900_000);
    json!({"metadata": {"name": name}, "spec": {"automountServiceAccountToken": false,
        "containers": [{"name": "c", "image": "i", "args": [argument]}]}})
    .to_string()
}

/// The most that was held during `work` beyond what was held before it.
async fn extra<T>(work: impl Future<Output = T>) -> (usize, T) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let done = work.await;
    (PEAK.load(Ordering::Relaxed).saturating_sub(before), done)
}

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// Opens watches of pods from a revision on, which want one format after the other.
async fn watch(kubeconfig: &Path, count: usize, from: &str, formats: &[&str]) -> Vec<Response<Incoming>> {
    let sender = connect(kubeconfig).await;
    let mut held = Vec::new();
    for format in formats.iter().cycle().take(count) {
        let request = Request::get(format!("https://server{NAMESPACE}/pods?watch=1&resourceVersion={from}"));
        let request = request.header("accept", *format).body(Full::default()).unwrap();
        let mut sender = sender.clone();
        sender.ready().await.unwrap();
        held.push(sender.send_request(request).await.unwrap());
    }
    held
}

/// The newest revision of the pods.
async fn newest(writer: &Sender) -> String {
    let list = send(writer, Method::GET, "/pods?limit=1", String::new()).await;
    let list: serde_json::Value =
        serde_json::from_slice(&list.into_body().collect().await.unwrap().to_bytes()).unwrap();
    list["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

/// Reads until so many bytes have come or the stream ends, and returns how many did.
async fn read(body: &mut Incoming, bytes: usize) -> usize {
    let mut received = 0;
    while received < bytes {
        match timeout(Duration::from_secs(60), body.frame()).await.expect("it goes on") {
            Some(Ok(frame)) => received += frame.into_data().map_or(0, |data| data.len()),
            _ => break,
        }
    }
    received
}

/// Watchers that stop within an object that is made for each of them: a removed one as protobuf. Returns what they held.
async fn watchers_of_what_was_removed(kubeconfig: &Path, writer: &Sender) -> usize {
    let mut watchers = watch(kubeconfig, LEAVERS, &newest(writer).await, &[PROTOBUF]).await;
    ok(writer, Method::POST, "/pods", large_pod("leaving")).await;
    for watcher in &mut watchers {
        assert!(read(watcher.body_mut(), 2_900_000).await >= 2_900_000);
    }
    let (held, ()) = extra(async {
        ok(writer, Method::DELETE, "/pods/leaving?gracePeriodSeconds=0", String::new()).await;
        first_pieces(&mut watchers).await;
    })
    .await;
    held
}

/// Watchers that stop among the objects that they begin with, each few of them among others, for these are replaced again and again.
/// Returns what they held.
async fn watchers_of_what_was_replaced(kubeconfig: &Path, writer: &Sender) -> usize {
    let (held, watchers) = extra(async {
        let mut watchers = Vec::new();
        for _ in 0..REPLACED {
            let mut few = watch(kubeconfig, BEGINNERS, "0", &[PROTOBUF, JSON]).await;
            first_pieces(&mut few).await;
            watchers.extend(few);
            for number in 0..REPLACED_OBJECTS {
                let pod = format!("p-{number}");
                ok(writer, Method::DELETE, &format!("/pods/{pod}?gracePeriodSeconds=0"), String::new()).await;
                ok(writer, Method::POST, "/pods", large_pod(&pod)).await;
            }
        }
        watchers
    })
    .await;
    drop(watchers);
    held
}

/// Waits until the readers' streams have taken what they take.
async fn first_pieces(held: &mut [Response<Incoming>]) {
    for response in held {
        let piece = timeout(Duration::from_secs(60), response.body_mut().frame()).await;
        piece.expect("a first piece").unwrap().unwrap();
    }
}

/// Lists of what is past, of which nothing is in memory: each reads on while it is read. Returns what they held.
async fn lists_of_the_past(kubeconfig: &Path, writer: &Sender) -> usize {
    let then = newest(writer).await;
    for number in 0..LARGE_OBJECTS {
        ok(writer, Method::DELETE, &format!("/pods/p-{number}?gracePeriodSeconds=0"), String::new()).await;
    }
    let exactly = format!("/pods?resourceVersion={then}&resourceVersionMatch=Exact");
    let (past, ()) = extra(async {
        let mut lists = tokio::task::JoinSet::new();
        for _ in 0..PAST_LISTERS {
            let (kubeconfig, exactly) = (kubeconfig.to_owned(), exactly.clone());
            lists.spawn(async move {
                let list = send(&connect(&kubeconfig).await, Method::GET, &exactly, String::new()).await;
                assert_eq!(list.status(), 200);
                let mut body = list.into_body();
                let mut bytes = 0;
                while let Some(frame) = body.frame().await {
                    bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
                }
                assert!(bytes > LARGE_OBJECTS * 2_900_000);
            });
        }
        while let Some(listed) = lists.join_next().await {
            listed.unwrap();
        }
    })
    .await;
    past
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_who_stall_hold_little() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&directory.path().join("store"), Options::default()).await.unwrap();
    let _solo = Solo::start(directory.path(), Arc::new(store), 0).await.unwrap();
    let kubeconfig = kubeconfig_in(directory.path());
    let writer = connect(&kubeconfig).await;
    ok(&writer, Method::POST, "/serviceaccounts", json!({"metadata": {"name": "default"}}).to_string()).await;
    for number in 0..LARGE_OBJECTS {
        ok(&writer, Method::POST, "/pods", large_pod(&format!("p-{number}"))).await;
    }

    // A large write: its body on both sides, its tree, its bytes, and what the store makes of them.
    let (writing, ()) = extra(ok(&writer, Method::POST, "/pods", large_pod("one"))).await;
    let (removing, ()) = extra(ok(&writer, Method::DELETE, "/pods/one", String::new())).await;
    println!("a write took {} MiB, a removal {} MiB", writing / MIB, removing / MIB);
    assert!(writing.max(removing) < WRITE, "{} MiB and {} MiB", writing / MIB, removing / MIB);

    // Watchers that stop within a large object, while large objects come and go.
    let (watching, mut held) = extra(async {
        let mut held = Vec::new();
        for _ in 0..WATCHERS / 100 {
            held.extend(watch(&kubeconfig, 100, "0", &[PROTOBUF, JSON]).await);
        }
        first_pieces(&mut held).await;
        for number in 0..6 {
            ok(&writer, Method::POST, "/pods", large_pod(&format!("q-{number}"))).await;
            ok(&writer, Method::DELETE, &format!("/pods/q-{number}"), String::new()).await;
        }
        held
    })
    .await;
    assert!(watching < WATCHERS * EACH + SHARED, "{WATCHERS} watchers made {} MiB", watching / MIB);

    // They are not lost: one that reads on gets whole objects, or is told to begin again.
    let response = held.pop().unwrap();
    let mut body = response.into_body();
    let received = read(&mut body, 2_900_000).await;
    assert!(received > 100_000, "a watcher that reads on got {received} bytes");
    drop((held, body));

    let replaced = watchers_of_what_was_replaced(&kubeconfig, &writer).await;
    let most = REPLACED * BEGINNERS * EACH + SHARED;
    println!("watchers of what was replaced made {} MiB", replaced / MIB);
    assert!(replaced < most, "watchers of what was replaced made {} MiB", replaced / MIB);
    let removed = watchers_of_what_was_removed(&kubeconfig, &writer).await;
    println!("watchers of what was removed made {} MiB", removed / MIB);
    assert!(removed < LEAVERS * EACH + SHARED, "watchers of what was removed made {} MiB", removed / MIB);

    // Lists of large objects that are not read on: some begin, the others wait, and single requests are answered beside them.
    let (listing, ()) = extra(async {
        let mut lists = tokio::task::JoinSet::new();
        for _ in 0..LISTERS {
            let kubeconfig = kubeconfig.clone();
            lists.spawn(async move {
                send(&connect(&kubeconfig).await, Method::GET, "/pods", String::new()).await
            });
        }
        let mut begun = Vec::new();
        while begun.len() < 16 {
            begun.push(lists.join_next().await.unwrap().unwrap());
        }
        first_pieces(&mut begun).await;
        ok(&writer, Method::GET, "/serviceaccounts/default", String::new()).await;
        ok(&writer, Method::GET, "/serviceaccounts", String::new()).await;
    })
    .await;
    assert!(listing < LISTERS * EACH + SHARED, "{LISTERS} lists made {} MiB", listing / MIB);

    let past = lists_of_the_past(&kubeconfig, &writer).await;
    let most = SEATS * PAST_EACH + PAST_LISTERS * EACH + SHARED;
    assert!(past < most, "{PAST_LISTERS} lists of the past made {} MiB", past / MIB);
}
