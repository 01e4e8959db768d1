//! Ends containers: preStop hook, stop signal, kill; and whole pods, sidecars last. It records upstream's events.

use super::jobs::PodJob;
use super::view::{ContainerView, Observed};
use super::{facts, facts::MIN_GRACE_S};
use crate::probe::hook;
use futures_util::future::join_all;
use nauplius_base::time;
use nauplius_cri::v1;
use nauplius_reconcile::EventKind;
use std::time::Duration;

/// Stops one container. What cannot be stopped is logged; the next observation tells.
pub async fn kill(job: &PodJob, id: &str, name: &str, grace_s: i64, message: String) {
    job.event(Some(name), EventKind::Normal, "Killing", message);
    let left_s = grace_s - pre_stop(job, id, name, grace_s).await;
    let request = v1::StopContainerRequest {
        container_id: id.to_owned(),
        timeout: left_s.max(MIN_GRACE_S.min(grace_s.max(1))),
    };
    if let Err(error) = job.context.runtime.stop_container(request).await {
        tracing::warn!(container = id, %error, "a container could not be stopped");
    }
}

/// Runs the hook, for no longer than the grace; the seconds it took.
async fn pre_stop(job: &PodJob, id: &str, name: &str, grace_s: i64) -> i64 {
    let found = facts::container(&job.pod, name);
    let handler = found
        .and_then(|(container, _)| container.lifecycle.as_ref()?.pre_stop.as_ref().map(|h| (container, h)));
    let Some((container, handler)) = handler.filter(|_| grace_s > 0) else { return 0 };
    let ips = job.pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let target = hook::Target { runtime: &*job.context.runtime, container, id, ip: ips.as_deref() };
    let since = time::monotonic();
    let limit = Duration::from_secs(grace_s.cast_unsigned());
    match time::timeout(limit, hook::run(&target, handler)).await {
        Ok(Err(error)) => {
            tracing::debug!(container = name, error, "a preStop hook failed");
            job.event(Some(name), EventKind::Warning, "FailedPreStopHook", "PreStopHook failed".to_owned());
        }
        Ok(Ok(())) => {}
        Err(_) => tracing::debug!(container = name, grace_s, "a preStop hook did not end in time"),
    }
    since.elapsed().as_secs().cast_signed()
}

/// Stops all containers: the main ones together, then sidecars from the last to the first.
pub async fn terminate(job: &PodJob, observed: &Observed, grace_s: i64) {
    let since = time::monotonic();
    let sidecars: Vec<&str> = facts::init_containers(&job.pod)
        .iter()
        .filter(|container| facts::is_sidecar(container))
        .map(|container| container.name.as_str())
        .collect();
    let live: Vec<&ContainerView> = observed.live().collect();
    let main = live.iter().filter(|view| !sidecars.contains(&view.name.as_str()));
    join_all(main.map(|view| stop_one(job, view, grace_s))).await;
    for name in sidecars.iter().rev() {
        let left_s = (grace_s - since.elapsed().as_secs().cast_signed()).max(0);
        for view in live.iter().filter(|view| view.name == *name) {
            stop_one(job, view, left_s).await;
        }
    }
}

async fn stop_one(job: &PodJob, view: &ContainerView, grace_s: i64) {
    kill(job, &view.id, &view.name, grace_s, format!("Stopping container {}", view.name)).await;
}
