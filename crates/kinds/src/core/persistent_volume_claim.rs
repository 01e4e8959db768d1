//! PersistentVolumeClaim: a wish for storage.

use super::persistent_volume::BETA_CLASS;
use super::pod_diff::diff;
use crate::check::{self, Errors, NOT_POSITIVE};
use crate::describe::describe;
use crate::gates::FieldPath;
use crate::kind::{Column, Context, Descriptor, Kind, carry};
use crate::resource::{canonicalize_requirements, check_amount, is_native, quantity};
use crate::table::{self, string, wide};
use crate::tree::{at, child, default, entries, equal, get, is_unset, list, remove, same, set, text, texts};
use crate::{label_selector, name, warnings};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

pub(crate) const ACCESS_MODES: &[&str] =
    &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Checks a claim's spec, also in the template of an ephemeral volume.
pub(crate) fn validate_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    access_modes(spec, path, errors);
    if let Some(selector) = get(spec, "selector") {
        label_selector::validate(selector, &path.child("selector"), errors);
    }
    let resources = path.child("resources");
    match get(&spec["resources"]["requests"], "storage") {
        None => errors.push(FieldError::required(&resources.key("storage"), "")),
        Some(value) if quantity(value).sign() <= 0 => {
            errors.push(FieldError::invalid(
                &resources.key("storage"),
                quantity(value).canonical(),
                NOT_POSITIVE,
            ));
        }
        Some(value) => check_amount("storage", value, &resources.key("storage"), errors),
    }
    check::name_if_set(spec, "storageClassName", names::dns1123_subdomain, path, errors);
    check::one_of_if_set(spec, "volumeMode", &["Block", "Filesystem"], path, errors);
    data_sources(spec, path, errors);
    check::name_if_set(spec, "volumeAttributesClassName", names::dns1123_subdomain, path, errors);
}

/// What the new storage starts with: `dataSource` and `dataSourceRef` say the same, unless that is in another namespace.
fn data_sources(spec: &Value, path: &Path, errors: &mut Errors) {
    for key in ["dataSource", "dataSourceRef"] {
        if let Some(source) = get(spec, key) {
            data_source(source, key == "dataSourceRef", &path.child(key), errors);
        }
    }
    let (Some(old), Some(new)) = (get(spec, "dataSource"), get(spec, "dataSourceRef")) else { return };
    let whole = path.child("dataSource");
    let mut invalid = |detail: &str| {
        errors.push(FieldError::invalid(path, whole.as_str(), detail));
    };
    if !text(new, "namespace").is_empty() {
        invalid("may not be specified when dataSourceRef.namespace is specified");
    } else if ["apiGroup", "kind", "name"].iter().any(|key| text(old, key) != text(new, key)) {
        invalid("must match dataSourceRef");
    }
}

fn data_source(source: &Value, is_reference: bool, path: &Path, errors: &mut Errors) {
    check::required_text(source, "name", path, errors);
    check::required_text(source, "kind", path, errors);
    let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(path, kind, detail));
    }
    check::name_if_set(source, "apiGroup", names::dns1123_subdomain, path, errors);
    if is_reference {
        check::name_if_set(source, "namespace", names::dns1123_label, path, errors);
    }
}

/// Shows a source of the same namespace under both names.
fn mirror_data_sources(spec: &mut Value) {
    let (old, new) = (get(spec, "dataSource").cloned(), get(spec, "dataSourceRef").cloned());
    match (old, new) {
        (Some(old), None) => set(spec, "dataSourceRef", old),
        (None, Some(new)) if text(&new, "namespace").is_empty() => set(spec, "dataSource", new),
        _ => {}
    }
}

/// A source that the API server knows nothing of is dropped: only claims and snapshots were sources under the old name.
fn drop_unknown_source(spec: &mut Value) {
    let Some(source) = get(spec, "dataSource") else { return };
    let known = [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];
    if !known.contains(&(text(source, "apiGroup"), text(source, "kind")))
        && get(spec, "dataSourceRef").is_none()
    {
        remove(spec, "dataSource");
    }
}

/// The access modes of a claim or a volume: at least one, and one that excludes others stands alone.
pub(crate) fn access_modes(spec: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("accessModes");
    if list(spec, "accessModes").is_empty() {
        errors.push(FieldError::required(&path, "at least 1 access mode is required"));
    }
    let modes = texts(spec, "accessModes");
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.push(FieldError::not_supported(&path, *mode, ACCESS_MODES));
    }
    let exclusive = modes.contains(&"ReadWriteOncePod");
    if exclusive && modes.iter().any(|mode| *mode != "ReadWriteOncePod" && ACCESS_MODES.contains(mode)) {
        errors.push(FieldError::forbidden(&path, "may not use ReadWriteOncePod with other access modes"));
    }
}

pub(crate) struct PersistentVolumeClaim(Descriptor);

pub(crate) fn kind() -> PersistentVolumeClaim {
    let descriptor = describe("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims").short(&["pvc"]);
    PersistentVolumeClaim(descriptor.defaults(set_defaults).status().done())
}

