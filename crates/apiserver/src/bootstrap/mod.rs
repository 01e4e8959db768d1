//! What a fresh cluster holds before it is ready: called once the caches are loaded. It writes through the API like any client,
//! as `system:apiserver`, so that defaulting and validation apply.

mod addresses;
mod ensure;
pub mod keep;
pub mod lease;
pub mod masters;
pub mod rbac;

use crate::authz::loopback::Loopback;
use crate::server::ApiServer;
use ensure::{Place, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use nauplius_client::Client;
use nauplius_kinds::{apiregistration, flowcontrol};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

/// So many objects are written at once: the store syncs those that wait together in one go.
const CONCURRENCY: usize = 64;
const SYSTEM_NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// While a service has an address of a range, the range stays; the `kubernetes` service always has one of the first.
const RANGE_FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// Why the cluster's own objects could not be written.
#[derive(Debug, thiserror::Error)]
#[error("bootstrap object {object}: {reason}")]
pub struct BootstrapError {
    /// Kind and name.
    pub object: String,
    /// What the API answered.
    pub reason: String,
}

/// What the cluster's own objects say of this server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Proves in-process requests to be the server's own.
    pub loopback: Loopback,
    /// Where pods and other nodes reach this server: never loopback.
    pub advertise_address: IpAddr,
    /// And its port.
    pub port: u16,
    /// The CA of client certificates, PEM.
    pub client_ca: String,
    /// The CA of aggregating proxies, PEM.
    pub request_header_ca: String,
    /// The host's name, for the server's identity lease.
    pub host_name: String,
}

/// Makes what is missing, and takes this server's seat among those of the cluster.
///
/// # Errors
/// The first object that could not be made.
pub async fn run(server: &Arc<ApiServer>, settings: &Settings) -> Result<masters::Seat, BootstrapError> {
    let transport = server.transport(settings.loopback.user());
    let client = Client::new(transport, concat!("nauplius/", env!("CARGO_PKG_VERSION"), " (bootstrap)"));
    // Namespaces first: nothing can be put into one that is not there.
    write(server, &client, namespaces()).await?;
    let mut objects = rbac::objects().into_iter().map(role).collect::<Vec<Wanted>>();
    objects.extend(priority_classes().into_iter().map(|class| {
        let place = Place { group: "scheduling.k8s.io", version: "v1", plural: "priorityclasses" };
        Wanted { place, object: class, mend: ensure::keep }
    }));
    objects.extend(api_services(server));
    objects.extend(kept(server, settings));
    let (seat, addresses) = masters::join(server, settings).await?;
    objects.extend(endpoints(settings, &addresses));
    write(server, &client, objects).await?;
    Ok(seat)
}

/// What is there at any time, not at the start alone; as upstream.
fn kept(server: &Arc<ApiServer>, settings: &Settings) -> Vec<Wanted> {
    let mut objects = namespaces();
    objects.extend(flow_control());
    objects.extend(network(server, settings));
    objects.push(Wanted {
        place: Place::core("configmaps"),
        object: authentication_config(settings),
        mend: ensure::replace_data,
    });
    objects
}

/// One object that the cluster is to hold, and what is done with what is there already.
struct Wanted {
    place: Place,
    object: Value,
    mend: fn(&mut Value, &Value) -> bool,
}

async fn write(server: &Arc<ApiServer>, client: &Client, objects: Vec<Wanted>) -> Result<(), BootstrapError> {
    stream::iter(objects)
        .map(|wanted| ensure(client, server.caches(), wanted.place, wanted.object, wanted.mend))
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await
}

fn namespaces() -> Vec<Wanted> {
    let namespace = |name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let wanted =
        |name| Wanted { place: Place::core("namespaces"), object: namespace(name), mend: ensure::keep };
    SYSTEM_NAMESPACES.into_iter().map(wanted).collect()
}

fn role(object: Value) -> Wanted {
    Wanted { place: rbac_place(&object), object, mend: ensure::add_missing }
}

