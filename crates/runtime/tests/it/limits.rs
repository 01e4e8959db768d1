//! Cgroups: limits arrive in the kernel, and what is used is measured.

use crate::world::*;
use nauplius_cri::RuntimeService;
use nauplius_cri::v1::*;
use std::path::PathBuf;

fn group_file(controller: &str, group: &str, file: &str) -> String {
    let path = PathBuf::from(format!("/sys/fs/cgroup/{controller}{group}/{file}"));
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .trim()
        .to_owned()
}

fn is_v1() -> bool {
    let v1 = std::path::Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists();
    if !v1 {
        println!("SKIP: this test reads cgroup v1 files");
    }
    v1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_set_updated_and_seen_inside() {
    if !is_v1() {
        return;
    }
    let world = World::new().await;
    let sandbox = world.sandbox("limits").await;
    let mut config = shell(
        "main",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; cat /proc/self/cgroup; cat /proc/self/oom_score_adj; ulimit -n; sleep 1000",
    );
    *resources(&mut config) = LinuxContainerResources {
        cpu_shares: 102,
        cpu_quota: 20_000,
        cpu_period: 100_000,
        memory_limit_in_bytes: 64 << 20,
        oom_score_adj: 900,
        cpuset_cpus: "0".to_owned(),
        ..Default::default()
    };
    let id = world.launch(&sandbox, config).await;
    let group = format!("{}/podlimits/{id}", world.group);
    assert_eq!(group_file("memory", &group, "memory.limit_in_bytes"), "67108864");
    assert_eq!(group_file("cpu", &group, "cpu.shares"), "102");
    assert_eq!(group_file("cpu", &group, "cpu.cfs_quota_us"), "20000");
    assert_eq!(group_file("cpuset", &group, "cpuset.cpus"), "0");
    assert!(group_file("devices", &group, "devices.list").contains("c 1:3 rwm"));
    assert!(!group_file("devices", &group, "devices.list").contains("a *:*"));
    let pid = world.pid(&id).await.to_string();
    for controller in ["memory", "cpu", "pids", "devices", "freezer", "cpuset", "cpuacct", "blkio"] {
        assert!(
            group_file(controller, &group, "cgroup.procs").lines().any(|line| line == pid),
            "{controller}"
        );
    }
    eventually("the log", async || world.text("main.log").contains("1000\n").then_some(())).await;
    let text = world.text("main.log");
    assert!(
        text.starts_with("67108864\n") && text.contains(":memory:/\n") && text.ends_with("900\n1000\n"),
        "{text}"
    );
    let update = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(LinuxContainerResources {
            memory_limit_in_bytes: 128 << 20,
            cpu_shares: 512,
            ..Default::default()
        }),
        ..Default::default()
    };
    world.runtime.update_container_resources(update).await.unwrap();
    assert_eq!(group_file("memory", &group, "memory.limit_in_bytes"), "134217728");
    assert_eq!(group_file("cpu", &group, "cpu.shares"), "512");
    let limits = world.status(&id).await.resources.unwrap().linux.unwrap();
    assert_eq!((limits.memory_limit_in_bytes, limits.cpu_quota), (128 << 20, 20_000));
    // A device that is not on the list cannot be used, even by its owner.
    let denied = world.exec(&id, "cat /dev/null && echo fine").await.unwrap();
    assert_eq!(denied.stdout, b"fine\n");
    world.stop(&id, 0).await;
    eventually("the cgroup to go", async || {
        (!PathBuf::from(format!("/sys/fs/cgroup/memory{group}")).exists()).then_some(())
    })
    .await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oom_kill_is_told() {
    let world = World::new().await;
    let limit = |config: &mut ContainerConfig| resources(config).memory_limit_in_bytes = 16 << 20;
    let (status, _) = world.script("exec tail /dev/zero", limit).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_measured() {
    let world = World::new().await;
    let sandbox = world.sandbox("usage").await;
    let id = world
        .launch(&sandbox, shell("main", "head -c 3000000 /dev/zero > /file; echo done; sleep 1000"))
        .await;
    eventually("the file", async || world.text("main.log").contains("done").then_some(())).await;
    let request = ContainerStatsRequest { container_id: id.clone() };
    let stats = world.runtime.container_stats(request).await.unwrap().stats.unwrap();
    let value = |value: Option<UInt64Value>| value.unwrap().value;
    assert!(value(stats.cpu.unwrap().usage_core_nano_seconds) > 0);
    let memory = stats.memory.unwrap();
    assert!(value(memory.usage_bytes) > 0 && value(memory.working_set_bytes) <= value(memory.usage_bytes));
    let layer = stats.writable_layer.unwrap();
    assert!(value(layer.used_bytes) >= 3_000_000 && value(layer.inodes_used) >= 1);
    let request = PodSandboxStatsRequest { pod_sandbox_id: sandbox.0.clone() };
    let stats = world.runtime.pod_sandbox_stats(request).await.unwrap().stats.unwrap().linux.unwrap();
    assert_eq!(stats.containers.len(), 1);
    assert!(value(stats.cpu.unwrap().usage_core_nano_seconds) > 0);
    assert!(stats.network.is_some());
    world.finish().await;
}
