//! Containers: create, start, stop, remove, update. It must not know how a shim does it.

use super::registry::{self, Container, ContainerRecord, Phase, find};
use super::sandboxes::{not_ready, remove_directory};
use super::shim_client::{ShimClient, ShimError};
use super::{Inner, blocking, failed, image_volumes, plan};
use crate::spec::{ContainerState, PidNamespace, Rlimit};
use crate::wire::{Answer, Request};
use nauplius_base::{id, time};
use nauplius_cri::v1::{self, ContainerEventType};
use nauplius_cri::{Code, CriError};
use nauplius_images::{Image, ImageError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long the kernel may take to end killed processes.
const KILL_WAIT: Duration = Duration::from_secs(30);

impl Inner {
    pub(crate) fn container(&self, id: &str) -> Result<Container, CriError> {
        let found = self.read(|registry| find(&registry.containers, id).cloned());
        found.ok_or_else(|| {
            CriError::not_found(format!("an error occurred when try to find container {id:?}: not found"))
        })
    }

    /// `CreateContainer`.
    pub(crate) async fn create_container(
        self: &Arc<Self>,
        request: v1::CreateContainerRequest,
    ) -> Result<String, CriError> {
        let config = request.config.ok_or_else(|| CriError::invalid("container config is missing"))?;
        let sandbox_id = request.pod_sandbox_id;
        let ready = self.read(|registry| {
            find(&registry.sandboxes, &sandbox_id)
                .map(|sandbox| (sandbox.record.id.clone(), sandbox.record.phase))
        });
        let sandbox_id = match ready {
            Some((id, Phase::Ready)) => id,
            Some((id, _)) => return Err(not_ready(&id)),
            None => {
                return Err(CriError::not_found(format!(
                    "failed to find sandbox id {sandbox_id:?}: not found"
                )));
            }
        };
        let image = self.find_image(config.image.as_ref())?;
        let id = id::hex(32);
        let volumes = self.volume_images(&config)?;
        for needed in std::iter::once(&image).chain(&volumes) {
            self.images.retain(&id, &needed.id).await.map_err(|error| image_error(&error))?;
        }
        let (inner, container, made) = (Arc::clone(self), id.clone(), sandbox_id.clone());
        let created =
            blocking(move || inner.make_container(&container, &made, config, &image, &volumes)).await;
        match created {
            Ok(()) => {
                self.emit(ContainerEventType::ContainerCreatedEvent, &id, &sandbox_id);
                Ok(id)
            }
            Err(error) => {
                if let Err(error) = self.images.release(&id).await {
                    tracing::warn!(%error, "an image could not be released");
                }
                Err(error)
            }
        }
    }

    fn find_image(&self, spec: Option<&v1::ImageSpec>) -> Result<Image, CriError> {
        let name = spec.map_or("", |spec| spec.image.as_str());
        self.images.find(name).map_err(|error| image_error(&error))
    }

    fn volume_images(&self, config: &v1::ContainerConfig) -> Result<Vec<Image>, CriError> {
        let named = config
            .mounts
            .iter()
            .filter_map(|mount| mount.image.as_ref())
            .filter(|image| !image.image.is_empty());
        named.map(|image| self.find_image(Some(image))).collect()
    }

    /// Makes directory and cgroup; on failure nothing of them stays.
    fn make_container(
        &self,
        id: &str,
        sandbox: &str,
        config: v1::ContainerConfig,
        image: &Image,
        volumes: &[Image],
    ) -> Result<(), CriError> {
        let directory = self.container_dir(id);
        let outcome = self.try_make_container(id, sandbox, &directory, config, image, volumes);
        if outcome.is_err() {
            let parent = self.read(|registry| {
                registry.sandboxes.get(sandbox).map(|sandbox| sandbox.record.cgroup_parent.clone())
            });
            if let Some(Err(error)) = parent.map(|parent| self.layout.remove(&format!("{parent}/{id}"))) {
                tracing::warn!(%error, "the cgroup of a container that could not be created is left");
            }
            remove_directory(&directory)?;
        }
        outcome
    }

    fn try_make_container(
        &self,
        id: &str,
        sandbox: &str,
        directory: &Path,
        config: v1::ContainerConfig,
        image: &Image,
        volumes: &[Image],
    ) -> Result<(), CriError> {
        let home = self
            .read(|registry| registry.sandboxes.get(sandbox).cloned())
            .ok_or_else(|| not_ready(sandbox))?;
        let group = format!("{}/{id}", home.record.cgroup_parent.trim_end_matches('/'));
        let rlimits: Vec<Rlimit> = self
            .options
            .rlimits
            .iter()
            .map(|(resource, soft, hard)| Rlimit { resource: *resource, soft: *soft, hard: *hard })
            .collect();
        let sandbox_dir = self.sandbox_dir(sandbox);
        let sandbox_group = home.record.cgroup();
        let plan = plan::plan(
            &plan::Place { id, directory, group: &group },
            &config,
            &plan::Home {
                directory: &sandbox_dir,
                config: &home.config,
                host_network: home.record.host_network,
                host_ipc: home.record.host_ipc,
                group: &sandbox_group,
            },
            &plan::Content { image, layers: self.layers(&image.id)? },
            &plan::Machine {
                layout: &self.layout,
                capabilities: self.capabilities,
                oom_floor: self.oom_floor,
                rlimits: &rlimits,
            },
            &mut |volume| self.layers(&self.find_image(Some(volume))?.id),
        )?;
        let record = ContainerRecord {
            id: id.to_owned(),
            sandbox: sandbox.to_owned(),
            created_at: time::unix_nanos(),
            image_id: image.id.clone(),
            image_ref: image.repo_digests.first().unwrap_or(&image.id).clone(),
            volumes: volumes.iter().map(|image| image.id.clone()).collect(),
            cgroup: group.clone(),
            stop_signal: plan.stop_signal,
            uid: plan.spec.process.uid,
            gid: plan.spec.process.gid,
            groups: plan.spec.process.groups.clone(),
            pid_namespace: plan.spec.namespaces.pid.clone(),
            privileged: plan.privileged,
            log_directory: home.config.log_directory.clone(),
        };
        if plan.spec.namespaces.pid == PidNamespace::Pod {
            self.layout.create(&sandbox_group).map_err(cgroup_error)?;
        }
        self.layout
            .create(&group)
            .and_then(|()| self.layout.apply(&group, &plan.resources))
            .map_err(cgroup_error)?;
        write_container(directory, &plan, &record, &config)
            .map_err(failed("create the container directory"))?;
        image_volumes::fill(&plan.volumes, &plan.spec.rootfs.lower)
            .map_err(failed("fill the volumes that the image declares"))?;
        let state = ContainerState { id: id.to_owned(), ..ContainerState::default() };
        let container = Container { record, config, state, starting: false, cpu_sample: None };
        self.write(|registry| registry.containers.insert(id.to_owned(), container));
        Ok(())
    }

    /// The layers of an image, topmost first; an image without any gets an empty directory.
    fn layers(&self, image_id: &str) -> Result<Vec<PathBuf>, CriError> {
        let layers = self.images.layers(image_id).map_err(|error| image_error(&error))?;
        Ok(if layers.is_empty() { vec![self.options.state_dir.join("empty")] } else { layers })
    }

    /// `StartContainer`.
    pub(crate) async fn start_container(self: &Arc<Self>, id: &str) -> Result<(), CriError> {
        let container = self.container(id)?;
        let id = container.record.id.clone();
        let claimed = self.write(|registry| {
            let container = registry.containers.get_mut(&id)?;
            let startable = container.state.started_at == 0 && !container.starting;
            container.starting |= startable;
            startable.then_some(())
        });
        if claimed.is_none() {
            let state = container.cri_state().as_str_name();
            return Err(CriError::new(
                Code::Unknown,
                format!("failed to start container {id:?}: container is in {state} state"),
            ));
        }
        let request = Request::Start { directory: self.container_dir(&id).display().to_string() };
        let answer =
            ShimClient::new(&self.sandbox_dir(&container.record.sandbox)).request(&request, &[]).await;
        self.write(|registry| registry.containers.get_mut(&id).map(|container| container.starting = false));
        // The shim has recorded what happened before it answered.
        let state = registry::load_state(&self.container_dir(&id), &id)
            .map_err(failed("read the container's state"))?;
        self.apply_state(state);
        match answer {
            Ok(Answer::Started { .. }) => Ok(()),
            Ok(_) => Err(CriError::unknown(ShimError::Protocol.to_string())),
            Err(ShimError::Gone) => Err(not_ready(&container.record.sandbox)),
            Err(ShimError::Refused(reason)) => {
                Err(CriError::unknown(format!("{}{reason}", crate::shim::NOT_STARTED)))
            }
            Err(error) => Err(CriError::unknown(format!("failed to create containerd task: {error}"))),
        }
    }

    /// `StopContainer`.
    pub(crate) async fn stop_container(self: &Arc<Self>, id: &str, timeout_s: i64) -> Result<(), CriError> {
        let Some(container) = self.read(|registry| find(&registry.containers, id).cloned()) else {
            return Ok(());
        };
        let id = container.record.id.clone();
        let grace = Duration::from_secs(u64::try_from(timeout_s).unwrap_or(0));
        if !container.state.running() {
            return Ok(());
        }
        let ended = |registry: &registry::Registry| {
            registry.containers.get(&id).is_none_or(|container| !container.state.running())
        };
        if !grace.is_zero() {
            self.signal(&container, container.record.stop_signal).await?;
            if self.wait_until(grace, ended).await {
                return Ok(());
            }
        }
        self.signal(&container, libc::SIGKILL).await?;
        if self.wait_until(KILL_WAIT, ended).await {
            return Ok(());
        }
        Err(CriError::new(
            Code::DeadlineExceeded,
            format!("failed to kill container {id:?}: its processes do not end"),
        ))
    }

    async fn signal(&self, container: &Container, signal: i32) -> Result<(), CriError> {
        let request = Request::Kill { id: container.record.id.clone(), signal };
        match ShimClient::new(&self.sandbox_dir(&container.record.sandbox)).request(&request, &[]).await {
            // A dead shim has taken the container along; whoever follows it will say so.
            Ok(_) | Err(ShimError::Gone) => Ok(()),
            Err(error) => Err(CriError::unknown(format!(
                "failed to signal container {:?}: {error}",
                container.record.id
            ))),
        }
    }

    /// `RemoveContainer`.
    pub(crate) async fn remove_container(self: &Arc<Self>, id: &str) -> Result<(), CriError> {
        let Some(container) = self.read(|registry| find(&registry.containers, id).cloned()) else {
            return Ok(());
        };
        let record = container.record;
        self.stop_container(&record.id, 0).await?;
        let forget = Request::Forget { id: record.id.clone() };
        match ShimClient::new(&self.sandbox_dir(&record.sandbox)).request(&forget, &[]).await {
            Ok(_) | Err(ShimError::Gone) => {}
            Err(error) => {
                return Err(CriError::unknown(format!(
                    "failed to remove container {:?}: {error}",
                    record.id
                )));
            }
        }
        let (inner, group, directory) =
            (Arc::clone(self), record.cgroup.clone(), self.container_dir(&record.id));
        blocking(move || {
            inner.layout.remove(&group).map_err(cgroup_error)?;
            remove_directory(&directory)
        })
        .await?;
        self.images.release(&record.id).await.map_err(|error| image_error(&error))?;
        self.write(|registry| registry.containers.remove(&record.id));
        self.emit(ContainerEventType::ContainerDeletedEvent, &record.id, &record.sandbox);
        Ok(())
    }

    /// `UpdateContainerResources`.
    pub(crate) async fn update_resources(
        self: &Arc<Self>,
        request: v1::UpdateContainerResourcesRequest,
    ) -> Result<(), CriError> {
        let container = self.container(&request.container_id)?;
        let Some(limits) = request.linux else { return Ok(()) };
        let resources = plan::resources(Some(&limits))?;
        if container.state.finished_at != 0 {
            return Ok(());
        }
        let (inner, group) = (Arc::clone(self), container.record.cgroup.clone());
        blocking(move || inner.layout.apply(&group, &resources).map_err(cgroup_error)).await?;
        let id = container.record.id;
        let changed = self.write(|registry| {
            let container = registry.containers.get_mut(&id)?;
            let linux = container.config.linux.get_or_insert_default();
            merge_limits(linux.resources.get_or_insert_default(), &limits);
            Some((container.record.clone(), registry::encode(&container.config)))
        });
        let Some((record, config)) = changed else { return Ok(()) };
        registry::save(&self.container_dir(&id), &record, Some(&config))
            .map_err(failed("store the container"))
    }

    /// `ReopenContainerLog`.
    pub(crate) async fn reopen_log(&self, id: &str) -> Result<(), CriError> {
        let container = self.container(id)?;
        if !container.state.running() {
            return Err(CriError::unknown("container is not running"));
        }
        let request = Request::ReopenLog { id: container.record.id.clone() };
        let client = ShimClient::new(&self.sandbox_dir(&container.record.sandbox));
        let answer = client.request(&request, &[]).await;
        answer.map(drop).map_err(|error| CriError::unknown(format!("failed to reopen the log: {error}")))
    }
}

fn write_container(
    directory: &Path,
    plan: &plan::Plan,
    record: &ContainerRecord,
    config: &v1::ContainerConfig,
) -> std::io::Result<()> {
    for name in ["upper", "work", "rootfs"] {
        std::fs::create_dir_all(directory.join(name))?;
    }
    // The upper layer's root is the container's root directory.
    std::fs::set_permissions(directory.join("upper"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    std::fs::write(directory.join(crate::shim::SPEC_FILE), serde_json::to_vec(&plan.spec)?)?;
    if let Some(filters) = &plan.seccomp {
        std::fs::write(directory.join(plan::SECCOMP_FILE), filters)?;
    }
    registry::save(directory, record, Some(&registry::encode(config)))
}

fn cgroup_error(error: crate::cgroup::CgroupError) -> CriError {
    CriError::unknown(format!("failed to set up the container's cgroup: {error}"))
}

/// An image's error for the kubelet, which tells "not there" from the rest.
pub(crate) fn image_error(error: &ImageError) -> CriError {
    let code = if error.is_not_found() { Code::NotFound } else { Code::Unknown };
    CriError::new(code, error.to_string())
}

/// What an update names replaces what was; the rest stays.
fn merge_limits(known: &mut v1::LinuxContainerResources, new: &v1::LinuxContainerResources) {
    fn take<T: Default + PartialEq + Clone>(known: &mut T, new: &T) {
        if *new != T::default() {
            known.clone_from(new);
        }
    }
    take(&mut known.cpu_period, &new.cpu_period);
    take(&mut known.cpu_quota, &new.cpu_quota);
    take(&mut known.cpu_shares, &new.cpu_shares);
    take(&mut known.memory_limit_in_bytes, &new.memory_limit_in_bytes);
    take(&mut known.memory_swap_limit_in_bytes, &new.memory_swap_limit_in_bytes);
    take(&mut known.oom_score_adj, &new.oom_score_adj);
    take(&mut known.cpuset_cpus, &new.cpuset_cpus);
    take(&mut known.cpuset_mems, &new.cpuset_mems);
    take(&mut known.hugepage_limits, &new.hugepage_limits);
    take(&mut known.unified, &new.unified);
}
