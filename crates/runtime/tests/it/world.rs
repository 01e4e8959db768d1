//! A runtime of one's own, an image made from the host's programs, and the proof that nothing is left afterwards.

use nauplius_base::task::CancellationToken;
use nauplius_base::{id, time};
use nauplius_cri::v1::*;
use nauplius_cri::{CriError, RuntimeService};
use nauplius_images::build::ImageBuilder;
use nauplius_images::{ImageStore, Registries};
use nauplius_runtime::{Addresses, NetworkError, Runtime, RuntimeOptions, SandboxInfo, SandboxNetwork};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_nauplius-runtime");
pub const IMAGE: &str = "test.local/tools:1";

/// Remembers who is attached.
#[derive(Default)]
pub struct FakeNetwork {
    pub attached: Mutex<BTreeSet<String>>,
}

impl SandboxNetwork for FakeNetwork {
    fn attach(&self, sandbox: &SandboxInfo) -> Result<Addresses, NetworkError> {
        assert!(sandbox.has_namespace());
        if sandbox.name == "unconnectable" {
            return Err(NetworkError { sandbox: sandbox.id.clone(), reason: "no addresses left".to_owned() });
        }
        self.attached.lock().unwrap().insert(sandbox.id.clone());
        Ok(Addresses(vec!["10.9.8.7".parse().unwrap()]))
    }

    fn detach(&self, sandbox: &SandboxInfo) -> Result<(), NetworkError> {
        self.attached.lock().unwrap().remove(&sandbox.id);
        Ok(())
    }
}

pub struct World {
    pub runtime: Runtime,
    pub network: Arc<FakeNetwork>,
    pub store: ImageStore,
    pub root: PathBuf,
    pub group: String,
    pub token: CancellationToken,
    pub guard: Guard,
}

/// Cleans up after a test that failed; after one that passed it finds nothing to do.
pub struct Guard {
    pub root: PathBuf,
    pub group: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let sandboxes = std::fs::read_dir(self.root.join("state/sandboxes"));
        for entry in sandboxes.into_iter().flatten().flatten() {
            if let Ok(pid) = std::fs::read_to_string(entry.path().join("shim.pid")) {
                Command::new("kill").args(["-9", pid.trim()]).output().unwrap();
            }
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_groups(&hierarchy.path().join(self.group.trim_start_matches('/')));
        }
        for mount in mounts_below(&self.root).into_iter().rev() {
            Command::new("umount").args(["-l", &mount]).output().unwrap();
        }
        std::fs::remove_dir_all(&self.root).ok(); // Gone already after a test that passed.
    }
}

fn remove_groups(group: &Path) {
    let Ok(entries) = std::fs::read_dir(group) else { return };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        remove_groups(&entry.path());
    }
    for pid in std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
        Command::new("kill").args(["-9", pid]).output().unwrap();
    }
    for _ in 0..200 {
        if std::fs::remove_dir(group).is_ok() || !group.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn mounts_below(root: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(root)).map(str::to_owned).collect()
}

fn libraries(program: &str) -> Vec<String> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(|word| word.trim_end_matches(':').to_owned())
        .collect()
}

fn which(name: &str) -> Option<String> {
    ["/bin", "/usr/bin", "/sbin", "/usr/sbin"]
        .iter()
        .map(|dir| format!("{dir}/{name}"))
        .find(|path| Path::new(path).exists())
}

pub async fn tools_image(store: &ImageStore) {
    tools().store(store, &[IMAGE.parse().unwrap()]).await.unwrap();
}

