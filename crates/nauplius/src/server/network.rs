//! The node's network: pods' addresses for the runtime, services and DNS from the API. This file only connects the pieces.

use super::Site;
use super::node::Node;
use super::plane::Plane;
use crate::cluster::Cluster;
use crate::failure::{Doing, Failure};
use crate::machine;
use ipnet::IpNet;
use nauplius_base::backoff::Backoff;
use nauplius_base::task::{CancellationToken, Group};
use nauplius_base::time;
use nauplius_link::Rtnl;
use nauplius_net::bridge::{self, PodNetwork, PodNetworkSpec, interface_prefix};
use nauplius_net::dns::{Forwarder, Resolver, Server, ZoneSpec, upstreams};
use nauplius_net::host_ports::{HostPort, HostPorts};
use nauplius_net::proxy::{Dataplane, Network, NftDataplane, Protocol};
use nauplius_net::{ClusterDns, Proxy, ProxyConfig};
use nauplius_runtime::{Addresses, NetworkError, PortMapping, SandboxInfo, SandboxNetwork};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The interface of a pod.
const POD_INTERFACE: &str = "eth0";
/// Settings of the machine as they were before the first cluster.
const SETTINGS: &str = "/var/lib/nauplius/settings";
const DOMAIN: &str = "cluster.local";
const DNS_PORT: u16 = 53;
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The address that the node is known by: never loopback, for pods must reach it.
///
/// # Errors
/// When the machine has none.
pub fn node_address(cluster: &Cluster) -> Result<Ipv4Addr, Failure> {
    if let Some(given) = cluster.node_ip {
        return if machine::addresses()?.contains(&given) {
            Ok(given)
        } else {
            Err(Failure::new(format!(
                "this machine no longer has the node's address {given}: add it again, or begin anew after `nauplius delete --name {}`",
                cluster.name
            )))
        };
    }
    let found = Rtnl::open()
        .and_then(|mut rtnl| rtnl.primary_address(false))
        .doing("read this machine's addresses")?;
    match found {
        Some(IpAddr::V4(address)) => Ok(address),
        _ => Err(Failure::new(
            "this machine has no IPv4 address but loopback, which pods cannot reach: add one, or name one with --node-ip",
        )),
    }
}

fn spec_of(cluster: &Cluster, pod_range: IpNet) -> PodNetworkSpec {
    PodNetworkSpec {
        prefix: interface_prefix(&cluster.name),
        pod_range,
        service_ranges: vec![IpNet::V4(cluster.service_cidr)],
        mtu: None,
        state_dir: cluster.data_dir.join("network"),
        settings_dir: PathBuf::from(SETTINGS),
    }
}

fn table_of(cluster: &Cluster) -> String {
    format!("nauplius-{}", cluster.name)
}

/// Connects sandboxes once the node has its range of pod addresses.
pub struct SandboxBridge {
    cluster: Cluster,
    /// The range that the cluster gave the node.
    range: Mutex<Option<String>>,
    network: OnceLock<PodNetwork>,
    gateway: watch::Sender<Option<IpAddr>>,
    ports: Mutex<()>,
}

impl SandboxBridge {
    /// Nothing is touched yet.
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            cluster: cluster.clone(),
            range: Mutex::new(None),
            network: OnceLock::new(),
            gateway: watch::Sender::new(None),
            ports: Mutex::new(()),
        }
    }

    /// Tells the bridge's address once there is one.
    pub fn gateway(&self) -> watch::Receiver<Option<IpAddr>> {
        self.gateway.subscribe()
    }

    fn open(&self, range: &str) -> Result<(), Failure> {
        let range: IpNet = range.parse().doing(&format!("use the pod range {range:?}"))?;
        if self.network.get().is_some() {
            return Ok(());
        }
        let network = PodNetwork::open(&spec_of(&self.cluster, range)).doing("set up the pod network")?;
        let gateway = network.gateway();
        if self.network.set(network).is_ok() {
            tracing::info!(%range, %gateway, "the pod network is up");
            self.gateway.send_replace(Some(gateway));
        }
        Ok(())
    }
}

impl SandboxBridge {
    fn mend(&self, network: &PodNetwork) -> nauplius_link::Result<()> {
        if network.mend()? {
            tracing::warn!(
                bridge = network.bridge(),
                "somebody removed the bridge of the pods: it is there again"
            );
            host_ports(&self.cluster, network.bridge())?.mend()?;
        }
        Ok(())
    }

