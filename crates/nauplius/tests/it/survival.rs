//! The first path through every floor: `up`, a pod of the demo image, its log, and a killed server that adopts it again.

use crate::cluster::{Cluster, eventually};
use crate::kubectl;
use std::os::unix::fs::PermissionsExt;

fn processes_of(cluster: &Cluster) -> Vec<String> {
    let mentions = |pid: &str| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&cluster.name)
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && mentions(name)).collect()
}

#[test]
fn a_pod_runs_tells_its_log_and_outlives_the_server() {
    let cluster = Cluster::up();
    let Some(kubectl) = kubectl::any("survival", &cluster) else { return };
    kubectl.ok(&["run", "hello", "--image=nauplius.local/demo:1", "--restart=Always"]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/hello", "--timeout=60s"]);
    let log = kubectl.ok(&["logs", "hello"]);
    assert!(log.starts_with("demo: pod hello on node"), "{log}");

    let id = "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} \
              {.status.containerStatuses[0].state.running.startedAt} {.status.podIP}";
    let before = kubectl.ok(&["get", "pod", "hello", "-o", id]);
    let mode = std::fs::metadata(cluster.data_dir()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "secrets, keys and tokens are in it");
    let pid = cluster.server_pid();
    // SAFETY: a signal to a process of our own.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
    cluster.run_ok(&["up"]);
    assert_ne!(cluster.server_pid(), pid);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/hello", "--timeout=60s"]);
    assert_eq!(kubectl.ok(&["get", "pod", "hello", "-o", id]), before);
    assert_eq!(kubectl.ok(&["logs", "hello"]).lines().next(), log.lines().next());

    kubectl.ok(&["delete", "pod", "hello", "--timeout=60s"]);
    cluster.run_ok(&["delete"]);
    eventually("every process to be gone", || processes_of(&cluster).is_empty().then_some(()));
    assert!(!cluster.data_dir().exists());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&cluster.name), "mounts are left:\n{mounts}");
    let kubeconfig = std::fs::read_to_string(cluster.kubeconfig()).unwrap_or_default();
    assert!(!kubeconfig.contains(&cluster.name), "{kubeconfig}");
}
