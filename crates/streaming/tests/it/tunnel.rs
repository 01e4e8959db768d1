//! Commands through two tunnels, as from an API server over a kubelet to a runtime.

use crate::remote_command::{ALL, OUTPUT, PIPES, exec, read};
use crate::server::{Seen, connect_through_two, eventually, get, target};
use http::StatusCode;
use nauplius_streaming::{
    ConnectError, Outcome, PortForwardTransport, RemoteCommandTransport as Transport, connect_port_forward,
};
use std::sync::Arc;

#[tokio::test]
async fn commands_go_through_two_tunnels() {
    for transport in ALL {
        let seen = Arc::new(Seen::default());
        let client = exec(connect_through_two(&seen), transport, &["big", "300000"], OUTPUT).await.unwrap();
        assert_eq!(read(client.stdout).await.len(), 300_000, "{transport:?}");
        assert_eq!(client.outcome.outcome().await.unwrap(), Outcome::Success, "{transport:?}");
    }
}

#[tokio::test]
async fn a_client_that_vanishes_is_missed_behind_two_tunnels() {
    for transport in [Transport::WebSocket, Transport::Spdy] {
        let seen = Arc::new(Seen::default());
        let client = exec(connect_through_two(&seen), transport, &["wait"], PIPES).await.unwrap();
        drop(client);
        eventually("wait has ended", || *seen.ended.lock().unwrap() == 1).await;
    }
}

#[tokio::test]
async fn refusals_come_back_as_they_are() {
    let seen = Arc::new(Seen::default());
    let io = connect_through_two(&seen);
    let refused =
        connect_port_forward(io, target("/nothing"), PortForwardTransport::Spdy).await.err().unwrap();
    assert!(
        matches!(&refused, ConnectError::Refused { status: StatusCode::NOT_FOUND, message }
            if message == "no /nothing"),
        "{refused}"
    );
    let (status, body) = get(connect_through_two(&seen), "/exec?stdout=true").await;
    assert_eq!((status, body.as_str()), (StatusCode::BAD_REQUEST, "Upgrade request required"));
}
