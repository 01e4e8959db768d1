//! All built-in kinds against the facts of the API that lie beside the checkout: columns, paths, and one filled object of
//! each kind. Where the facts are not there the tests are counted as skipped.

mod cases;
mod tracked;

use nauplius_kinds::{Context, Kind, RuntimeConfig, Version, builtin, serving};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// Columns that upstream gave a kind after the table of facts was made.
const NEWER_COLUMNS: &[(&str, &str)] = &[
    ("PriorityClass", "PreemptionPolicy"),
    ("CSIDriver", "TokenRequests"),
    ("CSIDriver", "RequiresRepublish"),
    ("CSIDriver", "Modes"),
    ("CSIDriver", "Age"),
    ("Job", "Status"),
    ("CronJob", "Timezone"),
    ("PersistentVolume", "VolumeAttributesClass"),
    ("PersistentVolumeClaim", "VolumeAttributesClass"),
];
/// Kinds whose columns have another order since.
const REORDERED: &[&str] = &["ResourceQuota"];
/// Formats that changed since.
const NEWER_FORMATS: &[(&str, &str)] = &[("Event", "Name")];

/// Kinds that show an object differently in another version and lose something on the way.
const LOSSY: &[&str] = &["HorizontalPodAutoscaler"];
/// Resources that upstream serves in these versions since the paths were read off.
const NEWER_PATHS: &[&str] = &[
    "/apis/certificates.k8s.io/v1/clustertrustbundles",
    "/apis/certificates.k8s.io/v1/namespaces/{namespace}/podcertificaterequests",
    "/apis/resource.k8s.io/v1/devicetaintrules",
    "/apis/scheduling.k8s.io/v1beta1/namespaces/{namespace}/podgroups",
    "/apis/scheduling.k8s.io/v1beta1/namespaces/{namespace}/workloads",
    "/apis/storagemigration.k8s.io/v1/storageversionmigrations",
];

/// Every kind in every version, those that are off by default included.
fn all() -> Vec<Arc<dyn Kind>> {
    serving(&RuntimeConfig::parse("api/beta=true").expect("a setting"))
}

fn facts(file: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/api").join(file);
    if path.exists() {
        return Some(path);
    }
    println!("SKIP: the facts of the API ({file}) are not beside the checkout");
    None
}

