//! The form that newer clients ask for: every group, version and resource in one document.

use super::{Group, verbs};
use nauplius_kinds::Descriptor;
use nauplius_kinds::kind::Name;
use serde_json::{Value, json};

/// The document at `/api` (the core group alone) or `/apis` (all others).
pub(super) fn document(groups: &[Group<'_>], core: bool, version: &str) -> Value {
    let wanted = groups.iter().filter(|group| group.name.is_empty() == core);
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": wanted.map(item).collect::<Vec<_>>(),
    })
}

fn item(group: &Group<'_>) -> Value {
    let mut metadata = json!({});
    if !group.name.is_empty() {
        metadata["name"] = group.name.into();
    }
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| {
            let mut resources: Vec<Value> =
                group.kinds_in(version).into_iter().map(|descriptor| resource(descriptor, version)).collect();
            if group.name.is_empty() {
                resources.insert(0, bindings());
            }
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    json!({"metadata": metadata, "versions": versions})
}

fn bindings() -> Value {
    json!({
        "resource": "bindings",
        "responseKind": {"group": "", "version": "v1", "kind": "Binding"},
        "scope": "Namespaced",
        "singularResource": "binding",
        "verbs": ["create"],
    })
}

fn resource(descriptor: &Descriptor, version: &str) -> Value {
    let own = json!({"group": &*descriptor.group, "version": version, "kind": &*descriptor.kind});
    let mut resource = json!({
        "resource": &*descriptor.plural,
        "responseKind": own,
        "scope": if descriptor.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": &*descriptor.singular,
        "verbs": verbs(descriptor),
    });
    let texts = |names: &[Name]| names.iter().map(|name| Value::from(&**name)).collect::<Value>();
    if !descriptor.short_names.is_empty() {
        resource["shortNames"] = texts(&descriptor.short_names);
    }
    if !descriptor.categories.is_empty() {
        resource["categories"] = texts(&descriptor.categories);
    }
    let mut subresources: Vec<_> = descriptor.subresources.iter().collect();
    subresources.sort_by(|a, b| a.name.cmp(&b.name));
    let shown: Vec<Value> = subresources
        .into_iter()
        .map(|subresource| {
            let kind = subresource.body.as_ref().map_or_else(
                || own.clone(),
                |(group, version, kind)| json!({"group": &**group, "version": &**version, "kind": &**kind}),
            );
            let mut verbs = subresource.verbs.to_vec();
            verbs.sort_unstable();
            json!({"subresource": &*subresource.name, "responseKind": kind, "verbs": verbs})
        })
        .collect();
    if !shown.is_empty() {
        resource["subresources"] = shown.into();
    }
    resource
}
