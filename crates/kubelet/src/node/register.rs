//! Makes the node known to the API, or takes the known one over with the labels that it should have.

use super::machine::Machine;
use crate::config::Config;
use nauplius_client::{Client, ClientError, Patch};
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Node, NodeSpec, NodeStatus};
use serde_json::json;
use std::collections::BTreeMap;

/// The labels that every node has, and those that this one was given.
pub fn labels(config: &Config, machine: &Machine) -> BTreeMap<String, String> {
    let known = [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", &machine.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", &machine.architecture),
    ];
    let known = known.map(|(name, value)| (name.to_owned(), value.to_owned()));
    known.into_iter().chain(config.labels.clone()).collect()
}

/// Creates the node with this status, or brings the labels of the known one up to date. Tells whether it is new.
///
/// # Errors
/// The API's.
pub async fn register(
    client: &Client,
    config: &Config,
    machine: &Machine,
    status: NodeStatus,
) -> Result<(Node, bool), ClientError> {
    let mut node = Node { status: Some(status), ..Node::default() };
    node.meta_mut().name = Some(config.node_name.clone());
    node.meta_mut().labels = Some(labels(config, machine));
    let taints = Some(config.taints.clone()).filter(|taints| !taints.is_empty());
    node.spec = taints.map(|taints| NodeSpec { taints: Some(taints), ..NodeSpec::default() });
    // The annotation tells controllers that volumes are attached for this node; it has none, as every upstream node says.
    let annotation = "volumes.kubernetes.io/controller-managed-attach-detach";
    node.meta_mut().annotations = Some(BTreeMap::from([(annotation.to_owned(), "true".to_owned())]));
    let nodes = client.all::<Node>();
    match nodes.create(&node).await {
        Err(error) if error.is_already_exists() => {}
        other => return other.map(|node| (node, true)),
    }
    let known = nodes.get(&config.node_name).await?;
    let has = known.meta().labels.clone().unwrap_or_default();
    let wanted: BTreeMap<_, _> =
        labels(config, machine).into_iter().filter(|(name, value)| has.get(name) != Some(value)).collect();
    if wanted.is_empty() {
        return Ok((known, false));
    }
    let patch = Patch::Strategic(json!({"metadata": {"labels": wanted}}));
    nodes.patch(&config.node_name, None, patch).await.map(|node| (node, false))
}
