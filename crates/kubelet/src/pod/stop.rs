//! Ends containers: preStop hook, stop signal, kill; and whole pods, in which sidecars end last. It records upstream's events.

use super::jobs::PodJob;
use super::view::{ContainerView, Observed};
use super::{facts, facts::MIN_GRACE_S, hooks};
use futures_util::future::join_all;
use nauplius_base::task::CancellationToken;
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
    let left_s = ask(scene, id, name, grace_s, message).await;
    end(scene, id, left_s).await;
}

/// Says that a container is to end, to people and to itself; the seconds that are left then.
async fn ask(scene: &dyn Scene, id: &str, name: &str, grace_s: i64, message: String) -> i64 {
    scene.event(Some(name), EventKind::Normal, "Killing", message);
    grace_s - pre_stop(scene, id, name, grace_s).await
}

/// Whether it has ended.
async fn end(scene: &dyn Scene, id: &str, left_s: i64) -> bool {
    let request = v1::StopContainerRequest { container_id: id.to_owned(), timeout: left_s.max(MIN_GRACE_S) };
    let ended = scene.runtime().stop_container(request).await;
    if let Err(error) = &ended {
        tracing::warn!(container = id, %error, "a container could not be stopped");
    }
    ended.is_ok()
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

/// Stops all containers. All are asked at once; then a sidecar outlives the main containers and whatever came up after it.
pub async fn terminate(scene: &dyn Scene, observed: &Observed, grace_s: i64) {
    let live: Vec<(&ContainerView, CancellationToken)> =
        observed.live().map(|view| (view, CancellationToken::new())).collect();
    let all = live.iter().map(|(view, ended)| {
        let sooner = live.iter().filter(|(other, _)| outlives(scene.pod(), &view.name, &other.name));
        let sooner: Vec<&CancellationToken> = sooner.map(|(_, ended)| ended).collect();
        async move {
            let message = format!("Stopping container {}", view.name);
            let left_s = ask(scene, &view.id, &view.name, grace_s, message).await;
            let left_s = wait_for_turn(&sooner, left_s).await;
            if end(scene, &view.id, left_s).await {
                ended.cancel();
            }
        }
    });
    join_all(all).await;
}

/// Whether a container, a sidecar, ends only after the other has.
fn outlives(pod: &Pod, name: &str, other: &str) -> bool {
    let init = facts::init_containers(pod);
    let place = |name: &str| init.iter().position(|container| container.name == name);
    let Some(own) = place(name).filter(|place| facts::is_sidecar(&init[*place])) else { return false };
    match place(other) {
        Some(others) => others > own,
        None => facts::spec(pod).containers.iter().any(|container| container.name == other),
    }
}

/// Waits for the others' ends as long as there is time; the seconds that are left then.
async fn wait_for_turn(others: &[&CancellationToken], left_s: i64) -> i64 {
    let Ok(limit) = u64::try_from(left_s) else { return left_s };
    let since = time::monotonic();
    let all = async {
        for ended in others {
            ended.cancelled().await;
        }
    };
    match time::timeout(Duration::from_secs(limit), all).await {
        Ok(()) => left_s - since.elapsed().as_secs().cast_signed(),
        // Whoever does not end holds nobody up for longer.
        Err(_) => 0,
    }
}
