//! Services and EndpointSlices to the records of the cluster's zone. Pure.

use super::{EXTERNAL_NAME, NONE, Slices, conditions, port_number, services};
use crate::dns::{EndpointRecord, PortRecord, ServiceKind, ServiceRecord};
use nauplius_kinds::api::{core, discovery};
use nauplius_kinds::{EndpointSlice, Object, Service};
use std::sync::Arc;

/// The records of all services.
pub(crate) fn service_records<'a>(
    services: impl Iterator<Item = &'a Arc<Service>>,
    slices: &Slices,
) -> Vec<ServiceRecord> {
    let record = |service: &Arc<Service>| {
        let key = (service.namespace().to_owned(), service.name().to_owned());
        let behind = slices.get(&key).map(Vec::as_slice).unwrap_or_default();
        record(service, behind)
    };
    services.filter_map(record).collect()
}

fn record(service: &Service, slices: &[Arc<EndpointSlice>]) -> Option<ServiceRecord> {
    let spec = service.spec.as_ref()?;
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let number = port_number(port.port)?;
        Some(port_record(port.name.as_deref(), port.protocol.as_deref(), number))
    });
    Some(ServiceRecord {
        namespace: service.namespace().to_owned(),
        name: service.name().to_owned(),
        kind: kind(spec)?,
        ports: ports.collect(),
        endpoints: slices.iter().flat_map(|slice| endpoints(slice)).collect(),
    })
}

/// None while the service has no address yet.
fn kind(spec: &core::ServiceSpec) -> Option<ServiceKind> {
    if spec.type_.as_deref() == Some(EXTERNAL_NAME) {
        return spec.external_name.clone().map(ServiceKind::ExternalName);
    }
    if spec.cluster_ip.as_deref() == Some(NONE) {
        return Some(ServiceKind::Headless);
    }
    let addresses = services::cluster_ips(spec);
    (!addresses.is_empty()).then_some(ServiceKind::ClusterIp(addresses))
}

fn port_record(name: Option<&str>, protocol: Option<&str>, port: u16) -> PortRecord {
    PortRecord {
        name: name.unwrap_or_default().to_owned(),
        protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(),
        port,
    }
}

fn endpoints(slice: &EndpointSlice) -> Vec<EndpointRecord> {
    let ports: Vec<_> = slice.ports.iter().flatten().filter_map(slice_port).collect();
    let ready = slice.endpoints.iter().flatten().filter(|endpoint| conditions(endpoint).ready);
    let records = ready.flat_map(|endpoint| {
        let addresses = endpoint.addresses.iter().filter_map(|address| address.parse().ok());
        addresses.map(|address| EndpointRecord {
            address,
            hostname: endpoint.hostname.clone().filter(|hostname| !hostname.is_empty()),
            ports: ports.clone(),
        })
    });
    records.collect()
}

fn slice_port(port: &discovery::EndpointPort) -> Option<PortRecord> {
    let number = port_number(port.port?)?;
    Some(port_record(port.name.as_deref(), port.protocol.as_deref(), number))
}
