//! The node: images, the embedded runtime and the kubelet that drives it. This file only connects the pieces.

use super::Site;
use super::network::SandboxBridge;
use super::plane::Plane;
use crate::cluster::Cluster;
use crate::demo_image;
use crate::failure::{Doing, Failure};
use nauplius_base::task::{CancellationToken, Group};
use nauplius_cri::v1::{
    ContainerFilter, ContainerState, ListContainersRequest, ListPodSandboxRequest, StopContainerRequest,
    StopPodSandboxRequest,
};
use nauplius_cri::{CriError, ImageService, RuntimeService};
use nauplius_images::{ImageStore, Registries};
use nauplius_kubelet::Kubelet;
use nauplius_pki::TlsParts;
use nauplius_runtime::{Runtime, RuntimeOptions, SandboxNetwork};
use rustls::server::ResolvesServerCert;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// How long a container may take to end when the cluster goes down: the default grace period of a pod.
const STOP_GRACE_S: i64 = 30;
/// Upstream's default.
const PODS_MAX: u32 = 110;
const KUBERNETES_VERSION: &str = "v1.37.0";

/// The runtime's state.
pub fn runtime_dir(cluster: &Cluster) -> PathBuf {
    cluster.data_dir.join("runtime")
}

fn cgroup_root(cluster: &Cluster) -> String {
    format!("/nauplius/{}", cluster.name)
}

/// The running node.
#[derive(Clone)]
pub struct Node {
    runtime: Runtime,
    images: ImageStore,
    registries: Registries,
    bridge: Arc<SandboxBridge>,
    kubelet: Option<Kubelet>,
    /// Ends the runtime after everybody who uses it.
    token: CancellationToken,
}

/// Opens images and runtime, adopting what runs.
///
/// # Errors
/// When the state cannot be read or the machine refuses.
pub async fn open_alone(cluster: &Cluster) -> Result<Node, Failure> {
    let images = ImageStore::open(&cluster.data_dir.join("images")).await.doing("open the image store")?;
    let bridge = Arc::new(SandboxBridge::new(cluster));
    let options = RuntimeOptions {
        state_dir: runtime_dir(cluster),
        cgroup_root: cgroup_root(cluster),
        program: std::env::current_exe().doing("find our own binary")?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        rlimits: Vec::new(),
    };
    let (token, registries) = (CancellationToken::new(), Registries::default());
    let network = Arc::clone(&bridge) as Arc<dyn SandboxNetwork>;
    let runtime = Runtime::open(options, images.clone(), registries.clone(), network, token.clone());
    let runtime = runtime.await.doing("open the container runtime")?;
    Ok(Node { runtime, images, registries, bridge, kubelet: None, token })
}

/// Starts the node's parts.
///
/// # Errors
/// When the runtime or the kubelet's port cannot be opened.
pub async fn start(site: &Arc<Site>, plane: &Plane, group: &Group) -> Result<Node, Failure> {
    let mut node = open_alone(&site.cluster).await?;
    site.reporter.stage("Demo image");
    demo_image::ensure(&node.images).await?;
    site.reporter.stage("Kubelet");
    let (runtime, images) = (Arc::new(node.runtime.clone()), Arc::new(node.runtime.clone()));
    let client = plane.identities.kubelet(&site.cluster.node_name);
    let kubelet = nauplius_kubelet::run(
        kubelet_config(site)?,
        client,
        runtime as Arc<dyn RuntimeService>,
        images as Arc<dyn ImageService>,
        group,
    );
    node.kubelet = Some(kubelet.await.doing("start the kubelet")?);
    Ok(node)
}

/// A machine that is not the cluster's alone is no good measure in percent: other things fill its disk, and images that somebody
/// has loaded stay until there is no room at all. See decision 0008.
fn thresholds() -> nauplius_kubelet::EvictionSettings {
    const HARD: &str = "memory.available<100Mi,nodefs.available<1Gi,nodefs.inodesFree<1%";
    // Invariant: the constant is well formed, as every start shows.
    let settings = nauplius_kubelet::EvictionSettings::parse(HARD, "", "", "").unwrap_or_default();
    nauplius_kubelet::EvictionSettings { images: (100, 80), ..settings }
}