/// An image with a shell and some tools, to be added to.
pub fn tools() -> ImageBuilder {
    let mut builder = ImageBuilder::new();
    builder.config.cmd = vec!["/bin/sh".to_owned()];
    let mut needed = BTreeSet::new();
    for name in [
        "sh", "cat", "ls", "sleep", "id", "head", "tail", "grep", "mkdir", "touch", "stty", "unshare",
        "hostname", "kill", "chmod",
    ] {
        let Some(path) = which(name) else { continue };
        builder.add_file(&format!("/bin/{name}"), Path::new(&path), 0o755).unwrap();
        needed.extend(libraries(&path));
    }
    for library in needed {
        builder.add_file(&library, Path::new(&library), 0o755).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\n";
    builder.add_bytes("/etc/passwd", passwd.as_bytes(), 0o644).unwrap();
    builder.add_bytes("/etc/group", &b"root:x:0:\nwww:x:34:\nlogs:x:50:web\n"[..], 0o644).unwrap();
    builder.add_directory("/tmp", 0o1777).unwrap();
    builder.add_bytes("/bin/data", &b"no program"[..], 0o755).unwrap();
    builder
}

impl World {
    pub async fn new() -> Self {
        let name = format!("nauplius-test-{}", id::suffix(8));
        let root = std::env::temp_dir().join(&name);
        let group = format!("/{name}");
        std::fs::create_dir_all(root.join("logs")).unwrap();
        let guard = Guard { root: root.clone(), group: group.clone() };
        let store = ImageStore::open(&root.join("images")).await.unwrap();
        tools_image(&store).await;
        let network = Arc::new(FakeNetwork::default());
        let token = CancellationToken::new();
        let runtime = open(&root, &group, store.clone(), Arc::clone(&network), token.clone()).await;
        Self { runtime, network, store, root, group, token, guard }
    }

    /// Destroys everything and proves that nothing is left.
    pub async fn finish(self) {
        self.runtime.destroy_all().await.unwrap();
        assert_eq!(mounts_below(&self.root), Vec::<String>::new(), "mounts are left");
        assert_eq!(*self.network.attached.lock().unwrap(), BTreeSet::new(), "attachments are left");
        assert!(!self.root.join("state").exists(), "state is left");
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            assert!(!hierarchy.path().join(self.group.trim_start_matches('/')).exists(), "cgroups are left");
        }
        let root = self.root.to_string_lossy().into_owned();
        assert_eq!(processes(|line| line.contains(&root)), Vec::<String>::new(), "processes are left");
        drop(self.guard);
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.root.join("logs").join(name)).unwrap_or_default()
    }

    /// The text of a log without its headers.
    pub fn text(&self, name: &str) -> String {
        let log = self.log(name);
        log.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or("").to_owned() + "\n").collect()
    }

    pub fn sandbox_config(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: id::uuid(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: self.root.join("logs").display().to_string(),
            labels: [("app".to_owned(), name.to_owned())].into(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("{}/pod{name}", self.group),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(container_pids()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub async fn sandbox(&self, name: &str) -> (String, PodSandboxConfig) {
        let config = self.sandbox_config(name);
        (self.run(&config).await.unwrap(), config)
    }

    pub async fn run(&self, config: &PodSandboxConfig) -> Result<String, CriError> {
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        Ok(self.runtime.run_pod_sandbox(request).await?.pod_sandbox_id)
    }

    pub async fn create(
        &self,
        sandbox: &(String, PodSandboxConfig),
        config: ContainerConfig,
    ) -> Result<String, CriError> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.0.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox.1.clone()),
        };
        Ok(self.runtime.create_container(request).await?.container_id)
    }

    pub async fn start(&self, id: &str) -> Result<(), CriError> {
        self.runtime.start_container(StartContainerRequest { container_id: id.to_owned() }).await.map(drop)
    }

    /// Creates and starts.
    pub async fn launch(&self, sandbox: &(String, PodSandboxConfig), config: ContainerConfig) -> String {
        let id = self.create(sandbox, config).await.unwrap();
        self.start(&id).await.unwrap();
        id
    }

    pub async fn status(&self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        self.runtime.container_status(request).await.unwrap().status.unwrap()
    }

    pub async fn pid(&self, id: &str) -> i32 {
        pid_of(&self.runtime, id).await
    }

    pub async fn exited(&self, id: &str) -> ContainerStatus {
        exited(&self.runtime, id).await
    }

    /// Runs a shell script in a container of its own sandbox; returns its status and the text of its log.
    pub async fn script(
        &self,
        script: &str,
        change: impl FnOnce(&mut ContainerConfig),
    ) -> (ContainerStatus, String) {
        let name = format!("s{}", id::suffix(6));
        let mut sandbox = self.sandbox_config(&name);
        let mut config = shell(&name, script);
        change(&mut config);
        let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        if security.is_some_and(|security| security.privileged) {
            sandbox.linux.as_mut().unwrap().security_context.as_mut().unwrap().privileged = true;
        }
        let sandbox = (self.run(&sandbox).await.unwrap(), sandbox);
        let id = self.launch(&sandbox, config).await;
        let status = self.exited(&id).await;
        let text = self.text(&format!("{name}.log"));
        self.runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox.0 }).await.unwrap();
        (status, text)
    }

    pub async fn exec(&self, id: &str, script: &str) -> Result<ExecSyncResponse, CriError> {
        exec(&self.runtime, id, script).await
    }

    pub async fn stop(&self, id: &str, timeout: i64) {
        self.runtime
            .stop_container(StopContainerRequest { container_id: id.to_owned(), timeout })
            .await
            .unwrap();
    }
}

pub async fn open(
    root: &Path,
    group: &str,
    store: ImageStore,
    network: Arc<FakeNetwork>,
    token: CancellationToken,
) -> Runtime {
    let options = RuntimeOptions {
        state_dir: root.join("state"),
        cgroup_root: group.to_owned(),
        program: PROGRAM.into(),
        version: "0.0.0".to_owned(),
        rlimits: vec![(7, 1000, 2000)],
    };
    Runtime::open(options, store, Registries::default(), network, token).await.unwrap()
}

pub async fn exec(
    runtime: &dyn RuntimeService,
    id: &str,
    script: &str,
) -> Result<ExecSyncResponse, CriError> {
    let cmd = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    runtime.exec_sync(ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: 20 }).await
}

pub async fn pid_of(runtime: &dyn RuntimeService, id: &str) -> i32 {
    let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
    let info = runtime.container_status(request).await.unwrap().info;
    let value: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    i32::try_from(value["pid"].as_i64().unwrap()).unwrap()
}

pub async fn exited(runtime: &dyn RuntimeService, id: &str) -> ContainerStatus {
    eventually("the container to exit", async || {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let status = runtime.container_status(request).await.unwrap().status.unwrap();
        (status.state() == ContainerState::ContainerExited).then_some(status)
    })
    .await
}

pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..4000 {
        if let Some(found) = look().await {
            return found;
        }
        time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain for {what}");
}

pub fn container_pids() -> NamespaceOption {
    NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() }
}

pub fn shell(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: IMAGE.to_owned(), ..Default::default() }),
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources::default()),
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(container_pids()),
                masked_paths: vec![
                    "/proc/kcore".to_owned(),
                    "/proc/scsi".to_owned(),
                    "/sys/firmware".to_owned(),
                ],
                readonly_paths: vec!["/proc/sys".to_owned(), "/proc/nosuch".to_owned()],
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

pub fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap()
}

pub fn resources(config: &mut ContainerConfig) -> &mut LinuxContainerResources {
    config.linux.as_mut().unwrap().resources.as_mut().unwrap()
}

/// Command lines of processes that `wanted` accepts.
pub fn processes(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| wanted(line)).collect()
}
