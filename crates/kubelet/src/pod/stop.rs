//! Ends containers: preStop hook, stop signal, kill; and whole pods, sidecars last. It records upstream's events.

use super::jobs::PodJob;
use super::view::{ContainerView, Observed};
use super::{facts, facts::MIN_GRACE_S, hooks};
use futures_util::future::join_all;
use nauplius_base::time;
use nauplius_cri::{RuntimeService, v1};
use nauplius_kinds::api::core::Pod;
use nauplius_reconcile::EventKind;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Where a container ends: what is needed of it.
pub trait Scene: Sync {
    /// Stops containers.
    fn runtime(&self) -> &dyn RuntimeService;
    /// Whose they are.
    fn pod(&self) -> &Pod;
    /// Records an event about the pod or one of its containers.
    fn event(&self, container: Option<&str>, kind: EventKind, reason: &str, message: String);
    /// Counts a hook that asked for TLS and was run without.
    fn count_fallback(&self);
}

impl Scene for PodJob {
    fn runtime(&self) -> &dyn RuntimeService {
        &*self.context.runtime
    }

    fn pod(&self) -> &Pod {
        &self.pod
    }

    fn event(&self, container: Option<&str>, kind: EventKind, reason: &str, message: String) {
        PodJob::event(self, container, kind, reason, message);
    }

    fn count_fallback(&self) {
        self.context.hook_fallbacks.fetch_add(1, Ordering::Relaxed);
    }
}

/// Stops one container. What cannot be stopped is logged; the next observation tells.
pub async fn kill(scene: &dyn Scene, id: &str, name: &str, grace_s: i64, message: String) {
    scene.event(Some(name), EventKind::Normal, "Killing", message);
    let left_s = grace_s - pre_stop(scene, id, name, grace_s).await;
    let request = v1::StopContainerRequest {
        container_id: id.to_owned(),
        timeout: left_s.max(MIN_GRACE_S.min(grace_s.max(1))),
    };
    if let Err(error) = scene.runtime().stop_container(request).await {
        tracing::warn!(container = id, %error, "a container could not be stopped");
    }
}

/// Runs the hook, for no longer than the grace; the seconds it took.
async fn pre_stop(scene: &dyn Scene, id: &str, name: &str, grace_s: i64) -> i64 {
    let found = facts::container(scene.pod(), name);
    let handler = found
        .and_then(|(container, _)| container.lifecycle.as_ref()?.pre_stop.as_ref().map(|h| (container, h)));
    let Some((container, handler)) = handler.filter(|_| grace_s > 0) else { return 0 };
    let ips = scene.pod().status.as_ref().and_then(|status| status.pod_ip.clone());
    let since = time::monotonic();
    let limit = Duration::from_secs(grace_s.cast_unsigned());
    match time::timeout(limit, hooks::run(scene, container, id, ips.as_deref(), handler)).await {
        Ok(Err(error)) => {
            tracing::debug!(container = name, error, "a preStop hook failed");
            scene.event(Some(name), EventKind::Warning, "FailedPreStopHook", "PreStopHook failed".to_owned());
        }
        Ok(Ok(())) => {}
        Err(_) => tracing::debug!(container = name, grace_s, "a preStop hook did not end in time"),
    }
    since.elapsed().as_secs().cast_signed()
}

/// Stops all containers: the main ones together, then sidecars from the last to the first.
pub async fn terminate(scene: &dyn Scene, observed: &Observed, grace_s: i64) {
    let since = time::monotonic();
    let sidecars: Vec<&str> = facts::init_containers(scene.pod())
        .iter()
        .filter(|container| facts::is_sidecar(container))
        .map(|container| container.name.as_str())
        .collect();
    let live: Vec<&ContainerView> = observed.live().collect();
    let main = live.iter().filter(|view| !sidecars.contains(&view.name.as_str()));
    join_all(main.map(|view| stop_one(scene, view, grace_s))).await;
    for name in sidecars.iter().rev() {
        let left_s = (grace_s - since.elapsed().as_secs().cast_signed()).max(0);
        for view in live.iter().filter(|view| view.name == *name) {
            stop_one(scene, view, left_s).await;
        }
    }
}

async fn stop_one(scene: &dyn Scene, view: &ContainerView, grace_s: i64) {
    kill(scene, &view.id, &view.name, grace_s, format!("Stopping container {}", view.name)).await;
}
