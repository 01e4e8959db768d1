//! The demo image in a pod: it tells who answered, and its health fails and comes back when it is asked to.

use crate::cluster::{Cluster, eventually};
use crate::kubectl::{self, Kubectl};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// For one connection, which is refused or lost until the rules are there.
const PATIENCE: Duration = Duration::from_secs(1);

#[test]
fn the_demo_tells_who_it_is_and_its_health_fails_on_request() {
    let cluster = Cluster::up();
    let Some(kubectl) = kubectl::any("the_demo", &cluster) else { return };
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": 8080}, "periodSeconds": 1, "failureThreshold": 2});
    let container = json!({"name": "c", "image": "nauplius.local/demo:1", "readinessProbe": probe("/readyz"),
        "livenessProbe": probe("/healthz")});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "demo"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}});
    let path = cluster.scratch.path().join("demo.json");
    std::fs::write(&path, pod.to_string()).unwrap();
    kubectl.ok(&["create", "-f", path.to_str().unwrap()]);
    let becomes = |condition: &str| {
        kubectl.ok(&["wait", &format!("--for=condition={condition}"), "pod/demo", "--timeout=60s"]);
    };
    let ask = |path: &str| {
        kubectl.ok(&["get", "--raw", &format!("/api/v1/namespaces/default/pods/demo:8080/proxy{path}")])
    };
    becomes("Ready");
    let told = ask("/some/where?x=1");
    assert!(told.contains("demo") && told.contains("/some/where"), "{told}");
    ask("/fail/readyz");
    becomes("Ready=False");
    ask("/restore/readyz");
    becomes("Ready");
    ask("/fail/healthz");
    let restarts = ["get", "pod", "demo", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
    eventually("a restart", || (kubectl.ok(&restarts) == "1").then_some(()));
    becomes("Ready");
    endpoints_of_ones_own_lead_to_it(&cluster, &kubectl);
}

/// A service without selector leads to what somebody wrote down for it, which is mirrored to a slice.
fn endpoints_of_ones_own_lead_to_it(cluster: &Cluster, kubectl: &Kubectl<'_>) {
    let ip = kubectl.ok(&["get", "pod", "demo", "-o", "jsonpath={.status.podIP}"]);
    let metadata = json!({"name": "manual"});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"name": "http", "port": 80}]}});
    let subset = json!({"addresses": [{"ip": ip}], "ports": [{"name": "http", "port": 8080}]});
    let endpoints =
        json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [subset]});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [service, endpoints]});
    let path = cluster.scratch.path().join("manual.json");
    std::fs::write(&path, list.to_string()).unwrap();
    kubectl.ok(&["create", "-f", path.to_str().unwrap()]);
    let address = kubectl.ok(&["get", "service", "manual", "-o", "jsonpath={.spec.clusterIP}"]);
    eventually("the service to lead to the pod", || {
        let mut stream =
            TcpStream::connect_timeout(&format!("{address}:80").parse().unwrap(), PATIENCE).ok()?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    });
    kubectl.ok(&["delete", "endpoints", "manual"]);
    let slices = ["get", "endpointslices", "-l", "kubernetes.io/service-name=manual", "-o", "name"];
    eventually("the slice's end", || kubectl.ok(&slices).is_empty().then_some(()));
}
