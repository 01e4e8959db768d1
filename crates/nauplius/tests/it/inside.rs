//! What a container may and sees, as its manifest says: users, capabilities, filters, read-only roots, sysctls, namespaces, variables from
//! files.

use crate::workload::{Workload, container, once};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `/proc/self/status` as fields.
fn fields(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs
        .map(|(key, value)| (key.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

async fn confined(world: &Workload) {
    let script = "cat /proc/self/status; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/sys/kernel/shm_rmid_forced
        echo x > /x || echo no root; echo x > /work/x && ls -ln /work; echo bye > /tmp/last";
    let context = json!({"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000, "supplementalGroups": [4000],
        "supplementalGroupsPolicy": "Strict", "fsGroupChangePolicy": "OnRootMismatch",
        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "81"}, {"name": "kernel.shm_rmid_forced", "value": "1"}]});
    let own = json!({"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true, "seccompProfile": {"type": "RuntimeDefault"}});
    let volumes =
        json!([{"name": "work", "emptyDir": {}}, {"name": "tmp", "emptyDir": {"medium": "Memory"}}]);
    let mounts = json!([{"name": "work", "mountPath": "/work"}, {"name": "tmp", "mountPath": "/tmp"}]);
    let pod = once(
        "confined",
        script,
        json!({"securityContext": context, "volumes": volumes}),
        json!({"securityContext": own, "volumeMounts": mounts, "terminationMessagePath": "/tmp/last"}),
    );
    world.make(pod).await;
    let (phase, log) = world.ended("confined", "c").await;
    assert_eq!(phase, "Succeeded", "{log}");
    let seen = fields(&log);
    for (field, expected) in [
        ("Uid", "1000 1000 1000 1000"),
        ("Gid", "2000 2000 2000 2000"),
        ("Groups", "2000 3000 4000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000001000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(seen.get(field).map(String::as_str), Some(expected), "{field}: {log}");
    }
    assert!(log.contains("\n81\n1\n"), "{log}");
    assert!(log.contains("Read-only file system\nno root\n"), "{log}");
    assert!(log.contains(" 1000 3000 2 "), "what is written belongs to the group: {log}");
    let status = serde_json::to_value(world.pods.get("confined").await.unwrap().status).unwrap();
    let told = &status["containerStatuses"][0];
    assert_eq!(told["state"]["terminated"]["message"], "bye\n", "{told}");
}

async fn profiles(world: &Workload) {
    let profiles = world.cluster.data_dir().join("kubelet/seccomp");
    std::fs::create_dir_all(&profiles).unwrap();
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["chdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]});
    std::fs::write(profiles.join("stay.json"), profile.to_string()).unwrap();
    let with = |name: &str| {
        let profile = json!({"type": "Localhost", "localhostProfile": name});
        json!({"securityContext": {"seccompProfile": profile}})
    };
    world.make(once("stays", "cd /tmp && echo went || echo stayed", with("stay.json"), json!({}))).await;
    world.make(once("unknown", "true", with("none.json"), json!({}))).await;
    let (_, log) = world.ended("stays", "c").await;
    assert!(log.contains("stayed\n"), "{log}");
    let message = world.waiting("unknown", "CreateContainerError").await;
    let expected = format!("cannot load seccomp profile {:?}", profiles.join("none.json"));
    assert!(message.contains(&expected), "{message}");
}

const NAMESPACES: &str = "ls -l /proc/self/ns";

/// The namespaces of a log that [`NAMESPACES`] wrote.
fn namespaces(log: &str) -> BTreeMap<&str, &str> {
    let links = log.lines().filter_map(|line| line.split_once(" -> "));
    links.map(|(before, target)| (before.rsplit(' ').next().unwrap_or_default(), target)).collect()
}

async fn host_namespaces(world: &Workload) {
    let hosts = json!({"hostPID": true, "hostIPC": true, "hostNetwork": true});
    world.make(once("host", NAMESPACES, hosts, json!({}))).await;
    world.make(once("own", NAMESPACES, json!({}), json!({}))).await;
    let two = json!({"shareProcessNamespace": true,
        "containers": [container("c", NAMESPACES), container("d", NAMESPACES)]});
    world.make(once("shared", "", two, json!({}))).await;
    let (_, host) = world.ended("host", "c").await;
    let (_, own) = world.ended("own", "c").await;
    let (host, own) = (namespaces(&host), namespaces(&own));
    for kind in ["pid", "ipc", "net", "uts"] {
        let ours = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(host.get(kind).copied(), ours.to_str(), "{host:?}");
        assert!(own.contains_key(kind) && own.get(kind).copied() != ours.to_str(), "{own:?}");
    }
    let (_, c) = world.ended("shared", "c").await;
    let (_, d) = world.ended("shared", "d").await;
    let (c, d) = (namespaces(&c), namespaces(&d));
    assert_eq!((c["pid"], c["net"], c["ipc"]), (d["pid"], d["net"], d["ipc"]));
    assert!(c["pid"] != host["pid"], "{c:?} {host:?}");
    let status = serde_json::to_value(world.pods.get("host").await.unwrap().status).unwrap();
    assert_eq!(status["podIP"], status["hostIP"]);
}

fn from_file(name: &str, key: &str, optional: bool) -> Value {
    let reference = json!({"volumeName": "env", "path": "made/env", "key": key, "optional": optional});
    json!({"name": name, "valueFrom": {"fileKeyRef": reference}})
}

async fn variables_from_files(world: &Workload) {
    let script = "mkdir /env/made; echo \"A='two\n words' # said\" > /env/made/env";
    let mut writer = container("writer", script);
    writer["volumeMounts"] = json!([{"name": "env", "mountPath": "/env"}]);
    let around = json!({"initContainers": [writer], "volumes": [{"name": "env", "emptyDir": {}}]});
    let own = json!({"env": [from_file("X", "A", false), from_file("Y", "B", true)]});
    world.make(once("reader", "echo \"$X\"; echo ${Y-unset}", around.clone(), own)).await;
    world.make(once("misser", "true", around, json!({"env": [from_file("X", "B", false)]}))).await;
    assert_eq!(world.ended("reader", "c").await, ("Succeeded".to_owned(), "two\n words\nunset\n".to_owned()));
    let message = world.waiting("misser", "CreateContainerConfigError").await;
    assert_eq!(message, "environment variable key \"B\" not found in file \"made/env\"");
}

#[tokio::test]
async fn containers_are_confined_as_they_ask() {
    let world = Workload::new().await;
    tokio::join!(confined(&world), profiles(&world), host_namespaces(&world), variables_from_files(&world));
}
