//! Certificates that are renewed while the server runs, and the documents by which outsiders check tokens.

use crate::cluster::{Cluster, eventually};
use crate::kube_rs::{connect, demo_pod, is_ready};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, LogParams, PostParams};
use kube::runtime::wait::await_condition;
use nauplius_base::time;
use nauplius_pki::PeerCertificate;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::AsyncReadExt;

const PATIENCE: Duration = Duration::from_secs(120);
const NAMES: &[&str] = &["apiserver", "apiserver-kubelet-client", "kubelet", "admin"];

/// When each certificate on disk ends, in seconds since the epoch.
fn ends(cluster: &Cluster) -> BTreeMap<&'static str, i64> {
    let end = |name: &str| {
        let pem = std::fs::read_to_string(cluster.data_dir().join(format!("pki/{name}.crt"))).unwrap();
        PeerCertificate::from_pem(&pem).unwrap().not_after
    };
    NAMES.iter().map(|name| (*name, end(name))).collect()
}

/// The API server is asked over TLS with the person's certificate; the log and the command come from the kubelet, over TLS both ways.
async fn all_doors_open(cluster: &Cluster) {
    let pods: Api<Pod> = Api::default_namespaced(connect(cluster).await);
    let log = pods.logs("demo", &LogParams::default()).await.unwrap();
    assert!(log.starts_with("demo: pod demo on node"), "{log}");
    let mut running =
        pods.exec("demo", ["cat", "/etc/group"], &AttachParams::default().stderr(false)).await.unwrap();
    let mut out = String::new();
    running.stdout().unwrap().read_to_string(&mut out).await.unwrap();
    assert!(out.starts_with("root:x:0:"), "{out}");
}

#[tokio::test]
async fn certificates_are_renewed_before_they_end() {
    let cluster = Cluster::named_only();
    cluster.run_ok(&["up", "--certificate-lifetime-s=30"]);
    let pid = cluster.server_pid();
    let first = ends(&cluster);
    let pods: Api<Pod> = Api::default_namespaced(connect(&cluster).await);
    pods.create(&PostParams::default(), &demo_pod("demo")).await.unwrap();
    time::timeout(PATIENCE, await_condition(pods, "demo", is_ready)).await.unwrap().unwrap();
    all_doors_open(&cluster).await;
    let last = first.values().max().copied().unwrap();
    eventually("the end of the first certificates", || (time::unix_seconds() > last).then_some(()));
    all_doors_open(&cluster).await;
    let now = ends(&cluster);
    for (name, end) in first {
        assert!(now[name] > end, "{name} was not renewed\n{}", cluster.log_tail());
    }
    assert_eq!(cluster.server_pid(), pid);
    cluster.log_is_calm();
}

async fn document(cluster: &Cluster) -> Value {
    let request = http::Request::get("/.well-known/openid-configuration").body(Vec::new()).unwrap();
    let text = connect(cluster).await.request_text(request).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn outsiders_find_issuer_and_keys_where_they_are_told() {
    let plain = Cluster::up();
    let said = document(&plain).await;
    assert_eq!(said["issuer"], "https://kubernetes.default.svc.cluster.local");
    assert_eq!(said["jwks_uri"], format!("{}/openid/v1/jwks", plain.status()["server"].as_str().unwrap()));

    let told = Cluster::named_only();
    let issuer = "--service-account-issuer=https://tokens.example.com";
    let older = "--service-account-issuer=https://old.example.com";
    told.run_ok(&["up", issuer, older, "--service-account-jwks-uri=https://keys.example.com/set"]);
    let said = document(&told).await;
    assert_eq!(said["issuer"], "https://tokens.example.com");
    assert_eq!(said["jwks_uri"], "https://keys.example.com/set");
}
