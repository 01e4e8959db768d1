//! The form that every client knows: one document a group and version.

use super::{Group, verbs};
use crate::server::ApiServer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nauplius_kinds::kind::Name;
use nauplius_kinds::{Descriptor, Subresource};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// `/api`
pub(super) fn core_versions(groups: &[Group<'_>], server: &ApiServer) -> Option<Value> {
    let core = groups.iter().find(|group| group.name.is_empty())?;
    let address = server
        .config
        .bootstrap
        .as_ref()
        .map(|settings| SocketAddr::new(settings.advertise_address, settings.port).to_string());
    let addresses: Vec<Value> =
        address.iter().map(|address| json!({"clientCIDR": "0.0.0.0/0", "serverAddress": address})).collect();
    Some(json!({"kind": "APIVersions", "versions": core.versions, "serverAddressByClientCIDRs": addresses}))
}

fn described(group: &Group<'_>) -> Value {
    let version =
        |version: &&str| json!({"groupVersion": group_version(group.name, version), "version": version});
    json!({
        "name": group.name,
        "versions": group.versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": group.versions.first().map(version),
    })
}

/// `/apis`
pub(super) fn group_list(groups: &[Group<'_>]) -> Option<Value> {
    let groups: Vec<Value> = groups.iter().filter(|group| !group.name.is_empty()).map(described).collect();
    Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

/// `/apis/{group}`
pub(super) fn group(group: &Group<'_>) -> Value {
    let mut document = described(group);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    document
}

/// `/api/v1` and `/apis/{group}/{version}`
pub(super) fn resource_list(group: Option<&Group<'_>>, version: &str) -> Option<Value> {
    let group = group.filter(|group| group.versions.contains(&version))?;
    let mut resources: Vec<Value> = group.kinds_in(version).into_iter().flat_map(with_subresources).collect();
    if group.name.is_empty() {
        resources.insert(0, bindings());
    }
    let mut document = json!({"kind": "APIResourceList", "groupVersion": group_version(group.name, version), "resources": resources});
    document["apiVersion"] = "v1".into();
    Some(document)
}

/// The older way to bind pods is a resource without a kind of ours.
fn bindings() -> Value {
    json!({"name": "bindings", "singularName": "binding", "namespaced": true, "kind": "Binding", "verbs": ["create"]})
}

fn with_subresources(descriptor: &Descriptor) -> Vec<Value> {
    let mut resource = json!({
        "name": &*descriptor.plural,
        "singularName": &*descriptor.singular,
        "namespaced": descriptor.namespaced,
        "kind": &*descriptor.kind,
        "verbs": verbs(descriptor),
    });
    let texts = |names: &[Name]| names.iter().map(|name| Value::from(&**name)).collect::<Value>();
    if !descriptor.short_names.is_empty() {
        resource["shortNames"] = texts(&descriptor.short_names);
    }
    if !descriptor.categories.is_empty() {
        resource["categories"] = texts(&descriptor.categories);
    }
    if descriptor.verbs.stored {
        resource["storageVersionHash"] = storage_version_hash(descriptor).into();
    }
    let mut subresources: Vec<&Subresource> = descriptor.subresources.iter().collect();
    subresources.sort_by(|a, b| a.name.cmp(&b.name));
    std::iter::once(resource)
        .chain(subresources.into_iter().map(|sub| subresource(descriptor, sub)))
        .collect()
}

/// Changes when objects are stored in another version. A kind that is another group's view of a kind is stored as that one.
fn storage_version_hash(descriptor: &Descriptor) -> String {
    let group = descriptor.stored_as.as_ref().map_or(&descriptor.group, |(group, _)| group);
    let stored = format!("{group}/{}/{}", descriptor.hub, descriptor.kind);
    STANDARD.encode(&Sha256::digest(stored)[..8])
}

fn subresource(descriptor: &Descriptor, subresource: &Subresource) -> Value {
    let mut verbs = subresource.verbs.to_vec();
    verbs.sort_unstable();
    let mut resource = json!({
        "name": format!("{}/{}", descriptor.plural, subresource.name),
        "singularName": "",
        "namespaced": descriptor.namespaced,
        "kind": &*descriptor.kind,
        "verbs": verbs,
    });
    if let Some((group, version, kind)) = &subresource.body {
        resource["kind"] = (&**kind).into();
        if *group != descriptor.group {
            resource["group"] = (&**group).into();
            resource["version"] = (&**version).into();
        }
    }
    resource
}
