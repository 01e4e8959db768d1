//! Our server against a WebSocket library that others wrote: what clients like the Python one send.

use crate::server::{Seen, connect, eventually};
use futures_util::{SinkExt, StreamExt};
use nauplius_base::time::timeout;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

type Client = WebSocketStream<DuplexStream>;

async fn open(seen: &Arc<Seen>, path: &str, protocol: Option<&'static str>) -> Result<Client, Error> {
    let mut request = format!("ws://test{path}").into_client_request().unwrap();
    if let Some(protocol) = protocol {
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    }
    tokio_tungstenite::client_async(request, connect(seen)).await.map(|(client, _)| client)
}

async fn next(client: &mut Client) -> Option<Message> {
    timeout(Duration::from_secs(10), client.next()).await.unwrap().map(|message| message.unwrap())
}

fn binary(bytes: &'static [u8]) -> Message {
    Message::Binary(Bytes::from_static(bytes))
}

#[tokio::test]
async fn a_python_like_client_runs_a_command() {
    let seen = Arc::new(Seen::default());
    let path = "/exec?stdout=true&stderr=true&command=both";
    let mut client = open(&seen, path, Some("v4.channel.k8s.io")).await.unwrap();
    assert_eq!(next(&mut client).await, Some(binary(b"\x01")));
    assert_eq!(next(&mut client).await, Some(binary(b"\x01to stdout\n")));
    assert_eq!(next(&mut client).await, Some(binary(b"\x02to stderr\n")));
    assert_eq!(next(&mut client).await, Some(binary(b"\x03{\"metadata\":{},\"status\":\"Success\"}")));
    let close = next(&mut client).await;
    assert!(
        matches!(&close, Some(Message::Close(Some(frame))) if u16::from(frame.code) == 1000),
        "{close:?}"
    );
    assert_eq!(next(&mut client).await, None);
}

#[tokio::test]
async fn base64_goes_both_ways_and_damage_closes() {
    let seen = Arc::new(Seen::default());
    let path = "/exec?stdin=true&stdout=true&command=cat";
    let mut client = open(&seen, path, Some("base64.channel.k8s.io")).await.unwrap();
    assert_eq!(next(&mut client).await, Some(Message::text("1")));
    client.send(Message::text("0Zm9vCgo=")).await.unwrap();
    assert_eq!(next(&mut client).await, Some(Message::text("1Zm9vCgo=")));
    client.send(Message::text("0Zm9")).await.unwrap();
    let close = next(&mut client).await;
    assert!(
        matches!(&close, Some(Message::Close(Some(frame))) if u16::from(frame.code) == 1002),
        "{close:?}"
    );
    eventually("cat has ended", || *seen.ended.lock().unwrap() == 1).await;
}

#[tokio::test]
async fn pings_are_answered_and_a_close_too() {
    let seen = Arc::new(Seen::default());
    let path = "/exec?stdin=true&stdout=true&command=cat";
    let mut client = open(&seen, path, None).await.unwrap();
    assert_eq!(next(&mut client).await, Some(binary(b"\x01")));
    client.send(Message::Ping(Bytes::from_static(b"alive?"))).await.unwrap();
    assert_eq!(next(&mut client).await, Some(Message::Pong(Bytes::from_static(b"alive?"))));
    client.close(None).await.unwrap();
    assert!(matches!(next(&mut client).await, Some(Message::Close(_))));
    eventually("cat has ended", || *seen.ended.lock().unwrap() == 1).await;
}

#[tokio::test]
async fn the_old_port_forward_names_its_ports() {
    let seen = Arc::new(Seen::default());
    let mut client = open(&seen, "/portforward?ports=80,82", Some("v4.channel.k8s.io")).await.unwrap();
    for expected in [b"\x00\x50\x00", b"\x01\x50\x00", b"\x02\x52\x00", b"\x03\x52\x00"] {
        assert_eq!(next(&mut client).await, Some(binary(expected)));
    }
    let refused = b"\x03error forwarding port 82: connection refused";
    assert_eq!(next(&mut client).await, Some(binary(refused)));
    client.send(binary(b"\x00echo")).await.unwrap();
    assert_eq!(next(&mut client).await, Some(binary(b"\x00echo")));
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_ends_after_the_idle_timeout() {
    let seen = Arc::new(Seen::default());
    let path = "/exec?stdin=true&stdout=true&command=cat";
    let mut client = open(&seen, path, None).await.unwrap();
    assert_eq!(next(&mut client).await, Some(binary(b"\x01")));
    let hour = Duration::from_secs(3600);
    nauplius_base::time::sleep(3 * hour).await;
    client.send(binary(b"\x00still here")).await.unwrap();
    assert_eq!(next(&mut client).await, Some(binary(b"\x01still here")));
    nauplius_base::time::sleep(3 * hour).await;
    assert_eq!(*seen.ended.lock().unwrap(), 0);
    nauplius_base::time::sleep(2 * hour).await;
    assert_eq!(*seen.ended.lock().unwrap(), 1);
}

#[tokio::test]
async fn unknown_protocols_are_forbidden() {
    let seen = Arc::new(Seen::default());
    let refused = open(&seen, "/exec?stdout=true&command=both", Some("v9.channel.k8s.io")).await;
    assert!(matches!(&refused, Err(Error::Http(response)) if response.status() == 403), "{refused:?}");
    let refused = open(&seen, "/portforward?ports=0", Some("v4.channel.k8s.io")).await;
    assert!(matches!(&refused, Err(Error::Http(response)) if response.status() == 400), "{refused:?}");
}

#[tokio::test]
async fn a_flood_of_pings_is_bounded() {
    let seen = Arc::new(Seen::default());
    let path = "/exec?stdin=true&stdout=true&command=cat";
    let mut client = open(&seen, path, None).await.unwrap();
    // The client reads nothing: either its own writes stall, or the server gives up on it.
    let flood = async {
        loop {
            if client.send(Message::Ping(Bytes::from_static(&[7; 100]))).await.is_err() {
                break;
            }
        }
    };
    let ended = eventually("cat has ended", || *seen.ended.lock().unwrap() == 1);
    tokio::select! {
        () = flood => {}
        () = ended => {}
    }
}
