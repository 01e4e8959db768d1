//! The CRI traits, call by call: each unpacks its request, hands it on, and packs the answer. It must not decide anything.

use super::registry::find;
use super::{Inner, Runtime, blocking, status};
use nauplius_cri::v1::*;
use nauplius_cri::{BoxFuture, ContainerEvents, CriError, ImageService, RuntimeService};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The version of the interface.
const API_VERSION: &str = "v1";

impl Inner {
    fn conditions(&self) -> Vec<RuntimeCondition> {
        let network = self.network.ready();
        let condition = |kind: &str, outcome: Result<(), String>, reason: &str| RuntimeCondition {
            r#type: kind.to_owned(),
            status: outcome.is_ok(),
            reason: if outcome.is_ok() { String::new() } else { reason.to_owned() },
            message: outcome.err().unwrap_or_default(),
        };
        vec![
            condition("RuntimeReady", Ok(()), ""),
            condition("NetworkReady", network, "NetworkPluginNotReady"),
        ]
    }

    fn runtime_status(&self, verbose: bool) -> StatusResponse {
        let mut info = BTreeMap::new();
        if verbose {
            let text =
                serde_json::json!({ "cgroup": self.layout.version(), "stateDir": self.options.state_dir });
            info.insert("config".to_owned(), text.to_string());
        }
        StatusResponse {
            status: Some(RuntimeStatus { conditions: self.conditions() }),
            info,
            runtime_handlers: vec![RuntimeHandler {
                name: String::new(),
                features: Some(RuntimeHandlerFeatures {
                    recursive_read_only_mounts: true,
                    user_namespaces: false,
                }),
            }],
            features: Some(RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: false,
            }),
        }
    }
}

/// Runs a call on the shared runtime.
fn call<T, F>(runtime: &Runtime, work: impl FnOnce(Arc<Inner>) -> F) -> BoxFuture<'_, T>
where
    F: Future<Output = Result<T, CriError>> + Send + 'static,
{
    Box::pin(work(Arc::clone(&runtime.0)))
}

/// An answer that is there already.
fn now<'a, T: Send + 'a>(answer: Result<T, CriError>) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(answer))
}

