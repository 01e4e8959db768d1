//! What a person would apply to a bare cluster first: the service and the account of cluster DNS. The server answers DNS itself, so
//! the service has no pods; its endpoint is the bridge's address.

use super::Site;
use super::node::Node;
use super::plane::Plane;
use http::Method;
use nauplius_base::backoff::Backoff;
use nauplius_base::task::{CancellationToken, Group};
use nauplius_base::time;
use nauplius_client::{Client, ClientError};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const SERVICES: &str = "/api/v1/namespaces/kube-system/services";
const ACCOUNTS: &str = "/api/v1/namespaces/kube-system/serviceaccounts";
const ENDPOINTS: &str = "/api/v1/namespaces/kube-system/endpoints";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices";
const DNS_PORT: u16 = 53;
const SLICE: &str = "kube-dns-node";

/// The add-ons of a running cluster.
pub struct AddOns {
    site: Arc<Site>,
    client: Client,
    gateway: watch::Receiver<Option<IpAddr>>,
}

impl AddOns {
    /// Makes again what somebody has deleted, and says what that was.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn mend(&self) -> Result<Vec<String>, ClientError> {
        let address = *self.gateway.borrow();
        match address {
            Some(address) => apply(&self.site, &self.client, address).await,
            None => Ok(Vec::new()),
        }
    }
}

/// Applies the add-ons once the node has a bridge, and again when its address changes.
pub fn start(site: &Arc<Site>, plane: &Plane, node: &Node, group: &Group) -> AddOns {
    let client = plane.identities.admin();
    group.spawn("add-ons", run(Arc::clone(site), client.clone(), node.gateway(), group.token()));
    AddOns { site: Arc::clone(site), client, gateway: node.gateway() }
}

async fn run(
    site: Arc<Site>,
    client: Client,
    mut gateway: watch::Receiver<Option<IpAddr>>,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let apply = async {
        loop {
            let address = *gateway.borrow_and_update();
            if let Some(address) = address {
                persist(&site, &client, address).await;
            }
            if gateway.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    shutdown.run_until_cancelled(apply).await;
    Ok(())
}

async fn persist(site: &Site, client: &Client, address: IpAddr) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    while let Err(error) = apply(site, client, address).await {
        tracing::warn!(%error, "cannot apply the DNS add-on, trying again");
        time::sleep(backoff.next_delay()).await;
    }
}

/// What had to be made.
async fn apply(site: &Site, client: &Client, address: IpAddr) -> Result<Vec<String>, ClientError> {
    let mut made = Vec::new();
    // What leads to the bridge has the address that the bridge has now.
    let all = [
        (ACCOUNTS, account(), None),
        (SERVICES, service(site), None),
        (ENDPOINTS, endpoints(address), Some("subsets")),
        (SLICES, slice(site, address), Some("endpoints")),
    ];
    for (collection, object, renewed) in all {
        let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
        let (kind, name) = (kind.as_str().unwrap_or_default(), name.as_str().unwrap_or_default());
        if ensure(client, collection, &object).await? {
            made.push(format!("{kind} {name}"));
        } else if let Some(field) = renewed {
            let patch = Some(json!({field: object[field]}).to_string().into_bytes());
            let path = format!("{collection}/{name}");
            client.request(Method::PATCH, &path, Some("application/merge-patch+json"), patch).await?;
        }
    }
    Ok(made)
}

/// Whether it had to be created. Asks first: an address that a service has already is refused before its name is.
async fn ensure(client: &Client, collection: &str, object: &Value) -> Result<bool, ClientError> {
    let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
    match client.request(Method::GET, &path, None, None).await {
        Ok(_) => return Ok(false),
        Err(error) if !error.is_not_found() => return Err(error),
        Err(_) => {}
    }
    let body = Some(object.to_string().into_bytes());
    client.request(Method::POST, collection, Some("application/json"), body).await.map(|_| true)
}

fn account() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "coredns", "namespace": "kube-system"},
    })
}

fn service(site: &Site) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
        },
        "spec": {
            "clusterIP": site.cluster.dns_service_ip().to_string(),
            "ports": [
                {"name": "dns", "port": DNS_PORT, "protocol": "UDP", "targetPort": DNS_PORT},
                {"name": "dns-tcp", "port": DNS_PORT, "protocol": "TCP", "targetPort": DNS_PORT},
            ],
        },
    })
}

/// For clients of the older form; the slice is ours, so nothing is mirrored.
fn endpoints(address: IpAddr) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns", "endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": [{"ip": address.to_string()}],
            "ports": [
                {"name": "dns", "port": DNS_PORT, "protocol": "UDP"},
                {"name": "dns-tcp", "port": DNS_PORT, "protocol": "TCP"},
            ],
        }],
    })
}

fn slice(site: &Site, address: IpAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": SLICE,
            "namespace": "kube-system",
            "labels": {
                "kubernetes.io/service-name": "kube-dns",
                "endpointslice.kubernetes.io/managed-by": "nauplius",
            },
        },
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{
            "addresses": [address.to_string()],
            "conditions": {"ready": true},
            "nodeName": site.cluster.node_name,
        }],
        "ports": [
            {"name": "dns", "port": DNS_PORT, "protocol": "UDP"},
            {"name": "dns-tcp", "port": DNS_PORT, "protocol": "TCP"},
        ],
    })
}
