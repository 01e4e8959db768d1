//! What layers look like on disk. Whiteouts, owners and devices need root, as the node does.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nauplius_images::{ImageError, ImageStore};

use crate::fake::{FakeRegistry, registries};
use crate::fixture::{self, Compression, LayerBuilder, header, image, one_file, reference};

async fn unpack(store: &ImageStore, layers: &[Vec<u8>]) -> Result<Vec<PathBuf>, ImageError> {
    let fake = Arc::new(FakeRegistry::default());
    fake.add(&image("1", layers, Compression::Gzip));
    let image = store.pull(&reference("x:1"), None, &registries(&fake), |_| {}).await?;
    store.layers(&image.id)
}

fn is_whiteout(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    let mut buffer = [0; 8];
    rustix::fs::getxattr(path, "trusted.overlay.opaque", &mut buffer)
        .is_ok_and(|count| &buffer[..count] == b"y")
}

#[tokio::test(flavor = "multi_thread")]
async fn files_keep_what_the_archive_says() {
    if !fixture::is_root() {
        return;
    }
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let mut owned = header(tar::EntryType::Regular, 0o4755, 2);
    owned.set_uid(1000);
    owned.set_gid(2000);
    let mut null = header(tar::EntryType::Char, 0o666, 0);
    null.set_device_major(1).unwrap();
    null.set_device_minor(3).unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = LayerBuilder::new()
        .directory("tmp/", 0o1777)
        .entry(owned, "bin/su", "", b"su")
        .hardlink("bin/su2", "bin/su")
        .symlink("bin/sh", "/bin/su")
        .entry(null, "dev/null", "", b"")
        .entry(header(tar::EntryType::Fifo, 0o600, 0), "run/pipe", "", b"")
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("mtime", b"1234567890.5"),
        ])
        .file("bin/ping", "ping")
        .symlink("run2", "run")
        .file("run2/through", "link")
        .directory("./", 0o711)
        .build();
    let layer = unpack(&store, &[layer]).await.unwrap().remove(0);
    let stat = |path: &str| layer.join(path).symlink_metadata().unwrap();
    assert_eq!(stat("tmp").mode() & 0o7777, 0o1777);
    assert_eq!(stat("tmp").mtime(), 1_700_000_000);
    assert_eq!(stat("").mode() & 0o7777, 0o711);
    let su = stat("bin/su");
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid(), su.mtime()), (0o4755, 1000, 2000, 1_700_000_000));
    assert_eq!(su.ino(), stat("bin/su2").ino());
    assert_eq!(std::fs::read_link(layer.join("bin/sh")).unwrap(), Path::new("/bin/su"));
    assert!(stat("dev/null").file_type().is_char_device());
    assert_eq!(stat("dev/null").rdev(), rustix::fs::makedev(1, 3));
    assert!(stat("run/pipe").file_type().is_fifo());
    assert_eq!(std::fs::read_to_string(layer.join("run/through")).unwrap(), "link");
    let ping = layer.join("bin/ping");
    assert_eq!((stat("bin/ping").mtime(), stat("bin/ping").mtime_nsec()), (1_234_567_890, 500_000_000));
    let mut value = [0; 64];
    assert_eq!(rustix::fs::getxattr(&ping, "security.capability", &mut value).unwrap(), capability.len());
    assert!(!is_opaque(&ping));
}

#[tokio::test(flavor = "multi_thread")]
async fn whiteouts_become_overlayfs_own() {
    if !fixture::is_root() {
        return;
    }
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let below = LayerBuilder::new()
        .directory("tmp/", 0o1777)
        .directory("d/", 0o750)
        .file("d/old", "1")
        .directory("r/", 0o755)
        .file("r/x", "1")
        .file("gone", "1")
        .file(".wh.nothing", "")
        .build();
    let above = LayerBuilder::new()
        .file(".wh.gone", "")
        .file("d/.wh..wh..opq", "")
        .file("d/new", "2")
        .file(".wh..wh.plnk", "")
        .file(".wh.r", "")
        .directory("r/", 0o755)
        .file("late", "2")
        .file(".wh.late", "")
        .file("tmp/file", "2")
        .build();
    let layers = unpack(&store, &[below, above]).await.unwrap();
    let (above, below) = (&layers[0], &layers[1]);
    assert_eq!(fixture::tree(below), ["d", "d/old", "gone", "r", "r/x", "tmp"]);
    assert_eq!(fixture::tree(above), ["d", "d/new", "gone", "late", "r", "tmp", "tmp/file"]);
    assert!(is_whiteout(&above.join("gone")) && is_opaque(&above.join("d")) && is_opaque(&above.join("r")));
    assert_eq!(std::fs::read_to_string(above.join("late")).unwrap(), "2");
    // Directories that the layer only passes through look as they do below.
    assert_eq!(above.join("tmp").metadata().unwrap().mode() & 0o7777, 0o1777);
    assert_eq!(above.join("d").metadata().unwrap().mode() & 0o7777, 0o750);
    assert!(!is_opaque(&above.join("tmp")));
}