    fn open_known(&self) -> Result<(), String> {
        // Held: of two who open it at once one would find its addresses in use.
        let known = self.range.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(range) = known.as_deref() else {
            return Err("the node has no range of pod addresses yet".to_owned());
        };
        self.open(range)
            .map_err(|failure| format!("cannot use the node's range of pod addresses {range}: {failure}"))
    }
}

fn host_ports(cluster: &Cluster, bridge: &str) -> nauplius_link::Result<HostPorts> {
    HostPorts::open(&format!("{}-host-ports", table_of(cluster)), bridge)
}

impl SandboxBridge {
    /// Leads the ports of the node that the pod asks for to it.
    fn lead_ports(
        &self,
        network: &PodNetwork,
        pod: IpAddr,
        sandbox: &SandboxInfo,
    ) -> Result<(), NetworkError> {
        if sandbox.port_mappings.is_empty() {
            return Ok(());
        }
        let ports: Vec<HostPort> = sandbox.port_mappings.iter().map(host_port).collect();
        // Who looks what is taken must be done before the next one looks.
        let _turn = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known =
            host_ports(&self.cluster, network.bridge()).map_err(|error| failed(sandbox, error))?;
        known.add(pod, &ports).map_err(|error| failed(sandbox, error))
    }
}

fn host_port(mapping: &PortMapping) -> HostPort {
    HostPort {
        protocol: match mapping.protocol {
            nauplius_runtime::Protocol::Tcp => Protocol::Tcp,
            nauplius_runtime::Protocol::Udp => Protocol::Udp,
            nauplius_runtime::Protocol::Sctp => Protocol::Sctp,
        },
        host_ip: mapping.host_ip,
        host_port: mapping.host_port,
        container_port: mapping.container_port,
    }
}

fn failed(sandbox: &SandboxInfo, reason: impl std::fmt::Display) -> NetworkError {
    NetworkError { sandbox: sandbox.id.clone(), reason: reason.to_string() }
}

impl SandboxNetwork for SandboxBridge {
    fn attach(&self, sandbox: &SandboxInfo) -> Result<Addresses, NetworkError> {
        if self.network.get().is_none() {
            self.open_known().map_err(|reason| failed(sandbox, reason))?;
        }
        let network = self.network.get().ok_or_else(|| failed(sandbox, "the pod network is gone"))?;
        let attached = network.attach(&sandbox.netns, &sandbox.id, POD_INTERFACE);
        let address = attached.map_err(|error| failed(sandbox, error))?.address;
        if let Err(error) = self.lead_ports(network, address, sandbox) {
            // The first error is the one that tells; what cannot be undone now goes with the next detach.
            let _ = network.detach(&sandbox.id);
            return Err(error);
        }
        Ok(Addresses(vec![address]))
    }

    fn detach(&self, sandbox: &SandboxInfo) -> Result<(), NetworkError> {
        match self.network.get() {
            Some(network) => {
                if let Some(address) =
                    network.address_of(&sandbox.id).filter(|_| !sandbox.port_mappings.is_empty())
                {
                    let _turn = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
                    let given_back = host_ports(&self.cluster, network.bridge())
                        .and_then(|mut ports| ports.remove(address));
                    given_back.map_err(|error| failed(sandbox, error))?;
                }
                network.detach(&sandbox.id).map(drop).map_err(|error| failed(sandbox, error))
            }
            // Opened only to clean up: the whole network is deleted after this.
            None => Ok(()),
        }
    }

    /// Looking mends: a range that could not be used is tried again, and a bridge that somebody has removed is made anew.
    fn ready(&self) -> Result<(), String> {
        let not_ready = |reason: String| format!("network plugin is not initialized: {reason}");
        match self.network.get() {
            Some(network) => self.mend(network).map_err(|failure| {
                not_ready(format!("cannot make the bridge {} anew: {failure}", network.bridge()))
            }),
            None => self.open_known().map_err(not_ready),
        }
    }

    fn pod_cidr(&self, cidr: &str) {
        let mut known = self.range.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(cidr.to_owned());
        if let Err(failure) = self.open(cidr) {
            tracing::error!(%failure, cidr, "cannot use the node's range of pod addresses");
        }
    }
}

/// What runs of the network.
pub struct Networks {
    applied: watch::Receiver<u64>,
}

