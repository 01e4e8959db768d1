//! The kubelet's server over TLS: who may ask, logs, streams.

use crate::world::World;
use nauplius_pki::{LeafRequest, TlsParts};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const IMAGE: &str = "demo:1";

/// A connection, with the certificate of this user.
async fn connect(world: &World, user: Option<&str>) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    for authority in TlsParts::certificates(&world.authority.certificate_pem()).unwrap() {
        roots.add(authority).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match user {
        Some(user) => {
            let issued = world.authority.issue(&LeafRequest::client(user, Vec::new())).unwrap();
            let parts = TlsParts::from_pem(&issued.certificate_pem, &issued.key_pem).unwrap();
            builder.with_client_auth_cert(parts.chain, parts.key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(("127.0.0.1", world.kubelet.port())).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect("127.0.0.1".try_into().unwrap(), stream).await.unwrap()
}

/// The whole answer to a GET, as text.
async fn get(world: &World, user: Option<&str>, path: &str, header: &str) -> String {
    let mut stream = connect(world, user).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: k\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A peer that hangs up without a farewell has said all the same.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn world_with_pod() -> World {
    let world = World::new(&[IMAGE]).await;
    world.create("p", json!({"containers": [{"name": "c", "image": IMAGE}]}));
    world.phase("p", "Running").await;
    world
}

#[tokio::test]
async fn only_those_who_may_are_answered() {
    let world = world_with_pod().await;
    for (user, header, expected) in [
        (None, "", "HTTP/1.1 401"),
        (None, "Authorization: Bearer bad\r\n", "HTTP/1.1 401"),
        (Some("stranger"), "", "HTTP/1.1 403"),
        (Some("reader"), "", "HTTP/1.1 200"),
        (None, "Authorization: Bearer good\r\n", "HTTP/1.1 200"),
    ] {
        let answer = get(&world, user, "/pods", header).await;
        assert!(answer.starts_with(expected), "{user:?} {header}: {answer}");
    }
    let before = world.api.log().len();
    assert!(get(&world, Some("reader"), "/healthz", "").await.ends_with("ok"));
    assert!(get(&world, Some("reader"), "/healthz", "").await.ends_with("ok"));
    let asked = world.api.log().split_off(before);
    assert_eq!(asked.iter().filter(|line| line.contains("subjectaccessreviews")).count(), 1, "{asked:?}");
    for (path, part) in [
        ("/metrics", "kubelet_running_containers{container_state=\"running\"} 1"),
        ("/configz", "\"maxPods\":3"),
        ("/runningpods/", "\"name\":\"p\""),
        ("/nope", "404 page not found"),
        ("/logs/", "<pre>"),
        ("/logs/../../etc/passwd", "404"),
        ("/metrics/cadvisor", "machine_cpu_cores"),
        ("/metrics/probes", "prober_probe_total"),
        ("/metrics/resource", "pod_cpu_usage_seconds_total"),
        ("/checkpoint/n/p/c", "405"),
    ] {
        let answer = get(&world, Some("reader"), path, "").await;
        assert!(answer.contains(part), "{path}: {answer}");
    }
}

#[tokio::test]
async fn logs_are_read_and_followed_over_rotation() {
    let world = world_with_pod().await;
    let log = world.logs().join("n_p_uid-p/c/0.log");
    let line = |text: &str| format!("2026-01-02T03:04:05.000000000Z stdout F {text}\n");
    std::fs::write(&log, line("one") + &line("two")).unwrap();
    let answer = get(&world, Some("reader"), "/containerLogs/n/p/c?tailLines=1", "").await;
    assert!(answer.contains("two\n") && !answer.contains("one\n"), "{answer}");
    for (path, part) in [
        ("/containerLogs/n/x/c", "pod \"x\" does not exist"),
        ("/containerLogs/n/p/z", "container \"z\" not found in pod \"p\""),
        ("/containerLogs/n/p/c?previous=true", "previous terminated container \"c\" in pod \"p\" not found"),
        ("/containerLogs/n/p/c?tailLines=x", "tailLines: Invalid value"),
    ] {
        let answer = get(&world, Some("reader"), path, "").await;
        assert!(answer.contains(part), "{path}: {answer}");
    }
    let mut stream = connect(&world, Some("reader")).await;
    stream.write_all(b"GET /containerLogs/n/p/c?follow=true HTTP/1.1\r\nHost: k\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    until(&mut stream, &mut seen, "two").await;
    let append = |text: &str| {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
        file.write_all(line(text).as_bytes()).unwrap();
    };
    append("three");
    until(&mut stream, &mut seen, "three").await;
    std::fs::rename(&log, log.with_extension("log.old")).unwrap();
    append("four");
    until(&mut stream, &mut seen, "four").await;
    append("five");
    world.runtime.end("c", 0);
    until(&mut stream, &mut seen, "0\r\n\r\n").await;
    assert!(seen.contains("five"));
}

/// Reads until the text has come.
async fn until(stream: &mut TlsStream<TcpStream>, seen: &mut String, text: &str) {
    let mut buffer = [0; 4096];
    while !seen.contains(text) {
        let read = nauplius_base::time::timeout(Duration::from_secs(10), stream.read(&mut buffer));
        let length = read.await.unwrap_or_else(|_| panic!("{text:?} did not come after {seen:?}")).unwrap();
        assert!(length > 0, "the stream ended before {text:?}: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
}

#[tokio::test]
async fn commands_are_spliced_to_the_runtime() {
    let world = world_with_pod().await;
    let backend = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    world.runtime.streams_at(&format!("http://{}/exec/token", backend.local_addr().unwrap()));
    let played = nauplius_base::task::spawn("backend", async move {
        let (mut stream, _) = backend.accept().await.unwrap();
        let (mut request, mut buffer) = (String::new(), [0; 1024]);
        while !request.contains("\r\n\r\n") {
            let length = stream.read(&mut buffer).await.unwrap();
            request.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let length = stream.read(&mut buffer).await.unwrap();
        stream.write_all(&buffer[..length]).await.unwrap();
        request
    });
    let mut stream = connect(&world, Some("reader")).await;
    let request = "POST /exec/n/p/c?command=sh&command=-c&input=1&output=1&error=1&tty=1 HTTP/1.1\r\nHost: k\r\n\
                   Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    until(&mut stream, &mut seen, "\r\n\r\n").await;
    assert!(seen.starts_with("HTTP/1.1 101"), "{seen}");
    stream.write_all(b"echo").await.unwrap();
    until(&mut stream, &mut seen, "echo").await;
    let request = played.await.unwrap();
    assert!(request.starts_with("POST /exec/token HTTP/1.1"), "{request}");
    assert!(request.to_lowercase().contains("x-stream-protocol-version: v4.channel.k8s.io"));
    assert!(world.runtime.calls().contains(&"stream sh -c tty=true".to_owned()));
    for (path, status, words) in [
        ("/exec/n/p/c?command=sh", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("/exec/n/x/c?command=sh&output=1", 404, "pod does not exist"),
        ("/exec/n/p/z?command=sh&output=1", 500, "container not found (\"z\")"),
        ("/attach/n/p/other-uid/c?output=1", 500, "container not found (\"c\")"),
        ("/portForward/n/x", 404, "pod does not exist"),
        ("/portForward/n/p/other-uid", 404, "pod not found"),
        ("/portForward/n/p?port=0", 400, "port \"0\" must be > 0"),
    ] {
        let refused = get(&world, Some("reader"), path, "").await;
        let begin = format!("HTTP/1.1 {status} ");
        assert!(refused.starts_with(&begin) && refused.ends_with(words), "{path}: {refused}");
    }
}