fn kubelet_config(site: &Site) -> Result<nauplius_kubelet::Config, Failure> {
    let (cluster, credentials) = (&site.cluster, &site.credentials);
    Ok(nauplius_kubelet::Config {
        node_name: cluster.node_name.clone(),
        node_ip: IpAddr::V4(site.node_ip),
        root_dir: cluster.data_dir.join("kubelet"),
        log_dir: cluster.data_dir.join("logs"),
        port: cluster.kubelet_port,
        cluster_dns: vec![IpAddr::V4(cluster.dns_service_ip())],
        cluster_domain: "cluster.local".to_owned(),
        cgroup_root: format!("{}/kubepods", cgroup_root(cluster)),
        serving: Arc::clone(&credentials.kubelet) as Arc<dyn ResolvesServerCert>,
        client_ca: TlsParts::certificates(&credentials.authority.certificate_pem()).doing("read the CA")?,
        max_pods: PODS_MAX,
        version: KUBERNETES_VERSION.to_owned(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        eviction: thresholds(),
    })
}

impl Node {
    /// The runtime, for status.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The images, for the control socket.
    pub fn images(&self) -> &ImageStore {
        &self.images
    }

    /// How registries are reached.
    pub fn registries(&self) -> &Registries {
        &self.registries
    }

    /// The kubelet, when it runs.
    pub fn kubelet(&self) -> Option<&Kubelet> {
        self.kubelet.as_ref()
    }

    /// The pods, `namespace/name`, that have a container of this image, also one that has ended: it may be started again.
    ///
    /// # Errors
    /// The runtime cannot be asked.
    pub async fn pods_with(&self, image_id: &str) -> Result<Vec<String>, CriError> {
        let listed = self.runtime.list_containers(ListContainersRequest { filter: None }).await?;
        let of_image = listed.containers.into_iter().filter(|container| container.image_id == image_id);
        let pods = of_image.map(|container| {
            let label = |name: &str| container.labels.get(name).cloned().unwrap_or_default();
            format!("{}/{}", label("io.kubernetes.pod.namespace"), label("io.kubernetes.pod.name"))
        });
        let mut pods: Vec<String> = pods.collect();
        pods.sort_unstable();
        pods.dedup();
        Ok(pods)
    }

    /// Tells the bridge's address once there is one.
    pub fn gateway(&self) -> watch::Receiver<Option<IpAddr>> {
        self.bridge.gateway()
    }

    /// Stops every pod at once: its containers, with up to [`STOP_GRACE_S`] to end by themselves, then its sandbox.
    pub async fn stop_containers(&self) {
        let listed = self.runtime.list_pod_sandbox(ListPodSandboxRequest { filter: None }).await;
        let sandboxes = match listed {
            Ok(response) => response.items,
            Err(error) => return tracing::error!(%error, "cannot list sandboxes to stop them"),
        };
        each(&self.runtime, sandboxes.into_iter().map(|sandbox| sandbox.id), |runtime, id| async move {
            stop_containers_of(&runtime, &id).await?;
            runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id }).await.map(drop)
        })
        .await;
    }

    /// Ends the runtime's server side; containers that run run on.
    pub fn close(&self) {
        self.token.cancel();
    }

    /// Removes every container and all the runtime's state.
    ///
    /// # Errors
    /// What could not be removed.
    pub async fn destroy(&self) -> Result<(), Failure> {
        self.runtime.destroy_all().await.doing("remove all containers")
    }
}

async fn stop_containers_of(runtime: &Runtime, sandbox: &str) -> Result<(), CriError> {
    let filter = ContainerFilter { pod_sandbox_id: sandbox.to_owned(), ..ContainerFilter::default() };
    let listed = runtime.list_containers(ListContainersRequest { filter: Some(filter) }).await?;
    let running = listed
        .containers
        .into_iter()
        .filter(|container| container.state == ContainerState::ContainerRunning as i32);
    each(runtime, running.map(|container| container.id), |runtime, id| async move {
        let request = StopContainerRequest { container_id: id, timeout: STOP_GRACE_S };
        runtime.stop_container(request).await.map(drop)
    })
    .await;
    Ok(())
}

/// Does `stop` for all ids at once and logs what fails.
async fn each<F>(runtime: &Runtime, ids: impl Iterator<Item = String>, stop: fn(Runtime, String) -> F)
where
    F: Future<Output = Result<(), CriError>> + Send + 'static,
{
    let mut stops = tokio::task::JoinSet::new();
    for id in ids {
        let stopping = stop(runtime.clone(), id.clone());
        stops.spawn(async move {
            if let Err(error) = stopping.await {
                tracing::error!(%error, id, "cannot stop it");
            }
        });
    }
    stops.join_all().await;
}
