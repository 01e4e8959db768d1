//! Clients that are slow, silent or hostile: each is answered or left in bounded time, and others are served meanwhile.

use crate::network::{Certificates, LOOPBACK, client_config, client_roots, server_tls};
use crate::support::Fixture;
use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nauplius_apiserver::authz::Union;
use nauplius_apiserver::serve::{self, Bounds};
use nauplius_apiserver::{ApiServer, Config};
use nauplius_base::task::{Group, spawn};
use nauplius_base::time::{sleep, timeout};
use nauplius_client::https::{Endpoint, Https};
use nauplius_pki::Authority;
use nauplius_store::Clock;
use nauplius_store::model::ModelStore;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Nothing here takes as long on any machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `GET https://x/` as HTTP/2 writes it.
const GET_ROOT: &[u8] = b"\x82\x87\x84\x41\x01x";

struct Target {
    server: Arc<ApiServer>,
    group: Group,
    authority: Authority,
    address: SocketAddr,
}

impl Drop for Target {
    fn drop(&mut self) {
        self.group.shut_down();
    }
}

/// Bounds that a test need not wait for, where the test does not say otherwise.
fn patient() -> Bounds {
    Bounds { idle: 10 * PATIENCE, headers: 10 * PATIENCE, handshake: 10 * PATIENCE, ..Bounds::default() }
}

async fn target(bounds: Bounds) -> Target {
    let authority = Authority::create("test").unwrap();
    let store = Arc::new(ModelStore::new(Clock::system()));
    let mut config = Config::new(store, nauplius_kinds::builtin(), Arc::new(Union::default()));
    config.authenticators = vec![Arc::new(Certificates)];
    let group = Group::new();
    let server = ApiServer::start(config, &group).await.unwrap();
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = serve::tls_config(server_tls(&authority), client_roots(&authority)).unwrap();
    group.spawn("listener", serve::serve_within(Arc::clone(&server), listener, tls, bounds));
    Target { server, group, authority, address }
}

impl Target {
    /// Another client, with a connection of its own.
    fn other(&self) -> Fixture {
        let endpoint = Endpoint {
            address: self.address,
            server_name: LOOPBACK.into(),
            tls: client_config(&self.authority, Some(("admin", "system:masters"))),
            bearer_token: None,
        };
        Fixture::over(Arc::clone(&self.server), Arc::new(Https::new(endpoint).unwrap()))
    }

    async fn serves_others(&self) {
        let answer = timeout(PATIENCE, async { self.other().get("/version").await.code }).await;
        assert_eq!(answer.expect("another client is served"), 200);
    }

    async fn open(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        let mut config = client_config(&self.authority, Some(("admin", "system:masters")));
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(LOOPBACK.into(), stream).await.unwrap()
    }

    async fn open_1(&self) -> TlsStream<TcpStream> {
        self.open(b"http/1.1").await
    }
}

/// Reads until the server ends the connection, in whatever way.
async fn to_the_end(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    // A connection that is reset has ended, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("the server ends the connection");
    all
}

/// The answer to what was written, up to the end of the connection.
async fn answer(target: &Target, request: &[u8]) -> String {
    let mut stream = target.open_1().await;
    stream.write_all(request).await.unwrap();
    String::from_utf8_lossy(&to_the_end(&mut stream).await).into_owned()
}

#[tokio::test]
async fn headers_that_trickle_in_are_given_up() {
    let target = target(Bounds { headers: Duration::from_millis(500), ..patient() }).await;
    let (mut read, mut write) = tokio::io::split(target.open_1().await);
    let dripping = spawn("dripping", async move {
        let mut piece: &[u8] = b"GET /version HTTP/1.1\r\nhost: x\r\n";
        while write.write_all(piece).await.is_ok() && write.flush().await.is_ok() {
            piece = b"x-a: b\r\n";
            sleep(Duration::from_millis(20)).await;
        }
    });
    target.serves_others().await;
    assert_eq!(to_the_end(&mut read).await, b"");
    dripping.abort();
}

