//! etcd slow, gone, back again, full, behind TLS, and a member of it lost.

use crate::embedded::put;
use crate::suite::{committed, events};
use nauplius_base::time::{monotonic, sleep};
use nauplius_store::etcd::{EtcdOptions, EtcdStore};
use nauplius_store::etcd_process::{self, EtcdProcess};
use nauplius_store::{RangeRequest, Revision, Store, StoreError, Txn, WatchRequest};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::time::Duration;

fn alone(op: nauplius_store::Op) -> Txn {
    Txn { compare: vec![], ops: vec![op] }
}

/// Until something works again; the deadline is only for a test that fails.
async fn eventually<T, F: Future<Output = Result<T, StoreError>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let start = monotonic();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(60), "{what}: {error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn etcd_gone_is_told_and_a_watch_outlives_it() {
    let Some(mut etcd) = EtcdProcess::start("etcd_gone_is_told_and_a_watch_outlives_it", &[]).await else {
        return;
    };
    let store = etcd.store("", "").await.unwrap();
    let mut watch = store.watch(WatchRequest::prefix("k", None)).await.unwrap();
    let first = committed(&store, vec![put("k1", "1")]).await;
    etcd.kill();
    let refused = store.txn(alone(put("k2", "2"))).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    let refused = store.range(RangeRequest::key("k1")).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert!(store.revision().await.is_err());
    etcd.launch_again();
    let second = eventually("a write", || store.txn(alone(put("k3", "3")))).await;
    let seen = events(&mut watch, 2).await;
    assert_eq!(seen.iter().map(|event| event.key().clone()).collect::<Vec<_>>(), ["k1", "k3"]);
    assert_eq!(seen[0].revision(), first);
    assert!(seen[1].revision() > first, "{second:?}");
}

#[tokio::test]
async fn etcd_that_is_slow_is_not_waited_for_without_end() {
    let Some(etcd) = EtcdProcess::start("etcd_that_is_slow", &[]).await else { return };
    let mut options = EtcdOptions::new(vec![etcd.client_url().to_owned()]);
    options.timeout = Duration::from_millis(500);
    let store = EtcdStore::connect(options).await.unwrap();
    let process = Pid::from_raw(etcd.id().unwrap().cast_signed()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let refused = store.txn(alone(put("a", "1"))).await;
    assert_eq!(refused, Err(StoreError::TimedOut { operation: "write" }));
    let refused = store.range(RangeRequest::key("a")).await;
    assert_eq!(refused, Err(StoreError::TimedOut { operation: "read a range" }));
    kill_process(process, Signal::CONT).unwrap();
    eventually("a write", || store.txn(alone(put("b", "1")))).await;
}

#[tokio::test]
async fn etcd_without_space_refuses_writes_serves_reads_and_recovers_by_itself() {
    const QUOTA: &str = "4194304";
    let test = "etcd_without_space_refuses_writes";
    let Some(etcd) = EtcdProcess::start(test, &["--quota-backend-bytes", QUOTA]).await else { return };
    let store = etcd.store("", "").await.unwrap();
    let mut watch = store.watch(WatchRequest::prefix("", None)).await.unwrap();
    let mut written = 0;
    let refused = loop {
        match store.txn(alone(put("same", vec![7; 100_000]))).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "it never fills");
    };
    assert_eq!(refused, StoreError::NoSpace { operation: "write" });
    assert_eq!(store.range(RangeRequest::key("same")).await.unwrap().kvs[0].version, written);
    assert_eq!(events(&mut watch, written as usize).await.len(), written as usize);
    // What runs by itself in the API server every few minutes; nothing else is done for it.
    store.compact(store.revision().await.unwrap()).await.unwrap();
    eventually("a write", || store.txn(alone(put("same", "small")))).await;
    assert_eq!(events(&mut watch, 1).await.len(), 1);
    assert!(store.size_bytes().await.unwrap() < 2 << 20);
}

