//! `up` that is interrupted takes back what it began.

use crate::cluster::Cluster;
use crate::commands::{nothing_of_pods_is_left, ready, run_pod};
use crate::kube_rs::{connect, demo_pod};
use crate::refusals::error_of;
use crate::traces;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

/// Runs `up` and sends it a signal once it has shown the end of a stage; gives what it said after that.
fn interrupted_after(cluster: &Cluster, stage: &str, signal: i32) -> String {
    let mut up = cluster.command(&["up"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(up.stderr.take().unwrap()).lines().map(Result::unwrap);
    let ended = said.by_ref().find(|line| line.starts_with(&format!("✓ {stage} ")));
    assert!(ended.is_some(), "stage {stage} did not end: {}", cluster.log_tail());
    // SAFETY: a signal to a child that was not waited for.
    assert_eq!(unsafe { libc::kill(i32::try_from(up.id()).unwrap(), signal) }, 0);
    let rest: Vec<String> = said.collect();
    let status = up.wait().unwrap();
    assert_eq!(status.signal(), Some(signal), "{status}: {rest:?}");
    rest.join("\n")
}

#[test]
fn an_interrupted_first_start_leaves_nothing() {
    let cluster = Cluster::named_only();
    for (stage, signal) in
        [("Certificates", libc::SIGINT), ("API server", libc::SIGHUP), ("Kubelet", libc::SIGTERM)]
    {
        let said = interrupted_after(&cluster, stage, signal);
        assert!(said.ends_with("nauplius: interrupted: nothing is left of the new cluster"), "{said}");
        assert_eq!(traces::of(&cluster), Vec::<String>::new(), "after {stage}");
    }
}

#[tokio::test]
async fn an_interrupted_start_leaves_a_cluster_as_it_was() {
    let cluster = Cluster::up();
    let name = cluster.name.clone();
    let pods: Api<Pod> = Api::default_namespaced(connect(&cluster).await);
    run_pod(&cluster, &pods, &demo_pod("demo")).await;
    cluster.run_ok(&["down"]);
    nothing_of_pods_is_left(&cluster);

    let said = interrupted_after(&cluster, "Kubelet", libc::SIGINT);
    assert!(said.ends_with(&format!("nauplius: interrupted: cluster {name} is down again")), "{said}");
    nothing_of_pods_is_left(&cluster);
    let told = error_of(&cluster.run(&["status"]));
    assert!(
        told.contains(&format!("cluster {name} is down: `nauplius up --name {name}` starts it")),
        "{told}"
    );
    cluster.run_ok(&["up"]);
    ready(&cluster, &pods, "demo").await;

    let processes = traces::container_processes(&cluster);
    cluster.kill_server();
    let said = interrupted_after(&cluster, "API server", libc::SIGINT);
    let expected =
        format!("nauplius: interrupted: cluster {name} has no server, as before, and its pods run on");
    assert!(said.ends_with(&expected), "{said}");
    assert_eq!(traces::container_processes(&cluster), processes);
    cluster.run_ok(&["up"]);
    ready(&cluster, &pods, "demo").await;
    assert_eq!(traces::container_processes(&cluster), processes);
}
