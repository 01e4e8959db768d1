//! Containers as small state machines: they run until they are stopped or told to end. What a test needs to know is kept.

use futures_util::StreamExt;
use nauplius_cri::v1::*;
use nauplius_cri::{BoxFuture, ContainerEvents, CriError, ImageService, RuntimeService};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{broadcast, watch};

#[derive(Default)]
struct State {
    clock: i64,
    sandboxes: BTreeMap<String, PodSandboxStatus>,
    containers: BTreeMap<String, (String, ContainerConfig, ContainerStatus)>,
    images: Vec<Image>,
    /// With the password that each asks for, if it does.
    pullable: BTreeMap<String, Option<String>>,
    calls: Vec<String>,
    exec_code: i32,
    endpoint: String,
    refuses_starts: bool,
    lacks_network: bool,
}

/// The runtime. Clones share it.
#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<ContainerEventResponse>,
    /// Whether containers end when they are told to.
    obedient: watch::Sender<bool>,
}

fn now() -> i64 {
    nauplius_base::time::unix_nanos()
}

fn image(name: &str) -> Image {
    Image { id: format!("sha256:{name}"), repo_tags: vec![name.to_owned()], size: 1234, ..Image::default() }
}

impl Fake {
    pub fn new(images: &[&str]) -> Self {
        let state = State { images: images.iter().map(|name| image(name)).collect(), ..State::default() };
        let (events, obedient) = (broadcast::Sender::new(256), watch::Sender::new(true));
        Self { state: Arc::new(Mutex::new(state)), events, obedient }
    }

    /// Lets an image be pulled.
    pub fn publish(&self, name: &str) {
        self.state.lock().unwrap().pullable.insert(name.to_owned(), None);
    }

    /// Lets an image be pulled by whoever knows `password`.
    pub fn publish_for(&self, name: &str, password: &str) {
        self.state.lock().unwrap().pullable.insert(name.to_owned(), Some(password.to_owned()));
    }

    /// Whether containers end at once when they are stopped, or take their time until this is true again.
    pub fn obey(&self, obedient: bool) {
        self.obedient.send_replace(obedient);
    }

    /// What commands in containers end with from now on.
    pub fn commands_end_with(&self, code: i32) {
        self.state.lock().unwrap().exec_code = code;
    }

    /// Where streams of commands are.
    pub fn streams_at(&self, url: &str) {
        self.state.lock().unwrap().endpoint = url.to_owned();
    }

    pub fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    /// Containers are made, and not started, as when a kubelet is killed in between.
    pub fn refuse_starts(&self, refuse: bool) {
        self.state.lock().unwrap().refuses_starts = refuse;
    }

    /// There is no network until the node's range of pod addresses is handed over.
    pub fn lack_network(&self) {
        self.state.lock().unwrap().lacks_network = true;
    }

    /// The config that the newest container of that name was made from.
    pub fn config(&self, name: &str) -> Option<ContainerConfig> {
        let state = self.state.lock().unwrap();
        let named =
            state.containers.values().filter(|(_, config, _)| config.metadata.as_ref().unwrap().name == name);
        named.max_by_key(|(_, _, status)| status.created_at).map(|(_, config, _)| config.clone())
    }

    /// The id of the newest container of that name.
    pub fn id(&self, name: &str) -> String {
        let state = self.state.lock().unwrap();
        let named = state
            .containers
            .iter()
            .filter(|(_, (_, config, _))| config.metadata.as_ref().unwrap().name == name);
        named.max_by_key(|(_, (_, _, status))| status.created_at).map(|(id, _)| id.clone()).unwrap()
    }

    /// The newest container of that name ends.
    pub fn end(&self, name: &str, code: i32) {
        let id = {
            let state = self.state.lock().unwrap();
            let running = state.containers.iter().filter(|(_, (_, config, status))| {
                config.metadata.as_ref().unwrap().name == name
                    && status.state == ContainerState::ContainerRunning as i32
            });
            running.map(|(id, _)| id.clone()).next().expect("a running container")
        };
        self.finish(&id, code);
    }

    pub fn sandboxes(&self) -> usize {
        self.state.lock().unwrap().sandboxes.len()
    }

    fn call(&self, text: String) {
        self.state.lock().unwrap().calls.push(text);
    }

    fn finish(&self, id: &str, code: i32) {
        let sandbox = {
            let mut state = self.state.lock().unwrap();
            let Some((sandbox, _, status)) = state.containers.get_mut(id) else { return };
            if status.state != ContainerState::ContainerRunning as i32 {
                return;
            }
            status.state = ContainerState::ContainerExited.into();
            status.exit_code = code;
            status.finished_at = now();
            status.reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
            sandbox.clone()
        };
        self.emit(ContainerEventType::ContainerStoppedEvent, id, &sandbox);
    }

