//! Services get cluster addresses and node ports. Each allocation is a key of its own in the transaction that writes the service
//! (an IPAddress object, a port record), so two services cannot get the same and a crash leaks nothing.

use super::service_ips::Network;
use super::{Hooks, ports};
use crate::encode::encode_stored;
use crate::error::{ApiResult, from_read};
use crate::registry::Scope;
use crate::registry::write::Also;
use crate::server::Config;
use futures_util::future::BoxFuture;
use nauplius_base::{id, time};
use nauplius_meta::error::ApiError;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::gvk::GroupKind;
use nauplius_meta::{names, object};
use nauplius_store::{Compare, Op, RangeRequest, Revision};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

const ADDRESSES: &str = "/registry/networking.k8s.io/ipaddresses/";
const PORTS: &str = "/registry/ranges/servicenodeports/";

pub(super) struct Services {
    networks: Vec<Network>,
    node_ports: RangeInclusive<u16>,
}

impl Services {
    pub fn new(config: &Config) -> Self {
        let networks = config.service_networks.iter().copied().map(Network::new).collect();
        Self { networks, node_ports: config.node_ports.clone() }
    }
}

impl Hooks for Services {
    fn allocates(&self) -> bool {
        true
    }

    fn before_create<'a>(&'a self, scope: &'a Scope, new: &'a mut Value) -> BoxFuture<'a, ApiResult<Also>> {
        Box::pin(async move { self.allocate(scope, new, &Value::Null).await })
    }

    fn before_update<'a>(
        &'a self,
        scope: &'a Scope,
        new: &'a mut Value,
        old: &'a Value,
    ) -> BoxFuture<'a, ApiResult<Also>> {
        Box::pin(async move { self.allocate(scope, new, old).await })
    }

    fn before_remove<'a>(&'a self, _scope: &'a Scope, old: &'a Value) -> BoxFuture<'a, ApiResult<Also>> {
        Box::pin(async move {
            let mut also = Also::default();
            addresses(old).iter().for_each(|ip| also.ops.push(release(address_key(*ip))));
            used_ports(old).into_iter().for_each(|port| also.ops.push(release(port_key(port))));
            Ok(also)
        })
    }

    fn shows_deleted(&self) -> bool {
        true
    }
}

impl Services {
    async fn allocate(&self, scope: &Scope, new: &mut Value, old: &Value) -> ApiResult<Also> {
        let mut also = Also::default();
        let (had_ips, had_ports) = (addresses(old), used_ports(old));
        if needs_address(new) {
            self.allocate_addresses(scope, new, &had_ips, &mut also).await?;
        }
        if needs_ports(new)
            || object::get_i64(new, &["spec", "healthCheckNodePort"]).is_some()
            || needs_check(new)
        {
            self.allocate_ports(scope, new, &had_ports, &mut also).await?;
        }
        let (has_ips, has_ports) = (addresses(new), used_ports(new));
        let lost_ips = had_ips.iter().filter(|ip| !has_ips.contains(ip));
        lost_ips.for_each(|ip| also.ops.push(release(address_key(*ip))));
        let lost_ports = had_ports.difference(&has_ports);
        lost_ports.for_each(|port| also.ops.push(release(port_key(*port))));
        Ok(also)
    }

    async fn allocate_addresses(
        &self,
        scope: &Scope,
        new: &mut Value,
        had: &[IpAddr],
        also: &mut Also,
    ) -> ApiResult<()> {
        let families: Vec<String> =
            object::get_strings(new, &["spec", "ipFamilies"]).into_iter().map(str::to_owned).collect();
        let mut ips: Vec<String> =
            object::get_strings(new, &["spec", "clusterIPs"]).into_iter().map(str::to_owned).collect();
        for (index, family) in families.iter().enumerate() {
            let network = self.network(new, index, family)?;
            let chosen = ips.get(index).is_some_and(|ip| !ip.is_empty());
            let ip = match ips.get(index).filter(|ip| !ip.is_empty()) {
                // What is no address is left for validation to refuse.
                Some(text) => match names::parse_ip(text) {
                    Some(ip) => ip,
                    None => continue,
                },
                None => {
                    let taken = |ip| is_taken(scope, ip);
                    network.pick(id::random_u64(), taken).ok_or_else(|| full(new))?
                }
            };
            if !had.contains(&ip) {
                if chosen {
                    check_address(scope, network, new, ip).await?;
                }
                also.compare.push(absent(address_key(ip)));
                also.ops.push(take_address(new, ip)?);
            }
            if ips.len() == index {
                ips.push(ip.to_string());
            }
        }
        if let Some(first) = ips.first() {
            object::set(new, &["spec", "clusterIP"], first.as_str());
            object::set(new, &["spec", "clusterIPs"], json!(ips));
        }
        Ok(())
    }