fn set_defaults(object: &mut Value) {
    default(child(object, "status"), "phase", "Pending");
    let spec = child(object, "spec");
    default(spec, "volumeMode", "Filesystem");
    child(spec, "resources");
    canonicalize_requirements(spec);
}

impl Kind for PersistentVolumeClaim {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn initial_status(&self, _object: &Value) -> Value {
        json!({"phase": "Pending"})
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        let status = self.initial_status(object);
        set(object, "status", status);
        let spec = child(object, "spec");
        drop_unknown_source(spec);
        mirror_data_sources(spec);
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        carry(new, old, "status");
        mirror_data_sources(child(new, "spec"));
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        vec![vec!["status", "healthStatus"]]
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate_spec(&object["spec"], &Path::new("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        immutable_rest(new, old, &mut errors);
        let path = Path::new("spec").children(&["resources", "requests", "storage"]);
        let storage = |object: &Value| quantity(at(object, &["spec", "resources", "requests", "storage"]));
        let held = quantity(at(old, &["status", "capacity", "storage"]));
        if storage(new) < storage(old) && storage(new) <= held {
            errors.push(FieldError::forbidden(&path, "field can not be less than status.capacity"));
        }
        check::immutable(&new["spec"], &old["spec"], "volumeMode", &Path::root(), &mut errors);
        kept_attributes(&new["spec"], old, &mut errors);
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if list(&new["spec"], "accessModes").is_empty() {
            // The path is upstream's.
            errors.push(FieldError::required(&Path::new("Spec").child("accessModes"), ""));
        }
        status(&new["status"], &Path::new("status"), &mut errors);
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut found = Vec::new();
        if get(&new["metadata"]["annotations"], BETA_CLASS).is_some() {
            let words = "deprecated since v1.8; use \"storageClassName\" attribute instead";
            found.push(format!("metadata.annotations[{BETA_CLASS}]: {words}"));
        }
        warnings::of_claim(&new["spec"], &Path::new("spec"), &mut found);
        found
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Status", "Whether the claim has a volume."),
            string("Volume", "The volume that it has."),
            string("Capacity", "How much it holds."),
            string("Access Modes", "How it can be used."),
            string("StorageClass", "The class of storage that is wanted."),
            string("VolumeAttributesClass", "The class of attributes that is wanted."),
            table::age(),
            wide(string("VolumeMode", "Files, or a device.")),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let is_bound = !is_unset(spec, "volumeName");
        let when_bound = |cell: String| if is_bound { cell } else { String::new() };
        vec![
            table::name_cell(object),
            phase(object).into(),
            text(spec, "volumeName").into(),
            when_bound(quantity(at(status, &["capacity", "storage"])).canonical()).into(),
            when_bound(access_modes_cell(status)).into(),
            text(spec, "storageClassName").into(),
            or_unset(spec, "volumeAttributesClassName"),
            table::age_cell(object, now_s),
            or_unset(spec, "volumeMode"),
        ]
    }
}

/// The phase of a claim or volume, or that it is going.
pub(super) fn phase(object: &Value) -> &str {
    let is_going = get(&object["metadata"], "deletionTimestamp").is_some();
    if is_going { "Terminating" } else { text(&object["status"], "phase") }
}

/// A field, or `<unset>`.
pub(super) fn or_unset(spec: &Value, key: &str) -> Value {
    get(spec, key).cloned().unwrap_or_else(|| "<unset>".into())
}

/// Access modes in short.
pub(super) fn access_modes_cell(object: &Value) -> String {
    let modes = texts(object, "accessModes");
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let shown = short.into_iter().filter(|(mode, _)| modes.contains(mode)).map(|(_, short)| short);
    shown.collect::<Vec<_>>().join(",")
}

/// A claim changes its size when it is bound, gets its volume once, and otherwise stays.
fn immutable_rest(new: &Value, old: &Value, errors: &mut Errors) {
    let (mut spec, mut old_spec) = (new["spec"].clone(), old["spec"].clone());
    if is_unset(&old_spec, "volumeName") {
        carry(&mut old_spec, &spec, "volumeName");
    }
    follow_class(&mut spec, &old_spec, new, old, errors);
    if text(&new["status"], "phase") == "Bound" {
        let storage = at(&old_spec, &["resources", "requests", "storage"]).clone();
        set(child(child(&mut spec, "resources"), "requests"), "storage", storage);
        if !same(&spec, &old_spec, "volumeAttributesClassName") {
            carry(&mut spec, &old_spec, "volumeAttributesClassName");
        }
    }
    if !equal(&spec, &old_spec) {
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
            diff(&old_spec, &spec)
        );
        errors.push(FieldError::forbidden(&Path::new("spec"), detail));
    }
}

/// A claim that was made without a class gets the one that it was given; what an annotation said, the field may say.
fn follow_class(spec: &mut Value, old_spec: &Value, new: &Value, old: &Value, errors: &mut Errors) {
    const KEY: &str = "storageClassName";
    let beta = |object: &Value| get(&object["metadata"]["annotations"], BETA_CLASS).cloned();
    let (new_beta, old_beta) = (beta(new), beta(old));
    let class = get(spec, KEY).cloned();
    let is_first = get(old_spec, KEY).is_none() && class.is_some();
    let moves = is_first && class == old_beta && (new_beta.is_none() || new_beta == old_beta);
    let shown = |beta: &Option<Value>| beta.clone().unwrap_or_else(|| "".into());
    if !moves && shown(&new_beta) != shown(&old_beta) {
        let path = Path::new("metadata").child("annotations").child(BETA_CLASS);
        errors.push(FieldError::invalid(&path, shown(&new_beta), check::IMMUTABLE));
    }
    if is_first && (old_beta.is_none() || old_beta == class) {
        remove(spec, KEY);
    }
}

/// Once a class of attributes has been applied, the claim has one.
fn kept_attributes(spec: &Value, old: &Value, errors: &mut Errors) {
    const KEY: &str = "volumeAttributesClassName";
    if get(&old["status"], "currentVolumeAttributesClassName").is_none() || same(spec, &old["spec"], KEY) {
        return;
    }
    let to = match get(spec, KEY).and_then(Value::as_str) {
        None => "nil",
        Some("") => "empty string",
        Some(_) => return,
    };
    let detail =
        format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
    errors.push(FieldError::forbidden(&Path::new("spec").child(KEY), detail));
}

/// What the controllers that bind and resize may say.
fn status(status: &Value, path: &Path, errors: &mut Errors) {
    const STATES: &[&str] = &[
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    for (name, amount) in entries(status, "capacity") {
        size(amount, &path.child("capacity").key(name), errors);
    }
    let states = path.child("allocatedResourceStatuses");
    for (name, state) in entries(status, "allocatedResourceStatuses") {
        claimed_name(name, &states, errors);
        if !state.as_str().is_some_and(|state| STATES.contains(&state)) {
            let mut sorted = STATES.to_vec();
            sorted.sort_unstable();
            errors.push(FieldError::not_supported(&states, name, &sorted));
        }
    }
    let allocated = path.child("allocatedResources");
    for (name, amount) in entries(status, "allocatedResources") {
        if claimed_name(name, &allocated, errors) && size(amount, &allocated.key(name), errors) {
            check_amount("storage", amount, &allocated.key(name), errors);
        }
    }
}

/// A claim has storage, and maybe what vendors call otherwise.
fn claimed_name(name: &str, path: &Path, errors: &mut Errors) -> bool {
    let before = errors.len();
    check::label_name(name, path, errors);
    if errors.len() == before && is_native(name) && name != "storage" {
        errors.push(FieldError::not_supported(path, name, &["storage"]));
    }
    errors.len() == before
}

/// An amount that is not negative.
pub(super) fn size(amount: &Value, path: &Path, errors: &mut Errors) -> bool {
    let amount = quantity(amount);
    if amount.sign() < 0 {
        errors.push(FieldError::invalid(path, amount.value(), "must be a valid resource quantity"));
    }
    amount.sign() >= 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{created, creation, row, updated};

    fn claim(size: &str) -> Value {
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}})
    }

    #[test]
    fn claims_are_filled_and_checked() {
        let stored = created(&kind(), claim("1024Mi"));
        assert_eq!(
            (&stored["spec"]["volumeMode"], &stored["status"]["phase"]),
            (&json!("Filesystem"), &json!("Pending"))
        );
        assert_eq!(stored["spec"]["resources"]["requests"]["storage"], "1Gi");
        creation(
            &kind(),
            json!({}),
            &[
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value",
            ],
        );
        creation(
            &kind(),
            claim("0"),
            &["spec.resources[storage]: Invalid value: \"0\": must be greater than zero"],
        );
    }

    #[test]
    fn a_claim_stays() {
        updated(
            &kind(),
            &claim("1Gi"),
            claim("2Gi"),
            &[
                "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
             claims\n--- expected\n+++ got\n@@ -1,11 +1,11 @@\n {\n   \"accessModes\": [\n     \"ReadWriteOnce\"\n   ],\n   \"resources\": {\n     \
             \"requests\": {\n-      \"storage\": \"1Gi\"\n+      \"storage\": \"2Gi\"\n     }\n   },\n   \"volumeMode\": \"Filesystem\"\n }",
            ],
        );
    }

    #[test]
    fn the_row_shows_what_is_bound() {
        let mut object = claim("1Gi");
        row(&kind(), object.clone(), json!(["x", "", "", "", "", "", "<unset>", "75s", "<unset>"]));
        object["spec"]["volumeName"] = "v".into();
        object["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany", "ReadWriteOnce"]});
        row(&kind(), object, json!(["x", "Bound", "v", "1Gi", "RWO,ROX", "", "<unset>", "75s", "<unset>"]));
    }
}
