//! Asks the runtime about one pod. The only place that turns CRI's messages into views; last words are read here.

use super::view::{ContainerState, ContainerView, Limits, Observed, SandboxView};
use crate::logs;
use crate::names;
use nauplius_cri::{Code, CriError, RuntimeService, v1};
use std::collections::BTreeMap;
use std::path::Path;

/// Upstream's limits on last words.
const MESSAGE_MAX: usize = 4096;
const MESSAGE_LINES: usize = 80;
const LOG_MESSAGE_MAX: usize = 2048;

fn by_uid(uid: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(names::POD_UID.to_owned(), uid.to_owned())])
}

/// Everything the runtime has of a pod.
///
/// # Errors
/// The runtime's; what is gone while it is asked for is left out.
pub async fn observe(runtime: &dyn RuntimeService, uid: &str) -> Result<Observed, CriError> {
    let mut observed = Observed::default();
    let filter = v1::PodSandboxFilter { label_selector: by_uid(uid), ..v1::PodSandboxFilter::default() };
    let sandboxes = runtime.list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(filter) }).await?;
    for sandbox in sandboxes.items {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.id, verbose: false };
        match runtime.pod_sandbox_status(request).await {
            Ok(answer) => observed.sandboxes.extend(answer.status.map(sandbox_view)),
            Err(error) if error.code == Code::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let filter = v1::ContainerFilter { label_selector: by_uid(uid), ..v1::ContainerFilter::default() };
    let containers = runtime.list_containers(v1::ListContainersRequest { filter: Some(filter) }).await?;
    for container in containers.containers {
        let request = v1::ContainerStatusRequest { container_id: container.id, verbose: false };
        match runtime.container_status(request).await {
            Ok(answer) => {
                let sandbox = container.pod_sandbox_id;
                observed.containers.extend(answer.status.map(|status| container_view(status, sandbox)));
            }
            Err(error) if error.code == Code::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    observed.sort();
    Ok(observed)
}

fn sandbox_view(status: v1::PodSandboxStatus) -> SandboxView {
    let network = status.network.clone().unwrap_or_default();
    let all = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip));
    SandboxView {
        attempt: status.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
        ready: status.state() == v1::PodSandboxState::SandboxReady,
        created_at: status.created_at,
        ips: all.filter(|ip| !ip.is_empty()).collect(),
        id: status.id,
    }
}

fn container_view(status: v1::ContainerStatus, sandbox: String) -> ContainerView {
    let state = match status.state() {
        v1::ContainerState::ContainerCreated => ContainerState::Created,
        v1::ContainerState::ContainerRunning => ContainerState::Running,
        v1::ContainerState::ContainerExited => ContainerState::Exited,
        v1::ContainerState::ContainerUnknown => ContainerState::Unknown,
    };
    let annotation = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    let metadata = status.metadata.clone().unwrap_or_default();
    let message = if state == ContainerState::Exited { last_words(&status) } else { None };
    let user = status.user.clone().and_then(|user| user.linux);
    let linux = status.resources.clone().and_then(|resources| resources.linux);
    ContainerView {
        limits: linux.map(|linux| Limits {
            cpu_shares: linux.cpu_shares,
            cpu_quota: linux.cpu_quota,
            memory: linux.memory_limit_in_bytes,
        }),
        name: status.labels.get(names::CONTAINER_NAME).cloned().unwrap_or(metadata.name),
        attempt: annotation(names::RESTART_COUNT).parse().unwrap_or(metadata.attempt),
        hash: annotation(names::CONTAINER_HASH),
        sandbox,
        state,
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        message: message.unwrap_or(status.message),
        reason: status.reason,
        image: status.image.map(|image| image.image).unwrap_or_default(),
        image_ref: status.image_ref,
        log_path: status.log_path,
        user: user.map(|user| (user.uid, user.gid, user.supplemental_groups)),
        id: status.id,
    }
}

/// What an ended container has left to say: its file, or the end of its log when it failed and the policy says so.
fn last_words(status: &v1::ContainerStatus) -> Option<String> {
    let path = status.annotations.get(names::TERMINATION_PATH)?;
    let mount = status.mounts.iter().find(|mount| mount.container_path == *path);
    // A file that is gone says nothing.
    let bytes = mount
        .and_then(|mount| logs::tail::bytes(Path::new(&mount.host_path), MESSAGE_MAX).ok())
        .unwrap_or_default();
    if !bytes.is_empty() {
        return Some(String::from_utf8_lossy(&bytes).into_owned());
    }
    let from_log = status
        .annotations
        .get(names::TERMINATION_POLICY)
        .is_some_and(|policy| policy == "FallbackToLogsOnError");
    if !from_log || status.exit_code == 0 {
        return None;
    }
    // Neither does a log that is gone.
    let lines = logs::tail::messages(Path::new(&status.log_path), MESSAGE_LINES, LOG_MESSAGE_MAX).ok()?;
    Some(lines).filter(|lines| !lines.is_empty())
}
