//! The two services as object-safe traits over the messages. The lists of calls stand here once; the gRPC adapters are
//! made from them. Nothing here knows a transport.

use crate::CriError;
use crate::v1::*;
use futures_util::stream::BoxStream;
use std::future::Future;
use std::pin::Pin;

/// What every call returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, CriError>> + Send + 'a>>;

/// Transitions of containers and sandboxes, in order. A stream that ends or fails (`DataLoss` when its bounded queue overflowed) means:
/// subscribe again, then list. Whoever subscribes first and lists second misses nothing.
pub type ContainerEvents = BoxStream<'static, Result<ContainerEventResponse, CriError>>;

/// Hands the list of unary runtime calls to another macro.
macro_rules! runtime_calls {
    ($callback:ident) => {
        $callback! {
            /// Names and versions of the runtime and of this interface.
            version: VersionRequest => VersionResponse,
            /// Makes the pod's namespaces, its network and whatever watches over its processes.
            run_pod_sandbox: RunPodSandboxRequest => RunPodSandboxResponse,
            /// Kills what runs in the sandbox and takes its network away. Idempotent; a missing sandbox is a success.
            stop_pod_sandbox: StopPodSandboxRequest => StopPodSandboxResponse,
            /// Removes the sandbox and its containers, by force. Idempotent; a missing sandbox is a success.
            remove_pod_sandbox: RemovePodSandboxRequest => RemovePodSandboxResponse,
            /// State and addresses of one sandbox.
            pod_sandbox_status: PodSandboxStatusRequest => PodSandboxStatusResponse,
            /// The sandboxes that pass a filter.
            list_pod_sandbox: ListPodSandboxRequest => ListPodSandboxResponse,
            /// Prepares a container; nothing of the image runs yet.
            create_container: CreateContainerRequest => CreateContainerResponse,
            /// Runs the command of a created container.
            start_container: StartContainerRequest => StartContainerResponse,
            /// Sends the stop signal, then kills after the timeout. Idempotent; a missing container is a success.
            stop_container: StopContainerRequest => StopContainerResponse,
            /// Removes a container, by force. Idempotent; a missing container is a success.
            remove_container: RemoveContainerRequest => RemoveContainerResponse,
            /// The containers that pass a filter.
            list_containers: ListContainersRequest => ListContainersResponse,
            /// State, exit code, times of one container.
            container_status: ContainerStatusRequest => ContainerStatusResponse,
            /// Changes the cgroup limits of a container.
            update_container_resources: UpdateContainerResourcesRequest => UpdateContainerResourcesResponse,
            /// Opens the log file anew after the kubelet has rotated it.
            reopen_container_log: ReopenContainerLogRequest => ReopenContainerLogResponse,
            /// Runs a command in a container and returns what it wrote.
            exec_sync: ExecSyncRequest => ExecSyncResponse,
            /// Prepares a streaming endpoint that runs a command in a container.
            exec: ExecRequest => ExecResponse,
            /// Prepares a streaming endpoint that joins the streams of a running container.
            attach: AttachRequest => AttachResponse,
            /// Prepares a streaming endpoint that forwards ports of a sandbox.
            port_forward: PortForwardRequest => PortForwardResponse,
            /// Resource usage of one container.
            container_stats: ContainerStatsRequest => ContainerStatsResponse,
            /// Resource usage of the containers that pass a filter.
            list_container_stats: ListContainerStatsRequest => ListContainerStatsResponse,
            /// Resource usage of one sandbox.
            pod_sandbox_stats: PodSandboxStatsRequest => PodSandboxStatsResponse,
            /// Resource usage of the sandboxes that pass a filter.
            list_pod_sandbox_stats: ListPodSandboxStatsRequest => ListPodSandboxStatsResponse,
            /// Tells the runtime what the cluster decided: the node's pod addresses.
            update_runtime_config: UpdateRuntimeConfigRequest => UpdateRuntimeConfigResponse,
            /// The runtime's conditions: `RuntimeReady` and `NetworkReady`.
            status: StatusRequest => StatusResponse,
            /// What the kubelet must agree on with the runtime: the cgroup driver.
            runtime_config: RuntimeConfigRequest => RuntimeConfigResponse,
            /// Tells the runtime that the kubelet has changed the pod's cgroup.
            update_pod_sandbox_resources: UpdatePodSandboxResourcesRequest => UpdatePodSandboxResourcesResponse,
        }
    };
}

/// Hands the list of image calls to another macro.
macro_rules! image_calls {
    ($callback:ident) => {
        $callback! {
            /// The images on this node that pass a filter.
            list_images: ListImagesRequest => ListImagesResponse,
            /// One image; the answer's image is absent when the node does not have it.
            image_status: ImageStatusRequest => ImageStatusResponse,
            /// Fetches an image and returns its id.
            pull_image: PullImageRequest => PullImageResponse,
            /// Removes an image. Idempotent; a missing image is a success.
            remove_image: RemoveImageRequest => RemoveImageResponse,
            /// What the images use of the disk.
            image_fs_info: ImageFsInfoRequest => ImageFsInfoResponse,
        }
    };
}

pub(crate) use {image_calls, runtime_calls};

macro_rules! runtime_trait {
    ($($(#[$doc:meta])* $call:ident: $request:ident => $response:ident,)*) => {
        /// Sandboxes and containers.
        pub trait RuntimeService: Send + Sync {
            $($(#[$doc])* fn $call(&self, request: $request) -> BoxFuture<'_, $response>;)*

            /// Transitions from now on.
            fn container_events(&self, request: GetEventsRequest) -> BoxFuture<'_, ContainerEvents>;
        }
    };
}

macro_rules! image_trait {
    ($($(#[$doc:meta])* $call:ident: $request:ident => $response:ident,)*) => {
        /// Images of containers.
        pub trait ImageService: Send + Sync {
            $($(#[$doc])* fn $call(&self, request: $request) -> BoxFuture<'_, $response>;)*
        }
    };
}

runtime_calls!(runtime_trait);
image_calls!(image_trait);