impl RuntimeService for Runtime {
    fn version(&self, _: VersionRequest) -> BoxFuture<'_, VersionResponse> {
        now(Ok(VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "nauplius".to_owned(),
            runtime_version: self.0.options.version.clone(),
            runtime_api_version: API_VERSION.to_owned(),
        }))
    }

    fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> BoxFuture<'_, RunPodSandboxResponse> {
        call(self, |inner| async move {
            Ok(RunPodSandboxResponse { pod_sandbox_id: inner.run_sandbox(request).await? })
        })
    }

    fn stop_pod_sandbox(&self, request: StopPodSandboxRequest) -> BoxFuture<'_, StopPodSandboxResponse> {
        call(self, |inner| async move {
            inner.stop_sandbox(&request.pod_sandbox_id).await?;
            Ok(StopPodSandboxResponse {})
        })
    }

    fn remove_pod_sandbox(
        &self,
        request: RemovePodSandboxRequest,
    ) -> BoxFuture<'_, RemovePodSandboxResponse> {
        call(self, |inner| async move {
            inner.remove_sandbox(&request.pod_sandbox_id).await?;
            Ok(RemovePodSandboxResponse {})
        })
    }

    fn pod_sandbox_status(
        &self,
        request: PodSandboxStatusRequest,
    ) -> BoxFuture<'_, PodSandboxStatusResponse> {
        now(self.0.sandbox_status_of(&request))
    }

    fn list_pod_sandbox(&self, request: ListPodSandboxRequest) -> BoxFuture<'_, ListPodSandboxResponse> {
        let items = self.0.read(|registry| {
            let kept = registry
                .sandboxes
                .values()
                .filter(|sandbox| status::keeps_sandbox(request.filter.as_ref(), sandbox));
            kept.map(status::sandbox_item).collect()
        });
        now(Ok(ListPodSandboxResponse { items }))
    }

    fn create_container(&self, request: CreateContainerRequest) -> BoxFuture<'_, CreateContainerResponse> {
        call(self, |inner| async move {
            Ok(CreateContainerResponse { container_id: inner.create_container(request).await? })
        })
    }

    fn start_container(&self, request: StartContainerRequest) -> BoxFuture<'_, StartContainerResponse> {
        call(self, |inner| async move {
            inner.start_container(&request.container_id).await?;
            Ok(StartContainerResponse {})
        })
    }

    fn stop_container(&self, request: StopContainerRequest) -> BoxFuture<'_, StopContainerResponse> {
        call(self, |inner| async move {
            inner.stop_container(&request.container_id, request.timeout).await?;
            Ok(StopContainerResponse {})
        })
    }

    fn remove_container(&self, request: RemoveContainerRequest) -> BoxFuture<'_, RemoveContainerResponse> {
        call(self, |inner| async move {
            inner.remove_container(&request.container_id).await?;
            Ok(RemoveContainerResponse {})
        })
    }

    fn list_containers(&self, request: ListContainersRequest) -> BoxFuture<'_, ListContainersResponse> {
        let containers = self.0.read(|registry| {
            let kept = registry
                .containers
                .values()
                .filter(|container| status::keeps_container(request.filter.as_ref(), container));
            kept.map(status::container_item).collect()
        });
        now(Ok(ListContainersResponse { containers }))
    }

    fn container_status(&self, request: ContainerStatusRequest) -> BoxFuture<'_, ContainerStatusResponse> {
        now(self.0.status_of(&request))
    }

    fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> BoxFuture<'_, UpdateContainerResourcesResponse> {
        call(self, |inner| async move {
            inner.update_resources(request).await?;
            Ok(UpdateContainerResourcesResponse {})
        })
    }

    fn reopen_container_log(
        &self,
        request: ReopenContainerLogRequest,
    ) -> BoxFuture<'_, ReopenContainerLogResponse> {
        call(self, |inner| async move {
            inner.reopen_log(&request.container_id).await?;
            Ok(ReopenContainerLogResponse {})
        })
    }

    fn exec_sync(&self, request: ExecSyncRequest) -> BoxFuture<'_, ExecSyncResponse> {
        call(self, |inner| async move { inner.exec_sync(request).await })
    }

    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, ExecResponse> {
        now(self.0.exec_url(request).map(|url| ExecResponse { url }))
    }

    fn attach(&self, request: AttachRequest) -> BoxFuture<'_, AttachResponse> {
        now(self.0.attach_url(&request).map(|url| AttachResponse { url }))
    }

    fn port_forward(&self, request: PortForwardRequest) -> BoxFuture<'_, PortForwardResponse> {
        now(self.0.port_forward_url(&request).map(|url| PortForwardResponse { url }))
    }

    fn container_stats(&self, request: ContainerStatsRequest) -> BoxFuture<'_, ContainerStatsResponse> {
        call(self, |inner| async move {
            Ok(ContainerStatsResponse { stats: Some(inner.container_stats(&request.container_id).await?) })
        })
    }

    fn list_container_stats(
        &self,
        request: ListContainerStatsRequest,
    ) -> BoxFuture<'_, ListContainerStatsResponse> {
        call(self, |inner| async move {
            Ok(ListContainerStatsResponse { stats: inner.list_container_stats(request.filter).await? })
        })
    }

    fn pod_sandbox_stats(&self, request: PodSandboxStatsRequest) -> BoxFuture<'_, PodSandboxStatsResponse> {
        call(self, |inner| async move {
            Ok(PodSandboxStatsResponse { stats: Some(inner.sandbox_stats(&request.pod_sandbox_id).await?) })
        })
    }

    fn list_pod_sandbox_stats(
        &self,
        request: ListPodSandboxStatsRequest,
    ) -> BoxFuture<'_, ListPodSandboxStatsResponse> {
        call(self, |inner| async move {
            Ok(ListPodSandboxStatsResponse { stats: inner.list_sandbox_stats(request.filter).await? })
        })
    }

    fn update_runtime_config(
        &self,
        request: UpdateRuntimeConfigRequest,
    ) -> BoxFuture<'_, UpdateRuntimeConfigResponse> {
        let network = request.runtime_config.and_then(|config| config.network_config);
        let range = network.map(|network| network.pod_cidr).filter(|range| !range.is_empty());
        call(self, |inner| {
            blocking(move || {
                range.iter().for_each(|range| inner.network.pod_cidr(range));
                Ok(UpdateRuntimeConfigResponse {})
            })
        })
    }

    fn status(&self, request: StatusRequest) -> BoxFuture<'_, StatusResponse> {
        // Whoever connects sandboxes may mend what it looks at.
        call(self, |inner| blocking(move || Ok(inner.runtime_status(request.verbose))))
    }

    fn runtime_config(&self, _: RuntimeConfigRequest) -> BoxFuture<'_, RuntimeConfigResponse> {
        let linux = LinuxRuntimeConfiguration { cgroup_driver: CgroupDriver::Cgroupfs.into() };
        now(Ok(RuntimeConfigResponse { linux: Some(linux) }))
    }

    fn update_pod_sandbox_resources(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> BoxFuture<'_, UpdatePodSandboxResourcesResponse> {
        // The kubelet has changed the pod's cgroup itself; this runtime derives nothing from it.
        let known = self.0.read(|registry| find(&registry.sandboxes, &request.pod_sandbox_id).is_some());
        now(if known {
            Ok(UpdatePodSandboxResourcesResponse {})
        } else {
            Err(CriError::not_found(format!(
                "failed to find sandbox {:?}: not found",
                request.pod_sandbox_id
            )))
        })
    }

    fn container_events(&self, _: GetEventsRequest) -> BoxFuture<'_, ContainerEvents> {
        now(Ok(self.0.subscribe()))
    }
}

impl ImageService for Runtime {
    fn list_images(&self, request: ListImagesRequest) -> BoxFuture<'_, ListImagesResponse> {
        now(Ok(ListImagesResponse { images: self.0.list_images(request.filter) }))
    }

    fn image_status(&self, request: ImageStatusRequest) -> BoxFuture<'_, ImageStatusResponse> {
        call(self, |inner| async move { inner.image_status(request).await })
    }

    fn pull_image(&self, request: PullImageRequest) -> BoxFuture<'_, PullImageResponse> {
        call(
            self,
            |inner| async move { Ok(PullImageResponse { image_ref: inner.pull_image(request).await? }) },
        )
    }

    fn remove_image(&self, request: RemoveImageRequest) -> BoxFuture<'_, RemoveImageResponse> {
        call(self, |inner| async move {
            inner.remove_image(request).await?;
            Ok(RemoveImageResponse {})
        })
    }

    fn image_fs_info(&self, _: ImageFsInfoRequest) -> BoxFuture<'_, ImageFsInfoResponse> {
        call(self, |inner| async move { inner.image_fs_info().await })
    }
}
