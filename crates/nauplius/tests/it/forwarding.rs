//! `kubectl port-forward` of each kubectl, over SPDY and, where it knows how, over WebSocket.

use crate::cluster::{Cluster, eventually};
use crate::kubectl::{self, Kubectl};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};

const VERSIONS: [&str; 6] = ["1.28", "1.29", "1.30", "1.31", "1.32", "1.33"];
/// The first that can tunnel SPDY through a WebSocket; it does so by itself from the next one on.
const TUNNELS: &str = "1.30";

/// A `port-forward` that runs.
struct Forwarding {
    child: Child,
    files: [PathBuf; 2],
}

impl Forwarding {
    fn start(kubectl: &Kubectl<'_>, cluster: &Cluster, ports: &str, over_websocket: bool) -> Self {
        let files = ["forward.out", "forward.err"].map(|name| cluster.scratch.path().join(name));
        let [out, error] = [0, 1].map(|which| std::fs::File::create(&files[which]).unwrap());
        let mut command = kubectl.command(&["port-forward", "pod/demo", ports, "-v=4"]);
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", over_websocket.to_string());
        let child = command.stdin(Stdio::null()).stdout(out).stderr(error).spawn().unwrap();
        Self { child, files }
    }

    fn said(&self, which: usize) -> String {
        std::fs::read_to_string(&self.files[which]).unwrap()
    }

    /// The local port, once there is one.
    fn port(&self) -> u16 {
        eventually("a local port", || {
            let out = self.said(0);
            let line = out.lines().find(|line| line.starts_with("Forwarding from 127.0.0.1:"))?;
            line.split(':').nth(1)?.split(' ').next()?.parse().ok()
        })
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

fn ask(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    // A connection that is broken off has said what it has said.
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn forwards(kubectl: &Kubectl<'_>, cluster: &Cluster, version: &str, over_websocket: bool) {
    let forwarding = Forwarding::start(kubectl, cluster, ":8080", over_websocket);
    let port = forwarding.port();
    for _ in 0..2 {
        let answer = ask(port);
        assert!(answer.starts_with("HTTP/1.1 200"), "{version}: {answer:?} {}", forwarding.said(1));
    }
    let is_websocket = forwarding.said(1).contains("WebSocket Upgrade Connection");
    assert_eq!(is_websocket, over_websocket, "{version}: {}", forwarding.said(1));
    drop(forwarding);
    let forwarding = Forwarding::start(kubectl, cluster, ":9999", over_websocket);
    assert_eq!(ask(forwarding.port()), "", "{version}");
    let refused = "IPv4: dial tcp4 127.0.0.1:9999: connect: connection refused IPv6 dial tcp6 [::1]:9999: connect: connection refused";
    eventually("the refusal", || forwarding.said(1).contains(refused).then_some(()));
}

#[test]
fn ports_are_forwarded_to_each_kubectl() {
    let cluster = Cluster::up();
    let found: Vec<_> = VERSIONS
        .into_iter()
        .filter_map(|version| Some((version, kubectl::find("ports_are_forwarded", version, &cluster)?)))
        .collect();
    let Some((_, first)) = found.first() else { return };
    first.ok(&["run", "demo", "--image=nauplius.local/demo:1"]);
    first.ok(&["wait", "--for=condition=Ready", "pod/demo", "--timeout=90s"]);
    for (version, kubectl) in &found {
        forwards(kubectl, &cluster, version, false);
        if *version >= TUNNELS {
            forwards(kubectl, &cluster, version, true);
        }
    }
}