#[tokio::test]
async fn a_lost_member_is_left_for_another() {
    let Some(mut members) = EtcdProcess::cluster("a_lost_member_is_left_for_another", 3).await else {
        return;
    };
    let servers = members.iter().map(|member| member.client_url().to_owned()).collect();
    let store = EtcdStore::connect(EtcdOptions::new(servers)).await.unwrap();
    let mut watch = store.watch(WatchRequest::prefix("", None)).await.unwrap();
    eventually("a write", || store.txn(alone(put("before", "1")))).await;
    assert_eq!(events(&mut watch, 1).await.len(), 1);
    // The one that is used is the first; it may or may not lead.
    members[0].kill();
    let mut last = Revision::ZERO;
    for number in 0..20 {
        eventually("a write", || store.txn(alone(put(&format!("after-{number}"), "1")))).await;
        let now = store.revision().await.unwrap();
        assert!(now > last);
        last = now;
    }
    // A write that was tried twice is two events; none is missing.
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 20 {
        seen.extend(events(&mut watch, 1).await.iter().map(|event| event.key().clone()));
    }
}

struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let own = Self { directory };
        std::fs::write(own.path("ca.crt"), authority.pem()).unwrap();
        for (name, usage) in
            [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
        {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
            params.extended_key_usages = vec![usage, ExtendedKeyUsagePurpose::ClientAuth];
            let certificate = params.signed_by(&key, &authority).unwrap();
            std::fs::write(own.path(&format!("{name}.crt")), certificate.pem()).unwrap();
            std::fs::write(own.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        own
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn tls_with_certificates_of_both_sides() {
    if !etcd_process::is_installed() {
        println!("SKIP tls_with_certificates_of_both_sides: etcd is not installed");
        return;
    }
    let files = Certificates::new();
    let (ca, cert, key) = (files.path("ca.crt"), files.path("server.crt"), files.path("server.key"));
    let flags = [
        "--cert-file",
        text(&cert),
        "--key-file",
        text(&key),
        "--client-cert-auth",
        "--trusted-ca-file",
        text(&ca),
    ];
    let etcd = EtcdProcess::launch("https", &flags);
    let options = |identity: bool| {
        let mut options = EtcdOptions::new(vec![etcd.client_url().to_owned()]);
        options.ca_file = Some(ca.clone());
        options.identity = identity.then(|| (files.path("client.crt"), files.path("client.key")));
        options
    };
    let store = eventually("a connection", || EtcdStore::connect(options(true))).await;
    committed(&store, vec![put("a", "1")]).await;
    let mut watch = store.watch(WatchRequest::prefix("", Some(Revision(2)))).await.unwrap();
    assert_eq!(events(&mut watch, 1).await.len(), 1);
    assert!(EtcdStore::connect(options(false)).await.is_err(), "a client without a certificate is refused");
    let mut unknown = options(true);
    unknown.ca_file = None;
    assert!(EtcdStore::connect(unknown).await.is_err(), "a server of an unknown authority is not trusted");
    let missing = EtcdOptions { ca_file: Some("/does/not/exist".into()), ..options(true) };
    let refused = EtcdStore::connect(missing).await.err().unwrap();
    assert!(refused.to_string().contains("/does/not/exist"), "{refused}");
}

#[tokio::test]
async fn clusters_in_one_etcd_do_not_see_each_other() {
    let Some(etcd) = EtcdProcess::start("clusters_in_one_etcd", &[]).await else { return };
    let (east, other) = (
        etcd.store("/registry/", "/east/").await.unwrap(),
        etcd.store("/registry/", "/east2/").await.unwrap(),
    );
    let mut watch = east.watch(WatchRequest::prefix("/registry/", None)).await.unwrap();
    committed(&other, vec![put("/registry/pods/a", "east2")]).await;
    let written = committed(&east, vec![put("/registry/pods/a", "east")]).await;
    let seen = events(&mut watch, 1).await;
    assert_eq!((seen[0].key().clone(), seen[0].revision()), ("/registry/pods/a".into(), written));
    let all = east.range(RangeRequest::prefix("")).await.unwrap();
    assert_eq!((all.count, &all.kvs[0].value[..]), (1, &b"east"[..]));
    let outside = east.txn(alone(put("/elsewhere", "x"))).await;
    assert!(outside.is_err(), "{outside:?}");
}
