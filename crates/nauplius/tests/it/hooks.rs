//! The life of a pod: which container comes when, its hooks, and how it ends.

use crate::workload::{Workload, container, once};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn noting(mut container: Value) -> Value {
    container["volumeMounts"] = json!([{"name": "notes", "mountPath": "/notes"}]);
    container
}

/// A pod whose container runs on, with hooks.
fn lasting(world: &Workload, name: &str, script: &str, grace_s: i64, lifecycle: Value) -> Value {
    let mut container = noting(container("c", script));
    container["lifecycle"] = lifecycle;
    let spec = json!({"terminationGracePeriodSeconds": grace_s, "containers": [container], "volumes": [world.notes()]});
    json!({"metadata": {"name": name}, "spec": spec})
}

const FOREVER: &str = "trap 'exit 0' TERM; while true; do sleep 0.1; done";
const DEAF: &str = "trap '' TERM; while true; do sleep 1; done";

async fn order(world: &Workload) {
    let first = noting(container("first", "echo first >> /notes/order"));
    let script = "trap 'echo sidecar ends >> /notes/order; exit' TERM; sleep 1; echo sidecar >> /notes/order
        echo > /notes/up; while true; do sleep 0.1; done";
    let mut sidecar = noting(container("sidecar", script));
    sidecar["restartPolicy"] = json!("Always");
    sidecar["startupProbe"] =
        json!({"exec": {"command": ["cat", "/notes/up"]}, "periodSeconds": 1, "failureThreshold": 60});
    let second = noting(container("second", "echo second >> /notes/order"));
    let main = noting(container("c", "echo main >> /notes/order"));
    let spec = json!({"initContainers": [first, sidecar, second], "containers": [main], "volumes": [world.notes()],
        "terminationGracePeriodSeconds": 30});
    world.make(once("ordered", "", spec, json!({}))).await;
    let (phase, _) = world.ended("ordered", "c").await;
    assert_eq!(phase, "Succeeded");
    assert_eq!(world.noted("order"), "first\nsidecar\nsecond\nmain\nsidecar ends\n");
}

/// Answers one request with an error, and gives its head.
async fn refuse(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        head.push(byte[0]);
    }
    stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

/// As upstream, a hook that is answered has done its work, whatever the answer.
async fn requests(world: &Workload) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let get = |path: &str| json!({"httpGet": {"host": "127.0.0.1", "port": address.port(), "path": path}});
    let hooks = json!({"postStart": get("/hello"), "preStop": get("/bye")});
    world.make(lasting(world, "asking", FOREVER, 30, hooks)).await;
    let hello = refuse(&listener).await;
    assert!(hello.starts_with("get /hello http/1.1\r\n"), "{hello}");
    assert!(hello.contains("\r\nuser-agent: kube-lifecycle/1.37\r\n"), "{hello}");
    world.ready("asking").await;
    let (bye, ()) = tokio::join!(refuse(&listener), world.delete("asking"));
    assert!(bye.starts_with("get /bye http/1.1\r\n"), "{bye}");
    let failed: Vec<String> =
        world.events("asking").await.into_iter().filter(|said| said.starts_with("Warning")).collect();
    assert_eq!(failed, Vec::<String>::new());
}

async fn failures(world: &Workload) {
    let run = |script: &str| json!({"exec": {"command": ["sh", "-c", script]}});
    let hooks = json!({"postStart": run("echo why >&2; exit 7")});
    world.make(lasting(world, "unstarted", FOREVER, 1, hooks)).await;
    let message = world.waiting("unstarted", "PostStartHookError").await;
    assert!(message.contains("exited with 7: why"), "{message}");
    world.said("unstarted", "Warning FailedPostStartHook PostStartHook failed").await;
    world.said("unstarted", "Normal Killing FailedPostStartHook").await;
    world.waiting("unstarted", "CrashLoopBackOff").await;
    world.delete("unstarted").await;

    world.make(lasting(world, "unasked", FOREVER, 5, json!({"preStop": run("exit 1")}))).await;
    world.ready("unasked").await;
    world.delete("unasked").await;
    world.said("unasked", "Warning FailedPreStopHook PreStopHook failed").await;
    world.said("unasked", "Normal Killing Stopping container c").await;
}

/// Whoever has waited for a hook as long as the grace is waits no longer.
async fn graces(world: &Workload) {
    let run = |script: &str| json!({"exec": {"command": ["sh", "-c", script]}});
    world.make(lasting(world, "slow", DEAF, 3, json!({"preStop": run("sleep 1000")}))).await;
    let script = "trap 'echo asked >> /notes/slept; exit' TERM; while true; do sleep 0.1; done";
    world.make(lasting(world, "sleeper", script, 30, json!({"preStop": {"sleep": {"seconds": 1}}}))).await;
    for pod in ["slow", "sleeper"] {
        world.ready(pod).await;
    }
    tokio::join!(world.delete("slow"), world.delete("sleeper"));
    assert_eq!(world.noted("slept"), "asked\n");
    let quiet = |said: &String| !said.starts_with("Warning");
    assert!(world.events("slow").await.iter().all(quiet), "{:?}", world.events("slow").await);
}

#[tokio::test]
async fn containers_live_in_their_order_with_their_hooks() {
    let world = Workload::new().await;
    tokio::join!(order(&world), requests(&world), failures(&world), graces(&world));
}
