//! Whether the cluster works: what `up` waits for and `status` shows. Each component is asked, none is assumed.

use super::Site;
use super::network::Networks;
use super::node::Node;
use super::plane::{Components, Plane};
use super::query::query;
use crate::control::{ComponentStatus, Memory, Status};
use crate::failure::{Doing, Failure};
use crate::progress::Reporter;
use crate::{eviction, memory};
use nauplius_apiserver::KUBERNETES_VERSION;
use nauplius_base::{errno, time};
use nauplius_client::{Client, ClientError, ListOptions};
use nauplius_cri::RuntimeService;
use nauplius_cri::v1::{ListPodSandboxRequest, StatusRequest};
use nauplius_kinds::{Object, ServiceAccount};
use nauplius_reconcile::Informer;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long a whole start may take before it is given up.
const START_MAX: Duration = Duration::from_secs(60);
const DNS_NAME: &str = "kubernetes.default.svc.cluster.local.";
const DNS_TIMEOUT: Duration = Duration::from_millis(500);

/// Looks at everything.
pub struct Health {
    site: Arc<Site>,
    plane: Arc<Plane>,
    components: Components,
    node: Node,
    networks: Networks,
}

impl Health {
    /// Of these parts.
    pub fn new(
        site: Arc<Site>,
        plane: Arc<Plane>,
        components: Components,
        node: Node,
        networks: Networks,
    ) -> Self {
        Self { site, plane, components, node, networks }
    }

