//! Pods that only the runtime knows: the API has them no more, or no server looks after them. What is noted at their sandbox and
//! containers is enough to end them as their deletion would.

use crate::names;
use crate::pod::observe::observe;
use crate::pod::stop::{self, Scene};
use crate::pod::{facts, view::ContainerState};
use crate::spec::ending;
use futures_util::future::join_all;
use nauplius_cri::{CriError, RuntimeService, v1};
use nauplius_kinds::api::core::{Pod, PodSpec, PodStatus};
use nauplius_reconcile::EventKind;
use std::sync::Arc;

/// What can be told of a sandbox's pod.
///
/// # Errors
/// The runtime's.
pub async fn pod_of(runtime: &dyn RuntimeService, sandbox: &v1::PodSandbox) -> Result<Pod, CriError> {
    let running = v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning.into() };
    let filter = v1::ContainerFilter {
        pod_sandbox_id: sandbox.id.clone(),
        state: Some(running),
        ..v1::ContainerFilter::default()
    };
    let listed = runtime.list_containers(v1::ListContainersRequest { filter: Some(filter) }).await?;
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.id.clone(), verbose: false };
    let status = runtime.pod_sandbox_status(request).await?.status;
    let mut containers = listed.containers;
    containers.sort_by_key(|container| container.created_at);
    let named = containers.iter().filter_map(|container| {
        Some((container.labels.get(names::CONTAINER_NAME)?.as_str(), &container.annotations))
    });
    let label = |key: &str| sandbox.labels.get(key).cloned();
    let grace = sandbox.annotations.get(names::GRACE_PERIOD).and_then(|text| text.parse().ok()); // Else the default.
    let mut pod = Pod::default();
    pod.metadata.uid = label(names::POD_UID);
    pod.metadata.name = label(names::POD_NAME);
    pod.metadata.namespace = label(names::POD_NAMESPACE);
    pod.spec = Some(PodSpec { termination_grace_period_seconds: grace, ..ending::spec(named) });
    let pod_ip = status.and_then(|status| status.network).map(|network| network.ip);
    pod.status = Some(PodStatus { pod_ip: pod_ip.filter(|ip| !ip.is_empty()), ..PodStatus::default() });
    Ok(pod)
}

/// Stops every pod of a node that no kubelet looks after, each with its hooks, in its order and in its own time. What cannot be stopped is
/// logged: whoever stops sandboxes next finds it.
pub async fn stop_all(runtime: Arc<dyn RuntimeService>) {
    let listed = runtime.list_pod_sandbox(v1::ListPodSandboxRequest { filter: None }).await;
    let sandboxes = listed.map(|answer| answer.items).unwrap_or_else(|error| {
        tracing::error!(%error, "the runtime does not list its sandboxes");
        Vec::new()
    });
    join_all(sandboxes.iter().map(|sandbox| async {
        if let Err(error) = stop(&runtime, sandbox).await {
            tracing::error!(%error, sandbox = sandbox.id, "a pod cannot be stopped with its hooks");
        }
    }))
    .await;
}

async fn stop(runtime: &Arc<dyn RuntimeService>, sandbox: &v1::PodSandbox) -> Result<(), CriError> {
    let pod = pod_of(&**runtime, sandbox).await?;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let mut observed = observe(&**runtime, &uid).await?;
    observed.containers.retain(|view| view.state == ContainerState::Running && view.sandbox == sandbox.id);
    let alone = Alone { runtime: Arc::clone(runtime), pod };
    stop::terminate(&alone, &observed, facts::grace_s(&alone.pod)).await;
    let request = v1::StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
    runtime.stop_pod_sandbox(request).await.map(drop)
}

/// A pod without anybody who would hear of its events.
struct Alone {
    runtime: Arc<dyn RuntimeService>,
    pod: Pod,
}

impl Scene for Alone {
    fn runtime(&self) -> &dyn RuntimeService {
        &*self.runtime
    }

    fn pod(&self) -> &Pod {
        &self.pod
    }

    fn event(&self, container: Option<&str>, _kind: EventKind, reason: &str, message: String) {
        tracing::info!(pod = names::describe(&self.pod), container, reason, message);
    }

    fn count_fallback(&self) {}
}