#[tokio::test]
async fn idle_connections_end_and_used_ones_stay() {
    let target = target(Bounds { idle: Duration::from_millis(500), ..patient() }).await;
    let admin = target.other();
    admin.post(MAPS, &json!({"metadata": {"name": "a"}})).await.expect(201);
    let mut events = admin.watch(&format!("{MAPS}?watch=1&resourceVersion=0")).await;
    assert!(events.line().await.starts_with("ADDED a@"));
    for protocol in [&b"http/1.1"[..], b"h2"] {
        let mut silent = target.open(protocol).await;
        to_the_end(&mut silent).await;
    }
    let mut once = target.open_1().await;
    once.write_all(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(String::from_utf8_lossy(&to_the_end(&mut once).await).starts_with("HTTP/1.1 200 OK\r\n"));
    let mut frames = target.open(b"h2").await;
    frames.write_all(PREFACE).await.unwrap();
    to_the_end(&mut frames).await;
    admin.delete(&format!("{MAPS}/a")).await.expect(200);
    assert!(events.line().await.starts_with("DELETED a@"), "a watch is no idle connection");
}

#[tokio::test]
async fn idle_connections_make_room_when_there_is_none() {
    let bounds = Bounds { connections: 16, pressed: Duration::from_millis(200), ..patient() };
    let target = target(bounds).await;
    let mut crowd = Vec::new();
    for _ in 0..64 {
        crowd.push(TcpStream::connect(target.address).await.unwrap());
    }
    let mut idle = Vec::new();
    let bounds = Bounds { handshake: Duration::from_millis(200), ..bounds };
    let other = self::target(bounds).await;
    for _ in 0..64 {
        idle.push(timeout(PATIENCE, other.open_1()).await.expect("room is made"));
    }
    other.serves_others().await;
}

#[tokio::test]
async fn thousands_of_silent_connections_harm_nobody() {
    let target = target(patient()).await;
    let mut crowd = Vec::new();
    for _ in 0..2_000 {
        crowd.push(TcpStream::connect(target.address).await.unwrap());
    }
    target.serves_others().await;
}

#[tokio::test]
async fn handshakes_that_do_not_come_or_are_none_end() {
    let target = target(Bounds { handshake: Duration::from_millis(500), ..patient() }).await;
    let mut silent = TcpStream::connect(target.address).await.unwrap();
    to_the_end(&mut silent).await;
    let hello = [b"\x16\x03\x01\x40\x00".to_vec(), vec![0; 100]].concat();
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 70_000],
        hello,
        b"\x15\x03\x01\0\x02\x02\x28".to_vec(),
    ] {
        let mut stream = TcpStream::connect(target.address).await.unwrap();
        // The server may be through with it before it was sent.
        let _ = stream.write_all(&garbage).await;
        to_the_end(&mut stream).await;
    }
    let metrics = String::from_utf8(target.other().get("/metrics").await.bytes.to_vec()).unwrap();
    let failed = metrics.lines().find_map(|line| line.strip_prefix("apiserver_tls_handshake_errors_total "));
    assert!(failed.unwrap().parse::<u32>().unwrap() >= 5, "{failed:?}");
}

#[tokio::test]
async fn large_bodies_are_refused_before_they_are_read() {
    let target = target(patient()).await;
    let head =
        format!("POST {MAPS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n");
    let announced = format!("{head}content-length: 3145729\r\n\r\n{{");
    let refused = answer(&target, announced.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{refused}");
    assert!(refused.contains("Request entity too large: limit is 3145728"), "{refused}");

    // Endless, in chunks: the answer comes long before an end would.
    let (mut read, mut write) = tokio::io::split(target.open_1().await);
    let sending = spawn("endless", async move {
        let head = format!("{head}transfer-encoding: chunked\r\n\r\n");
        let chunk = [&b"10000\r\n"[..], &vec![b' '; 1 << 16], b"\r\n"].concat();
        let mut piece = head.into_bytes();
        while write.write_all(&piece).await.is_ok() {
            piece.clone_from(&chunk);
        }
    });
    let mut begin = [0; 12];
    timeout(PATIENCE, read.read_exact(&mut begin)).await.expect("an answer").unwrap();
    assert_eq!(&begin, b"HTTP/1.1 413");
    sending.abort();
    target.serves_others().await;
}

#[tokio::test]
async fn bodies_that_do_not_come_are_waited_for_no_longer_than_asked() {
    let target = target(patient()).await;
    let request = format!(
        "POST {MAPS}?timeout=300ms HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    let refused = answer(&target, request.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{refused}");
}

#[tokio::test]
async fn headers_beyond_a_megabyte_are_refused() {
    let target = target(patient()).await;
    let long = "x".repeat(1_200_000);
    let mut stream = target.open_1().await;
    let request = format!("GET /version HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n");
    // The server may have answered before it was sent whole.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut begin = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut begin)).await.expect("an answer").unwrap();
    assert_eq!(&begin, b"HTTP/1.1 431");

    let many: String = (0..1_500).map(|number| format!("impersonate-group: group-{number}\r\n")).collect();
    let request = format!(
        "GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{many}impersonate-group: system:masters\r\nimpersonate-user: a\r\n\r\n"
    );
    let taken = answer(&target, request.as_bytes()).await;
    assert!(taken.starts_with("HTTP/1.1 200 OK\r\n"), "a member of many groups is let in: {taken}");
    target.serves_others().await;
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_given_up() {
    let target = target(Bounds { idle: Duration::from_millis(500), ..patient() }).await;
    let large = json!({"metadata": {"name": "a"}, "data": {"x": "x".repeat(900_000)}});
    target.other().post(MAPS, &large).await.expect(201);
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1_024)
        .initial_connection_window_size(1_024)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(target.open(b"h2").await))
        .await
        .unwrap();
    let ended = spawn("client", connection);
    let uri = format!("https://x{MAPS}/a");
    let request = Request::get(uri).version(Version::HTTP_2).body(Empty::new()).unwrap();
    let response = timeout(PATIENCE, sender.send_request(request)).await.expect("an answer").unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    // It ends one way or the other.
    let _ = timeout(PATIENCE, ended).await.expect("the server ends the connection").unwrap();
    assert!(response.into_body().collect().await.is_err());
    target.serves_others().await;
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Floods a connection until the server ends it; reads what it says meanwhile.
async fn flooded(target: &Target, pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(target.open(b"h2").await);
    write.write_all(PREFACE).await.unwrap();
    let flooding = spawn("flooding", async move {
        for piece in pieces {
            if write.write_all(&piece).await.is_err() || write.flush().await.is_err() {
                return;
            }
        }
        panic!("the server took it all");
    });
    let said = to_the_end(&mut read).await;
    timeout(PATIENCE, flooding).await.expect("the flood ends").unwrap();
    said
}

/// The last frame of a connection: where it goes away, and why.
fn goes_away(said: &[u8]) -> Option<u32> {
    let (mut rest, mut reason) = (said, None);
    while let Some((head, tail)) = rest.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, tail)) = tail.split_at_checked(length) else { break };
        if head[3] == 7 {
            reason = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        rest = tail;
    }
    reason
}

