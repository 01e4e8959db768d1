//! Manifests and indexes: reading them, choosing the image for this machine. Pure; knows neither registry nor archive.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::MAX_LAYERS;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const REBUILD: &str = "schema 1 images are no longer read, rebuild it as an OCI or Docker schema 2 image";

/// Points at content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// This machine's, in the words of image manifests.
    pub(crate) fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: None }
    }

    /// arm64 without a variant means v8, which every arm64 machine runs.
    fn runs(&self, offered: &Self) -> bool {
        let variant_fits = match offered.variant.as_deref() {
            None | Some("") => true,
            Some("v8") => self.architecture == "arm64",
            Some(_) => false,
        };
        self.architecture == offered.architecture && self.os == offered.os && variant_fits
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)
    }
}

/// A document that a reference leads to.
#[derive(Debug)]
pub(crate) enum Manifest {
    Image { config: Descriptor, layers: Vec<Descriptor> },
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// Reads a manifest or index; `media_type` is what its carrier said and may be empty.
pub(crate) fn parse(media_type: &str, bytes: &[u8]) -> Result<Manifest, ImageError> {
    let bad = |reason: &str| ImageError::BadManifest { what: "manifest", reason: reason.to_owned() };
    let document: Document = serde_json::from_slice(bytes).map_err(|error| bad(&error.to_string()))?;
    let media_type = document.media_type.as_deref().unwrap_or(media_type);
    if document.schema_version == 1 {
        let media_type = if media_type.is_empty() { SCHEMA_1 } else { media_type }.to_owned();
        return Err(ImageError::UnsupportedMediaType { media_type, reason: REBUILD });
    }
    if document.schema_version != 2 {
        return Err(bad("schemaVersion is not 2"));
    }
    match (document.config, document.manifests) {
        (Some(_), Some(_)) => Err(bad("it is both a manifest and an index")),
        (None, None) => Err(bad("it is neither a manifest nor an index")),
        (None, Some(manifests)) => Ok(Manifest::Index(manifests)),
        (Some(config), None) => {
            let layers = document.layers.unwrap_or_default();
            if layers.len() > MAX_LAYERS {
                return Err(bad("it has too many layers"));
            }
            layers.iter().try_for_each(check_layer)?;
            Ok(Manifest::Image { config, layers })
        }
    }
}

/// Compression is told by the content's first bytes; what is refused here is what no unpacking would make sense of.
fn check_layer(layer: &Descriptor) -> Result<(), ImageError> {
    let refused =
        |reason| Err(ImageError::UnsupportedMediaType { media_type: layer.media_type.clone(), reason });
    let kind = layer.media_type.as_str();
    if kind.contains("+encrypted") {
        return refused("encrypted layers are not decrypted");
    }
    if kind.contains("foreign") {
        return refused("foreign layers are not distributed by the registry");
    }
    let known = kind.starts_with("application/vnd.oci.image.layer.")
        || kind.starts_with("application/vnd.docker.image.rootfs.diff.tar")
        || kind.is_empty();
    if known { Ok(()) } else { refused("it is no image layer") }
}

/// The entry of an index that this machine runs: the first that fits, one without a platform as a last resort.
pub(crate) fn choose<'a>(manifests: &'a [Descriptor], here: &Platform) -> Option<&'a Descriptor> {
    let fits = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|offered| here.runs(offered));
    let unspecific = |entry: &&Descriptor| entry.platform.is_none();
    manifests.iter().find(fits).or_else(|| manifests.iter().find(unspecific))
}

/// Reads bytes as a manifest or index, and as an image's configuration; says whether they were one. For fuzzing.
pub fn fuzz_manifest(bytes: &[u8]) -> bool {
    parse("", bytes).is_ok() | crate::image::parse_config(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, platform: Option<(&str, &str, Option<&str>)>) -> Descriptor {
        let platform = platform.map(|(os, architecture, variant)| Platform {
            architecture: architecture.into(),
            os: os.into(),
            variant: variant.map(str::to_owned),
        });
        Descriptor {
            media_type: OCI_MANIFEST.into(),
            digest: Digest::of(name.as_bytes()),
            size: 1,
            platform,
            annotations: None,
        }
    }

    #[test]
    fn chooses_by_platform() {
        let index = [
            entry("arm7", Some(("linux", "arm", Some("v7")))),
            entry("windows", Some(("windows", "amd64", None))),
            entry("attestation", Some(("unknown", "unknown", None))),
            entry("arm64", Some(("linux", "arm64", Some("v8")))),
            entry("amd64v3", Some(("linux", "amd64", Some("v3")))),
            entry("amd64", Some(("linux", "amd64", None))),
        ];
        let check = |architecture: &str, expected: Option<&str>| {
            let here = Platform { architecture: architecture.into(), os: "linux".into(), variant: None };
            let chosen = choose(&index, &here).map(|entry| entry.digest.clone());
            assert_eq!(chosen, expected.map(|name| Digest::of(name.as_bytes())), "{architecture}");
        };
        check("amd64", Some("amd64"));
        check("arm64", Some("arm64"));
        check("riscv64", None);
        let single = [entry("plain", None)];
        assert!(choose(&single, &Platform::here()).is_some());
    }

    #[test]
    fn refuses_what_it_does_not_read() {
        let old =
            parse("application/vnd.docker.distribution.manifest.v1+prettyjws", br#"{"schemaVersion":1}"#);
        assert!(matches!(old, Err(ImageError::UnsupportedMediaType { .. })));
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":2,"manifests":[{"digest":"x","size":1}]}"#,
        ] {
            assert!(matches!(parse("", bad.as_bytes()), Err(ImageError::BadManifest { .. })), "{bad}");
        }
        let digest = Digest::of(b"");
        for (kind, fine) in [
            (OCI_LAYER, true),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", false),
            ("text/plain", false),
        ] {
            let manifest = serde_json::json!({"schemaVersion": 2, "config": {"digest": digest, "size": 1},
                "layers": [{"mediaType": kind, "digest": digest, "size": 1}]});
            assert_eq!(parse("", manifest.to_string().as_bytes()).is_ok(), fine, "{kind}");
        }
    }
}