impl Networks {
    /// Waits until the service rules were applied once.
    pub async fn ready(&self) {
        // The proxy's end ends the server, too.
        if self.applied.clone().wait_for(|times| *times > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the service rules were applied.
    ///
    /// # Errors
    /// That they were not yet.
    pub fn check_proxy(&self) -> Result<String, String> {
        match *self.applied.borrow() {
            0 => Err("the first rules are not applied yet".to_owned()),
            times => Ok(format!("rules applied {times} times")),
        }
    }
}

/// Starts the service proxy and cluster DNS.
///
/// # Errors
/// When nftables cannot be used.
pub fn start(site: &Arc<Site>, plane: &Plane, node: &Node, group: &Group) -> Result<Networks, Failure> {
    let dataplane = NftDataplane::open(&table_of(&site.cluster), false).doing("use nftables")?;
    let network = Network {
        node: site.cluster.node_name.clone(),
        zone: String::new(),
        pod_ranges: vec![IpNet::V4(site.cluster.pod_cidr)],
        masquerade_egress: true,
    };
    let proxy = Proxy::new(&plane.identities.proxy(), ProxyConfig { network, ipv6: false });
    let applied = proxy.applied();
    group.spawn("service proxy", proxy.run(Box::new(dataplane), group.token()));
    let service = IpAddr::V4(site.cluster.dns_service_ip());
    let spec = ZoneSpec { domain: DOMAIN.to_owned(), server_addresses: vec![service], ..ZoneSpec::default() };
    let dns = ClusterDns::new(&plane.identities.dns(), spec);
    group.spawn("cluster DNS", serve_dns(dns, service, node.gateway(), group.token()));
    Ok(Networks { applied })
}

/// Cluster DNS listens on the bridge's address, once there is one.
async fn serve_dns(
    dns: ClusterDns,
    service: IpAddr,
    mut gateway: watch::Receiver<Option<IpAddr>>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let known = shutdown.run_until_cancelled(gateway.wait_for(Option::is_some)).await;
    let Some(address) = known.and_then(|known| known.ok().and_then(|address| *address)) else {
        shutdown.cancelled().await;
        return Ok(());
    };
    let Some(server) = shutdown.run_until_cancelled(bind_dns(address)).await else { return Ok(()) };
    let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_else(|error| {
        tracing::warn!(%error, path = RESOLV_CONF, "names outside the cluster are not forwarded");
        String::new()
    });
    let resolver = Resolver::new(dns.zone(), Forwarder::new(upstreams(&text, &[address, service])));
    dns.run(server, Arc::new(resolver), shutdown).await
}

/// A predecessor may take a moment to let go of the address.
async fn bind_dns(address: IpAddr) -> Server {
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_secs(5));
    loop {
        match Server::bind(&[SocketAddr::new(address, DNS_PORT)]).await {
            Ok(server) => return server,
            Err(error) => {
                tracing::debug!(%error, %address, "DNS cannot listen yet");
                time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// Removes links, rules and addresses, and puts the machine's settings back when no cluster is left.
///
/// # Errors
/// The kernel refuses.
pub fn remove(cluster: &Cluster) -> Result<(), Failure> {
    let removed = NftDataplane::open(&table_of(cluster), false).doing("use nftables")?.remove();
    removed.doing("remove nftables rules")?;
    let ports = host_ports(cluster, &bridge::bridge_name(&interface_prefix(&cluster.name)));
    ports.and_then(|mut ports| ports.delete()).doing("remove host ports")?;
    bridge::delete(&spec_of(cluster, IpNet::V4(cluster.pod_cidr))).doing("remove the pod network")?;
    // Other clusters may still have their settings there.
    let _ = std::fs::remove_dir(Path::new(SETTINGS));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_range_that_cannot_be_used_is_told() {
        let facts = json!({"name": "one", "dataDir": "/nowhere", "port": 1, "kubeletPort": 2, "nodeName": "n",
            "serviceCidr": "10.96.0.0/12", "podCidr": "10.244.0.0/16"});
        let bridge = SandboxBridge::new(&serde_json::from_value(facts).unwrap());
        let none = "network plugin is not initialized: the node has no range of pod addresses yet";
        assert_eq!(bridge.ready().unwrap_err(), none);
        bridge.pod_cidr("10.244.0.0/40");
        let told = bridge.ready().unwrap_err();
        let expected = "network plugin is not initialized: cannot use the node's range of pod addresses 10.244.0.0/40: cannot use the pod range";
        assert!(told.starts_with(expected), "{told}");
    }
}
