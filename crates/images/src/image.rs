//! What a store tells of an image: its names, its size and the config that a container starts from.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::ImageError;

/// More layers than overlayfs could stack are refused before anything is downloaded.
pub(crate) const MAX_LAYERS: usize = 256;

/// An image in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:<digest of the config>`.
    pub id: String,
    /// Canonical tags, such as `docker.io/library/nginx:latest`.
    pub repo_tags: Vec<String>,
    /// Canonical digest references, such as `docker.io/library/nginx@sha256:...`.
    pub repo_digests: Vec<String>,
    /// The bytes of its content as it was transferred: config and layers.
    pub size_bytes: u64,
    /// What a container starts from.
    pub config: ImageConfig,
    /// The uncompressed digests of its layers, bottom first.
    pub diff_ids: Vec<Digest>,
}

/// The part of an image config that matters to whoever runs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `user`, `uid`, `user:group`, `uid:gid`; empty for root.
    #[serde(default)]
    pub user: String,
    /// `NAME=value` in order.
    #[serde(default)]
    pub env: Vec<String>,
    /// The entry point; empty when there is none.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Its default arguments, or the command when there is no entry point.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// The working directory; empty means `/`.
    #[serde(default)]
    pub working_dir: String,
    /// The signal that stops it, such as `SIGQUIT`.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// `8080/tcp`.
    #[serde(default)]
    pub exposed_ports: BTreeSet<String>,
    /// Paths of anonymous volumes.
    #[serde(default)]
    pub volumes: BTreeSet<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// When it was built, RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
}

/// A config blob's meaning: what is kept of it and the layers it lists.
pub(crate) struct ParsedConfig {
    pub(crate) config: ImageConfig,
    pub(crate) diff_ids: Vec<Digest>,
}

/// Docker and OCI agree on this document; Go writes absent lists and maps as `null`.
#[derive(Deserialize)]
struct ConfigDocument {
    architecture: Option<String>,
    os: Option<String>,
    created: Option<String>,
    config: Option<RunDocument>,
    rootfs: Option<RootFsDocument>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RunDocument {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RootFsDocument {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Option<Vec<Digest>>,
}

/// Reads a config blob.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<ParsedConfig, ImageError> {
    let bad = |reason: String| ImageError::BadManifest { what: "config", reason };
    let document: ConfigDocument = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    let rootfs = document.rootfs.ok_or_else(|| bad("it has no rootfs".to_owned()))?;
    if rootfs.kind != "layers" {
        return Err(bad(format!("rootfs type {:?} is not \"layers\"", rootfs.kind)));
    }
    let diff_ids = rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() > MAX_LAYERS {
        return Err(bad(format!("{} layers are more than the limit of {MAX_LAYERS}", diff_ids.len())));
    }
    let run = document.config.unwrap_or_default();
    let config = ImageConfig {
        user: run.user.unwrap_or_default(),
        env: run.env.unwrap_or_default(),
        entrypoint: run.entrypoint.unwrap_or_default(),
        cmd: run.cmd.unwrap_or_default(),
        working_dir: run.working_dir.unwrap_or_default(),
        stop_signal: run.stop_signal.filter(|signal| !signal.is_empty()),
        exposed_ports: run.exposed_ports.unwrap_or_default().into_keys().collect(),
        volumes: run.volumes.unwrap_or_default().into_keys().collect(),
        labels: run.labels.unwrap_or_default(),
        architecture: document.architecture.unwrap_or_default(),
        os: document.os.unwrap_or_default(),
        created: document.created,
    };
    Ok(ParsedConfig { config, diff_ids })
}

/// Writes a config blob; the same input gives the same bytes.
pub(crate) fn render_config(config: &ImageConfig, diff_ids: &[Digest]) -> Vec<u8> {
    let empty_map = |keys: &BTreeSet<String>| -> serde_json::Value {
        keys.iter().map(|key| (key.clone(), serde_json::json!({}))).collect::<serde_json::Map<_, _>>().into()
    };
    let mut run = serde_json::Map::new();
    let mut put = |key: &str, value: serde_json::Value| {
        let is_empty = match &value {
            serde_json::Value::String(text) => text.is_empty(),
            serde_json::Value::Array(items) => items.is_empty(),
            serde_json::Value::Object(map) => map.is_empty(),
            other => other.is_null(),
        };
        if !is_empty {
            run.insert(key.to_owned(), value);
        }
    };
    put("User", config.user.clone().into());
    put("Env", config.env.clone().into());
    put("Entrypoint", config.entrypoint.clone().into());
    put("Cmd", config.cmd.clone().into());
    put("WorkingDir", config.working_dir.clone().into());
    put("StopSignal", config.stop_signal.clone().into());
    put("ExposedPorts", empty_map(&config.exposed_ports));
    put("Volumes", empty_map(&config.volumes));
    put("Labels", serde_json::json!(config.labels));
    let mut document = serde_json::json!({
        "architecture": config.architecture,
        "os": config.os,
        "config": run,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    if let Some(created) = &config.created {
        document["created"] = created.clone().into();
    }
    document.to_string().into_bytes()
}

/// Names a stack of layers: its one digest, or the digest of what is below with what is added.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_round_trips() {
        let config = ImageConfig {
            user: "1000:1000".into(),
            env: vec!["PATH=/bin".into()],
            entrypoint: vec!["/demo".into()],
            working_dir: "/srv".into(),
            stop_signal: Some("SIGQUIT".into()),
            exposed_ports: ["8080/tcp".to_owned()].into(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            architecture: "amd64".into(),
            os: "linux".into(),
            ..ImageConfig::default()
        };
        let layers = [Digest::of(b"x")];
        let parsed = parse_config(&render_config(&config, &layers)).unwrap();
        assert_eq!(parsed.config, config);
        assert_eq!(parsed.diff_ids, layers);
    }

    #[test]
    fn nulls_are_absent_and_nonsense_is_refused() {
        let parsed =
            parse_config(br#"{"config":{"Cmd":null,"Env":null},"rootfs":{"type":"layers","diff_ids":null}}"#);
        assert!(parsed.unwrap().config.cmd.is_empty());
        for bad in
            ["", "{}", r#"{"rootfs":{"type":"windows"}}"#, r#"{"rootfs":{"type":"layers","diff_ids":["x"]}}"#]
        {
            assert!(parse_config(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn chains_are_named_as_the_specification_says() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain, [a.clone(), Digest::of(format!("{a} {b}").as_bytes())]);
    }
}
