//! A pid namespace that containers share: what its first process is, and what those who live there see of us.

use crate::world::*;
use nauplius_cri::v1::*;
use std::process::Command;

fn pids(mode: NamespaceMode, target: &str) -> Option<NamespaceOption> {
    Some(NamespaceOption { pid: mode.into(), target_id: target.to_owned(), ..Default::default() })
}

async fn sandbox(world: &World, name: &str) -> (String, PodSandboxConfig) {
    let mut config = world.sandbox_config(name);
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options = pids(NamespaceMode::Pod, "");
    (world.run(&config).await.unwrap(), config)
}

/// A container of the shared namespace that may trace whom it sees.
fn tracer(name: &str, script: &str) -> ContainerConfig {
    let mut config = shell(name, script);
    security(&mut config).namespace_options = pids(NamespaceMode::Pod, "");
    security(&mut config).capabilities =
        Some(Capability { add_capabilities: vec!["SYS_PTRACE".to_owned()], ..Default::default() });
    config
}

async fn says(world: &World, id: &str, script: &str) -> String {
    let output = world.exec(id, script).await.unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).replace('\0', " ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_process_is_harmless() {
    let world = World::new().await;
    let sandbox = sandbox(&world, "harmless").await;
    let id = world.launch(&sandbox, tracer("main", "sleep 1000")).await;
    let check = async |script: &str, expected: &str| {
        assert_eq!(says(&world, &id, script).await, expected, "{script}");
    };
    check("ls -A /proc/1/root/ /proc/1/cwd/", "/proc/1/cwd/:\npause\n\n/proc/1/root/:\npause\n").await;
    check("ls -A /proc/1/root/../..", "pause\n").await;
    check("cat /proc/1/cmdline /proc/1/environ", "/pause ").await;
    check("ls -A /proc/1/fd", "").await;
    check("grep -E '^(Name|Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/1/status", "Name:\tpause\nUid:\t65535\t65535\t65535\t65535\n\
        Gid:\t65535\t65535\t65535\t65535\nGroups:\t \nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n").await;
    let read_only = says(&world, &id, "touch /proc/1/root/x; kill -9 1; kill -15 1; ls /proc/1/exe").await;
    assert!(read_only.contains("Read-only file system") && read_only.contains("/proc/1/exe"), "{read_only}");
    // Its files are root's although it runs as somebody else: it cannot be dumped.
    let owner = says(&world, &id, "ls -ln /proc/1/environ").await;
    assert_eq!(owner.split_whitespace().nth(2), Some("0"), "{owner}");
    for kind in ["net", "ipc", "uts", "pid"] {
        let links = says(&world, &id, &format!("ls -l /proc/1/ns/{kind} /proc/self/ns/{kind}")).await;
        let seen: Vec<_> = links.lines().filter_map(|line| line.rsplit("-> ").next()).collect();
        assert_eq!((seen.len(), seen[0]), (2, seen[1]), "{links}");
    }
    for kind in ["mnt", "cgroup", "net"] {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
        assert!(!says(&world, &id, &format!("ls -l /proc/1/ns/{kind}")).await.contains(&host), "{kind}");
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_come_to_the_first_process_and_leave_no_zombies() {
    let world = World::new().await;
    let sandbox = sandbox(&world, "orphans").await;
    let script = "(sleep 1000 & echo $! > /tmp/orphan); (sleep 1000 & echo $! > /tmp/killed); sleep 1000";
    let id = world.launch(&sandbox, tracer("main", script)).await;
    eventually("the orphan", async || {
        let seen = says(&world, &id, "grep PPid /proc/$(cat /tmp/orphan)/status && cat /tmp/killed").await;
        seen.contains("PPid:\t1\n").then_some(())
    })
    .await;
    says(&world, &id, "kill -9 $(cat /tmp/killed)").await;
    eventually("the dead orphan to be reaped", async || {
        let seen = says(&world, &id, "ls -d /proc/$(cat /tmp/killed)").await;
        seen.contains("No such file").then_some(())
    })
    .await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_whose_first_process_dies_is_replaced() {
    let world = World::new().await;
    let sandbox = sandbox(&world, "replaced").await;
    let first = world.launch(&sandbox, tracer("first", "sleep 1000")).await;
    let shim = std::fs::read_to_string(world.root.join("state/sandboxes").join(&sandbox.0).join("shim.pid"));
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shim.unwrap().trim())).unwrap();
    let pause = children.split_whitespace().find(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|arguments| arguments == b"/pause\0")
    });
    assert!(Command::new("kill").args(["-9", pause.unwrap()]).status().unwrap().success());
    assert_eq!(world.exited(&first).await.exit_code, 137);
    let second = world.launch(&sandbox, tracer("second", "sleep 1000")).await;
    assert!(says(&world, &second, "cat /proc/1/cmdline").await.starts_with("/pause"));
    world.finish().await;
}

/// Whoever lives in the namespace looks all the time for a process whose root is the host's, or that has all rights.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_on_the_way_into_a_container_can_be_reached() {
    let world = World::new().await;
    let sandbox = sandbox(&world, "reach").await;
    let marker = world.root.join("marker");
    std::fs::write(&marker, "").unwrap();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let all = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim();
    let script = format!(
        "echo watching; while :; do for p in /proc/[0-9]*; do [ -e $p/root{0} ] && echo LEAK root $p; [ -e $p/cwd/..{0} ] && echo LEAK cwd $p; \
        for f in $p/fd/*; do [ -e $f{0} ] && echo LEAK $f; done; \
        while read -r k v; do [ \"$k$v\" = CapEff:{all} ] && echo LEAK rights $p; done 2>/dev/null < $p/status; done; done",
        marker.display()
    );
    let watcher = world.launch(&sandbox, tracer("watcher", &script)).await;
    eventually("the watcher", async || world.text("watcher.log").contains("watching").then_some(())).await;
    for round in 0..5 {
        let mut config = tracer(&format!("start{round}"), "sleep 1000");
        security(&mut config).seccomp = Some(SecurityProfile::default());
        let id = world.launch(&sandbox, config).await;
        for _ in 0..5 {
            assert_eq!(says(&world, &id, "echo in").await, "in\n");
        }
        assert_eq!(says(&world, &watcher, "echo in").await, "in\n");
        // A debugging container, of one container's processes.
        let mut config = tracer(&format!("target{round}"), "cat /proc/[0-9]*/cmdline");
        security(&mut config).namespace_options = pids(NamespaceMode::Target, &id);
        let debugger = world.launch(&sandbox, config).await;
        world.exited(&debugger).await;
        let seen = world.log(&format!("target{round}.log"));
        assert!(seen.contains("/pause") && !seen.contains("shim"), "{seen}");
    }
    assert_eq!(world.text("watcher.log"), "watching\n");
    world.finish().await;
}
