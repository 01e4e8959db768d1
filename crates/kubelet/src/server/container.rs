//! Finds the pod and container that a request means, among what the API and the runtime know.

use super::Server;
use super::answer::{Answer, text};
use super::route::Target;
use crate::pod::observe::observe;
use crate::pod::view::{ContainerState, Observed};
use http::StatusCode;
use nauplius_kinds::api::core::{ContainerStatus, Pod};
use nauplius_kinds::{Object, api};
use std::sync::Arc;

/// What streams say of a pod that is not here.
pub(super) const NO_POD: &str = "pod does not exist";

impl Target {
    /// Whether the pod is the one that is meant, and not another of its name.
    pub(super) fn is_of(&self, pod: &Pod) -> bool {
        self.uid.as_deref().is_none_or(|uid| uid == pod.uid())
    }
}

impl Server {
    /// The pod of that name, or the answer that it is not here.
    pub(super) fn pod(&self, target: &Target, missing: &str) -> Result<Arc<Pod>, Box<Answer>> {
        let found = self.pods.snapshot().find(&target.namespace, &target.pod).cloned();
        found.ok_or_else(|| Box::new(text(StatusCode::NOT_FOUND, missing)))
    }

    pub(super) async fn observed(&self, pod: &Pod) -> Result<Observed, Box<Answer>> {
        let seen = observe(&*self.context.runtime, pod.uid()).await;
        seen.map_err(|error| Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())))
    }

    /// The id of the running container, or the answer that there is none. That is an error of the server's, as upstream has it.
    pub(super) async fn running(&self, target: &Target) -> Result<String, Box<Answer>> {
        let pod = self.pod(target, NO_POD)?;
        let missing = || {
            let message = format!("container not found ({:?})", target.container);
            Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, &message))
        };
        if !target.is_of(&pod) {
            return Err(missing());
        }
        let observed = self.observed(&pod).await?;
        let newest = observed.newest(&target.container).filter(|view| view.state == ContainerState::Running);
        newest.map(|view| view.id.clone()).ok_or_else(missing)
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
        None => Err(format!("container {name:?} in pod {:?} {}", pod.name(), unlogged(told(pod, name)))),
    }
}

/// Why a container has no log, from what the API was told of it.
fn unlogged(status: Option<&ContainerStatus>) -> String {
    let Some(status) = status else { return "is not available".to_owned() };
    let has_ended = |state: &Option<api::core::ContainerState>| {
        state.as_ref().is_some_and(|state| state.terminated.is_some())
    };
    if has_ended(&status.state) || has_ended(&status.last_state) {
        return "is terminated".to_owned();
    }
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    match waiting.map(|waiting| waiting.reason.as_deref().unwrap_or_default()) {
        Some("ErrImagePull") => "is waiting to start: image can't be pulled".to_owned(),
        Some("ImagePullBackOff") => "is waiting to start: trying and failing to pull image".to_owned(),
        Some(reason) => format!("is waiting to start: {reason}"),
        None => "is waiting to start - no logs yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Nothing of the pod runs; `status` is what the API knows of its container.
    fn check(status: &Value, previous: bool, expected: &str) {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [{"name": "c"}]}, "status": {"containerStatuses": status}});
        let pod = Pod::decode(pod.to_string().as_bytes()).unwrap();
        let said = logged(&pod, &Observed::default(), "c", previous).unwrap_err();
        assert_eq!(said, expected);
    }

    #[test]
    fn a_log_that_is_not_there_is_told_in_upstreams_words() {
        let status = |key: &str, state: Value| {
            let mut status =
                json!({"name": "c", "ready": false, "restartCount": 0, "image": "i", "imageID": ""});
            status[key] = state;
            json!([status])
        };
        let waiting = |reason: &str| status("state", json!({"waiting": {"reason": reason}}));
        let begin = "container \"c\" in pod \"p\" is";
        for (reason, told) in [
            ("PodInitializing", "PodInitializing"),
            ("ContainerCreating", "ContainerCreating"),
            ("CreateContainerConfigError", "CreateContainerConfigError"),
            ("ErrImagePull", "image can't be pulled"),
            ("ImagePullBackOff", "trying and failing to pull image"),
        ] {
            check(&waiting(reason), false, &format!("{begin} waiting to start: {told}"));
        }
        let ended = json!({"terminated": {"exitCode": 1}});
        check(&status("state", ended.clone()), false, &format!("{begin} terminated"));
        check(&status("lastState", ended), false, &format!("{begin} terminated"));
        check(&status("state", Value::Null), false, &format!("{begin} waiting to start - no logs yet"));
        check(&json!([]), false, &format!("{begin} not available"));
        check(&waiting("x"), true, "previous terminated container \"c\" in pod \"p\" not found");
    }
}