    /// Waits until a pod can be made, scheduled, run and find names.
    ///
    /// # Errors
    /// What was still missing after [`START_MAX`].
    pub async fn wait_until_it_works(&self, reporter: Reporter) -> Result<(), Failure> {
        let mut waiting_for = "";
        let waits = async {
            waiting_for = "the node to be Ready";
            reporter.stage("Node Ready");
            // What the API holds may be of an earlier life: the kubelet knows what it has told itself.
            if let Some(kubelet) = self.node.kubelet() {
                kubelet.ready().await;
            }
            waiting_for = "the scheduler and the controllers to have read the API";
            self.components.scheduler.ready().await;
            self.components.controllers.ready().await;
            waiting_for = "the default service account";
            reporter.stage("Default service account");
            self.wait_for::<ServiceAccount>("default", "default", |_| true).await?;
            waiting_for = "the service rules to be applied";
            reporter.stage("Cluster DNS");
            self.networks.ready().await;
            waiting_for = "cluster DNS to answer";
            self.wait_for_dns().await;
            Ok(())
        };
        match time::timeout(START_MAX, waits).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(format!(
                "waited {} s for {waiting_for}; the log is {}",
                START_MAX.as_secs(),
                self.site.cluster.log_file().display()
            ))),
        }
    }

    /// Watches one object until it satisfies `condition`.
    async fn wait_for<T: Object>(
        &self,
        namespace: &str,
        name: &str,
        condition: fn(&T) -> bool,
    ) -> Result<(), Failure> {
        let client: Client = self.plane.identities.admin();
        let selector =
            ListOptions { field_selector: format!("metadata.name={name}"), ..ListOptions::default() };
        let informer = Informer::<T>::new(client.namespaced(namespace), selector);
        let token = nauplius_base::task::CancellationToken::new();
        let following = nauplius_base::task::spawn("wait", informer.clone().run(token.clone()));
        let satisfied = |object: Option<&Arc<T>>| object.is_some_and(|object| condition(object));
        informer.wait(|snapshot| satisfied(snapshot.find(namespace, name))).await;
        token.cancel();
        following.await.doing("wait for an object").map(drop)
    }

    /// DNS is asked where pods ask it: at the service's address, through the dataplane.
    async fn wait_for_dns(&self) {
        let mut delay = Duration::from_millis(5);
        while self.dns_answers().await.is_err() {
            time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_millis(200));
        }
    }

    async fn dns_answers(&self) -> Result<IpAddr, String> {
        let server = SocketAddr::new(IpAddr::V4(self.site.cluster.dns_service_ip()), 53);
        query(server, DNS_NAME, DNS_TIMEOUT).await.map_err(|error| error.to_string())
    }

    /// Everything that `status` shows.
    pub async fn status(&self) -> Status {
        let cluster = &self.site.cluster;
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kubernetes_version: KUBERNETES_VERSION.to_owned(),
            pid: std::process::id(),
            server: format!("https://{}:{}", self.site.node_ip, cluster.port),
            components: self.component_statuses().await,
            shortages: self.shortages().await,
            memory_kib: self.memory(),
            pods: self.pods().await,
        }
    }

    async fn component_statuses(&self) -> Vec<ComponentStatus> {
        let flag = |name: &str, healthy: bool| ComponentStatus {
            name: name.to_owned(),
            healthy,
            message: if healthy { String::new() } else { "its caches are not filled yet".to_owned() },
        };
        let result = |name: &str, outcome: Result<String, String>| ComponentStatus {
            name: name.to_owned(),
            healthy: outcome.is_ok(),
            message: errno::plain(&outcome.unwrap_or_else(|reason| reason)),
        };
        vec![
            result("store", self.store().await),
            result("API server", self.api_server().await),
            flag("scheduler", self.components.scheduler.is_ready()),
            flag("controllers", self.components.controllers.is_ready()),
            result("kubelet", self.kubelet().await),
            result("container runtime", self.runtime().await),
            result("service proxy", self.networks.check_proxy()),
            result("cluster DNS", self.dns().await),
        ]
    }

    async fn store(&self) -> Result<String, String> {
        let revision = self.plane.server.caches().store().revision().await;
        revision.map(|revision| format!("revision {revision}")).map_err(|error| error.to_string())
    }

    async fn api_server(&self) -> Result<String, String> {
        let client = self.plane.identities.admin();
        let answer = client.request(http::Method::GET, "/readyz", None, None).await;
        answer.map(|_| String::new()).map_err(|error| error.to_string())
    }

    /// Why no pod comes to the node, although everything works: a line for each thing that it is short of.
    pub async fn shortages(&self) -> Vec<String> {
        let Some(kubelet) = self.node.kubelet() else { return Vec::new() };
        let data_dir = &self.site.cluster.data_dir;
        kubelet.shortages().await.iter().map(|shortage| eviction::tell(shortage, data_dir)).collect()
    }

    /// The node's name.
    pub fn node_name(&self) -> &str {
        &self.site.cluster.node_name
    }

    /// Whether the node's object is there. A kubelet makes it when it starts.
    ///
    /// # Errors
    /// When the API cannot be asked.
    pub async fn is_registered(&self) -> Result<bool, ClientError> {
        let client = self.plane.identities.admin();
        let path = format!("/api/v1/nodes/{}", self.node_name());
        match client.request(http::Method::GET, &path, None, None).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn kubelet(&self) -> Result<String, String> {
        let Some(kubelet) = self.node.kubelet() else { return Err("it does not run".to_owned()) };
        let health = kubelet.health();
        if !health.ready {
            return Err(health.message);
        }
        match self.is_registered().await {
            Ok(true) => Ok(health.message),
            Ok(false) => Err(format!("node {} is gone: `nauplius up` registers it again", self.node_name())),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn runtime(&self) -> Result<String, String> {
        let status = self.node.runtime().status(StatusRequest { verbose: false }).await;
        let status = status.map_err(|error| error.to_string())?.status.unwrap_or_default();
        match status.conditions.iter().find(|condition| !condition.status) {
            Some(bad) => Err(format!("{}: {}", bad.r#type, bad.message)),
            None => Ok(String::new()),
        }
    }

    async fn dns(&self) -> Result<String, String> {
        self.dns_answers().await.map(|_| format!("answers at {}", self.site.cluster.dns_service_ip()))
    }

    async fn pods(&self) -> usize {
        let listed = self.node.runtime().list_pod_sandbox(ListPodSandboxRequest { filter: None }).await;
        listed.map_or(0, |response| response.items.len())
    }

    fn memory(&self) -> Memory {
        let processes = memory::processes(&super::node::runtime_dir(&self.site.cluster));
        memory::measure(std::process::id(), &processes.shims, &processes.containers)
    }
}