#[tokio::test(flavor = "multi_thread")]
async fn later_entries_replace_earlier_ones() {
    if !fixture::is_root() {
        return;
    }
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let layer = LayerBuilder::new()
        .file("a", "first")
        .file("a", "second")
        .directory("d/", 0o755)
        .file("d/x", "1")
        .symlink("d", "a")
        .symlink("l", "/etc")
        .directory("l/", 0o700)
        .file("l/inside", "1")
        .build();
    let layer = unpack(&store, &[layer]).await.unwrap().remove(0);
    assert_eq!(fixture::tree(&layer), ["a", "d", "l", "l/inside"]);
    assert_eq!(std::fs::read_to_string(layer.join("a")).unwrap(), "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_the_layer() {
    if !fixture::is_root() {
        return;
    }
    let root = fixture::directory();
    let outside = fixture::directory();
    let target = outside.path().to_string_lossy().into_owned();
    std::fs::write(outside.path().join("secret"), "s").unwrap();
    let secret = format!("{target}/secret");
    let store = fixture::store(root.path()).await;
    let refused = [
        one_file("../evil", "x"),
        one_file("a/../../evil", "x"),
        LayerBuilder::new().symlink("l", &target).file("l/../evil", "x").build(),
        LayerBuilder::new().hardlink("h", &secret).build(),
        LayerBuilder::new().symlink("l", &target).hardlink("h", "l/secret").build(),
        LayerBuilder::new().hardlink("h", "../../../../etc/passwd").build(),
        LayerBuilder::new().file("f", "").file("f/x", "").build(),
        LayerBuilder::new().symlink("a", "b").symlink("b", "a").file("a/x", "").build(),
        LayerBuilder::new().entry(header(tar::EntryType::Char, 0o600, 0), "zero", "", b"").build(),
        LayerBuilder::new().symlink("l", "").build(),
        LayerBuilder::new().entry(header(tar::EntryType::GNUSparse, 0o600, 0), "s", "", b"").build(),
        b"not a tar at all, but longer than nothing".repeat(30),
    ];
    for (index, layer) in refused.into_iter().enumerate() {
        let error = unpack(&store, &[layer]).await.unwrap_err();
        assert!(matches!(error, ImageError::BadLayer { .. }), "{index}: {error}");
    }
    // Contained rather than refused: a link's target is taken inside the layer.
    for contained in [
        LayerBuilder::new().directory(&target[1..], 0o755).symlink("l", &target).file("l/evil", "x").build(),
        LayerBuilder::new().symlink("l", "../../../../../..").file("l/evil", "x").build(),
        one_file(&format!("{target}/evil"), "x"),
    ] {
        unpack(&store, &[contained]).await.unwrap();
    }
    assert_eq!(fixture::tree(outside.path()), ["secret"]);
    fixture::assert_no_leftovers(root.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn overlayfs_shows_the_image() {
    if !fixture::is_root() {
        return;
    }
    let root = fixture::directory();
    let store = fixture::store(root.path()).await;
    let below = LayerBuilder::new()
        .directory("d/", 0o755)
        .file("d/old", "1")
        .file("gone", "1")
        .file("kept", "1")
        .build();
    let above = LayerBuilder::new()
        .file(".wh.gone", "")
        .directory("d/", 0o755)
        .file("d/.wh..wh..opq", "")
        .file("d/new", "2")
        .build();
    let layers = unpack(&store, &[below, above]).await.unwrap();
    let mount = root.path().join("mount");
    std::fs::create_dir(&mount).unwrap();
    let lower = layers.iter().map(|layer| layer.display().to_string()).collect::<Vec<_>>().join(":");
    let options = std::ffi::CString::new(format!("lowerdir={lower}")).unwrap();
    let flags = rustix::mount::MountFlags::RDONLY;
    if let Err(error) = rustix::mount::mount("overlay", &mount, "overlay", flags, options.as_c_str()) {
        fixture::skip(&format!("no overlayfs mounts here: {error}"));
        return;
    }
    let seen = fixture::tree(&mount);
    rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(seen, ["d", "d/new", "kept"]);
}