    fn network(&self, service: &Value, index: usize, family: &str) -> ApiResult<&Network> {
        self.networks.iter().find(|network| network.family() == family).ok_or_else(|| {
            let path = Path::new("spec").child("ipFamilies").index(index);
            invalid(service, FieldError::invalid(&path, family, "not configured on this cluster"))
        })
    }

    async fn allocate_ports(
        &self,
        scope: &Scope,
        new: &mut Value,
        had: &BTreeSet<u16>,
        also: &mut Also,
    ) -> ApiResult<()> {
        let mut taken: BTreeSet<u16> = taken_ports(scope).await?.difference(had).copied().collect();
        let wanted = used_ports(new);
        self.check_ports(new, had, &taken)?;
        taken.extend(&wanted);
        taken.extend(had);
        if needs_ports(new) {
            let kept = new.clone();
            let ports = new["spec"]["ports"].as_array_mut().into_iter().flatten();
            for port in ports.filter(|port| node_port(port).is_none()) {
                let free = self.free_port(&kept, &mut taken)?;
                port["nodePort"] = free.into();
            }
        }
        if needs_check(new) && object::get_i64(new, &["spec", "healthCheckNodePort"]).unwrap_or(0) == 0 {
            let free = self.free_port(new, &mut taken)?;
            object::set(new, &["spec", "healthCheckNodePort"], free);
        }
        let owner = format!("{}/{}", object::namespace(new), object::name(new));
        for port in used_ports(new).difference(had) {
            also.compare.push(absent(port_key(*port)));
            let value = owner.clone().into_bytes().into();
            also.ops.push(Op::Put { key: port_key(*port).into(), value, lease: None });
        }
        Ok(())
    }

    fn free_port(&self, service: &Value, taken: &mut BTreeSet<u16>) -> ApiResult<u16> {
        let free = ports::pick(&self.node_ports, id::random_u64(), taken).ok_or_else(|| {
            let path = Path::new("spec").child("ports").index(0).child("nodePort");
            invalid(service, FieldError::invalid(&path, 0, "failed to allocate a nodePort: range is full"))
        })?;
        taken.insert(free);
        Ok(free)
    }

    fn check_ports(&self, service: &Value, had: &BTreeSet<u16>, taken: &BTreeSet<u16>) -> ApiResult<()> {
        for (index, port) in object::get_array(service, &["spec", "ports"]).iter().enumerate() {
            let Some(number) = node_port(port).filter(|number| !had.contains(number)) else { continue };
            let detail = if !self.node_ports.contains(&number) {
                let (first, last) = (self.node_ports.start(), self.node_ports.end());
                format!("provided port is not in the valid range. The range of valid ports is {first}-{last}")
            } else if taken.contains(&number) {
                "provided port is already allocated".to_owned()
            } else {
                continue;
            };
            let path = Path::new("spec").child("ports").index(index).child("nodePort");
            return Err(invalid(service, FieldError::invalid(&path, number, detail)));
        }
        Ok(())
    }
}

fn invalid(service: &Value, error: FieldError) -> ApiError {
    ApiError::invalid(&GroupKind::new("", "Service"), object::name(service), vec![error])
}

fn full(service: &Value) -> ApiError {
    let path = Path::new("spec").child("clusterIPs");
    let value = service["spec"].get("clusterIPs").cloned().unwrap_or(Value::Null);
    invalid(service, FieldError::invalid(&path, value, "failed to allocate a serviceIP: range is full"))
}

