//! One node between its fakes, cleaned up whatever happens.

use crate::api::Api;
use crate::runtime::Fake;
use nauplius_base::task::Group;
use nauplius_client::Client;
use nauplius_kubelet::{Config, EvictionSettings, Kubelet};
use nauplius_pki::{Authority, Issued, LeafRequest, TlsParts};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

pub struct World {
    pub api: Api,
    pub runtime: Fake,
    pub group: Group,
    pub kubelet: Kubelet,
    pub authority: Authority,
    directory: tempfile::TempDir,
    cgroup: String,
    eviction: EvictionSettings,
}

impl Drop for World {
    fn drop(&mut self) {
        self.group.shut_down();
        let _ = nauplius_kubelet::unmount_all(&self.root()); // Best effort, as is what follows.
        // An actor may just be making one.
        for _ in 0..3 {
            if let Err(error) = nauplius_kubelet::remove_cgroups(&self.cgroup) {
                eprintln!("cgroups of a test are left: {error}");
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl World {
    pub async fn new(images: &[&str]) -> Self {
        Self::with(Api::new(), Fake::new(images)).await
    }

    pub async fn with(api: Api, runtime: Fake) -> Self {
        Self::short_of(api, runtime, never_short()).await
    }

    /// A node with thresholds of its own.
    pub async fn short_of(api: Api, runtime: Fake, eviction: EvictionSettings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cgroup = format!("/nauplius-test-{}", nauplius_base::id::suffix(8));
        let authority = Authority::create("test").unwrap();
        let group = Group::new();
        let kubelet = start(&directory, &cgroup, &authority, &api, &runtime, &group, &eviction).await;
        Self { api, runtime, group, kubelet, authority, directory, cgroup, eviction }
    }

    /// The kubelet ends, as if it were killed; a new one starts.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.group = Group::new();
        self.kubelet = start(
            &self.directory,
            &self.cgroup,
            &self.authority,
            &self.api,
            &self.runtime,
            &self.group,
            &self.eviction,
        )
        .await;
    }

    pub async fn stop(&mut self) {
        self.group.shut_down();
        self.group.join().await.unwrap();
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("kubelet")
    }

    pub fn logs(&self) -> PathBuf {
        self.directory.path().join("logs")
    }

    pub fn pod(&self, name: &str) -> Option<Value> {
        self.api.get(&format!("/api/v1/namespaces/n/pods/{name}"))
    }

    pub fn create(&self, name: &str, spec: Value) {
        let mut pod = json!({"kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}"), "generation": 1},
            "spec": spec, "status": {"phase": "Pending"}});
        pod["spec"]["nodeName"] = json!("node");
        self.api.put(&format!("/api/v1/namespaces/n/pods/{name}"), pod);
    }

    pub fn delete(&self, name: &str, grace_s: i64) {
        let mut pod = self.pod(name).unwrap();
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace_s);
        self.api.put(&format!("/api/v1/namespaces/n/pods/{name}"), pod);
    }

    /// Waits for a phase of a pod.
    pub async fn phase(&self, name: &str, phase: &str) -> Value {
        self.status(name, phase, |status| status["phase"] == phase).await
    }

    pub async fn status(&self, name: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/api/v1/namespaces/n/pods/{name}");
        self.api
            .wait(what, |api| {
                api.get(&path).map(|pod| pod["status"].clone()).filter(|status| condition(status))
            })
            .await
    }

    /// Waits for an event.
    pub async fn event(&self, text: &str) {
        self.api
            .wait(text, |api| api.events().iter().any(|event| event.starts_with(text)).then_some(()))
            .await;
    }
}

/// Whatever the machine that tests run on is short of: pods stay, and images, too.
fn never_short() -> EvictionSettings {
    EvictionSettings { thresholds: Vec::new(), images: (100, 100), ..EvictionSettings::default() }
}

/// A certificate that stays as it is.
fn serving(issued: &Issued) -> Arc<SingleCertAndKey> {
    let parts = TlsParts::from_pem(&issued.certificate_pem, &issued.key_pem).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(CertifiedKey::from_der(parts.chain, parts.key, &provider).unwrap().into())
}

async fn start(
    directory: &tempfile::TempDir,
    cgroup: &str,
    authority: &Authority,
    api: &Api,
    runtime: &Fake,
    group: &Group,
    eviction: &EvictionSettings,
) -> Kubelet {
    let request = LeafRequest::server("system:node:node", Vec::new(), vec!["127.0.0.1".parse().unwrap()]);
    let issued = authority.issue(&request).unwrap();
    let config = Config {
        node_name: "node".to_owned(),
        node_ip: "127.0.0.1".parse().unwrap(),
        root_dir: directory.path().join("kubelet"),
        log_dir: directory.path().join("logs"),
        port: 0,
        cluster_dns: vec!["10.96.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".to_owned(),
        cgroup_root: cgroup.to_owned(),
        serving: serving(&issued),
        client_ca: TlsParts::certificates(&authority.certificate_pem()).unwrap(),
        max_pods: 3,
        version: "v1.37.0".to_owned(),
        labels: std::collections::BTreeMap::new(),
        taints: Vec::new(),
        eviction: eviction.clone(),
    };
    let client = Client::new(Arc::new(api.clone()), "kubelet");
    let (runtime, images) = (Arc::new(runtime.clone()), Arc::new(runtime.clone()));
    nauplius_kubelet::run(config, client, runtime, images, group).await.unwrap()
}
