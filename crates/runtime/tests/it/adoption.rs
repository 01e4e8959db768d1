//! Containers outlive the process that hosts the runtime.

use crate::world::*;
use nauplius_base::{id, task::CancellationToken};
use nauplius_cri::v1::*;
use nauplius_cri::{RuntimeService, grpc};
use nauplius_images::ImageStore;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;

struct Host(Child);

impl Drop for Host {
    fn drop(&mut self) {
        self.0.kill().ok(); // It may be dead: that is what the tests do.
        self.0.wait().unwrap();
    }
}

async fn host(root: &Path) -> (Host, grpc::Client) {
    let socket = root.join("cri.sock");
    std::fs::remove_file(&socket).ok(); // The first time there is none.
    let mut command = Command::new(PROGRAM);
    command.arg("serve").arg(root.join("state")).arg(root.join("images")).arg(&socket);
    let host = Host(command.spawn().unwrap());
    let client = grpc::Client::new(&socket).unwrap();
    eventually("the host to serve", async || client.version(VersionRequest::default()).await.ok()).await;
    (host, client)
}

/// The world of a host: same layout, but nobody in this process runs it.
async fn stage() -> Guard {
    let root = std::env::temp_dir().join(format!("nauplius-test-{}", id::suffix(8)));
    std::fs::create_dir_all(root.join("logs")).unwrap();
    let guard = Guard { root: root.clone(), group: "/nauplius-runtime-state".to_owned() };
    let store = ImageStore::open(&root.join("images")).await.unwrap();
    tools_image(&store).await;
    guard
}

fn sandbox_config(root: &Path, group: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "pod".into(),
            namespace: "default".into(),
            uid: "u".into(),
            attempt: 0,
        }),
        hostname: "pod".into(),
        log_directory: root.join("logs").display().to_string(),
        linux: Some(LinuxPodSandboxConfig { cgroup_parent: group.to_owned(), ..Default::default() }),
        ..Default::default()
    }
}

async fn launch(client: &grpc::Client, sandbox: &str, config: ContainerConfig) -> String {
    let request = CreateContainerRequest {
        pod_sandbox_id: sandbox.to_owned(),
        config: Some(config),
        sandbox_config: None,
    };
    let id = client.create_container(request).await.unwrap().container_id;
    client.start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_the_host_leaves_containers_running() {
    outlive_the_host(NamespaceMode::Container).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_the_host_leaves_containers_that_share_pids_running() {
    outlive_the_host(NamespaceMode::Pod).await;
}

async fn outlive_the_host(pids: NamespaceMode) {
    let shell = |name: &str, script: &str| {
        let mut config = shell(name, script);
        let options = NamespaceOption { pid: pids.into(), ..Default::default() };
        security(&mut config).namespace_options = Some(options);
        config
    };
    let guard = stage().await;
    let group = format!("/nauplius-test-{}", id::suffix(8));
    let (mut killed, client) = host(&guard.root).await;
    let config = sandbox_config(&guard.root, &group);
    let sandbox = client
        .run_pod_sandbox(RunPodSandboxRequest { config: Some(config), ..Default::default() })
        .await
        .unwrap();
    let sandbox = sandbox.pod_sandbox_id;
    let lives =
        launch(&client, &sandbox, shell("lives", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done"))
            .await;
    let ends = launch(
        &client,
        &sandbox,
        shell("ends", "while ! [ -e /tmp/end ]; do sleep 0.01; done; echo last; exit 5"),
    )
    .await;
    let pid = pid_of(&client, &lives).await;
    let ending = pid_of(&client, &ends).await;
    killed.0.kill().unwrap();
    killed.0.wait().unwrap();
    // While nobody is there a container ends, and another goes on.
    std::fs::write(format!("/proc/{ending}/root/tmp/end"), "").unwrap();
    eventually("the end", async || (!Path::new(&format!("/proc/{ending}")).exists()).then_some(())).await;
    let before = std::fs::read_to_string(guard.root.join("logs/lives.log")).unwrap().lines().count();
    eventually("more lines", async || {
        let now = std::fs::read_to_string(guard.root.join("logs/lives.log")).unwrap().lines().count();
        (now > before + 3).then_some(())
    })
    .await;
    let (host, client) = host(&guard.root).await;
    assert_eq!(pid_of(&client, &lives).await, pid);
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    let status = exited(&client, &ends).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (5, "Error"));
    assert!(std::fs::read_to_string(guard.root.join("logs/ends.log")).unwrap().ends_with("F last\n"));
    let output = exec(&client, &lives, "echo adopted").await.unwrap();
    assert_eq!(output.stdout, b"adopted\n");
    client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox }).await.unwrap();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    drop(host);
    let group_guard = Guard { root: guard.root.clone(), group };
    drop(group_guard);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_shim_takes_its_containers_along() {
    let world = World::new().await;
    let sandbox = world.sandbox("lost").await;
    let id = world.launch(&sandbox, shell("main", "sleep 1000")).await;
    let pid = world.pid(&id).await;
    let shim = std::fs::read_to_string(world.root.join("state/sandboxes").join(&sandbox.0).join("shim.pid"))
        .unwrap();
    Command::new("kill").args(["-9", &shim]).output().unwrap();
    let status = world.exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Unknown"));
    eventually("the process to end", async || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()))
        .await;
    let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.0.clone(), verbose: false };
    eventually("the sandbox to be not ready", async || {
        let pod = world.runtime.pod_sandbox_status(request.clone()).await.unwrap().status.unwrap();
        (pod.state() == PodSandboxState::SandboxNotready).then_some(())
    })
    .await;
    assert!(world.create(&sandbox, shell("late", "")).await.is_err());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_machine_is_noticed() {
    let world = World::new().await;
    let sandbox = world.sandbox("boot").await;
    let id = world.launch(&sandbox, shell("main", "sleep 1000")).await;
    let pod_dir = world.root.join("state/sandboxes").join(&sandbox.0);
    world.token.cancel();
    // What a reboot leaves: no processes, another boot id, and perhaps a sandbox that was being made.
    let shim = std::fs::read_to_string(pod_dir.join("shim.pid")).unwrap();
    Command::new("kill").args(["-9", &shim]).output().unwrap();
    std::fs::write(world.root.join("state/boot_id"), "another").unwrap();
    std::fs::create_dir_all(world.root.join("state/sandboxes/half")).unwrap();
    std::fs::create_dir_all(world.root.join("state/containers/half")).unwrap();
    let network = Arc::clone(&world.network);
    let adopted =
        open(&world.root, &world.group, world.store.clone(), network, CancellationToken::new()).await;
    let status = exited(&adopted, &id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
    assert!(!world.root.join("state/sandboxes/half").exists());
    assert!(!world.root.join("state/containers/half").exists());
    adopted.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox.0.clone() }).await.unwrap();
    let world = World { runtime: adopted, ..world };
    world.finish().await;
}
