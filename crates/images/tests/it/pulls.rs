//! Pulls from the registry in memory: what goes right, and what must not.

use std::sync::Arc;

use bytes::Bytes;
use nauplius_images::{Digest, ImageError, Progress, RegistryError};
use serde_json::json;

use crate::fake::{FakeRegistry, Fault, registries};
use crate::fixture::{self, Compression, LayerBuilder, image, one_file, reference};

fn big(name: &str, seed: u8) -> Vec<u8> {
    let content: String = (0..20_000u32)
        .map(|at| char::from(b'a' + (at.wrapping_mul(u32::from(seed) + 7) % 23) as u8))
        .collect();
    LayerBuilder::new().file(name, &content).build()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_gives_the_same_files() {
    for compression in [Compression::Plain, Compression::Gzip, Compression::Zstd] {
        let root = fixture::directory();
        let store = fixture::store(root.path()).await;
        let fake = Arc::new(FakeRegistry::default());
        let made = image("1", &[big("etc/a", 1), big("b", 2)], compression);
        fake.add(&made);
        let mut seen = Vec::new();
        let pulled = store
            .pull(&reference("reg.io/x:1"), None, &registries(&fake), |step| seen.push(step))
            .await
            .unwrap();
        assert_eq!(pulled.id, Digest::of(&made.config).to_string());
        assert_eq!(pulled.repo_tags, ["reg.io/x:1"]);
        assert_eq!(pulled.repo_digests, [format!("reg.io/x@{}", Digest::of(&made.manifest))]);
        assert_eq!(pulled.config.cmd, ["/x"]);
        let layers = store.layers(&pulled.id).unwrap();
        assert_eq!(layers.len(), 2);
        assert!(layers[0].join("b").exists() && layers[1].join("etc/a").exists());
        assert_eq!(
            seen[0],
            Progress::Resolved { layers: 2, bytes: made.layers.iter().map(|layer| layer.len() as u64).sum() }
        );
        assert_eq!(seen.iter().filter(|step| matches!(step, Progress::Unpacked { .. })).count(), 2);
        assert_eq!(store.get("reg.io/x:1").unwrap(), pulled);
        assert_eq!(store.raw_config(&pulled.id).await.unwrap(), made.config);
        fixture::assert_no_leftovers(root.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_layers_are_fetched_once_even_at_the_same_time() {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let fake = Arc::new(FakeRegistry::default());
    let base = big("base", 1);
    let mades =
        ["1", "2", "3", "4"].map(|tag| image(tag, &[base.clone(), one_file("tag", tag)], Compression::Gzip));
    mades.iter().for_each(|made| fake.add(made));
    let registries = registries(&fake);
    let pull = async |tag: &str| {
        store.pull(&reference(&format!("x:{tag}")), None, &registries, |_| {}).await.unwrap()
    };
    let (one, two, three, again) = tokio::join!(pull("1"), pull("2"), pull("3"), pull("1"));
    assert_eq!(fake.offsets(&mades[0].layers[0]), [0]);
    assert_eq!(one, again);
    assert_eq!(store.layers(&one.id).unwrap()[1], store.layers(&two.id).unwrap()[1]);
    assert_ne!(store.layers(&two.id).unwrap()[0], store.layers(&three.id).unwrap()[0]);
    assert_eq!(store.list().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_layer_goes_on_where_it_stopped() {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let fake = Arc::new(FakeRegistry::default());
    let made = image("1", &[big("a", 1)], Compression::Plain);
    fake.add(&made);
    let unavailable = RegistryError::Status {
        method: "GET",
        url: "x".into(),
        status: "503 Service Unavailable".into(),
        message: String::new(),
    };
    let layer = &made.layers[0];
    let faults = [Fault::Fail(unavailable.clone()), Fault::CutAfter(5000), Fault::FromStart];
    fake.fault(layer, faults);
    fake.fault(&made.config, [Fault::Fail(unavailable), Fault::Hang]);
    store.pull(&reference("x:1"), None, &registries(&fake), |_| {}).await.unwrap();
    assert_eq!(fake.offsets(layer), [0, 0, 5000]);
    fixture::assert_no_leftovers(root.path());
}

/// Pulls with a fault and returns the error; nothing may be visible or left behind.
async fn fails(faults: &[Fault]) -> ImageError {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let fake = Arc::new(FakeRegistry::default());
    let made = image("1", &[one_file("below", "x"), big("a", 1)], Compression::Plain);
    fake.add(&made);
    fake.fault(&made.layers[1], faults.iter().cloned());
    let error = store.pull(&reference("x:1"), None, &registries(&fake), |_| {}).await.unwrap_err();
    assert!(store.list().is_empty());
    fixture::assert_no_leftovers(root.path());
    drop(store);
    let store = fixture::store(root.path()).await;
    assert!(store.list().is_empty());
    store.collect_garbage().await.unwrap();
    assert_eq!(fixture::tree(&root.path().join("layers")), Vec::<String>::new());
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_pull_leaves_nothing() {
    assert!(matches!(fails(&[Fault::Corrupt]).await, ImageError::DigestMismatch { .. }));
    assert!(matches!(fails(&[Fault::Longer]).await, ImageError::SizeMismatch { .. }));
    let error = fails(&[Fault::Hang, Fault::Hang, Fault::Hang]).await;
    assert!(error.is_registry_unavailable(), "{error}");
    let reset = RegistryError::Unauthorized { reference: "x".into(), message: "no".into() };
    assert!(fails(&[Fault::Fail(reset)]).await.is_unauthorized());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_pull_leaves_nothing() {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let fake = Arc::new(FakeRegistry::default());
    let made = image("1", &[big("a", 1)], Compression::Plain);
    fake.add(&made);
    fake.fault(&made.layers[0], [Fault::CutAfter(3000), Fault::Hang]);
    let waiting = tokio::sync::Notify::new();
    let mut bytes = 0;
    let (target, registries) = (reference("x:1"), registries(&fake));
    let pull = store.pull(&target, None, &registries, |step| {
        if let Progress::Downloading { done, .. } = step {
            bytes = done;
            if done >= 3000 {
                waiting.notify_one();
            }
        }
    });
    tokio::select! {
        result = pull => panic!("{result:?}"),
        () = waiting.notified() => {}
    }
    assert_eq!(bytes, 3000);
    fixture::assert_no_leftovers(root.path());
    // Its claims are gone with it.
    store.pull(&reference("x:1"), None, &registries, |_| {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_lead_to_this_machines_image() {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let fake = Arc::new(FakeRegistry::default());
    let made = image("other", &[one_file("a", "x")], Compression::Gzip);
    fake.add(&made);
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let index = |architecture: &str| {
        let platform = json!({"os": "linux", "architecture": architecture});
        let entry = json!({"mediaType": made.manifest_type, "digest": Digest::of(&made.manifest),
            "size": made.manifest.len(), "platform": platform});
        Bytes::from(json!({"schemaVersion": 2, "manifests": [entry]}).to_string())
    };
    let kind = "application/vnd.oci.image.index.v1+json";
    fake.add_manifest("good", kind, index(architecture));
    fake.add_manifest("bad", kind, index("s390x"));
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    fake.add_manifest("old", old, Bytes::from_static(br#"{"schemaVersion": 1}"#));
    fake.add_manifest("lies", kind, Bytes::from_static(b"<html>"));
    let registries = registries(&fake);
    let pull = async |name: &str| store.pull(&reference(name), None, &registries, |_| {}).await;

    let pulled = pull("x:good").await.unwrap();
    let digest = Digest::of(&index(architecture));
    assert_eq!(pulled.repo_digests, [format!("docker.io/library/x@{digest}")]);
    let by_digest = pull(&format!("y@{}", Digest::of(&made.manifest))).await.unwrap();
    assert_eq!(by_digest.id, pulled.id);
    assert_eq!(by_digest.repo_tags, pulled.repo_tags);
    assert_eq!(by_digest.repo_digests.len(), 2);

    let message = pull("x:bad").await.unwrap_err().to_string();
    assert!(message.starts_with("no match for platform in manifest: not found"), "{message}");
    assert!(matches!(pull("x:old").await, Err(ImageError::UnsupportedMediaType { .. })));
    assert!(matches!(pull("x:lies").await, Err(ImageError::BadManifest { .. })));
    let missing = pull("x:none").await.unwrap_err();
    assert!(missing.is_not_found());
    assert_eq!(
        missing.to_string(),
        "failed to pull and unpack image \"docker.io/library/x:none\": failed to resolve reference \
         \"docker.io/library/x:none\": docker.io/library/x:none: not found"
    );
    let wrong = Digest::of(b"wrong");
    fake.add_manifest(wrong.as_str(), kind, index(architecture));
    assert!(matches!(pull(&format!("x@{wrong}")).await, Err(ImageError::DigestMismatch { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_not_what_the_config_says_is_refused() {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let fake = Arc::new(FakeRegistry::default());
    let (honest, other) = (one_file("a", "x"), one_file("a", "y"));
    let mut made = image("1", &[honest], Compression::Plain);
    let other = image("1", &[other], Compression::Plain);
    made.layers.clone_from(&other.layers);
    let mut manifest: serde_json::Value = serde_json::from_slice(&other.manifest).unwrap();
    manifest["config"]["digest"] = json!(Digest::of(&made.config));
    manifest["config"]["size"] = json!(made.config.len());
    made.manifest = manifest.to_string().into();
    fake.add(&made);
    let error = store.pull(&reference("x:1"), None, &registries(&fake), |_| {}).await.unwrap_err();
    assert!(matches!(error, ImageError::DigestMismatch { .. }), "{error}");
    assert!(store.list().is_empty());
    fixture::assert_no_leftovers(root.path());
}
