//! The node: images, the embedded runtime and the kubelet that drives it. This file only connects the pieces.

use super::Site;
use super::network::SandboxBridge;
use super::plane::Plane;
use crate::cluster::{CGROUP, Cluster};
use crate::demo_image;
use crate::failure::{Doing, Failure};
use crate::machine;
use nauplius_apiserver::KUBERNETES_VERSION;
use nauplius_base::task::{CancellationToken, Group};
use nauplius_cri::v1::{
    ContainerFilter, ContainerState, ListContainersRequest, ListPodSandboxRequest, PodSandbox,
    StopContainerRequest, StopPodSandboxRequest,
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

/// How long a container may take to end when its pod does not say.
const STOP_GRACE_S: u32 = 30;
/// Upstream's default.
const PODS_MAX: u32 = 110;

/// The runtime's state.
pub fn runtime_dir(cluster: &Cluster) -> PathBuf {
    cluster.data_dir.join("runtime")
}

/// Everything of the cluster is in this cgroup.
pub fn cgroup_root(cluster: &Cluster) -> String {
    format!("/{CGROUP}/{}", cluster.name)
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
    let port = site.cluster.kubelet_port;
    machine::try_listen(port).map_err(|error| machine::kubelet_cannot_listen(port, &error))?;
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
        eviction: cluster.eviction.clone().unwrap_or_default().settings().doing("read the eviction flags")?,
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

    /// Stops every pod at once, each with its hooks and within its own grace period, as the API knows it where there is a kubelet, else as it
    /// is noted at its containers; and then what is left.
    pub async fn stop_containers(&self) {
        match &self.kubelet {
            Some(kubelet) => kubelet.stop_pods().await,
            None => nauplius_kubelet::stop_pods_alone(Arc::new(self.runtime.clone())).await,
        }
        let sandboxes = self.sandboxes().await.into_iter().map(|sandbox| (grace_s(&sandbox), sandbox.id));
        each(&self.runtime, sandboxes, |runtime, grace_s, id| async move {
            stop_containers_of(&runtime, &id, grace_s).await?;
            runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id }).await.map(drop)
        })
        .await;
    }

    /// How long the slowest pod may take to end.
    pub async fn longest_grace_s(&self) -> u64 {
        let graces = self.sandboxes().await.iter().map(grace_s).max();
        graces.map_or(0, u64::from)
    }

    async fn sandboxes(&self) -> Vec<PodSandbox> {
        match self.runtime.list_pod_sandbox(ListPodSandboxRequest { filter: None }).await {
            Ok(response) => response.items,
            Err(error) => {
                tracing::error!(%error, "cannot list sandboxes to stop them");
                Vec::new()
            }
        }
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

/// The pod's own, as the kubelet has noted it.
fn grace_s(sandbox: &PodSandbox) -> u32 {
    let noted = sandbox.annotations.get(nauplius_kubelet::GRACE_PERIOD);
    noted.and_then(|text| text.parse().ok()).unwrap_or(STOP_GRACE_S) // A kubelet notes numbers.
}

async fn stop_containers_of(runtime: &Runtime, sandbox: &str, grace_s: u32) -> Result<(), CriError> {
    let filter = ContainerFilter { pod_sandbox_id: sandbox.to_owned(), ..ContainerFilter::default() };
    let listed = runtime.list_containers(ListContainersRequest { filter: Some(filter) }).await?;
    let running = listed
        .containers
        .into_iter()
        .filter(|container| container.state == ContainerState::ContainerRunning as i32);
    let running = running.map(|container| (grace_s, container.id));
    each(runtime, running, |runtime, grace_s, id| async move {
        let request = StopContainerRequest { container_id: id, timeout: i64::from(grace_s) };
        runtime.stop_container(request).await.map(drop)
    })
    .await;
    Ok(())
}

/// Does `stop` for all ids at once and logs what fails.
async fn each<F>(
    runtime: &Runtime,
    ids: impl Iterator<Item = (u32, String)>,
    stop: fn(Runtime, u32, String) -> F,
) where
    F: Future<Output = Result<(), CriError>> + Send + 'static,
{
    let mut stops = tokio::task::JoinSet::new();
    for (grace_s, id) in ids {
        let stopping = stop(runtime.clone(), grace_s, id.clone());
        stops.spawn(async move {
            if let Err(error) = stopping.await {
                tracing::error!(%error, id, "cannot stop it");
            }
        });
    }
    stops.join_all().await;
}
