//! The kubelet's HTTPS server: for the API server and whoever else may ask. It authenticates, authorizes, finds the container that is
//! meant, and answers or splices bytes; it changes nothing on the node.

mod answer;
mod auth;
mod cadvisor;
mod container;
mod listen;
mod log;
mod metrics;
mod node_logs;
pub mod probes;
mod route;
mod stats;
mod stream;

pub use listen::listen;

use crate::context::Context;
use answer::{Answer, text};
use auth::Auth;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use nauplius_kinds::api::core::Pod;
use nauplius_reconcile::Informer;
use route::Route;
use std::sync::Arc;

/// What requests are answered from.
pub struct Server {
    context: Arc<Context>,
    pods: Informer<Pod>,
    auth: Auth,
    port: u16,
}

/// What the connection told of the client.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The certificate that the handshake has verified.
    certificate: Option<Vec<u8>>,
}

/// As upstream where the runtime cannot.
fn checkpoint(target: &route::Target) -> Answer {
    let route::Target { namespace, pod, container, .. } = target;
    let why = "the runtime does not make checkpoints of containers";
    text(StatusCode::NOT_FOUND, &format!("checkpointing of {namespace}/{pod}/{container} failed ({why})"))
}

impl Server {
    /// Over these pods.
    pub fn new(context: Arc<Context>, pods: Informer<Pod>, port: u16) -> Self {
        let auth = Auth::new(context.client.clone(), &context.config.node_name);
        Self { context, pods, auth, port }
    }

    /// Answers one request.
    async fn answer(&self, peer: &Peer, request: Request<Incoming>) -> Answer {
        let user = match self.auth.authenticate(peer, request.headers()).await {
            Ok(Some(user)) => user,
            Ok(None) => return text(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Err(error) => return text(StatusCode::UNAUTHORIZED, &format!("Unauthorized: {error}")),
        };
        let path = request.uri().path().to_owned();
        match self.auth.authorize(&user, request.method(), &path).await {
            Ok(true) => {}
            Ok(false) => {
                let verb = auth::verb(request.method());
                let subresources = auth::subresources(&path).join(" ");
                let message = format!(
                    "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{subresources}])",
                    user.name
                );
                return text(StatusCode::FORBIDDEN, &message);
            }
            Err(error) => {
                tracing::warn!(%error, "a request to the kubelet could not be authorized");
                let message = format!("Authorization error (user={}): {error}", user.name);
                return text(StatusCode::INTERNAL_SERVER_ERROR, &message);
            }
        }
        let query = route::Query::parse(request.uri().query().unwrap_or_default());
        match (request.method(), route::route(&path)) {
            (_, None) => text(StatusCode::NOT_FOUND, "404 page not found"),
            (&(Method::GET | Method::POST), Some(Route::Exec(target))) => {
                self.exec(request, &target, &query).await
            }
            (&(Method::GET | Method::POST), Some(Route::Attach(target))) => {
                self.attach(request, &target, &query).await
            }
            (&(Method::GET | Method::POST), Some(Route::PortForward(target))) => {
                self.port_forward(request, &target, &query).await
            }
            (&Method::POST, Some(Route::Run(target))) => self.run(&target, &query).await,
            (&Method::POST, Some(Route::Checkpoint(target))) => checkpoint(&target),
            (&Method::GET, Some(route)) => self.read(route, &query).await,
            _ => text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"),
        }
    }

    async fn read(&self, route: Route, query: &route::Query) -> Answer {
        match route {
            Route::Health => text(StatusCode::OK, "ok"),
            Route::Pods => self.pod_list(),
            Route::RunningPods => self.running_pods().await,
            Route::Log(target) => self.log(&target, query).await,
            Route::StatsSummary => self.stats_summary().await,
            Route::Metrics => self.metrics().await,
            Route::ResourceMetrics => self.resource_metrics().await,
            Route::CadvisorMetrics => self.cadvisor_metrics().await,
            Route::ProbeMetrics => self.probe_metrics(),
            Route::Configz => self.configz(),
            Route::NodeLogs(path) => self.node_logs(path).await,
            Route::Exec(_)
            | Route::Attach(_)
            | Route::PortForward(_)
            | Route::Run(_)
            | Route::Checkpoint(_) => text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"),
        }
    }

    fn pod_list(&self) -> Answer {
        use nauplius_kinds::Object;
        let mut list = br#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":["#.to_vec();
        for (index, pod) in self.pods.snapshot().iter().enumerate() {
            if index > 0 {
                list.push(b',');
            }
            list.extend(pod.encode());
        }
        list.extend_from_slice(b"]}");
        answer::bytes("application/json", list)
    }

    fn configz(&self) -> Answer {
        let config = &self.context.config;
        answer::json(&serde_json::json!({"kubeletconfig": {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "port": self.port,
            "clusterDomain": config.cluster_domain,
            "clusterDNS": config.cluster_dns,
            "maxPods": config.max_pods,
            "nodeStatusUpdateFrequency": "10s",
            "nodeStatusReportFrequency": "5m0s",
            "nodeLeaseDurationSeconds": 40,
            "containerLogMaxSize": "10Mi",
            "containerLogMaxFiles": 5,
            "serializeImagePulls": true,
            "failSwapOn": false,
            "cgroupDriver": "cgroupfs",
            "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true, "cacheTTL": "2m0s"}},
            "authorization": {"mode": "Webhook"},
        }}))
    }
}
