//! Exec in every protocol version, between our own ends.

use crate::server::{Seen, connect, eventually, get, target};
use http::StatusCode;
use nauplius_streaming::{
    CHUNK_BYTES, ConnectError, Outcome, RemoteCommandClient, RemoteCommandOptions,
    RemoteCommandTransport as Transport, TerminalSize, connect_remote_command,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub const ALL: [Transport; 12] = [
    Transport::WebSocket,
    Transport::OldWebSocket,
    Transport::Base64WebSocket,
    Transport::WebSocketVersion(4),
    Transport::WebSocketVersion(3),
    Transport::WebSocketVersion(2),
    Transport::WebSocketVersion(1),
    Transport::Spdy,
    Transport::SpdyVersion(4),
    Transport::SpdyVersion(3),
    Transport::SpdyVersion(2),
    Transport::SpdyVersion(1),
];

fn is_spdy(transport: Transport) -> bool {
    matches!(transport, Transport::Spdy | Transport::SpdyVersion(_))
}

fn tells_codes(transport: Transport) -> bool {
    use Transport::{SpdyVersion, WebSocketVersion};
    !matches!(transport, WebSocketVersion(1..=3) | SpdyVersion(1..=3))
}

pub async fn exec(
    io: DuplexStream,
    transport: Transport,
    command: &[&str],
    options: RemoteCommandOptions,
) -> Result<RemoteCommandClient, ConnectError> {
    let RemoteCommandOptions { stdin, stdout, stderr, tty } = options;
    let command: String = command.iter().map(|word| format!("&command={word}")).collect();
    let path = format!("/exec?stdin={stdin}&stdout={stdout}&stderr={stderr}&tty={tty}{command}");
    connect_remote_command(io, target(&path), transport, options).await
}

pub const PIPES: RemoteCommandOptions =
    RemoteCommandOptions { stdin: true, stdout: true, stderr: true, tty: false };
pub const OUTPUT: RemoteCommandOptions =
    RemoteCommandOptions { stdin: false, stdout: true, stderr: true, tty: false };
const TERMINAL: RemoteCommandOptions =
    RemoteCommandOptions { stdin: true, stdout: true, stderr: false, tty: true };

pub async fn read<R: tokio::io::AsyncRead + Unpin>(stream: Option<R>) -> String {
    let mut text = String::new();
    stream.unwrap().read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn output_and_outcomes_arrive_in_every_version() {
    for transport in ALL {
        let seen = Arc::new(Seen::default());
        let client = exec(connect(&seen), transport, &["both"], OUTPUT).await.unwrap();
        assert_eq!(read(client.stdout).await, "to stdout\n", "{transport:?}");
        assert_eq!(read(client.stderr).await, "to stderr\n", "{transport:?}");
        assert_eq!(client.outcome.outcome().await.unwrap(), Outcome::Success, "{transport:?}");

        let client = exec(connect(&seen), transport, &["exit", "3"], OUTPUT).await.unwrap();
        let expected = if tells_codes(transport) {
            Outcome::ExitCode(3)
        } else {
            Outcome::Failure("command terminated with non-zero exit code: exit status 3".to_owned())
        };
        assert_eq!(client.outcome.outcome().await.unwrap(), expected, "{transport:?}");
    }
}

#[tokio::test]
async fn input_ends_where_the_version_can_tell() {
    for transport in ALL {
        let seen = Arc::new(Seen::default());
        let mut client = exec(connect(&seen), transport, &["cat"], PIPES).await.unwrap();
        let mut stdin = client.stdin.take().unwrap();
        let input = vec![b'i'; 3 * CHUNK_BYTES + 17];
        let mut output = vec![0; input.len()];
        let stdout = client.stdout.as_mut().unwrap();
        let (written, read) = tokio::join!(stdin.write_all(&input), stdout.read_exact(&mut output));
        written.unwrap();
        read.unwrap();
        assert_eq!(output, input, "{transport:?}");
        stdin.shutdown().await.unwrap();
        if is_spdy(transport) || transport == Transport::WebSocket {
            assert_eq!(client.outcome.outcome().await.unwrap(), Outcome::Success, "{transport:?}");
        } else {
            drop((client, stdin)); // The end of all is the end of input too.
            eventually("cat has ended", || *seen.ended.lock().unwrap() == 1).await;
        }
    }
}

#[tokio::test]
async fn much_output_arrives_whole() {
    for transport in ALL {
        let seen = Arc::new(Seen::default());
        let client = exec(connect(&seen), transport, &["big", "1000000"], OUTPUT).await.unwrap();
        assert_eq!(read(client.stdout).await.len(), 1_000_000, "{transport:?}");
        assert_eq!(client.outcome.outcome().await.unwrap(), Outcome::Success, "{transport:?}");
    }
}

#[tokio::test]
async fn failures_are_told_and_silence_is_no_success() {
    for transport in ALL {
        let seen = Arc::new(Seen::default());
        for (command, expected) in [
            ("fail", "Internal error occurred: error executing command in container: no such file"),
            ("vanish", "Internal error occurred: the command's end is unknown"),
        ] {
            let client = exec(connect(&seen), transport, &[command], OUTPUT).await.unwrap();
            let outcome = client.outcome.outcome().await.unwrap();
            assert_eq!(outcome, Outcome::Failure(expected.to_owned()), "{transport:?}");
        }
    }
}

#[tokio::test]
async fn terminal_sizes_arrive() {
    for transport in
        [Transport::WebSocket, Transport::OldWebSocket, Transport::Spdy, Transport::SpdyVersion(3)]
    {
        let seen = Arc::new(Seen::default());
        let mut client = exec(connect(&seen), transport, &["sizes", "2"], TERMINAL).await.unwrap();
        let resize = client.resize.as_mut().unwrap();
        let sizes = [TerminalSize { width: 80, height: 24 }, TerminalSize { width: 132, height: 50 }];
        for (count, size) in sizes.iter().enumerate() {
            resize.send(*size).await.unwrap();
            eventually("the size was seen", || seen.sizes.lock().unwrap().len() == count + 1).await;
        }
        assert_eq!(*seen.sizes.lock().unwrap(), sizes);
        assert_eq!(client.outcome.outcome().await.unwrap(), Outcome::Success);
    }
}

#[tokio::test]
async fn a_slow_client_stops_the_command_and_a_vanished_one_ends_it() {
    for transport in ALL {
        let seen = Arc::new(Seen::default());
        let client = exec(connect(&seen), transport, &["yes"], OUTPUT).await.unwrap();
        let written = || *seen.written.lock().unwrap();
        let mut before = usize::MAX;
        while before != written() {
            before = written();
            nauplius_base::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(written() > 0 && written() < 1_000_000, "{transport:?}: {}", written());
        drop(client);
        eventually("yes has ended", || *seen.ended.lock().unwrap() == 1).await;
    }
}

#[tokio::test]
async fn a_client_that_vanishes_ends_the_commands_input() {
    for transport in ALL {
        let seen = Arc::new(Seen::default());
        let client = exec(connect(&seen), transport, &["wait"], PIPES).await.unwrap();
        drop(client);
        eventually("wait has ended", || *seen.ended.lock().unwrap() == 1).await;
    }
}

#[tokio::test]
async fn requests_without_upgrade_or_streams_are_refused() {
    let seen = Arc::new(Seen::default());
    let (status, body) = get(connect(&seen), "/exec?stdout=true").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body, "unable to upgrade: missing upgrade headers in request\n");
    let nothing = RemoteCommandOptions { stdin: false, stdout: false, stderr: false, tty: false };
    let refused = exec(connect(&seen), Transport::Spdy, &["cat"], nothing).await.err().unwrap();
    assert!(
        matches!(&refused, ConnectError::Refused { status: StatusCode::BAD_REQUEST, message }
            if message == "you must specify at least 1 of stdin, stdout, stderr"),
        "{refused}"
    );
}