const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let target = target(patient()).await;
    let resets = (0..2_000_000_u32).map(|number| {
        let stream = 2 * number + 1;
        [frame(1, 0x5, stream, GET_ROOT), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    let said = flooded(&target, resets).await;
    assert_eq!(goes_away(&said), Some(ENHANCE_YOUR_CALM));
    target.serves_others().await;
}

#[tokio::test]
async fn endless_headers_end_the_connection() {
    let target = target(patient()).await;
    let begin = frame(1, 0x1, 1, GET_ROOT);
    let more = frame(9, 0, 1, &[&b"\0\x03x-a\x7f\x80\x7e"[..], &vec![b'a'; 16_255]].concat());
    let said = flooded(&target, std::iter::once(begin).chain(std::iter::repeat_n(more, 100_000))).await;
    assert!(goes_away(&said).is_some(), "{said:?}");
    target.serves_others().await;
}

#[tokio::test]
async fn floods_of_empty_frames_end_or_wait() {
    let target = target(Bounds { idle: Duration::from_secs(2), ..patient() }).await;
    // Pings and settings that nobody reads the answers of: the server stops reading, and the connection is idle.
    for kind in [frame(6, 0, 0, &[0; 8]), frame(4, 0, 0, &[])] {
        let mut stream = target.open(b"h2").await;
        stream.write_all(PREFACE).await.unwrap();
        let flood = async { while stream.write_all(&kind).await.is_ok() {} };
        timeout(PATIENCE, flood).await.expect("the server ends the connection");
        target.serves_others().await;
    }
}

/// A client that still sends what was refused already reads the answer first, and is not cut off.
#[tokio::test]
async fn a_refused_body_may_come_after_its_answer() {
    const POST_ROOT: &[u8] = b"\x83\x87\x84\x41\x01x";
    let target = target(patient()).await;
    let mut stream = target.open(b"h2").await;
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&frame(1, 0x4, 1, POST_ROOT)).await.unwrap();
    stream.flush().await.unwrap();
    until(&mut stream, |head| head[3] <= 1 && head[4] & 1 == 1).await;
    stream.write_all(&frame(0, 0x1, 1, b"{}")).await.unwrap();
    stream.write_all(&frame(6, 0, 0, &[0; 8])).await.unwrap();
    stream.flush().await.unwrap();
    until(&mut stream, |head| head[3] == 6 && head[4] & 1 == 1).await;
}

/// Over HTTP/2 a HEAD is answered by headers alone.
#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    const HEAD_ROOT: &[u8] = b"\x02\x04HEAD\x87\x84\x41\x01x";
    let target = target(patient()).await;
    let mut stream = target.open(b"h2").await;
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&frame(1, 0x5, 1, HEAD_ROOT)).await.unwrap();
    stream.flush().await.unwrap();
    until(&mut stream, |head| head[3] == 1 && head[4] & 1 == 1).await;
}

/// Reads frames up to the wanted one; none of them resets a stream.
async fn until(stream: &mut TlsStream<TcpStream>, wanted: fn(&[u8]) -> bool) {
    loop {
        let mut head = [0; 9];
        timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("frames go on").unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        assert_ne!(head[3], 3, "the stream is reset");
        if wanted(&head) {
            return;
        }
    }
}
