//! Finds the pod and container that a request means, among what the API and the runtime know.

use super::Server;
use super::answer::{Answer, text};
use super::route::Target;
use crate::names;
use crate::pod::facts;
use crate::pod::observe::observe;
use crate::pod::view::{ContainerState, Observed};
use http::StatusCode;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{ContainerStatus, Pod};
use std::sync::Arc;

impl Server {
    /// The pod, or the answer that it is not here.
    pub(super) fn pod(&self, target: &Target) -> Result<Arc<Pod>, Box<Answer>> {
        let snapshot = self.pods.snapshot();
        let found = snapshot.find(&target.namespace, &target.pod);
        let found = found.filter(|pod| target.uid.as_deref().is_none_or(|uid| uid == pod.uid()));
        found.cloned().ok_or_else(|| {
            let message =
                format!("pod {:?} does not exist\n", format!("{}_{}", target.pod, target.namespace));
            Box::new(text(StatusCode::NOT_FOUND, &message))
        })
    }

    pub(super) async fn observed(&self, pod: &Pod) -> Result<Observed, Box<Answer>> {
        let seen = observe(&*self.context.runtime, pod.uid()).await;
        seen.map_err(|error| Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())))
    }

    /// The id of the running container, or the answer that there is none.
    pub(super) async fn running(&self, target: &Target) -> Result<String, Box<Answer>> {
        let pod = self.pod(target)?;
        let observed = self.observed(&pod).await?;
        let newest = observed.newest(&target.container).filter(|view| view.state == ContainerState::Running);
        newest.map(|view| view.id.clone()).ok_or_else(|| {
            Box::new(text(StatusCode::NOT_FOUND, &format!("container not found ({:?})", target.container)))
        })
    }

    pub(super) async fn running_pods(&self) -> Answer {
        let mut items = Vec::new();
        for pod in self.pods.snapshot().iter() {
            let Ok(observed) = self.observed(pod).await else { continue };
            let containers: Vec<serde_json::Value> = observed
                .containers
                .iter()
                .filter(|view| view.state == ContainerState::Running)
                .map(|view| serde_json::json!({"name": view.name, "image": view.image_ref, "resources": {}}))
                .collect();
            if !containers.is_empty() {
                items.push(serde_json::json!({
                    "metadata": {"name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid()},
                    "spec": {"containers": containers}, "status": {},
                }));
            }
        }
        super::answer::json(
            &serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}),
        )
    }
}

/// What the API was told about a container.
pub(super) fn told<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses);
    let all = all.chain(&status.ephemeral_container_statuses).flatten();
    all.into_iter().find(|status| status.name == name)
}

/// The container whose log is meant: id and path.
///
/// # Errors
/// Upstream's words for a log that is not there.
pub(super) fn logged(
    pod: &Pod,
    observed: &Observed,
    name: &str,
    previous: bool,
) -> Result<(String, String), String> {
    if facts::any_container(pod, name).is_none() {
        return Err(format!("container {name:?} not found in pod {:?}\n", names::describe(pod)));
    }
    let waits = told(pod, name).and_then(|status| status.state.as_ref()?.waiting.as_ref());
    let mut views =
        observed.containers.iter().filter(|view| view.name == name && view.state != ContainerState::Created);
    let newest = views.next();
    let before = views.find(|view| view.state == ContainerState::Exited);
    let chosen = match (previous, newest) {
        (false, newest) => newest,
        // While it waits to be started again the newest is the previous one.
        (true, Some(view)) if view.state == ContainerState::Exited && waits.is_some() => newest,
        (true, _) => before,
    };
    match chosen {
        Some(view) => Ok((view.id.clone(), view.log_path.clone())),
        None if previous => {
            Err(format!("previous terminated container {name:?} in pod {:?} not found", pod.name()))
        }
        None => {
            let reason = waits.and_then(|waiting| waiting.reason.as_deref()).unwrap_or("ContainerCreating");
            Err(format!("container {name:?} in pod {:?} is waiting to start: {reason}", pod.name()))
        }
    }
}