    fn emit(&self, kind: ContainerEventType, id: &str, sandbox: &str) {
        let pod_sandbox_status = self.state.lock().unwrap().sandboxes.get(sandbox).cloned();
        let event = ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: now(),
            pod_sandbox_status,
            containers_statuses: Vec::new(),
        };
        let _ = self.events.send(event); // Nobody may listen.
    }
}

fn selected(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn ready<T: Send + 'static>(value: Result<T, CriError>) -> BoxFuture<'static, T> {
    Box::pin(std::future::ready(value))
}

macro_rules! unsupported {
    ($($call:ident: $request:ident => $response:ident,)*) => {
        $(fn $call(&self, _request: $request) -> BoxFuture<'_, $response> {
            ready(Err(CriError::unknown(concat!(stringify!($call), " is not played"))))
        })*
    };
}

impl RuntimeService for Fake {
    unsupported! {
        reopen_container_log: ReopenContainerLogRequest => ReopenContainerLogResponse,
        attach: AttachRequest => AttachResponse,
        port_forward: PortForwardRequest => PortForwardResponse,
        container_stats: ContainerStatsRequest => ContainerStatsResponse,
        list_container_stats: ListContainerStatsRequest => ListContainerStatsResponse,
        pod_sandbox_stats: PodSandboxStatsRequest => PodSandboxStatsResponse,
        runtime_config: RuntimeConfigRequest => RuntimeConfigResponse,
        update_pod_sandbox_resources: UpdatePodSandboxResourcesRequest => UpdatePodSandboxResourcesResponse,
    }

    fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> BoxFuture<'_, UpdateContainerResourcesResponse> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(format!("update {}", request.container_id));
        let (_, _, status) = state.containers.get_mut(&request.container_id).unwrap();
        status.resources = Some(ContainerResources { linux: request.linux });
        ready(Ok(UpdateContainerResourcesResponse::default()))
    }

    fn list_pod_sandbox_stats(
        &self,
        _request: ListPodSandboxStatsRequest,
    ) -> BoxFuture<'_, ListPodSandboxStatsResponse> {
        ready(Ok(ListPodSandboxStatsResponse { stats: Vec::new() }))
    }

    fn version(&self, _request: VersionRequest) -> BoxFuture<'_, VersionResponse> {
        ready(Ok(VersionResponse {
            version: "v1".to_owned(),
            runtime_name: "fake".to_owned(),
            runtime_version: "1".to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    fn update_runtime_config(
        &self,
        _request: UpdateRuntimeConfigRequest,
    ) -> BoxFuture<'_, UpdateRuntimeConfigResponse> {
        self.state.lock().unwrap().lacks_network = false;
        ready(Ok(UpdateRuntimeConfigResponse {}))
    }

    fn status(&self, _request: StatusRequest) -> BoxFuture<'_, StatusResponse> {
        let condition =
            |name: &str| RuntimeCondition { r#type: name.to_owned(), status: true, ..Default::default() };
        let network = if self.state.lock().unwrap().lacks_network {
            let (reason, message) = ("NetworkPluginNotReady".to_owned(), "no range yet".to_owned());
            RuntimeCondition { status: false, reason, message, ..condition("NetworkReady") }
        } else {
            condition("NetworkReady")
        };
        let conditions = vec![condition("RuntimeReady"), network];
        ready(Ok(StatusResponse { status: Some(RuntimeStatus { conditions }), ..Default::default() }))
    }

    fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> BoxFuture<'_, RunPodSandboxResponse> {
        let config = request.config.unwrap();
        let id = {
            let mut state = self.state.lock().unwrap();
            state.clock += 1;
            let id = format!("s{}", state.clock);
            let name = &config.metadata.as_ref().unwrap().name;
            state.calls.push(format!("run {name}"));
            let network = PodSandboxNetworkStatus { ip: "10.1.0.9".to_owned(), ..Default::default() };
            let status = PodSandboxStatus {
                id: id.clone(),
                metadata: config.metadata,
                state: PodSandboxState::SandboxReady.into(),
                created_at: now(),
                network: Some(network),
                labels: config.labels,
                annotations: config.annotations,
                ..Default::default()
            };
            state.sandboxes.insert(id.clone(), status);
            id
        };
        self.emit(ContainerEventType::ContainerStartedEvent, &id, &id);
        ready(Ok(RunPodSandboxResponse { pod_sandbox_id: id }))
    }

    fn stop_pod_sandbox(&self, request: StopPodSandboxRequest) -> BoxFuture<'_, StopPodSandboxResponse> {
        let id = request.pod_sandbox_id;
        let inside: Vec<String> = {
            let mut state = self.state.lock().unwrap();
            state.calls.push(format!("stop sandbox {id}"));
            if let Some(sandbox) = state.sandboxes.get_mut(&id) {
                sandbox.state = PodSandboxState::SandboxNotready.into();
            }
            state
                .containers
                .iter()
                .filter(|(_, (sandbox, ..))| *sandbox == id)
                .map(|(id, _)| id.clone())
                .collect()
        };
        for container in inside {
            self.finish(&container, 137);
        }
        self.emit(ContainerEventType::ContainerStoppedEvent, &id, &id);
        ready(Ok(StopPodSandboxResponse {}))
    }

    fn remove_pod_sandbox(
        &self,
        request: RemovePodSandboxRequest,
    ) -> BoxFuture<'_, RemovePodSandboxResponse> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(format!("remove sandbox {}", request.pod_sandbox_id));
        state.sandboxes.remove(&request.pod_sandbox_id);
        state.containers.retain(|_, (sandbox, ..)| *sandbox != request.pod_sandbox_id);
        ready(Ok(RemovePodSandboxResponse {}))
    }

    fn pod_sandbox_status(
        &self,
        request: PodSandboxStatusRequest,
    ) -> BoxFuture<'_, PodSandboxStatusResponse> {
        let status = self.state.lock().unwrap().sandboxes.get(&request.pod_sandbox_id).cloned();
        ready(match status {
            Some(status) => Ok(PodSandboxStatusResponse { status: Some(status), ..Default::default() }),
            None => Err(CriError::not_found("no such sandbox")),
        })
    }

    fn list_pod_sandbox(&self, request: ListPodSandboxRequest) -> BoxFuture<'_, ListPodSandboxResponse> {
        let selector = request.filter.unwrap_or_default().label_selector;
        let state = self.state.lock().unwrap();
        let found = state.sandboxes.values().filter(|sandbox| selected(&selector, &sandbox.labels));
        let items = found.map(|sandbox| PodSandbox {
            id: sandbox.id.clone(),
            metadata: sandbox.metadata.clone(),
            state: sandbox.state,
            created_at: sandbox.created_at,
            labels: sandbox.labels.clone(),
            annotations: sandbox.annotations.clone(),
            ..Default::default()
        });
        ready(Ok(ListPodSandboxResponse { items: items.collect() }))
    }

    fn create_container(&self, request: CreateContainerRequest) -> BoxFuture<'_, CreateContainerResponse> {
        let config = request.config.unwrap();
        let mut state = self.state.lock().unwrap();
        state.clock += 1;
        let id = format!("c{}", state.clock);
        let sandbox = state.sandboxes.get(&request.pod_sandbox_id).unwrap();
        let directory = request.sandbox_config.unwrap().log_directory;
        let _ = sandbox;
        let status = ContainerStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: ContainerState::ContainerCreated.into(),
            created_at: now(),
            image: config
                .image
                .clone()
                .map(|image| ImageSpec { image: image.user_specified_image, ..Default::default() }),
            image_ref: config.image.clone().unwrap().image,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            resources: config.linux.clone().map(|linux| ContainerResources { linux: linux.resources }),
            log_path: format!("{directory}/{}", config.log_path),
            ..Default::default()
        };
        state.calls.push(format!("create {}", config.metadata.as_ref().unwrap().name));
        state.containers.insert(id.clone(), (request.pod_sandbox_id, config, status));
        ready(Ok(CreateContainerResponse { container_id: id }))
    }

    fn start_container(&self, request: StartContainerRequest) -> BoxFuture<'_, StartContainerResponse> {
        let id = request.container_id;
        let sandbox = {
            let mut state = self.state.lock().unwrap();
            if state.refuses_starts {
                return ready(Err(CriError::unknown("exec: no such file")));
            }
            let (sandbox, _, status) = state.containers.get_mut(&id).unwrap();
            status.state = ContainerState::ContainerRunning.into();
            status.started_at = now();
            let (sandbox, name) = (sandbox.clone(), status.metadata.clone().unwrap().name);
            state.calls.push(format!("start {name}"));
            sandbox
        };
        self.emit(ContainerEventType::ContainerStartedEvent, &id, &sandbox);
        ready(Ok(StartContainerResponse {}))
    }

    fn stop_container(&self, request: StopContainerRequest) -> BoxFuture<'_, StopContainerResponse> {
        self.call(format!("stop {} in {}s", request.container_id, request.timeout));
        let fake = self.clone();
        Box::pin(async move {
            // Our own sender lives.
            let _ = fake.obedient.subscribe().wait_for(|obedient| *obedient).await;
            fake.finish(&request.container_id, 143);
            Ok(StopContainerResponse {})
        })
    }

    fn remove_container(&self, request: RemoveContainerRequest) -> BoxFuture<'_, RemoveContainerResponse> {
        self.call(format!("remove {}", request.container_id));
        self.state.lock().unwrap().containers.remove(&request.container_id);
        ready(Ok(RemoveContainerResponse {}))
    }

    fn list_containers(&self, request: ListContainersRequest) -> BoxFuture<'_, ListContainersResponse> {
        let filter = request.filter.unwrap_or_default();
        let state = self.state.lock().unwrap();
        let found = state.containers.iter().filter(|(_, (_, config, status))| {
            selected(&filter.label_selector, &config.labels)
                && filter.state.as_ref().is_none_or(|wanted| wanted.state == status.state)
        });
        let containers = found.map(|(id, (sandbox, config, status))| Container {
            id: id.clone(),
            pod_sandbox_id: sandbox.clone(),
            metadata: config.metadata.clone(),
            state: status.state,
            created_at: status.created_at,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            ..Default::default()
        });
        ready(Ok(ListContainersResponse { containers: containers.collect() }))
    }

    fn container_status(&self, request: ContainerStatusRequest) -> BoxFuture<'_, ContainerStatusResponse> {
        let status = self
            .state
            .lock()
            .unwrap()
            .containers
            .get(&request.container_id)
            .map(|(_, _, status)| status.clone());
        ready(match status {
            Some(status) => Ok(ContainerStatusResponse { status: Some(status), ..Default::default() }),
            None => Err(CriError::not_found("no such container")),
        })
    }

    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, ExecResponse> {
        self.call(format!("stream {} tty={}", request.cmd.join(" "), request.tty));
        let url = self.state.lock().unwrap().endpoint.clone();
        ready(Ok(ExecResponse { url }))
    }

    fn exec_sync(&self, request: ExecSyncRequest) -> BoxFuture<'_, ExecSyncResponse> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(format!("exec {}", request.cmd.join(" ")));
        let exit_code = state.exec_code;
        ready(Ok(ExecSyncResponse { stdout: b"out".to_vec(), stderr: Vec::new(), exit_code }))
    }

    fn container_events(&self, _request: GetEventsRequest) -> BoxFuture<'_, ContainerEvents> {
        let events = futures_util::stream::unfold(self.events.subscribe(), |mut receiver| async {
            let event = receiver.recv().await.ok()?;
            Some((Ok(event), receiver))
        });
        ready(Ok(events.boxed()))
    }
}

