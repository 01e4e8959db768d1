//! The work behind each action, as futures that report what came of it. Jobs share nothing but the node's context; the actor alone
//! changes its state.

use super::launch::Failure;
use super::probes::{Answer, Due};
use super::step::{Action, Job};
use super::view::Observed;
use super::{facts, launch, stop};
use crate::cgroup;
use crate::context::Context;
use crate::names;
use crate::sources::Followed;
use crate::spec::{resources, sandbox};
use crate::volumes::setup::{self, Tokens};
use crate::volumes::{MountFailure, teardown};
use futures_core::future::BoxFuture;
use nauplius_base::task::CancellationToken;
use nauplius_base::{errno, time};
use nauplius_client::{ClientError, DeleteOptions, Patch};
use nauplius_cri::v1;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::Pod;
use nauplius_reconcile::EventKind;
use nauplius_reconcile::events::ObjectRef;
use std::sync::Arc;
use std::time::Duration;

const CGROUP_TRIES: usize = 20;
const CGROUP_RETRY: Duration = Duration::from_millis(25);

/// What came of a job.
pub enum Done {
    /// Volumes, with the tokens they hold now.
    Volumes(Result<(), MountFailure>, Tokens),
    /// A sandbox.
    Sandbox(Result<(), String>),
    /// A container.
    Start(String, Result<(), Failure>),
    /// Something was stopped or removed.
    Ended(Job, Result<(), String>),
    /// A probe.
    Probe(Due, Answer),
    /// The API's answer to a new status.
    Status(Result<Box<Pod>, ClientError>),
    /// The API's answer to the deletion.
    Delete(Result<(), ClientError>),
}

/// A job under way.
pub type Work = BoxFuture<'static, Done>;

/// What a job works with.
#[derive(Clone)]
pub struct PodJob {
    /// The node.
    pub context: Arc<Context>,
    /// The pod as it was when the job began.
    pub pod: Arc<Pod>,
    /// What it follows.
    pub followed: Followed,
    /// Cancelled when the pod is to end.
    pub interrupt: CancellationToken,
}

impl PodJob {
    /// Records an event about the pod or one of its containers.
    pub fn event(&self, container: Option<&str>, kind: EventKind, reason: &str, message: String) {
        let about = ObjectRef::of(&*self.pod);
        let about = match container {
            Some(name) => about.at(names::field_path(&self.pod, name)),
            None => about,
        };
        self.context.recorder.record(&about, kind, reason, message);
    }

    /// Begins the work of an action; events are recorded at once and are no work.
    pub fn begin(mut self, action: Action, observed: &Observed, tokens: &mut Tokens) -> Option<Work> {
        let observed = observed.clone();
        let work: Work = match action {
            Action::Volumes => {
                let mut tokens = std::mem::take(tokens);
                Box::pin(async move {
                    let outcome = self.volumes(&observed, &mut tokens).await;
                    Done::Volumes(outcome, tokens)
                })
            }
            Action::Sandbox { attempt } => {
                Box::pin(async move { Done::Sandbox(self.sandbox(&observed, attempt).await) })
            }
            Action::Start { name, attempt } => Box::pin(async move {
                let outcome = launch::launch(&mut self, &observed, &name, attempt).await;
                Done::Start(name, outcome)
            }),
            Action::Kill { id, name, grace_s, message } => Box::pin(async move {
                stop::kill(&self, &id, &name, grace_s, message).await;
                Done::Ended(Job::Kill(id), Ok(()))
            }),
            Action::Resize { containers } => {
                Box::pin(async move { Done::Ended(Job::Resize, self.resize(&containers).await) })
            }
            Action::Terminate { grace_s } => Box::pin(async move {
                stop::terminate(&self, &observed, grace_s).await;
                Done::Ended(Job::Terminate(grace_s), Ok(()))
            }),
            Action::Release => {
                Box::pin(async move { Done::Ended(Job::Release, self.stop_sandboxes(&observed).await) })
            }
            Action::CleanUp => Box::pin(async move { Done::Ended(Job::CleanUp, self.clean_up().await) }),
            Action::Forget => Box::pin(async move { Done::Ended(Job::Forget, self.forget(&observed).await) }),
            Action::Interrupt => {
                self.interrupt.cancel();
                return None;
            }
            Action::Event { container, warning, reason, message } => {
                let kind = if warning { EventKind::Warning } else { EventKind::Normal };
                self.event(container.as_deref(), kind, reason, message);
                return None;
            }
        };
        Some(work)
    }

    async fn volumes(&mut self, observed: &Observed, tokens: &mut Tokens) -> Result<(), MountFailure> {
        let ips = observed.sandbox().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        let outcome = setup::set_up(&context, &mut self.followed, &pod, &ips, tokens).await;
        if let Err(failure) = &outcome {
            self.event(None, EventKind::Warning, "FailedMount", failure.to_string());
        }
        outcome
    }

    async fn sandbox(&self, observed: &Observed, attempt: u32) -> Result<(), String> {
        let outcome = self.try_sandbox(observed, attempt).await;
        if let Err(error) = &outcome {
            let message = format!("Failed to create pod sandbox: {error}");
            self.event(None, EventKind::Warning, "FailedCreatePodSandBox", message);
        }
        outcome
    }

