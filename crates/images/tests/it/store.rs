//! Names, leases, garbage, restarts and crashes.

use std::sync::Arc;

use nauplius_images::{Image, ImageError, ImageStore, Options};

use crate::fake::{FakeRegistry, registries};
use crate::fixture::{self, Compression, image, one_file, reference, tree};

async fn pull(store: &ImageStore, tag: &str, layers: &[Vec<u8>]) -> Image {
    let fake = Arc::new(FakeRegistry::default());
    fake.add(&image(tag, layers, Compression::Gzip));
    store.pull(&reference(&format!("x:{tag}")), None, &registries(&fake), |_| {}).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_has_one_owner_and_survives_restarts() {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let image = pull(&store, "1", &[one_file("a", "1")]).await;
    assert!(matches!(ImageStore::open(root.path()).await, Err(ImageError::Locked { .. })));
    let usage = store.usage();
    assert!(usage.bytes > 0 && usage.inodes > 1);
    drop(store);
    let store = ImageStore::open(root.path()).await.unwrap();
    assert_eq!(store.list(), std::slice::from_ref(&image));
    assert_eq!(store.usage(), usage);
    assert!(store.layers(&image.id).unwrap()[0].join("a").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_stays() {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let base = one_file("base", "1");
    let one = pull(&store, "1", &[base.clone(), one_file("one", "1")]).await;
    let two = pull(&store, "2", &[base, one_file("two", "2")]).await;
    store.retain("pod-1", &one.id).await.unwrap();
    store.retain("pod-2", "x:1").await.unwrap();
    assert!(store.in_use(&one.id) && !store.in_use(&two.id));
    store.remove("x:1").await.unwrap();
    assert!(store.get(&one.id).is_none() && store.get("x:1").is_none());
    let layers = store.layers(&one.id).unwrap();
    store.collect_garbage().await.unwrap();
    assert!(layers.iter().all(|layer| layer.exists()));
    // The owner takes its lease again after a restart, before garbage is collected.
    drop(store);
    let store = fixture::store(root.path()).await;
    store.retain("pod-1", &one.id).await.unwrap();
    assert_eq!(store.collect_garbage().await.unwrap().bytes, 0);
    store.release("pod-2").await.unwrap();
    assert!(layers[0].exists());
    store.release("pod-1").await.unwrap();
    assert!(!layers[0].exists() && layers[1].exists());
    assert!(store.layers(&two.id).unwrap().iter().all(|layer| layer.exists()));
    assert!(matches!(store.layers(&one.id), Err(ImageError::NotFound { .. })));
    store.remove(&two.id).await.unwrap();
    assert_eq!(store.usage(), nauplius_images::Usage::default());
    assert_eq!(tree(root.path()), ["blobs", "images", "layers", "layout", "lock", "tmp"]);
    assert!(matches!(store.remove(&two.id).await, Err(ImageError::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_come_and_go() {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let one = pull(&store, "1", &[one_file("a", "1")]).await;
    let two = pull(&store, "2", &[one_file("a", "2")]).await;
    store.tag("x:1", &reference("y:1")).await.unwrap();
    store.tag(&two.id, &reference("x:1")).await.unwrap();
    assert_eq!(store.get("x:1").unwrap().id, two.id);
    assert_eq!(store.get("y:1").unwrap().repo_tags, ["docker.io/library/y:1"]);
    assert_eq!(store.get(&one.id[7..19]).unwrap().id, one.id);
    assert!(store.tag("nothing", &reference("z")).await.is_err());
    store.remove("y:1").await.unwrap();
    assert_eq!(store.list().len(), 1);
    drop(store);
    assert_eq!(
        fixture::store(root.path()).await.list()[0].repo_tags,
        ["docker.io/library/x:1", "docker.io/library/x:2"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_nothing_half_visible() {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let image = pull(&store, "1", &[one_file("a", "1")]).await;
    let lost = pull(&store, "2", &[one_file("b", "2")]).await;
    let lost_layer = store.layers(&lost.id).unwrap().remove(0);
    drop(store);
    // As a kill in the middle of a download, of unpacking and of a record's writing leaves it.
    let path = |name: &str| root.path().join(name);
    std::fs::create_dir_all(path("tmp/half/fs/etc")).unwrap();
    std::fs::write(path("tmp/half/fs/etc/passwd"), "x").unwrap();
    std::fs::write(path("tmp/download"), "x").unwrap();
    // As a failing disk leaves it.
    std::fs::write(path("images/broken.json"), "{\"id\":").unwrap();
    std::fs::create_dir_all(path("layers/broken/fs")).unwrap();
    std::fs::remove_dir_all(lost_layer.parent().unwrap()).unwrap();
    let store = fixture::store(root.path()).await;
    assert_eq!(store.list(), [image]);
    assert!(
        !path("layers/broken").exists() && !path("tmp/half").exists() && !path("images/broken.json").exists()
    );
    store.collect_garbage().await.unwrap();
    drop(store);
    let store = fixture::store(root.path()).await;
    assert_eq!(store.list().len(), 1);
    drop(store);
    std::fs::write(path("layout"), "99").unwrap();
    assert!(matches!(ImageStore::open(root.path()).await, Err(ImageError::Layout { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_a_broken_pull_serve_the_next_one() {
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let fake = Arc::new(FakeRegistry::default());
    let made = image("1", &[one_file("a", "1"), one_file("b", "2")], Compression::Gzip);
    fake.add(&made);
    fake.fault(&made.layers[1], [crate::fake::Fault::Corrupt]);
    let registries = registries(&fake);
    let mut first_is_there = false;
    while !first_is_there {
        fake.fault(&made.layers[1], [crate::fake::Fault::Corrupt]);
        let failed = store.pull(&reference("x:1"), None, &registries, |_| {}).await;
        assert!(matches!(failed, Err(ImageError::DigestMismatch { .. })));
        first_is_there = store.usage().inodes > 0;
    }
    drop(store);
    let store = fixture::store(root.path()).await;
    let before = fake.offsets(&made.layers[0]).len();
    fake.fault(&made.layers[1], []);
    while store.pull(&reference("x:1"), None, &registries, |_| {}).await.is_err() {}
    assert_eq!(fake.offsets(&made.layers[0]).len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_apart() {
    if !fixture::is_root() {
        return;
    }
    struct Mounted<'a>(&'a std::path::Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
        }
    }
    let root = fixture::directory();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", root.path(), "tmpfs", flags, Some(c"size=256k")).unwrap();
    let _mounted = Mounted(root.path());
    let store = ImageStore::open_with(root.path(), Options { sync: false, keep_blobs: false }).await.unwrap();
    let fake = Arc::new(FakeRegistry::default());
    fake.add(&image("1", &[one_file("a", &"x".repeat(1 << 20))], Compression::Gzip));
    let error = store.pull(&reference("x:1"), None, &registries(&fake), |_| {}).await.unwrap_err();
    assert!(matches!(error, ImageError::NoSpace { .. }), "{error}");
    fixture::assert_no_leftovers(root.path());
    assert!(store.list().is_empty());
}
