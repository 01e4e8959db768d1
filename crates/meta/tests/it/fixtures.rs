//! Every kind as upstream round-trips it: JSON, YAML and protobuf must mean the same, and what we write must be what upstream writes.
use std::path::{Path, PathBuf};

use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::normalize::{Mode, normalize};
use nauplius_meta::schema::{TypeRef, lookup_kind};
use nauplius_meta::{json, protobuf, yaml};
use serde_json::Value;

/// The facts stand beside the checkout; elsewhere the tests say that they were skipped.
fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/api/fixtures");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("SKIP: the fixtures of the API are not beside the checkout");
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("the folder can be listed").path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect();
    paths.sort();
    paths
}

fn type_of(path: &Path, value: &Value) -> TypeRef {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let kind = stem.rsplit('.').next().unwrap();
    let mut gvk = GroupVersionKind::of(value).unwrap();
    if gvk.kind.is_empty() {
        gvk = GroupVersionKind::new("", "v1", kind);
    }
    lookup_kind(&gvk).unwrap_or_else(|| panic!("no type for {gvk}"))
}

/// Runs the check for each fixture and reports all that fail.
fn for_each(check: impl Fn(&Path, &Value, TypeRef) -> Result<(), String>) {
    let mut failures = Vec::new();
    for path in fixtures() {
        let value = json::decode(&std::fs::read(&path).unwrap()).unwrap();
        let ty = type_of(&path, &value);
        if let Err(failure) = check(&path, &value, ty) {
            failures.push(format!("{}: {failure}", path.file_name().unwrap().display()));
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// Where two trees differ first.
fn difference(got: &Value, expected: &Value, at: &str) -> Option<String> {
    match (got, expected) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| {
                difference(
                    a.get(key).unwrap_or(&Value::Null),
                    b.get(key).unwrap_or(&Value::Null),
                    &format!("{at}.{key}"),
                )
                .or_else(|| {
                    (a.contains_key(key) != b.contains_key(key))
                        .then(|| format!("{at}.{key}: only on one side"))
                })
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(index, (a, b))| difference(a, b, &format!("{at}[{index}]"))),
        _ => (got != expected).then(|| format!("{at}: got {got}, expected {expected}")),
    }
}

fn same(got: &Value, expected: &Value) -> Result<(), String> {
    difference(got, expected, "").map_or(Ok(()), Err)
}

#[test]
fn upstreams_objects_are_normal_already() {
    for_each(|_, value, ty| {
        let mut normal = value.clone();
        let issues = normalize(&mut normal, ty, Mode::Full).map_err(|error| error.to_string())?;
        if let Some(issue) = issues.first() {
            return Err(issue.to_string());
        }
        same(&normal, value)
    });
}

#[test]
fn yaml_means_the_same_as_json() {
    for_each(|path, value, _| {
        let text = std::fs::read_to_string(path.with_extension("yaml")).unwrap();
        same(&yaml::decode(&text).map_err(|error| error.to_string())?, value)?;
        let written = yaml::encode(value);
        let differs = written.lines().zip(text.lines()).find(|(a, b)| a != b);
        differs.map_or(Ok(()), |(a, b)| Err(format!("got {a:?}, expected {b:?}")))
    });
}

#[test]
fn protobuf_means_the_same_as_json() {
    for_each(|path, value, ty| {
        let bytes = std::fs::read(path.with_extension("pb")).unwrap();
        same(&protobuf::decode(&bytes, ty).map_err(|error| error.to_string())?, value)
    });
}

#[test]
fn protobuf_is_written_byte_for_byte() {
    for_each(|path, value, ty| {
        let bytes = std::fs::read(path.with_extension("pb")).unwrap();
        let written = protobuf::encode(value, ty).map_err(|error| error.to_string())?;
        if protobuf::transcode_message(&json::encode(value), ty) != protobuf::encode_message(value, ty).ok() {
            return Err("transcoding gives another message".to_owned());
        }
        if written == bytes {
            return Ok(());
        }
        let at =
            written.iter().zip(&bytes).position(|(a, b)| a != b).unwrap_or(written.len().min(bytes.len()));
        let around = |bytes: &[u8]| {
            String::from_utf8_lossy(&bytes[at.saturating_sub(24)..(at + 24).min(bytes.len())]).into_owned()
        };
        Err(format!(
            "at byte {at} of {}: got {:?}, expected {:?}",
            bytes.len(),
            around(&written),
            around(&bytes)
        ))
    });
}