    async fn try_sandbox(&self, observed: &Observed, attempt: u32) -> Result<(), String> {
        self.stop_sandboxes(observed).await?;
        refuse_unsupported(&self.pod)?;
        let config = self.context.sandbox_config(&self.pod, attempt)?;
        std::fs::create_dir_all(&config.log_directory)
            .map_err(|error| format!("cannot make the log directory: {}", errno::words(&error)))?;
        let parent = resources::cgroup_parent(&self.context.config.cgroup_root, &self.pod);
        cgroup::create(&parent, &resources::pod(&self.pod))
            .map_err(|error| format!("cannot make the pod's cgroup: {}", errno::words(&error)))?;
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        self.context.runtime.run_pod_sandbox(request).await.map(drop).map_err(|error| error.to_string())
    }

    /// The pod's own group is widened before its containers are, and narrowed after them: none may exceed it.
    async fn resize(&self, containers: &[(String, String)]) -> Result<(), String> {
        let group = resources::cgroup_parent(&self.context.config.cgroup_root, &self.pod);
        let limits = resources::pod(&self.pod);
        let failed =
            |error: std::io::Error| format!("cannot resize the pod's cgroup: {}", errno::words(&error));
        cgroup::widen(&group, &limits).map_err(failed)?;
        for (id, name) in containers {
            let Some((container, _)) = facts::container(&self.pod, name) else { continue };
            let linux = resources::container(&self.pod, container, self.context.facts.memory);
            let request = v1::UpdateContainerResourcesRequest {
                container_id: id.clone(),
                linux: Some(linux),
                ..v1::UpdateContainerResourcesRequest::default()
            };
            self.context.runtime.update_container_resources(request).await.map_err(|error| error.message)?;
        }
        cgroup::create(&group, &limits).map_err(failed)
    }

    /// Stops the pod's sandboxes, and what still runs in them.
    ///
    /// # Errors
    /// The runtime's, in words.
    pub async fn stop_sandboxes(&self, observed: &Observed) -> Result<(), String> {
        for sandbox in &observed.sandboxes {
            let request = v1::StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            self.context.runtime.stop_pod_sandbox(request).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn clean_up(&self) -> Result<(), String> {
        teardown::volumes(&self.context.config.root_dir, self.pod.uid())
            .map_err(|error| errno::words(&error))?;
        let parent = resources::cgroup_parent(&self.context.config.cgroup_root, &self.pod);
        // Containers that are kept for their logs have left empty cgroups below it, which go with it. The kernel calls a group
        // busy for a moment after its last process.
        for _ in 0..CGROUP_TRIES {
            if cgroup::remove(&parent).is_ok() {
                return Ok(());
            }
            time::sleep(CGROUP_RETRY).await;
        }
        cgroup::remove(&parent)
            .map_err(|error| format!("cannot remove cgroup {parent}: {}", errno::words(&error)))
    }

    async fn forget(&mut self, observed: &Observed) -> Result<(), String> {
        for sandbox in &observed.sandboxes {
            let request = v1::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            self.context.runtime.remove_pod_sandbox(request).await.map_err(|error| error.to_string())?;
        }
        teardown::pod(&self.context.config.root_dir, self.pod.uid()).map_err(|error| errno::words(&error))?;
        let logs = sandbox::log_directory(&self.context.config.log_dir, &self.pod);
        match std::fs::remove_dir_all(&logs) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(errno::words(&error)),
            _ => {}
        }
        for group in resources::cgroup_parents(&self.context.config.cgroup_root, self.pod.uid()) {
            cgroup::remove(&group).map_err(|error| errno::words(&error))?;
        }
        self.followed.release().await;
        Ok(())
    }
}

/// What is not built is refused, not ignored.
fn refuse_unsupported(pod: &Pod) -> Result<(), String> {
    let spec = facts::spec(pod);
    if let Some(name) = spec.runtime_class_name.as_deref().filter(|name| !name.is_empty()) {
        return Err(format!("runtime class {name:?} is not supported by this kubelet"));
    }
    if spec.host_users == Some(false) {
        return Err("user namespaces (hostUsers: false) are not supported by this kubelet".to_owned());
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        return Err("resource claims are not supported by this kubelet".to_owned());
    }
    Ok(())
}

/// Sends a patch of the status.
pub fn write_status(context: &Arc<Context>, pod: &Pod, patch: serde_json::Value) -> Work {
    let (api, name) = (context.client.namespaced::<Pod>(pod.namespace()), pod.name().to_owned());
    tracing::debug!(pod = name, %patch, "telling a pod's status");
    Box::pin(async move {
        Done::Status(api.patch(&name, Some("status"), Patch::Strategic(patch)).await.map(Box::new))
    })
}

/// Confirms a deletion: the pod has ended, the API may forget it.
pub fn confirm_deletion(context: &Arc<Context>, pod: &Pod) -> Work {
    let (api, name) = (context.client.namespaced::<Pod>(pod.namespace()), pod.name().to_owned());
    let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::of_uid(pod.uid()) };
    Box::pin(async move { Done::Delete(api.delete(&name, &options).await.map(drop)) })
}
