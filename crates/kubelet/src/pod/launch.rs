//! Brings one container up: image, environment, mounts, create, start and its postStart hook; with upstream's events, reasons and words.

use super::jobs::PodJob;
use super::view::{ContainerState, ContainerView, Observed};
use super::{facts, hooks, image, stop};
use crate::names;
use crate::spec::{container as config, dns, env, hosts, sandbox};
use crate::volumes::{env_file, mounts};
use nauplius_base::{errno, time};
use nauplius_cri::v1;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Container, FileKeySelector, Pod};
use nauplius_reconcile::EventKind;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// How long a container waits for the first list of services.
const SERVICES_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a container is not running: what its waiting state says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `ErrImagePull`, `CreateContainerConfigError`, ...
    pub reason: &'static str,
    /// In words.
    pub message: String,
    /// Whether a pull failed: it is backed off by image.
    pub pull: bool,
}

impl Failure {
    /// Of reason and words.
    pub fn new(reason: &'static str, message: String) -> Self {
        Self { reason, message, pull: false }
    }
}

/// Brings the container up.
///
/// # Errors
/// What its waiting state says; the events are recorded.
pub async fn launch(job: &mut PodJob, observed: &Observed, name: &str, attempt: u32) -> Result<(), Failure> {
    let outcome = try_launch(job, observed, name, attempt).await;
    if let Err(failure) = &outcome
        && failure.reason != "PostStartHookError"
        // A pod that is being deleted has not failed.
        && !job.interrupt.is_cancelled()
    {
        let said = if failure.pull { failure.reason } else { failure.message.as_str() };
        job.event(Some(name), EventKind::Warning, "Failed", format!("Error: {said}"));
    }
    outcome
}

async fn try_launch(job: &mut PodJob, observed: &Observed, name: &str, attempt: u32) -> Result<(), Failure> {
    let pod = std::sync::Arc::clone(&job.pod);
    let missing = || Failure::new("CreateContainerError", format!("container {name:?} is not in the pod"));
    let (container, _) = facts::any_container(&pod, name).ok_or_else(missing)?;
    let container = &*container;
    let no_sandbox = || Failure::new("CreateContainerError", "the pod has no sandbox".to_owned());
    let sandbox = observed.sandbox().ok_or_else(no_sandbox)?;
    let ips = if facts::host_network(&pod) {
        vec![job.context.config.node_ip.to_string()]
    } else {
        sandbox.ips.clone()
    };
    let image = image::ensure(job, container).await?;
    let environment = environment(job, container, &ips).await?;
    if job.interrupt.is_cancelled() {
        return Err(Failure::new("CreateContainerError", "the pod is being deleted".to_owned()));
    }
    remove_unstarted(job, observed, name).await?;
    let target = target(&pod, name, observed)?;
    let config = container_config(job, container, attempt, &image, environment, &ips, target)?;
    let id = create(job, container, &sandbox.id, config).await?;
    remove_older(job, observed, name).await;
    start(job, container, &id).await?;
    post_start(job, container, &id, &ips).await
}

/// The id of the container in whose process namespace this one is to run.
fn target<'a>(pod: &Pod, name: &str, observed: &'a Observed) -> Result<Option<&'a str>, Failure> {
    let Some(wanted) = facts::target_of(pod, name) else { return Ok(None) };
    let found = observed.current(wanted);
    let missing = || config_error(format!("unable to find target container {wanted}"));
    found.map(|view| Some(view.id.as_str())).ok_or_else(missing)
}

fn config_error(message: String) -> Failure {
    Failure::new("CreateContainerConfigError", message)
}

async fn environment(
    job: &mut PodJob,
    container: &Container,
    ips: &[String],
) -> Result<Vec<(String, String)>, Failure> {
    let mut objects = env::Objects {
        config_maps: BTreeMap::new(),
        secrets: BTreeMap::new(),
        services: Vec::new(),
        files: BTreeMap::new(),
    };
    let sources = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
    let keyed_maps =
        sources.clone().filter_map(|source| source.config_map_key_ref.as_ref()).map(|key| &key.name);
    let keyed_secrets = sources.filter_map(|source| source.secret_key_ref.as_ref()).map(|key| &key.name);
    let from = || container.env_from.iter().flatten();
    let all_maps =
        from().filter_map(|source| source.config_map_ref.as_ref()).map(|reference| &reference.name);
    let all_secrets = from().filter_map(|source| source.secret_ref.as_ref()).map(|reference| &reference.name);
    for reference in sources_of_files(container) {
        let text = env_file::read(&job.context.config.root_dir, &job.pod, reference).map_err(config_error)?;
        objects.files.insert((reference.volume_name.clone(), reference.path.clone()), text);
    }
    for name in keyed_maps.chain(all_maps) {
        let found = job.followed.config_map(name).await.map_err(config_error)?;
        objects.config_maps.insert(name.clone(), found);
    }
    for name in keyed_secrets.chain(all_secrets) {
        let found = job.followed.secret(name).await.map_err(config_error)?;
        objects.secrets.insert(name.clone(), found);
    }
    let synced = time::timeout(SERVICES_TIMEOUT, job.context.services.synced()).await;
    synced.map_err(|_| {
        config_error("services have not yet been read at least once, cannot construct envvars".to_owned())
    })?;
    let services = job.context.services.snapshot();
    objects.services = services.in_namespace(job.pod.namespace()).cloned().collect();
    if job.pod.namespace() != "default" {
        objects.services.extend(services.find("default", "kubernetes").cloned());
    }
    let place = env::Place { pod_ips: ips, node: &job.context.facts };
    env::environment(&job.pod, container, &objects, &place).map_err(config_error)
}