fn rbac_place(object: &Value) -> Place {
    let plural = match object["kind"].as_str() {
        Some("ClusterRole") => "clusterroles",
        Some("ClusterRoleBinding") => "clusterrolebindings",
        Some("Role") => "roles",
        _ => "rolebindings",
    };
    Place { group: "rbac.authorization.k8s.io", version: "v1", plural }
}

/// The mandatory and the suggested objects of priority and fairness.
fn flow_control() -> impl Iterator<Item = Wanted> {
    let wanted = |plural: &'static str| {
        let place = Place { group: "flowcontrol.apiserver.k8s.io", version: "v1", plural };
        move |object| Wanted { place, object, mend: ensure::keep }
    };
    let levels = flowcontrol::fixed::priority_levels().into_iter().map(wanted("prioritylevelconfigurations"));
    levels.chain(flowcontrol::fixed::flow_schemas().into_iter().map(wanted("flowschemas")))
}

/// What stands for the versions that this server serves itself.
fn api_services(server: &ApiServer) -> impl Iterator<Item = Wanted> {
    let place = Place { group: "apiregistration.k8s.io", version: "v1", plural: "apiservices" };
    let services = apiregistration::local::api_services(&server.config.kinds);
    services.into_iter().map(move |object| Wanted { place, object, mend: ensure::keep })
}

fn priority_classes() -> [Value; 2] {
    let class = |name: &str, value: i64, description: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
        })
    };
    [
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ]
}

/// The service range and the `kubernetes` service.
fn network(server: &Arc<ApiServer>, settings: &Settings) -> [Wanted; 2] {
    let networks = &server.config.service_networks;
    let cidrs: Vec<String> =
        networks.iter().map(|network| format!("{}/{}", network.address, network.prefix)).collect();
    let cidr = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes", "finalizers": [RANGE_FINALIZER]},
        "spec": {"cidrs": cidrs},
    });
    let service = kubernetes_service(networks.first().map(|network| network.address), settings.port);
    let wanted = |place, object, mend| Wanted { place, object, mend };
    [
        wanted(
            Place { group: "networking.k8s.io", version: "v1", plural: "servicecidrs" },
            cidr,
            ensure::add_finalizers as fn(&mut Value, &Value) -> bool,
        ),
        wanted(Place::core("services"), service, ensure::keep),
    ]
}

/// Every API server of the cluster stands behind the `kubernetes` service.
fn endpoints(settings: &Settings, addresses: &[IpAddr]) -> [Wanted; 2] {
    [
        Wanted {
            place: Place::core("endpoints"),
            object: kubernetes_endpoints(settings, addresses),
            mend: ensure::replace_subsets,
        },
        Wanted {
            place: Place { group: "discovery.k8s.io", version: "v1", plural: "endpointslices" },
            object: kubernetes_slice(settings, addresses),
            mend: ensure::replace_endpoints,
        },
    ]
}

/// The first address of the service range.
fn first_address(network: IpAddr) -> IpAddr {
    match network {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) + 1).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) + 1).into()),
    }
}

fn kubernetes_service(network: Option<IpAddr>, port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": network.map(|network| first_address(network).to_string()),
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    })
}

fn kubernetes_endpoints(settings: &Settings, addresses: &[IpAddr]) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": addresses,
            "ports": [{"name": "https", "port": settings.port, "protocol": "TCP"}],
        }],
    })
}

fn kubernetes_slice(settings: &Settings, addresses: &[IpAddr]) -> Value {
    let endpoint = |ip: &IpAddr| json!({"addresses": [ip.to_string()], "conditions": {"ready": true}});
    let endpoints: Vec<Value> = addresses.iter().map(endpoint).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": if settings.advertise_address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": endpoints,
        "ports": [{"name": "https", "port": settings.port, "protocol": "TCP"}],
    })
}

/// How extension servers verify who calls them.
fn authentication_config(settings: &Settings) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {
            "client-ca-file": settings.client_ca,
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-client-ca-file": settings.request_header_ca,
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
        },
    })
}
