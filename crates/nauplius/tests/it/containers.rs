//! Real containers of one cluster, as a person's manifest asks for them: volumes, names, hooks, host ports, debugging, resizing,
//! eviction.

use crate::cluster::{Cluster, eventually};
use crate::kubectl::{self, Kubectl};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PODS: &str = include_str!("containers.yaml");
/// Of the manifest.
const HOST_PORT: u16 = 18_473;

fn sh(kubectl: &Kubectl<'_>, pod: &str, script: &str) -> String {
    kubectl.ok(&["exec", pod, "-c", "c", "--", "sh", "-c", script])
}

fn path(kubectl: &Kubectl<'_>, pod: &str, path: &str) -> String {
    kubectl.ok(&["get", "pod", pod, "-o", &format!("jsonpath={path}")])
}

fn volumes(kubectl: &Kubectl<'_>) {
    assert_eq!(sh(kubectl, "volumes", "cat /map/k /down/labels"), "onekind=\"volumes\"");
    let listed = sh(kubectl, "volumes", "ls -ldn /map /memory /work");
    let owners: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(owners.iter().all(|words| words[3] == "1234"), "{listed}");
    assert_eq!(owners[1][0], "drwxrwsrwt", "{listed}");
    let denied = kubectl.run(&["exec", "volumes", "--", "sh", "-c", "echo x > /map/x"]);
    assert!(String::from_utf8_lossy(&denied.stderr).contains("Read-only file system"), "{denied:?}");
    let full = kubectl.run(&["exec", "volumes", "--", "sh", "-c", "cat /dev/zero > /memory/z"]);
    assert!(String::from_utf8_lossy(&full.stderr).contains("No space left on device"), "{full:?}");
    sh(kubectl, "volumes", "echo mine > /work/f");
    kubectl.ok(&["patch", "configmap", "containers", "--patch", r#"{"data":{"k":"two"}}"#]);
    eventually("the new content", || (sh(kubectl, "volumes", "cat /map/k") == "two").then_some(()));
}

fn names(kubectl: &Kubectl<'_>) {
    let hosts = sh(kubectl, "names", "cat /etc/hosts");
    assert!(hosts.contains("\tmy-host.sub.default.svc.cluster.local\tmy-host\n"), "{hosts}");
    assert!(hosts.ends_with("# Entries added by HostAliases.\n192.0.2.7\tfar.example\n"), "{hosts}");
    assert_eq!(
        sh(kubectl, "names", "cat /proc/sys/kernel/hostname"),
        "my-host.sub.default.svc.cluster.local\n"
    );
    assert_eq!(
        sh(kubectl, "names", "cat /etc/resolv.conf"),
        "search x.example\nnameserver 192.0.2.9\noptions ndots:3\n"
    );
    // One process namespace for all containers: the sidecar is seen from the main one, whose pod has no pid 1 of its own.
    let seen = sh(kubectl, "names", "for p in /proc/[0-9]*; do cat $p/cmdline; echo; done");
    assert!(seen.contains("sleep\0887766"), "{seen}");
    assert_eq!(sh(kubectl, "names", "cat /proc/sys/net/ipv4/ip_local_port_range"), "30000\t31000\n");
}

fn endings(kubectl: &Kubectl<'_>) {
    eventually("the end", || (path(kubectl, "endings", "{.status.phase}") == "Failed").then_some(()));
    let message = |index: usize| {
        path(kubectl, "endings", &format!("{{.status.containerStatuses[{index}].state.terminated.message}}"))
    };
    assert_eq!((message(0).as_str(), message(1).as_str()), ("DONE", "bad luck\n"));
    let late = "{.status.reason} {.status.phase}";
    eventually("the deadline", || {
        (path(kubectl, "deadline", late) == "DeadlineExceeded Failed").then_some(())
    });
    let refused = path(kubectl, "root", "{.status.containerStatuses[0].state.waiting.message}");
    assert!(refused.starts_with("container has runAsNonRoot and image will run as root"), "{refused}");
    let unconfined = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if !unconfined.starts_with('Y') {
        let told = path(kubectl, "confined", "{.status.reason}: {.status.message}");
        let words =
            "AppArmor: Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host";
        assert_eq!(told, words);
    }
}

fn fetch(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?; // Refused until the pod is there.
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?; // As above.
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?; // As above.
    Some(answer).filter(|answer| answer.contains("Hello"))
}

fn host_ports(kubectl: &Kubectl<'_>) {
    let node = path(kubectl, "port", "{.status.hostIP}");
    for address in ["127.0.0.1", &node] {
        let answer = eventually("an answer", || fetch(&format!("{address}:{HOST_PORT}")));
        assert!(answer.contains("port"), "{answer}");
    }
    kubectl.ok(&["delete", "pod", "port", "--timeout=60s"]);
    assert!(TcpStream::connect(("127.0.0.1", HOST_PORT)).is_err(), "the port is given back");
}

fn debugging(kubectl: &Kubectl<'_>) {
    let script = "for p in /proc/[0-9]*; do cat $p/cmdline; echo; done";
    let debug = [
        "debug",
        "names",
        "--image=nauplius.local/demo:1",
        "--target=c",
        "-c",
        "look",
        "--",
        "sh",
        "-c",
        script,
    ];
    kubectl.ok(&debug);
    let ended = "{.status.ephemeralContainerStatuses[0].state.terminated.reason}";
    eventually("the look", || (path(kubectl, "names", ended) == "Completed").then_some(()));
    let log = kubectl.ok(&["logs", "names", "-c", "look"]);
    assert!(log.contains("sleep\0887767"), "the target's processes are seen: {log}");
}

fn memory_limit(kubectl: &Kubectl<'_>) -> String {
    let files =
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    sh(kubectl, "resized", files).trim().to_owned()
}

fn resizing(kubectl: &Kubectl<'_>) {
    assert_eq!(memory_limit(kubectl), (64 << 20).to_string());
    for (mebibytes, cpu) in [(96_u64, "300m"), (48, "100m")] {
        let amounts = format!(r#"{{"cpu":"{cpu}","memory":"{mebibytes}Mi"}}"#);
        let patch = format!(
            r#"{{"spec":{{"containers":[{{"name":"c","resources":{{"requests":{amounts},"limits":{amounts}}}}}]}}}}"#
        );
        kubectl.ok(&["patch", "pod", "resized", "--subresource", "resize", "--patch", &patch]);
        let told = "{.status.containerStatuses[0].resources.limits.memory}";
        eventually("the resize", || {
            (path(kubectl, "resized", told) == format!("{mebibytes}Mi")).then_some(())
        });
        assert_eq!(memory_limit(kubectl), (mebibytes << 20).to_string());
    }
    assert_eq!(path(kubectl, "resized", "{.status.containerStatuses[0].restartCount}"), "0");
    let much = r#"{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"9999"},"limits":{"cpu":"9999"}}}]}}"#;
    kubectl.ok(&["patch", "pod", "resized", "--subresource", "resize", "--patch", much]);
    let reason = "{.status.conditions[?(@.type==\"PodResizePending\")].reason}";
    eventually("the refusal", || (path(kubectl, "resized", reason) == "Infeasible").then_some(()));
}

fn eviction(kubectl: &Kubectl<'_>) {
    sh(kubectl, "writer", "i=0; while [ $i -lt 64 ]; do printf %04096d 0; i=$((i+1)); done > /work/big");
    eventually("the eviction", || (path(kubectl, "writer", "{.status.reason}") == "Evicted").then_some(()));
    let message = path(kubectl, "writer", "{.status.message}");
    assert_eq!(message, "Usage of EmptyDir volume \"work\" exceeds the limit \"64Ki\". ");
}

#[test]
fn containers_get_what_their_manifests_ask_for() {
    let cluster = Cluster::up();
    let Some(kubectl) = kubectl::any("containers", &cluster) else { return };
    let manifest = cluster.scratch.path().join("containers.yaml");
    std::fs::write(&manifest, PODS).unwrap();
    kubectl.ok(&["apply", "-f", &manifest.display().to_string()]);
    for pod in ["volumes", "names", "port", "resized", "writer"] {
        kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=120s"]);
    }
    volumes(&kubectl);
    names(&kubectl);
    host_ports(&kubectl);
    debugging(&kubectl);
    resizing(&kubectl);
    endings(&kubectl);
    eviction(&kubectl);
}
