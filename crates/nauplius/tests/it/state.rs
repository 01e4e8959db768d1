//! The state of a cluster: kept in files or in etcd, backed up while it runs, put back when it is down, and checked.

use crate::cluster::Cluster;
use crate::kubectl::{self, Kubectl};
use nauplius_store::etcd_process::EtcdProcess;
use nauplius_store::{ALL_KEYS, RangeRequest, Store};

fn version(kubectl: &Kubectl<'_>, name: &str) -> i64 {
    kubectl.ok(&["get", "configmap", name, "-o", "jsonpath={.metadata.resourceVersion}"]).parse().unwrap()
}

/// Backed up and put back: what came after the backup is gone, and no revision is seen twice.
fn there_and_back(cluster: &Cluster, kubectl: &Kubectl<'_>) {
    let file = cluster.scratch.path().join("backup");
    let file = file.to_str().unwrap();
    kubectl.ok(&["create", "configmap", "kept", "--from-literal=a=1"]);
    let told = cluster.run_ok(&["backup", file]);
    assert!(told.contains(" keys at revision "), "{told}");
    let pki = cluster.data_dir().join("pki");
    assert!(told.contains(&format!("are not in it: keep {} beside it.", pki.display())), "{told}");
    assert!(cluster.run_ok(&["store", "check"]).contains("nothing is wrong"));
    kubectl.ok(&["create", "configmap", "later", "--from-literal=a=1"]);
    let newest = version(kubectl, "later");

    let refused = cluster.run(&["restore", file]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is up"), "{refused:?}");
    cluster.run_ok(&["down"]);
    assert!(cluster.run_ok(&["store", "check"]).contains("nothing is wrong"));
    let again = format!("{file}-again");
    cluster.run_ok(&["backup", &again]);
    std::fs::write(format!("{file}-torn"), &std::fs::read(file).unwrap()[..5000]).unwrap();
    let torn = cluster.run(&["restore", &format!("{file}-torn")]);
    assert!(String::from_utf8_lossy(&torn.stderr).contains("ends too early"), "{torn:?}");
    assert!(cluster.run_ok(&["restore", file]).contains("goes on at revision"));
    cluster.run_ok(&["up"]);
    assert!(version(kubectl, "kept") > newest, "a revision that clients have seen came again");
    let gone = kubectl.run(&["get", "configmap", "later"]);
    assert!(String::from_utf8_lossy(&gone.stderr).contains("NotFound"), "{gone:?}");
    let old = kubectl.run(&[
        "get",
        "--raw",
        &format!("/api/v1/configmaps?resourceVersion={newest}&resourceVersionMatch=Exact"),
    ]);
    assert!(String::from_utf8_lossy(&old.stderr).contains("too old"), "{old:?}");
    kubectl.ok(&["run", "hello", "--image=nauplius.local/demo:1"]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/hello", "--timeout=90s"]);
}

#[test]
fn a_cluster_in_files_is_backed_up_and_restored() {
    let cluster = Cluster::up();
    let Some(kubectl) = kubectl::any("a_cluster_in_files", &cluster) else { return };
    there_and_back(&cluster, &kubectl);
}

/// What is left of a store that is damaged or gone is told at once, and a backup mends it; a backup's addresses are kept.
#[test]
fn a_store_that_has_lost_its_data_is_refused_and_restored() {
    let cluster = Cluster::named_only();
    // No other test's cluster takes these by itself.
    cluster.run_ok(&["up", "--service-cidr", "10.80.0.0/20", "--pod-cidr", "10.81.0.0/16"]);
    let file = cluster.scratch.path().join("backup");
    let file = file.to_str().unwrap();
    cluster.run_ok(&["backup", file]);
    cluster.run_ok(&["down"]);
    let database = cluster.data_dir().join("store/store.db");
    let whole = std::fs::read(&database).unwrap();
    let mut damaged = whole.clone();
    damaged[20_000..60_000].fill(0x5a);
    for (left, what) in [(damaged, "the store is corrupt"), (Vec::new(), "the database is empty or gone")] {
        std::fs::write(&database, left).unwrap();
        let refused = cluster.run(&["up"]);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains(what), "{told}");
        assert!(told.contains("`nauplius restore FILE"), "{told}");
        assert!(!cluster.run(&["store", "check"]).status.success());
    }
    cluster.run_ok(&["restore", file]);
    cluster.run_ok(&["up"]);
    assert!(cluster.run_ok(&["store", "check"]).contains("nothing is wrong"));

    let other = Cluster::named_only();
    let refused = other.run(&["restore", file, "--service-cidr", "10.82.0.0/20"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("the backup's services are in ") && told.contains("--service-cidr"), "{told}");
    // The first cluster has its ranges still.
    let refused = other.run(&["restore", file]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    let advice = format!("`nauplius delete --name {0}` makes room, or restore the backup", cluster.name);
    assert!(told.contains("the backup's services are in ") && told.contains(&advice), "{told}");
    cluster.run_ok(&["delete"]);
    let (above, below) = (other.scratch.path().join("a"), other.scratch.path().join("a/b"));
    let restored = other.run_ok(&["restore", file, "--data-dir", below.to_str().unwrap()]);
    assert!(restored.contains("goes on at revision"), "{restored}");
    other.run_ok(&["up"]);
    assert!(below.join("store").exists());
    other.run_ok(&["delete"]);
    assert!(!above.exists(), "what was made for the cluster goes with it");
}

#[test]
fn a_cluster_in_etcd_works_and_is_backed_up_and_restored() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Some(etcd) = runtime.block_on(EtcdProcess::start("a_cluster_in_etcd", &[])) else { return };
    let cluster = Cluster::named_only();
    let refused = cluster.run(&["up", "--etcd-servers", "http://127.0.0.1:1"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    let waits = told.lines().filter(|line| {
        *line == "  waiting for etcd at http://127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused"
    });
    assert_eq!(waits.count(), 1, "{told}");
    let last = told.lines().last().unwrap_or_default();
    let reason = "nauplius: cannot use etcd at http://127.0.0.1:1 below /registry: dial tcp 127.0.0.1:1: connect: connection refused (tried for 2";
    assert!(last.starts_with(reason), "{told}");
    cluster.run_ok(&["up", "--etcd-servers", etcd.client_url(), "--etcd-prefix", "/east"]);
    assert!(!cluster.data_dir().join("store").exists(), "its state is in etcd only");
    let Some(kubectl) = kubectl::any("a_cluster_in_etcd", &cluster) else { return };
    there_and_back(&cluster, &kubectl);
    let keys = || runtime.block_on(kept_below(&etcd, "/east/"));
    assert!(keys() > 0);
    let told = cluster.run_ok(&["delete", "--etcd-keys"]);
    assert!(
        told.contains(&format!("keys are removed from etcd at {} below /east.", etcd.client_url())),
        "{told}"
    );
    assert_eq!(keys(), 0);
    let by_name = etcd.client_url().replace("127.0.0.1", "localhost");
    assert_ne!(by_name, etcd.client_url());
    cluster.run_ok(&["up", "--etcd-servers", &by_name, "--etcd-prefix", "/east"]);
    let told = cluster.run_ok(&["delete"]);
    let advice = format!("`etcdctl --endpoints={by_name} del --prefix /east/` removes them.");
    assert!(told.contains(&advice), "{told}");
    assert!(keys() > 0);
}

/// How many keys are there.
async fn kept_below(etcd: &EtcdProcess, prefix: &str) -> usize {
    let store = etcd.store("/registry/", prefix).await.unwrap();
    let all = RangeRequest { end: Some(ALL_KEYS), keys_only: true, ..RangeRequest::default() };
    store.range(all).await.unwrap().kvs.len()
}
