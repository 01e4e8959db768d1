//! Archives of other tools and our own, and images built here.

use std::path::Path;

use bytes::Bytes;
use nauplius_images::build::ImageBuilder;
use nauplius_images::{Digest, Image, ImageError, ImageStore, Options};
use serde_json::json;

use crate::fixture::{self, Compression, Made, compress, image, one_file, reference};

fn archive(files: &[(String, Bytes)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = fixture::header(tar::EntryType::Regular, 0o644, content.len());
        builder.append_data(&mut header, name, &content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// As `docker save` writes it, the manifest last.
fn docker_save(made: &Made) -> Vec<u8> {
    let mut files: Vec<_> = made
        .plain_layers
        .iter()
        .enumerate()
        .map(|(index, layer)| (format!("{index}/layer.tar"), layer.clone()))
        .collect();
    let layers: Vec<_> = files.iter().map(|(name, _)| name.clone()).collect();
    files.push(("config.json".into(), made.config.clone()));
    let manifest = json!([{"Config": "config.json", "RepoTags": ["saved:1", "saved:2"], "Layers": layers}]);
    files.push(("manifest.json".into(), manifest.to_string().into()));
    archive(&files)
}

fn oci_layout(made: &Made, annotations: &serde_json::Value) -> Vec<u8> {
    let name = |bytes: &Bytes| format!("./blobs/sha256/{}", Digest::of(bytes).hex());
    let blobs = made.layers.iter().chain([&made.config, &made.manifest]);
    let mut files: Vec<_> = blobs.map(|blob| (name(blob), blob.clone())).collect();
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": made.manifest_type,
        "digest": Digest::of(&made.manifest), "size": made.manifest.len(), "annotations": annotations}]});
    files.push(("index.json".into(), index.to_string().into()));
    files.push(("oci-layout".into(), Bytes::from_static(br#"{"imageLayoutVersion":"1.0.0"}"#)));
    archive(&files)
}

async fn load(store: &ImageStore, bytes: &[u8]) -> Result<Vec<Image>, ImageError> {
    store.load_reader(std::io::Cursor::new(bytes.to_vec())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_other_tools_load() {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let made = image("1", &[one_file("a", "1"), one_file("b", "2")], Compression::Zstd);
    let saved = docker_save(&made);
    for compression in [Compression::Plain, Compression::Gzip, Compression::Zstd] {
        let path = root.path().join("archive");
        std::fs::write(&path, compress(&saved, compression)).unwrap();
        let loaded = store.load_archive(&path).await.unwrap();
        assert_eq!(loaded[0].repo_tags, ["docker.io/library/saved:1", "docker.io/library/saved:2"]);
        assert_eq!(loaded[0].id, Digest::of(&made.config).to_string());
    }
    let layout = oci_layout(&made, &json!({"org.opencontainers.image.ref.name": "reg.io/layout:3"}));
    let loaded = store.load_stream(&layout[..]).await.unwrap();
    assert_eq!(loaded[0].repo_tags.last().unwrap(), "reg.io/layout:3");
    assert_eq!(loaded[0].repo_digests, [format!("reg.io/layout@{}", Digest::of(&made.manifest))]);
    assert_eq!(store.list().len(), 1);
    store.remove(&loaded[0].id).await.unwrap();
    let nameless = load(&store, &oci_layout(&made, &json!({"org.opencontainers.image.ref.name": "latest"})))
        .await
        .unwrap();
    assert!(nameless[0].repo_tags.is_empty());
    assert_eq!(store.list(), nameless);
    fixture::assert_no_leftovers(root.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_archives_are_refused_and_leave_nothing() {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let made = image("1", &[one_file("a", "1")], Compression::Plain);
    let good = docker_save(&made);
    let gz = compress(&good, Compression::Gzip);
    let mut liar = image("1", &[one_file("a", "1")], Compression::Plain);
    liar.plain_layers = vec![one_file("a", "2").into()];
    let cases = [
        Vec::new(),
        b"hello".to_vec(),
        archive(&[("x".into(), Bytes::new())]),
        archive(&[("manifest.json".into(), Bytes::from_static(b"[]"))]),
        archive(&[("manifest.json".into(), Bytes::from_static(br#"[{"Config":"../../etc/passwd"}]"#))]),
        good[..good.len() / 2].to_vec(),
        gz[..gz.len() / 2].to_vec(),
    ];
    for (index, bytes) in cases.iter().enumerate() {
        let error = load(&store, bytes).await.unwrap_err();
        assert!(matches!(error, ImageError::BadArchive { .. }), "{index}: {error}");
    }
    assert!(matches!(load(&store, &docker_save(&liar)).await, Err(ImageError::DigestMismatch { .. })));
    assert!(store.list().is_empty());
    fixture::assert_no_leftovers(root.path());
    let missing = store.load_archive(Path::new("/nonexistent")).await;
    assert!(matches!(missing, Err(ImageError::Io { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_blobs_travel_on() {
    let (root, other, files) = (fixture::directory(), fixture::directory(), fixture::directory());
    let keeping =
        ImageStore::open_with(root.path(), Options { keep_blobs: true, sync: false }).await.unwrap();
    let mut made = image("1", &[one_file("a", "1")], Compression::Gzip);
    made.plain_layers.clone_from(&made.layers);
    let loaded = load(&keeping, &docker_save(&made)).await.unwrap();
    let saved = files.path().join("saved.tar");
    keeping.save_archive(&["saved:1"], &saved).await.unwrap();
    let text = String::from_utf8_lossy(&std::fs::read(&saved).unwrap()).into_owned();
    assert!(text.contains("application/vnd.oci.image.layer.v1.tar+gzip"));
    let store = fixture::store(other.path()).await;
    assert_eq!(store.load_archive(&saved).await.unwrap(), loaded);
}

fn builder(host_file: &Path) -> ImageBuilder {
    let mut builder = ImageBuilder::new();
    builder.config.entrypoint = vec!["/bin/demo".into()];
    builder.add_file("/bin/demo", host_file, 0o755).unwrap();
    builder.add_bytes("etc/passwd", "root:x:0:0::/:/bin/sh\n", 0o644).unwrap();
    builder.add_symlink("bin/sh", "demo").unwrap().add_directory("tmp", 0o1777).unwrap();
    builder.add_bytes("home/user/file", "x", 0o600).unwrap().set_owner("home/user/file", 1000, 1000).unwrap();
    builder
}

#[tokio::test(flavor = "multi_thread")]
async fn building_is_deterministic_and_round_trips() {
    let (root, kept, files) = (fixture::directory(), fixture::directory(), fixture::directory());
    let store = fixture::store(root.path()).await;
    let keeping = ImageStore::open_with(kept.path(), Options { keep_blobs: true, sync: true }).await.unwrap();
    let host_file = files.path().join("demo");
    std::fs::write(&host_file, "demo".repeat(100_000)).unwrap();
    let tags = [reference("nauplius.local/demo:1")];
    let built = builder(&host_file).store(&store, &tags).await.unwrap();
    assert_eq!(built.repo_tags, ["nauplius.local/demo:1"]);
    let layers = store.layers(&built.id).unwrap();
    assert_eq!(
        fixture::tree(&layers[0]),
        ["bin", "bin/demo", "bin/sh", "etc", "etc/passwd", "home", "home/user", "home/user/file", "tmp"]
    );
    assert_eq!(builder(&host_file).store(&store, &tags).await.unwrap(), built);
    let changed =
        builder(&host_file).add_bytes("new", "", 0o644).unwrap().store(&store, &tags).await.unwrap();
    assert_ne!(changed.id, built.id);
    assert!(store.get(&built.id).unwrap().repo_tags.is_empty());
    store.remove(&changed.id).await.unwrap();
    assert_eq!(builder(&host_file).store(&store, &tags).await.unwrap(), built);
    let again = builder(&host_file).store(&keeping, &tags).await.unwrap();
    assert_eq!(again, built);

    let (written, saved) = (files.path().join("written.tar"), files.path().join("saved.tar"));
    builder(&host_file).write_archive(&written, &tags).await.unwrap();
    keeping.save_archive(&["nauplius.local/demo:1"], &saved).await.unwrap();
    assert_eq!(std::fs::read(&written).unwrap(), std::fs::read(&saved).unwrap());
    assert!(matches!(store.save_archive(&[&built.id], &saved).await, Err(ImageError::BlobsNotKept { .. })));
    store.remove(&built.id).await.unwrap();
    assert_eq!(store.load_archive(&written).await.unwrap(), [built]);
    fixture::assert_no_leftovers(root.path());
    assert_eq!(std::fs::read_dir(files.path()).unwrap().count(), 3);
}

#[test]
fn builders_refuse_nonsense() {
    let mut builder = ImageBuilder::new();
    builder.add_bytes("a", "", 0o644).unwrap();
    assert!(builder.add_bytes("a/b", "", 0o644).is_err());
    assert!(builder.add_bytes("../b", "", 0o644).is_err());
    assert!(builder.add_bytes("/", "", 0o644).is_err());
    assert!(builder.add_symlink("l", "").is_err());
    assert!(builder.set_owner("none", 1, 1).is_err());
    assert!(builder.add_file("d", Path::new("/"), 0o644).is_err());
    assert!(builder.add_file("d", Path::new("/nonexistent"), 0o644).is_err());
}
