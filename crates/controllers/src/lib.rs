//! The controllers: each compares what is with what was asked for and acts through the API. One module each: a view from
//! caches, and a pure plan. They never know the store.

mod backends;
mod claim;
mod cluster_role;
mod conditions;
pub mod context;
mod deployment;
mod disruption;
mod endpoint_slice;
mod endpoint_slice_mirroring;
mod endpoints;
mod garbage_collector;
mod graph;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod pod_gc;
mod replica_set;
mod root_ca;
mod service_account;
mod taint_eviction;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod walk;

pub use context::{ControllerHealth, Settings};

use context::Context;
use nauplius_base::task::Group;
use nauplius_client::Client;

/// Starts every controller in `group`. `client` acts as `system:kube-controller-manager`; `as_account` gives the client of a
/// service account in `kube-system`, for each controller writes as its own.
pub fn run(
    client: Client,
    as_account: impl Fn(&str) -> Client + Send + Sync + 'static,
    settings: Settings,
    group: &Group,
) -> ControllerHealth {
    let context = Context::new(client, Box::new(as_account), settings, group);
    service_account::start(&context);
    root_ca::start(&context);
    node_ipam::start(&context);
    replica_set::start(&context);
    deployment::start(&context);
    endpoints::start(&context);
    endpoint_slice::start(&context);
    endpoint_slice_mirroring::start(&context);
    garbage_collector::start(&context);
    namespace::start(&context);
    node_lifecycle::start(&context);
    taint_eviction::start(&context);
    cluster_role::start(&context);
    pod_gc::start(&context);
    disruption::start(&context);
    context.start()
}