/// An address that a client chose; the store is asked, for the refusal must not be a stale one.
async fn check_address(scope: &Scope, network: &Network, service: &Value, ip: IpAddr) -> ApiResult<()> {
    let request = RangeRequest { keys_only: true, ..RangeRequest::key(address_key(ip)) };
    let problem = if !network.contains(ip) {
        format!("the provided IP ({ip}) is not in the valid range. The range of valid IPs is {network}")
    } else if !scope.resource.caches.store().range(request).await.map_err(from_read)?.kvs.is_empty() {
        "provided IP is already allocated".to_owned()
    } else {
        return Ok(());
    };
    let path = Path::new("spec").child("clusterIPs");
    let value = service["spec"].get("clusterIPs").cloned().unwrap_or_else(|| json!([ip.to_string()]));
    let detail = format!("failed to allocate IP {ip}: {problem}");
    Err(invalid(service, FieldError::invalid(&path, value, detail)))
}

fn is_taken(scope: &Scope, ip: IpAddr) -> bool {
    scope.resource.caches.get("networking.k8s.io", "ipaddresses", "", &ip.to_string()).is_some()
}

fn needs_address(service: &Value) -> bool {
    let type_ = object::get_str(service, &["spec", "type"]);
    matches!(type_, "ClusterIP" | "NodePort" | "LoadBalancer")
        && object::get_str(service, &["spec", "clusterIP"]) != "None"
}

fn needs_ports(service: &Value) -> bool {
    match object::get_str(service, &["spec", "type"]) {
        "NodePort" => true,
        "LoadBalancer" => {
            object::get_bool(service, &["spec", "allocateLoadBalancerNodePorts"]) != Some(false)
        }
        _ => false,
    }
}

fn needs_check(service: &Value) -> bool {
    object::get_str(service, &["spec", "type"]) == "LoadBalancer"
        && object::get_str(service, &["spec", "externalTrafficPolicy"]) == "Local"
}

/// The addresses a service holds; those of an ExternalName are not ours.
pub(crate) fn addresses(service: &Value) -> Vec<IpAddr> {
    if !needs_address(service) {
        return Vec::new();
    }
    object::get_strings(service, &["spec", "clusterIPs"]).into_iter().filter_map(names::parse_ip).collect()
}

fn node_port(port: &Value) -> Option<u16> {
    port.get("nodePort")
        .and_then(Value::as_u64)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
}

/// The node ports a service holds; one for two protocols counts once.
fn used_ports(service: &Value) -> BTreeSet<u16> {
    let check = object::get_i64(service, &["spec", "healthCheckNodePort"]);
    let check = check.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    object::get_array(service, &["spec", "ports"]).iter().filter_map(node_port).chain(check).collect()
}

async fn taken_ports(scope: &Scope) -> ApiResult<BTreeSet<u16>> {
    let request = RangeRequest { keys_only: true, ..RangeRequest::prefix(PORTS) };
    let found = scope.resource.caches.store().range(request).await.map_err(from_read)?;
    let port = |key: &[u8]| std::str::from_utf8(key).ok()?.strip_prefix(PORTS)?.parse().ok(); // Only we write here.
    Ok(found.kvs.iter().filter_map(|kv| port(&kv.key)).collect())
}

fn address_key(ip: IpAddr) -> String {
    format!("{ADDRESSES}{ip}")
}

fn port_key(port: u16) -> String {
    format!("{PORTS}{port}")
}

fn absent(key: String) -> Compare {
    Compare { key: key.into(), mod_revision: Revision::ZERO }
}

fn release(key: String) -> Op {
    Op::Delete { key: key.into() }
}

/// What says that a service has an address.
pub(crate) fn address_object(service: &Value, ip: IpAddr) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": ip.to_string(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": if ip.is_ipv4() { "IPv4" } else { "IPv6" },
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {
            "group": "",
            "resource": "services",
            "namespace": object::namespace(service),
            "name": object::name(service),
        }},
    })
}

fn take_address(service: &Value, ip: IpAddr) -> ApiResult<Op> {
    let mut address = address_object(service, ip);
    address["metadata"]["uid"] = id::uuid().into();
    address["metadata"]["creationTimestamp"] = time::rfc3339_seconds(time::now()).into();
    let value = encode_stored(&address, "IPAddress", "networking.k8s.io/v1")
        .map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(Op::Put { key: address_key(ip).into(), value: value.into(), lease: None })
}