fn sources_of_files(container: &Container) -> impl Iterator<Item = &FileKeySelector> {
    let sources = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
    sources.filter_map(|source| source.file_key_ref.as_ref())
}

fn container_config(
    job: &PodJob,
    container: &Container,
    attempt: u32,
    image: &image::Ready,
    environment: Vec<(String, String)>,
    ips: &[String],
    target: Option<&str>,
) -> Result<v1::ContainerConfig, Failure> {
    let root = &job.context.config.root_dir;
    let hosts = hosts_text(job, ips);
    let mounts =
        mounts::prepare(root, &job.pod, container, &environment, Some(&hosts)).map_err(config_error)?;
    let logs = sandbox::log_directory(&job.context.config.log_dir, &job.pod).join(&container.name);
    fs::create_dir_all(&logs).map_err(|error| {
        config_error(format!(
            "create container log directory for container {} failed: mkdir {}: {}",
            container.name,
            logs.display(),
            errno::words(&error)
        ))
    })?;
    let profiles = job.context.seccomp_profiles();
    let resolved = config::Resolved {
        attempt,
        image_id: &image.id,
        image_user: &image.user,
        environment,
        mounts,
        machine_memory: job.context.facts.memory,
        seccomp_profiles: &profiles,
        target,
    };
    config::config(&job.pod, container, resolved).map_err(config_error)
}

fn hosts_text(job: &PodJob, ips: &[String]) -> String {
    let aliases = facts::spec(&job.pod).host_aliases.as_deref().unwrap_or_default();
    if facts::host_network(&job.pod) {
        // A host without the file has no names.
        let host = fs::read_to_string("/etc/hosts").unwrap_or_default();
        return hosts::host_network(&host, aliases);
    }
    let (hostname, domain) = dns::names(&job.pod, &job.context.config.cluster_domain);
    hosts::own_network(ips, &hostname, &domain, aliases)
}

async fn create(
    job: &PodJob,
    container: &Container,
    sandbox: &str,
    config: v1::ContainerConfig,
) -> Result<String, Failure> {
    let failed = |message: String| Failure::new("CreateContainerError", message);
    let sandbox_config = job.context.sandbox_config(&job.pod, 0).map_err(failed)?;
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: sandbox.to_owned(),
        config: Some(config),
        sandbox_config: Some(sandbox_config),
    };
    let answer =
        job.context.runtime.create_container(request).await.map_err(|error| failed(error.message))?;
    job.event(Some(&container.name), EventKind::Normal, "Created", "Container created".to_owned());
    Ok(answer.container_id)
}

/// What a kubelet that was killed between create and start has left: its place is taken by this start.
async fn remove_unstarted(job: &PodJob, observed: &Observed, name: &str) -> Result<(), Failure> {
    let unstarted =
        observed.containers.iter().filter(|view| view.name == name && view.state == ContainerState::Created);
    for view in unstarted {
        let request = v1::RemoveContainerRequest { container_id: view.id.clone() };
        let removed = job.context.runtime.remove_container(request).await;
        removed.map_err(|error| Failure::new("CreateContainerError", error.message))?;
    }
    Ok(())
}

/// The container before this one stays, for its log and its end; those before it go.
async fn remove_older(job: &PodJob, observed: &Observed, name: &str) {
    let older: Vec<&ContainerView> = observed
        .containers
        .iter()
        .filter(|view| view.name == name && view.state != ContainerState::Created)
        .skip(1)
        .collect();
    for view in older {
        let request = v1::RemoveContainerRequest { container_id: view.id.clone() };
        if let Err(error) = job.context.runtime.remove_container(request).await {
            tracing::warn!(container = view.id, %error, "an old container could not be removed");
            continue;
        }
        if !view.log_path.is_empty() {
            crate::logs::rotate::remove(std::path::Path::new(&view.log_path));
        }
    }
}

async fn start(job: &PodJob, container: &Container, id: &str) -> Result<(), Failure> {
    let request = v1::StartContainerRequest { container_id: id.to_owned() };
    job.context
        .runtime
        .start_container(request)
        .await
        .map_err(|error| Failure::new("RunContainerError", error.message))?;
    job.event(Some(&container.name), EventKind::Normal, "Started", "Container started".to_owned());
    Ok(())
}

async fn post_start(job: &PodJob, container: &Container, id: &str, ips: &[String]) -> Result<(), Failure> {
    let Some(handler) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref())
    else {
        return Ok(());
    };
    let hook = hooks::run(job, container, id, ips.first().map(String::as_str), handler);
    let ran = job.interrupt.run_until_cancelled(hook).await;
    let Some(Err(error)) = ran else { return Ok(()) };
    tracing::debug!(
        pod = names::describe(&job.pod),
        container = container.name,
        error,
        "a postStart hook failed"
    );
    job.event(
        Some(&container.name),
        EventKind::Warning,
        "FailedPostStartHook",
        "PostStartHook failed".to_owned(),
    );
    stop::kill(job, id, &container.name, facts::grace_s(&job.pod), "FailedPostStartHook".to_owned()).await;
    Err(Failure::new("PostStartHookError", error))
}
