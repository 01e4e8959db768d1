//! Forwarded ports, between our own ends.

use crate::server::{Seen, connect, connect_through_two, eventually, target};
use nauplius_streaming::{
    PortForwardClient, PortForwardTransport as Transport, StreamError, connect_port_forward,
};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const ALL: [Transport; 2] = [Transport::Spdy, Transport::WebSocket];

async fn client(io: DuplexStream, transport: Transport) -> PortForwardClient {
    connect_port_forward(io, target("/portforward"), transport).await.unwrap()
}

async fn echo(client: &PortForwardClient, bytes: usize) {
    let mut port = client.open(80).await.unwrap();
    let sent = vec![b'e'; bytes];
    let (mut reader, mut writer) = tokio::io::split(&mut port.data);
    let send = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (read, ()) = tokio::join!(reader.read_to_end(&mut got), send);
    read.unwrap();
    assert_eq!(got, sent);
    assert_eq!(port.error().await.unwrap(), None);
}

#[tokio::test]
async fn connections_go_through_side_by_side() {
    for transport in ALL {
        let seen = Arc::new(Seen::default());
        let client = client(connect(&seen), transport).await;
        tokio::join!(echo(&client, 10), echo(&client, 300_000), echo(&client, 1000));
        let mut hello = String::new();
        client.open(81).await.unwrap().data.read_to_string(&mut hello).await.unwrap();
        assert_eq!(hello, "hello");
        let reason = client.open(82).await.unwrap().error().await.unwrap();
        assert_eq!(reason.as_deref(), Some("error forwarding port 82: connection refused"));
        drop(client);
        eventually("the session has ended", || *seen.ended.lock().unwrap() == 1).await;
    }
}

#[tokio::test]
async fn many_connections_one_after_another_leave_nothing() {
    for transport in ALL {
        let seen = Arc::new(Seen::default());
        let client = client(connect(&seen), transport).await;
        for _ in 0..400 {
            echo(&client, 100).await;
        }
    }
}

#[tokio::test]
async fn too_many_connections_at_once_are_refused() {
    let seen = Arc::new(Seen::default());
    let client = client(connect(&seen), Transport::Spdy).await;
    let mut open = Vec::new();
    let refused = loop {
        match client.open(80).await {
            Ok(port) => open.push(port),
            Err(error) => break error,
        }
        assert!(open.len() < 1000);
    };
    assert!(matches!(refused, StreamError::Limit(_) | StreamError::Reset), "{refused}");
    drop(open);
    eventually_open(&client).await;
}

async fn eventually_open(client: &PortForwardClient) {
    for _ in 0..100 {
        if let Ok(mut port) = client.open(81).await {
            let mut hello = String::new();
            port.data.read_to_string(&mut hello).await.unwrap();
            assert_eq!(hello, "hello");
            return;
        }
        nauplius_base::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("closed connections still count");
}

#[tokio::test]
async fn a_port_that_makes_no_sense_is_rejected() {
    let seen = Arc::new(Seen::default());
    let client = client(connect(&seen), Transport::Spdy).await;
    assert!(matches!(client.open(0).await, Err(StreamError::Reset)));
    echo(&client, 5).await;
}

#[tokio::test]
async fn ports_go_through_two_tunnels() {
    for transport in ALL {
        let seen = Arc::new(Seen::default());
        let client = client(connect_through_two(&seen), transport).await;
        echo(&client, 200_000).await;
        drop(client);
        eventually("the session has ended", || *seen.ended.lock().unwrap() == 1).await;
    }
}