fn rows(file: &str) -> Option<Vec<Vec<String>>> {
    let text = std::fs::read_to_string(facts(file)?).expect("facts are text");
    Some(text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

/// How many smaller objects of a kind are tried.
const MAX_SMALLER: usize = 150;

/// How the table of columns calls a kind.
fn table_name(kind: &str) -> String {
    match kind {
        "Endpoints" => "endpoint".to_owned(),
        "RoleBinding" => "roleBindings".to_owned(),
        "ClusterRoleBinding" => "clusterRoleBindings".to_owned(),
        _ => kind[..1].to_lowercase() + &kind[1..],
    }
}

#[test]
fn columns_are_upstreams() {
    let Some(rows) = rows("columns.tsv") else { return };
    for kind in all() {
        let name = kind.descriptor().kind.to_string();
        let expected: Vec<_> = rows.iter().filter(|row| row[0] == table_name(&name)).collect();
        if expected.is_empty() || REORDERED.contains(&name.as_str()) {
            continue;
        }
        let columns = kind.columns();
        let known = columns.iter().filter(|column| !NEWER_COLUMNS.contains(&(&name, &column.name)));
        let known: Vec<_> = known.collect();
        assert_eq!(known.len(), expected.len(), "{name}");
        for (column, row) in known.iter().zip(expected) {
            let shown = (column.name.as_ref(), column.type_.as_ref(), column.priority.to_string());
            assert_eq!(shown, (row[1].as_str(), row[2].as_str(), row[4].clone()), "{name}");
            if !NEWER_FORMATS.contains(&(&name, &column.name)) {
                assert_eq!(column.format, row[3], "{name}");
            }
        }
    }
}

fn path_of(kind: &dyn Kind, version: &str) -> String {
    let descriptor = kind.descriptor();
    let root =
        if descriptor.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", descriptor.group) };
    let scope = if descriptor.namespaced { "/namespaces/{namespace}" } else { "" };
    format!("{root}/{version}{scope}/{}", descriptor.plural)
}

#[test]
fn kinds_and_their_subresources_are_at_upstreams_paths() {
    let Some(rows) = rows("operations.tsv") else { return };
    let paths: BTreeSet<_> = rows.iter().map(|row| row[0].as_str()).collect();
    for kind in all() {
        for version in &kind.descriptor().versions {
            let path = path_of(kind.as_ref(), &version.name);
            if NEWER_PATHS.contains(&path.as_str()) {
                continue;
            }
            assert!(paths.contains(path.as_str()), "{path}");
            for subresource in &kind.descriptor().subresources {
                let path = format!("{path}/{{name}}/{}", subresource.name);
                assert!(paths.contains(path.as_str()), "{path}");
            }
        }
    }
}

#[test]
fn only_stable_versions_are_served_by_default() {
    for kind in builtin() {
        for version in &kind.descriptor().versions {
            assert!(!version.name.contains("beta"), "{} {}", kind.descriptor().kind, version.name);
        }
    }
}

#[test]
fn names_are_taken_once() {
    let mut seen = BTreeSet::new();
    for kind in all() {
        let descriptor = kind.descriptor();
        assert!(
            seen.insert((descriptor.group.clone(), descriptor.plural.clone())),
            "{}",
            descriptor.qualified()
        );
        assert!(descriptor.version(&descriptor.hub).is_some(), "{} serves its hub", descriptor.kind);
    }
}

/// The filled object of a kind, if the facts have one.
fn fixture(kind: &dyn Kind, version: &str) -> Option<Value> {
    let descriptor = kind.descriptor();
    let group = if descriptor.group.is_empty() { "core" } else { &descriptor.group };
    let path = facts("fixtures")?.join(format!("{group}.{version}.{}.json", descriptor.kind));
    // A kind without a filled object has nothing to try.
    let text = std::fs::read(path).ok()?;
    Some(serde_json::from_slice(&text).expect("fixtures are JSON"))
}

/// An object without what says as much as nothing: devices of v1beta1 may have an empty `basic`.
fn meaning(object: &Value) -> Value {
    let mut object = object.clone();
    let devices = object.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
    for device in devices.into_iter().flatten().filter_map(Value::as_object_mut) {
        device.retain(|key, value| key != "basic" || *value != serde_json::json!({}));
    }
    object
}

/// Every path that an object of a version takes through a kind.
fn exercise(kind: &dyn Kind, version: &Version, object: &Value) {
    let context = |subresource| Context { subresource, user: "admin", ..Context::default() };
    let mut new = object.clone();
    (version.default)(&mut new);
    if let (Some(to_hub), Some(from_hub)) = (version.to_hub, version.from_hub) {
        let before = new.clone();
        to_hub(&mut new);
        from_hub(&mut new);
        if !LOSSY.contains(&&*kind.descriptor().kind) {
            assert_eq!(meaning(&new), meaning(&before), "{} converts both ways", kind.descriptor().kind);
        }
        to_hub(&mut new);
    }
    let mut created = new.clone();
    kind.prepare_create(&context(None), &mut created);
    kind.validate(&created);
    kind.warnings(&created, Some(object));
    kind.grace_period_s(&created, None);
    kind.forbids_delete(&created);
    let mut updated = new.clone();
    kind.prepare_update(&context(None), &mut updated, &created);
    kind.validate_update(&updated, &created);
    for subresource in &kind.descriptor().subresources {
        let mut written = new.clone();
        kind.prepare_subresource_update(&context(Some(&subresource.name)), &mut written, &created);
        kind.validate_subresource_update(&subresource.name, &written, &created);
    }
    for field in kind.selectable_fields() {
        kind.selectable_field(&created, field);
    }
    assert_eq!(kind.cells(&created, 0).len(), kind.columns().len(), "{}", kind.descriptor().kind);
}

/// The way to every field, at every depth, as JSON pointers to its owner with its name.
fn fields(value: &Value, pointer: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                found.push((pointer.to_owned(), key.clone()));
                let escaped = key.replace('~', "~0").replace('/', "~1");
                fields(value, &format!("{pointer}/{escaped}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                fields(item, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// The object without one of its fields.
fn without(object: &Value, (owner, field): &(String, String)) -> Value {
    let mut smaller = object.clone();
    smaller.pointer_mut(owner).and_then(Value::as_object_mut).expect("an owner is an object").remove(field);
    smaller
}

#[test]
fn a_filled_object_and_each_smaller_one_passes_through_without_panic() {
    for kind in all() {
        for version in &kind.descriptor().versions {
            exercise(kind.as_ref(), version, &serde_json::json!({}));
            let Some(object) = fixture(kind.as_ref(), &version.name) else { continue };
            exercise(kind.as_ref(), version, &object);
            let mut found = Vec::new();
            fields(&object, "", &mut found);
            for field in found.iter().step_by(1 + found.len() / MAX_SMALLER) {
                exercise(kind.as_ref(), version, &without(&object, field));
            }
        }
    }
}

#[test]
fn defaults_and_preparation_are_stable() {
    for kind in all() {
        for version in &kind.descriptor().versions {
            let Some(mut object) = fixture(kind.as_ref(), &version.name) else { continue };
            (version.default)(&mut object);
            let once = object.clone();
            (version.default)(&mut object);
            assert_eq!(object, once, "{} {} defaults once", version.name, kind.descriptor().kind);
        }
    }
}

#[test]
fn an_update_that_changes_nothing_changes_nothing() {
    for kind in all() {
        let context = Context { user: "admin", ..Context::default() };
        let version = &kind.descriptor().versions[0];
        let Some(mut object) = fixture(kind.as_ref(), &version.name) else { continue };
        if !kind.descriptor().verbs.stored || version.to_hub.is_some() {
            continue;
        }
        (version.default)(&mut object);
        kind.prepare_create(&context, &mut object);
        let mut again = object.clone();
        kind.prepare_update(&context, &mut again, &object);
        assert_eq!(again, object, "{}", kind.descriptor().kind);
        let of_change = kind.validate_update(&again, &object);
        let of_object = kind.validate(&object);
        for error in of_change {
            // What is allowed may be more for an object that had it before, so the words may differ.
            let is_known = of_object.iter().any(|own| own.kind == error.kind && own.path == error.path);
            assert!(is_known, "{}: {error}", kind.descriptor().kind);
        }
    }
}
