//! Volumes whose drivers are old or gone, and files of one volume that meet.

use super::{Warnings, fractional_bytes};
use crate::tree::{at, get, list, text};
use nauplius_meta::field::Path;
use serde_json::Value;
use std::collections::BTreeSet;

/// Sources in upstream's order, how it calls them, and what is said of them.
const GONE: &[(&str, &str, &str)] = &[
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("ephemeral", "", ""),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Warns of the volumes of a pod spec at `path`.
pub(super) fn of_volumes(spec: &Value, path: &Path, warnings: &mut Warnings) {
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let path = path.child("volumes").index(index);
        for (key, shown, words) in GONE.iter().filter(|(key, ..)| get(volume, key).is_some()) {
            if *key == "ephemeral" {
                let claim = path.children(&["ephemeral", "volumeClaimTemplate", "spec"]);
                of_claim(at(volume, &["ephemeral", "volumeClaimTemplate", "spec"]), &claim, warnings);
            } else {
                warnings.push(format!("{}: {words}", path.child(shown)));
            }
        }
    }
    for volume in list(spec, "volumes") {
        overlaps(volume, warnings);
    }
}

/// Warns of the spec of a claim.
pub(crate) fn of_claim(spec: &Value, path: &Path, warnings: &mut Warnings) {
    for part in ["requests", "limits"] {
        let path = path.child("resources").child(part);
        fractional_bytes(at(spec, &["resources", part]), &["storage"], &path, warnings);
    }
}

fn item_paths(source: &Value) -> Vec<&str> {
    list(source, "items").iter().map(|item| text(item, "path")).collect()
}

/// Warns of files of one volume that take each other's place.
fn overlaps(volume: &Value, warnings: &mut Warnings) {
    let name = text(volume, "name");
    let called = |key: &str| match key {
        "configMap" => format!("ConfigMap {:?}", text(&volume[key], "name")),
        "secret" => format!("Secret {:?}", text(&volume[key], "secretName")),
        _ => "DownwardAPI".to_owned(),
    };
    for key in ["configMap", "secret", "downwardAPI"] {
        if let Some(source) = get(volume, key) {
            let words = format!("volume {name:?} ({}): overlapping paths", called(key));
            collisions(&item_paths(source), &words, warnings);
        }
    }
    let mut all = BTreeSet::new();
    for source in list(&volume["projected"], "sources") {
        let Some((called, paths)) = projection(source) else {
            if source.as_object().is_none_or(serde_json::Map::is_empty) {
                warnings.push(format!("volume {name:?} (Projected) has no sources provided"));
            }
            continue;
        };
        let words = format!("volume {name:?} (Projected {called}): overlapping paths");
        collisions(&paths, &words, warnings);
        let own: BTreeSet<_> = paths.into_iter().collect();
        let mut together: Vec<_> = own.iter().chain(&all).copied().collect();
        together.sort_unstable();
        collisions(&together, &words, warnings);
        all.extend(own);
    }
}

/// How a projection is called, and the paths that it takes.
fn projection(source: &Value) -> Option<(String, Vec<&str>)> {
    let named = |key: &str, kind: &str| {
        get(source, key).map(|from| (format!("{kind} {:?}", text(from, "name")), item_paths(from)))
    };
    let bundle = |from: &'_ Value| {
        let name = get(from, "name").or_else(|| get(from, "signerName"));
        format!("ClusterTrustBundle {:?}", name.and_then(Value::as_str).unwrap_or_default())
    };
    let found = named("configMap", "ConfigMap")
        .or_else(|| named("secret", "Secret"))
        .or_else(|| get(source, "downwardAPI").map(|from| ("DownwardAPI".to_owned(), item_paths(from))))
        .or_else(|| {
            let token = get(source, "serviceAccountToken")?;
            Some(("ServiceAccountToken".to_owned(), vec![text(token, "path")]))
        })
        .or_else(|| get(source, "clusterTrustBundle").map(|from| (bundle(from), vec![text(from, "path")])));
    found.filter(|(_, paths)| !paths.is_empty())
}

fn collisions(paths: &[&str], words: &str, warnings: &mut Warnings) {
    let mut seen: Vec<&str> = Vec::new();
    for path in paths.iter().map(|path| path.trim_end_matches('/')) {
        let meets = |other: &&&str| {
            !path.is_empty()
                && !other.is_empty()
                && (**other == path
                    || format!("{other}/").starts_with(path)
                    || format!("{path}/").starts_with(**other))
        };
        if let Some(other) = seen.iter().find(meets) {
            warnings.push(format!("{words}: {path:?} with {other:?}"));
        }
        seen.push(path);
    }
}
