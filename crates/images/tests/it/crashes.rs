//! A process killed while it loads, builds and removes images: whatever the next one sees is whole.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nauplius_images::build::ImageBuilder;
use nauplius_images::{Image, ImageStore};

use crate::fixture;

const ROOT: &str = "NAUPLIUS_IMAGES_CRASH_ROOT";
const ROUNDS: usize = 12;
const FILES: usize = 40;
const IMAGES: usize = 4;

/// An image whose every file says how long it is and what is in it.
fn builder(number: usize) -> ImageBuilder {
    let mut builder = ImageBuilder::new();
    for file in 0..FILES {
        let content = format!("{number}-{file} ").repeat(file * 50);
        builder.add_bytes(&format!("d{}/{file}", file % 7), content, 0o644).unwrap();
    }
    builder
}

async fn store(root: &Path) -> ImageStore {
    fixture::store(&root.join("store")).await
}

/// Not a test of its own: what the killed process does.
#[tokio::test(flavor = "multi_thread")]
async fn crashing_child() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let root = Path::new(&root);
    let store = store(root).await;
    loop {
        for number in 0..IMAGES {
            let tag = fixture::reference(&format!("x:{number}"));
            if number % 2 == 0 {
                builder(number).store(&store, &[tag]).await.unwrap();
            } else {
                store.load_archive(&root.join(format!("{number}.tar"))).await.unwrap();
            }
        }
        for number in 0..IMAGES {
            store.remove(&format!("x:{number}")).await.unwrap();
        }
    }
}

fn assert_whole(store: &ImageStore, image: &Image) {
    let layers = store.layers(&image.id).unwrap();
    assert_eq!(layers.len(), 1);
    let number: usize = image.repo_tags[0].rsplit(':').next().unwrap().parse().unwrap();
    for file in 0..FILES {
        let content = std::fs::read_to_string(layers[0].join(format!("d{}/{file}", file % 7))).unwrap();
        assert_eq!(content, format!("{number}-{file} ").repeat(file * 50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_whole_images_only() {
    if !fixture::is_root() {
        return;
    }
    let root = fixture::directory();
    for number in 0..IMAGES {
        let tag = fixture::reference(&format!("x:{number}"));
        builder(number).write_archive(&root.path().join(format!("{number}.tar")), &[tag]).await.unwrap();
    }
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crashes::crashing_child", "--nocapture"])
            .env(ROOT, root.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The moment of death is the point of the test, so chance picks it.
        std::thread::sleep(Duration::from_millis(40 + nauplius_base::id::below(120)));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = store(root.path()).await;
        fixture::assert_no_leftovers(&root.path().join("store"));
        let images: Vec<Image> = store.list();
        images.iter().for_each(|image| assert_whole(&store, image));
        *seen.entry(images.len()).or_default() += 1;
        store.collect_garbage().await.unwrap();
        let layers = std::fs::read_dir(root.path().join("store/layers")).unwrap().count();
        assert_eq!(layers, images.len());
    }
    println!("images after a kill, and how often: {seen:?}");
}
