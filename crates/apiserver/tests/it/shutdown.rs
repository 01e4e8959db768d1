//! The end of a server: it says that it is not ready, lets requests finish, ends watches in good order, and takes nothing new.

use crate::network::{World, http_1, over_tls, pod_on_node, world};
use crate::support::{Everyone, Fixture, configured};
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, poll_fn};
use http::{Request, header};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper_util::rt::TokioIo;
use nauplius_base::task::spawn;
use nauplius_base::time::{sleep, timeout};
use nauplius_client::transport::{Body, empty};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PATIENCE: Duration = Duration::from_secs(60);

/// A request at the door of the listener.
async fn asked(fixture: &Fixture, path: &str) -> (u16, String, String) {
    let request: Request<Body> = Request::get(path).body(empty()).unwrap();
    let reply = Arc::clone(&fixture.server).handle(request).await;
    let (parts, body) = reply.into_parts();
    let retry = parts.headers.get("retry-after").map_or("", |value| value.to_str().unwrap()).to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), retry, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn a_server_that_ends_is_not_ready_and_takes_nothing_new() {
    let fixture = configured(|config| {
        config.authorizer = Arc::new(Everyone);
    })
    .await;
    assert_eq!(asked(&fixture, "/readyz").await, (200, String::new(), "ok".to_owned()));
    fixture.server.shutdown_token().cancel();
    let (code, _, text) = asked(&fixture, "/readyz").await;
    assert!(code == 500 && text.contains("[-]shutdown failed: reason withheld\n"), "{code} {text}");
    assert_eq!(asked(&fixture, "/livez").await.0, 200);
    let refused = (503, "1".to_owned(), "apiserver is shutting down\n".to_owned());
    assert_eq!(asked(&fixture, MAPS).await, refused);
    timeout(PATIENCE, fixture.server.drained().cancelled()).await.expect("nothing is under way");
}

#[tokio::test]
async fn requests_under_way_finish_and_watches_end() {
    let world = world().await;
    let admin = over_tls(&world, Some(("admin", "system:masters")));
    let mut events = admin.watch(&format!("{MAPS}?watch=1")).await;
    let (sender, body) = mpsc::channel::<Bytes>(1);
    let slow = spawn("slow", post(http_1_with(&world).await, body));
    sender.send("{\"metadata\":".into()).await.unwrap();
    in_flight(&admin).await;

    world.group.shut_down();
    assert_eq!(events.line().await, "END");
    until("nobody listens any more", || async { TcpStream::connect(world.address).await.is_err() }).await;
    sender.send("{\"name\":\"late\"}}".into()).await.unwrap();
    drop(sender);
    let (code, object) = timeout(PATIENCE, slow).await.expect("an answer").unwrap();
    assert_eq!((code, &object["metadata"]["name"]), (201, &json!("late")), "{object}");
    timeout(PATIENCE, world.group.join()).await.expect("the server ends").unwrap();
}

type Pieces = BoxStream<'static, Result<Frame<Bytes>, Infallible>>;
type Sender = hyper::client::conn::http1::SendRequest<StreamBody<Pieces>>;

async fn http_1_with(world: &World) -> Sender {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let mut config = crate::network::client_config(&world.authority, Some(("admin", "system:masters")));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(crate::network::LOOPBACK.into(), stream).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    spawn("client", connection);
    sender
}

async fn post(mut sender: Sender, mut pieces: mpsc::Receiver<Bytes>) -> (u16, Value) {
    let frames = poll_fn(move |context| pieces.poll_recv(context)).map(|piece| Ok(Frame::data(piece)));
    let body = StreamBody::new(frames.boxed());
    let request =
        Request::post(MAPS).header(header::HOST, "x").header(header::CONTENT_TYPE, "application/json");
    let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap())
}

async fn metric(client: &Fixture, line: &str) -> bool {
    let metrics = client.get("/metrics").await;
    String::from_utf8_lossy(&metrics.bytes).lines().any(|own| own == line)
}

async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let holds = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, holds).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn in_flight(client: &Fixture) {
    let one = "apiserver_current_inflight_requests{request_kind=\"mutating\"} 1";
    until("the request is under way", || metric(client, one)).await;
}

#[tokio::test]
async fn an_upgraded_stream_counts_until_it_ends() {
    let world = world().await;
    let admin = over_tls(&world, Some(("admin", "system:masters")));
    pod_on_node(&world, &admin).await;
    let request = Request::post("/api/v1/namespaces/default/pods/p/exec?command=echo&stdin=1&stdout=1")
        .header(header::HOST, "server")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1");
    let mut sender = http_1(&world).await;
    let response = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 101);
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    io.write_all(b"x").await.unwrap();
    io.read_u8().await.unwrap();
    let running = |count: u32| {
        format!(
            "apiserver_longrunning_requests{{component=\"apiserver\",group=\"\",resource=\"pods\",scope=\"resource\",\
             subresource=\"exec\",verb=\"CONNECT\",version=\"v1\"}} {count}"
        )
    };
    assert!(metric(&admin, &running(1)).await);
    assert!(metric(&admin, "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0").await);
    drop(io);
    until("the stream has ended", || async { metric(&admin, &running(0)).await }).await;
}
