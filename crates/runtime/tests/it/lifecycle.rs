//! Sandboxes and containers from run to removal.

use crate::world::*;
use futures_util::StreamExt as _;
use nauplius_cri::v1::*;
use nauplius_cri::{Code, RuntimeService};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_runs_logs_and_exits() {
    let world = World::new().await;
    let sandbox = world.sandbox("thin").await;
    let script = "echo hello; echo oops >&2; hostname; echo $0 $HOME $HOSTNAME; printf end; exit 3";
    let id = world.launch(&sandbox, shell("main", script)).await;
    let status = world.exited(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert!(
        status.created_at > 0
            && status.started_at >= status.created_at
            && status.finished_at >= status.started_at
    );
    let log = world.log("main.log");
    let (mut out, mut error) = (String::new(), String::new());
    for line in log.lines() {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        assert_eq!((fields[0].len(), &fields[0][29..]), (30, "Z"), "{line}");
        let text = format!("{} {}\n", fields[2], fields[3]);
        if fields[1] == "stdout" { out += &text } else { error += &text }
    }
    assert_eq!(out, "F hello\nF thin\nF /bin/sh /root thin\nP end\n");
    assert_eq!(error, "F oops\n");
    let pod = world
        .runtime
        .pod_sandbox_status(PodSandboxStatusRequest { pod_sandbox_id: sandbox.0.clone(), verbose: true })
        .await
        .unwrap();
    assert_eq!(pod.status.unwrap().network.unwrap().ip, "10.9.8.7");
    assert_eq!(pod.containers_statuses.len(), 1);
    world.runtime.remove_container(RemoveContainerRequest { container_id: id.clone() }).await.unwrap();
    world.runtime.remove_container(RemoveContainerRequest { container_id: id }).await.unwrap();
    for _ in 0..2 {
        world
            .runtime
            .stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.0.clone() })
            .await
            .unwrap();
    }
    for _ in 0..2 {
        world
            .runtime
            .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox.0.clone() })
            .await
            .unwrap();
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_that_fail_say_why() {
    let world = World::new().await;
    let sandbox = world.sandbox("wrong").await;
    for (command, expected) in [
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("/nosuch", "exec: \"/nosuch\": stat /nosuch: no such file or directory"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
        ("/etc", "exec: \"/etc\": is a directory"),
        ("/bin/data", "exec /bin/data: exec format error"),
    ] {
        let mut config = shell("bad", "");
        config.command = vec![command.to_owned()];
        let id = world.create(&sandbox, config).await.unwrap();
        let error = world.start(&id).await.unwrap_err();
        assert!(error.message.ends_with(expected), "{} is not {expected}", error.message);
        let status = world.status(&id).await;
        assert_eq!(
            (status.state(), status.exit_code, status.reason.as_str()),
            (ContainerState::ContainerExited, 128, "StartError")
        );
        let prefix = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: \
            unable to start container process: error during container init: exec";
        assert!(status.message.starts_with(prefix), "{}", status.message);
        assert_eq!(status.message, error.message);
        assert!(status.started_at == 0 && status.finished_at > status.created_at, "{status:?}");
        assert!(world.start(&id).await.is_err());
    }
    let mut config = shell("bad", "");
    config.mounts = vec![Mount {
        container_path: "/etc/passwd".to_owned(),
        host_path: world.root.display().to_string(),
        ..Default::default()
    }];
    let id = world.create(&sandbox, config).await.unwrap();
    let error = world.start(&id).await.unwrap_err();
    let words = "to rootfs at \"/etc/passwd\": not a directory: Are you trying to mount a directory onto a file (or vice-versa)?";
    assert!(error.message.contains(words), "{error}");
    let mut config = shell("bad", "");
    config.image = Some(ImageSpec { image: "test.local/nosuch:1".to_owned(), ..Default::default() });
    assert_eq!(world.create(&sandbox, config).await.unwrap_err().code, Code::NotFound);
    let mut config = shell("bad", "");
    security(&mut config).run_as_username = "foo".to_owned();
    let error = world.create(&sandbox, config).await.unwrap_err();
    assert!(
        error.message.ends_with("unable to find user foo: no matching entries in passwd file"),
        "{error}"
    );
    assert!(world.start("nosuch").await.is_err_and(|error| error.code == Code::NotFound));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_that_cannot_be_connected_leaves_nothing() {
    let world = World::new().await;
    let error = world.run(&world.sandbox_config("unconnectable")).await.unwrap_err();
    assert!(error.message.contains("no addresses left"), "{error}");
    let mut config = world.sandbox_config("sysctl");
    config.linux.as_mut().unwrap().sysctls = [("kernel.panic".to_owned(), "1".to_owned())].into();
    assert_eq!(world.run(&config).await.unwrap_err().code, Code::InvalidArgument);
    assert_eq!(std::fs::read_dir(world.root.join("state/sandboxes")).unwrap().count(), 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_asks_first_and_kills_after_the_grace() {
    let world = World::new().await;
    let sandbox = world.sandbox("stop").await;
    let polite = world
        .launch(
            &sandbox,
            shell("polite", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done"),
        )
        .await;
    let stubborn = world
        .launch(&sandbox, shell("stubborn", "trap '' TERM; echo ready; while :; do sleep 0.05; done"))
        .await;
    for name in ["polite.log", "stubborn.log"] {
        eventually("the trap", async || world.log(name).contains("ready").then_some(())).await;
    }
    world.stop(&polite, 10).await;
    let status = world.status(&polite).await;
    assert_eq!((status.exit_code, status.state()), (7, ContainerState::ContainerExited));
    assert_eq!(world.text("polite.log"), "ready\nbye\n");
    world.stop(&stubborn, 1).await;
    assert_eq!(world.status(&stubborn).await.exit_code, 137);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_filter_and_events_tell_everything() {
    let world = World::new().await;
    let mut events = world.runtime.container_events(GetEventsRequest {}).await.unwrap();
    let first = world.sandbox("one").await;
    let second = world.sandbox("two").await;
    let id = world.launch(&first, shell("main", "exit 0")).await;
    world.exited(&id).await;
    let labelled = PodSandboxFilter {
        label_selector: [("app".to_owned(), "two".to_owned())].into(),
        ..Default::default()
    };
    let listed =
        world.runtime.list_pod_sandbox(ListPodSandboxRequest { filter: Some(labelled) }).await.unwrap();
    assert_eq!(listed.items.iter().map(|item| &item.id).collect::<Vec<_>>(), [&second.0]);
    let of = |sandbox: &str| ContainerFilter { pod_sandbox_id: sandbox.to_owned(), ..Default::default() };
    let listed =
        world.runtime.list_containers(ListContainersRequest { filter: Some(of(&first.0)) }).await.unwrap();
    assert_eq!(listed.containers.len(), 1);
    assert!(listed.containers[0].image_id.starts_with("sha256:"));
    let listed =
        world.runtime.list_containers(ListContainersRequest { filter: Some(of(&second.0)) }).await.unwrap();
    assert_eq!(listed.containers.len(), 0);
    world.runtime.remove_container(RemoveContainerRequest { container_id: id.clone() }).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let event = events.next().await.unwrap().unwrap();
        if event.container_id == id {
            seen.push(event.container_event_type());
            let exited = event
                .containers_statuses
                .iter()
                .any(|status| status.state() == ContainerState::ContainerExited);
            assert_eq!(exited, event.container_event_type() == ContainerEventType::ContainerStoppedEvent);
        }
    }
    use ContainerEventType::*;
    assert_eq!(
        seen,
        [ContainerCreatedEvent, ContainerStartedEvent, ContainerStoppedEvent, ContainerDeletedEvent]
    );
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_share_the_pods_namespace_when_asked() {
    let world = World::new().await;
    let mut config = world.sandbox_config("shared");
    let pod = NamespaceOption { pid: NamespaceMode::Pod.into(), ..Default::default() };
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(pod.clone());
    let sandbox = (world.run(&config).await.unwrap(), config);
    let mut first = shell("first", "sleep 1000 & sleep 1000");
    security(&mut first).namespace_options = Some(pod.clone());
    let first = world.launch(&sandbox, first).await;
    let mut second = shell("second", "sleep 999");
    security(&mut second).namespace_options = Some(pod);
    let second = world.launch(&sandbox, second).await;
    let seen = world.exec(&second, "cat /proc/[0-9]*/cmdline").await.unwrap();
    let seen = String::from_utf8_lossy(&seen.stdout).replace('\0', " ");
    assert!(seen.contains("sleep 1000") && seen.contains("sleep 999"), "{seen}");
    // A debugging container joins one container's processes.
    let mut third = shell("third", "cat /proc/[0-9]*/cmdline");
    security(&mut third).namespace_options = Some(NamespaceOption {
        pid: NamespaceMode::Target.into(),
        target_id: second.clone(),
        ..Default::default()
    });
    let third = world.launch(&sandbox, third).await;
    world.exited(&third).await;
    assert!(world.log("third.log").contains("sleep"), "{}", world.log("third.log"));
    world.stop(&first, 0).await;
    assert_eq!(world.status(&first).await.exit_code, 137);
    eventually("the orphans to be killed", async || {
        let seen = world.exec(&second, "cat /proc/[0-9]*/cmdline").await.unwrap();
        (!String::from_utf8_lossy(&seen.stdout).contains("1000")).then_some(())
    })
    .await;
    assert_eq!(world.status(&second).await.state(), ContainerState::ContainerRunning);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_namespaces_are_the_hosts() {
    let world = World::new().await;
    let mut config = world.sandbox_config("host");
    let host = NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Node.into(),
        ipc: NamespaceMode::Node.into(),
        ..Default::default()
    };
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(host.clone());
    let sandbox = (world.run(&config).await.unwrap(), config);
    let mut main = shell("main", "for n in net pid ipc uts; do ls -l /proc/self/ns/$n; done; sleep 1000");
    security(&mut main).namespace_options = Some(host);
    let id = world.launch(&sandbox, main).await;
    eventually("four namespaces", async || (world.text("main.log").lines().count() == 4).then_some(())).await;
    for kind in ["net", "pid", "ipc", "uts"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
        assert!(world.text("main.log").contains(&own), "{own}: {}", world.text("main.log"));
    }
    world.stop(&id, 0).await;
    let status = world.status(&id).await;
    assert_eq!(status.exit_code, 137);
    world.finish().await;
}
