//! Images made in memory, and stores in temporary directories.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use nauplius_images::{Digest, ImageStore, Options, Reference};
use serde_json::json;

/// How a layer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Plain,
    Gzip,
    Zstd,
}

pub struct Made {
    pub tag: String,
    pub config: Bytes,
    pub manifest: Bytes,
    pub manifest_type: &'static str,
    /// Layers as they travel.
    pub layers: Vec<Bytes>,
    pub plain_layers: Vec<Bytes>,
}

pub struct LayerBuilder(tar::Builder<Vec<u8>>);

pub fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size as u64);
    header
}

impl LayerBuilder {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// An entry whose name is written as it is, however bad.
    pub fn entry(mut self, mut header: tar::Header, name: &str, link: &str, content: &[u8]) -> Self {
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub fn file(self, name: &str, content: &str) -> Self {
        self.entry(header(tar::EntryType::Regular, 0o644, content.len()), name, "", content.as_bytes())
    }

    pub fn directory(self, name: &str, mode: u32) -> Self {
        self.entry(header(tar::EntryType::Directory, mode, 0), name, "", b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(header(tar::EntryType::Symlink, 0o777, 0), name, target, b"")
    }

    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(header(tar::EntryType::Link, 0o644, 0), name, target, b"")
    }

    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub fn build(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub fn one_file(name: &str, content: &str) -> Vec<u8> {
    LayerBuilder::new().file(name, content).build()
}

pub fn compress(bytes: &[u8], compression: Compression) -> Bytes {
    match compression {
        Compression::Plain => Bytes::copy_from_slice(bytes),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap().into()
        }
        Compression::Zstd => zstd::encode_all(bytes, 1).unwrap().into(),
    }
}

/// An image of these plain layers.
pub fn image(tag: &str, layers: &[Vec<u8>], compression: Compression) -> Made {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"], "Env": [format!("TAG={tag}")]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = Bytes::from(config.to_string());
    let (suffix, kind) = match compression {
        Compression::Plain => ("", "application/vnd.docker.distribution.manifest.v2+json"),
        Compression::Gzip => ("+gzip", "application/vnd.oci.image.manifest.v1+json"),
        Compression::Zstd => ("+zstd", "application/vnd.oci.image.manifest.v1+json"),
    };
    let compressed: Vec<Bytes> = layers.iter().map(|layer| compress(layer, compression)).collect();
    let entries: Vec<_> = compressed
        .iter()
        .map(|layer| {
            json!({"mediaType": format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
            "digest": Digest::of(layer), "size": layer.len()})
        })
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": kind,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config), "size": config.len()},
        "layers": entries});
    Made {
        tag: tag.to_owned(),
        config,
        manifest: manifest.to_string().into(),
        manifest_type: kind,
        layers: compressed,
        plain_layers: layers.iter().map(|layer| Bytes::copy_from_slice(layer)).collect(),
    }
}

pub fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

pub fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("nauplius-images-").tempdir().unwrap()
}

/// Tests kill processes at most, not machines: no need to wait for disks.
pub async fn store(root: &Path) -> ImageStore {
    ImageStore::open_with(root, Options { keep_blobs: false, sync: false }).await.unwrap()
}

/// All files below a directory, relative.
pub fn tree(root: &Path) -> Vec<String> {
    fn walk(directory: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
            if path.symlink_metadata().unwrap().is_dir() {
                walk(&path, root, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

/// What a store must not hold after any operation, failed or not.
pub fn assert_no_leftovers(root: &Path) {
    assert_eq!(tree(&root.join("tmp")), Vec::<String>::new());
}

/// Why a test does not run here; CI greps for it.
pub fn skip(reason: &str) {
    println!("SKIP: {reason}");
}

pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("unpacking layers needs root");
    }
    root
}
