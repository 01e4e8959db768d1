//! The range of pod addresses that the cluster gives this node: handed to the runtime when it is there, and when it changes.

use super::network;
use crate::context::Context;
use nauplius_base::backoff::Backoff;
use nauplius_base::task::CancellationToken;
use nauplius_base::time;
use nauplius_client::ListOptions;
use nauplius_cri::v1;
use nauplius_kinds::Node;
use nauplius_reconcile::Informer;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Follows this node's object until shutdown.
///
/// # Errors
/// Never: a runtime that refuses is asked again.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) -> Result<(), Infallible> {
    let this_node = ListOptions {
        field_selector: format!("metadata.name={}", context.config.node_name),
        ..ListOptions::default()
    };
    let nodes = Informer::<Node>::new(context.client.all(), this_node);
    let (following, handing) = (nodes.clone().run(shutdown.clone()), hand_over(&context, &nodes));
    tokio::select! {
        outcome = following => outcome,
        () = handing => Ok(()),
    }
}

/// Hands over the range that the node has from an earlier life, so that its first report does not say that it has no network.
pub async fn hand_known(context: &Context, node: &Node) {
    let Some(range) = range_of(node) else { return };
    if let Err(error) = context.runtime.update_runtime_config(request(&range)).await {
        tracing::warn!(%error, range, "the runtime does not take the node's range of pod addresses yet");
    }
    network::look(context).await;
}

async fn hand_over(context: &Context, nodes: &Informer<Node>) {
    let mut handed = None;
    loop {
        let differs = |node: &Arc<Node>| range_of(node).filter(|range| handed.as_ref() != Some(range));
        nodes.wait(|snapshot| snapshot.iter().any(|node| differs(node).is_some())).await;
        if let Some(range) = nodes.snapshot().iter().find_map(differs) {
            tell(context, &range).await;
            handed = Some(range);
        }
    }
}

fn range_of(node: &Node) -> Option<String> {
    let spec = node.spec.as_ref()?;
    let ranges = spec.pod_cidrs.as_ref().filter(|ranges| !ranges.is_empty());
    ranges.map(|ranges| ranges.join(",")).or_else(|| spec.pod_cidr.clone()).filter(|range| !range.is_empty())
}

fn request(range: &str) -> v1::UpdateRuntimeConfigRequest {
    let network = v1::NetworkConfig { pod_cidr: range.to_owned() };
    v1::UpdateRuntimeConfigRequest {
        runtime_config: Some(v1::RuntimeConfig { network_config: Some(network) }),
    }
}

async fn tell(context: &Context, range: &str) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    while let Err(error) = context.runtime.update_runtime_config(request(range)).await {
        tracing::warn!(%error, range, "the runtime does not take the node's range of pod addresses, trying again");
        time::sleep(backoff.next_delay()).await;
    }
    // Pods that wait for it need not wait for the next report.
    network::look(context).await;
}
