//! The benchmark measures a server over TLS, finds its process, and leaves nothing behind.

use clap::Parser;
use http::Request;
use http_body_util::BodyExt;
use nauplius_bench::{ApiArgs, Report};
use nauplius_client::transport::{Transport, empty};
use nauplius_store::embedded::{EmbeddedStore, Options};
use nauplius_testkit::solo::{Solo, connect, kubeconfig_in};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    api: ApiArgs,
}

const SMALL: &[&str] = &[
    "bench",
    "--seconds=0.2",
    "--clients=1,16",
    "--objects=600",
    "--list-clients=2",
    "--watchers=120",
    "--events=40",
    "--workloads=writes,gets,lists,watches,startup",
    "--startup-objects=50",
    "--restart=true",
];

async fn get(kubeconfig: &Path, path: &str) -> Value {
    let request = Request::get(path).body(empty()).unwrap();
    let body = connect(kubeconfig).unwrap().call(request).await.unwrap().into_body();
    serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap()
}

fn row<'a>(report: &'a Report, what: &str) -> &'a nauplius_bench::Row {
    report.rows.iter().find(|row| row.what == what).unwrap_or_else(|| panic!("{what} was not measured"))
}

#[tokio::test]
async fn a_server_is_measured_and_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&directory.path().join("store"), Options::default()).await.unwrap();
    let solo = Solo::start(directory.path(), Arc::new(store), 0).await.unwrap();
    let kubeconfig = kubeconfig_in(directory.path());
    let args = Arguments::parse_from(SMALL).api;
    let report = nauplius_bench::run(&kubeconfig, &args).await.unwrap();

    assert_eq!(report.server, solo.address.to_string());
    assert_eq!(report.server_pids, [std::process::id()]);
    assert!(report.rows.iter().all(|row| row.count > 0 || row.note.starts_with("refused with")));
    let whole = row(&report, "list configmaps 600 whole");
    let page = row(&report, "list configmaps 600 limit=500");
    let zipped = row(&report, "list configmaps 600 gzip");
    assert!(zipped.bytes_each * 4.0 < page.bytes_each && page.bytes_each < whole.bytes_each);
    let selected = row(&report, "list pods 600 field selector");
    assert!(selected.bytes_each * 5.0 < row(&report, "list pods 600 whole").bytes_each);
    assert_eq!(row(&report, "watch x 40 events").count, 120 * 40);
    assert!(row(&report, "start with 50 configmaps").count == 1);

    for collection in ["configmaps", "pods"] {
        let left = get(&kubeconfig, &format!("/api/v1/{collection}")).await;
        let names =
            left["items"].as_array().unwrap().iter().map(|item| item["metadata"]["namespace"].as_str());
        assert!(names.flatten().all(|name| !name.starts_with("nauplius-bench")), "{collection} are left");
    }
}