impl ImageService for Fake {
    fn list_images(&self, _request: ListImagesRequest) -> BoxFuture<'_, ListImagesResponse> {
        ready(Ok(ListImagesResponse { images: self.state.lock().unwrap().images.clone() }))
    }

    fn image_status(&self, request: ImageStatusRequest) -> BoxFuture<'_, ImageStatusResponse> {
        let name = request.image.unwrap().image;
        let state = self.state.lock().unwrap();
        let found =
            state.images.iter().find(|image| image.id == name || image.repo_tags.contains(&name)).cloned();
        ready(Ok(ImageStatusResponse { image: found, ..Default::default() }))
    }

    fn pull_image(&self, request: PullImageRequest) -> BoxFuture<'_, PullImageResponse> {
        let name = request.image.unwrap().image;
        let mut state = self.state.lock().unwrap();
        state.calls.push(format!("pull {name}"));
        let password = request.auth.map(|auth| auth.password);
        let allowed = |wanted: &Option<String>| wanted.is_none() || *wanted == password;
        if !state.pullable.get(&name).is_some_and(allowed) {
            return ready(Err(CriError::not_found(format!(
                "failed to pull and unpack image {name:?}: not found"
            ))));
        }
        let pulled = image(&name);
        let image_ref = pulled.id.clone();
        state.images.push(pulled);
        ready(Ok(PullImageResponse { image_ref }))
    }

    unsupported! {
        remove_image: RemoveImageRequest => RemoveImageResponse,
        image_fs_info: ImageFsInfoRequest => ImageFsInfoResponse,
    }
}
