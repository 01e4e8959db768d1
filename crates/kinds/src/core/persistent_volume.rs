//! PersistentVolume: storage that is there, and who has it.

use super::persistent_volume_claim::{self as claim, access_modes_cell, or_unset, phase};
use super::persistent_volume_source::{self as source, SOURCES};
use super::pod_diff::diff;
use crate::check::{self, Errors, NOT_POSITIVE};
use crate::describe::describe;
use crate::kind::{Column, Context, Descriptor, Kind, carry, keep_content};
use crate::pod_template::{default_volume_source, node_selector};
use crate::resource::{canonicalize, quantity};
use crate::table::{self, string, wide};
use crate::tree::{
    at, child, default, each, entries, equal, get, is_unset, list, remove, same, set, size, text, texts, with,
};
use crate::{duration, name};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Map, Value, json};

pub(super) const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const ATTRIBUTES_CLASS: &str = "volumeAttributesClassName";
const EXPAND_SECRET: &str = "controllerExpandSecretRef";
const BETA_MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

pub(crate) struct PersistentVolume(Descriptor);

pub(crate) fn kind() -> PersistentVolume {
    let descriptor = describe("", "v1", "PersistentVolume", "persistentvolumes").cluster_scoped();
    PersistentVolume(descriptor.short(&["pv"]).defaults(set_defaults).status().done())
}

fn set_defaults(object: &mut Value) {
    default(child(object, "status"), "phase", "Pending");
    let spec = child(object, "spec");
    default(spec, "persistentVolumeReclaimPolicy", "Retain");
    default(spec, "volumeMode", "Filesystem");
    canonicalize(spec, "capacity");
    default_volume_source(spec);
}

impl Kind for PersistentVolume {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn prepare_create(&self, context: &Context<'_>, object: &mut Value) {
        let now = duration::moment(context.now_s);
        set(object, "status", json!({"phase": "Pending", "lastPhaseTransitionTime": now}));
    }

    fn prepare_subresource_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        keep_content(new, old);
        if !same(&new["status"], &old["status"], "phase") {
            let moved = get(&new["status"], "lastPhaseTransitionTime");
            if moved.is_none() || moved == get(&old["status"], "lastPhaseTransitionTime") {
                set(child(new, "status"), "lastPhaseTransitionTime", duration::moment(context.now_s));
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        access_modes(spec, &path.child("accessModes"), &mut errors);
        capacity(spec, &path.child("capacity"), &mut errors);
        let policies = ["Delete", "Recycle", "Retain"];
        check::one_of_if_set(spec, "persistentVolumeReclaimPolicy", &policies, &path, &mut errors);
        node_affinity(spec, &path.child("nodeAffinity"), &mut errors);
        source::validate(spec, text(&object["metadata"], "name"), &path, &mut errors);
        if is_root(text(&spec["hostPath"], "path"))
            && text(spec, "persistentVolumeReclaimPolicy") == "Recycle"
        {
            let detail = "may not be 'recycle' for a hostPath mount of '/'";
            errors.push(FieldError::forbidden(&path.child("persistentVolumeReclaimPolicy"), detail));
        }
        check::name_if_set(spec, "storageClassName", names::dns1123_subdomain, &path, &mut errors);
        check::one_of_if_set(spec, "volumeMode", &["Block", "Filesystem"], &path, &mut errors);
        attributes_class(spec, &path, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (spec, old_spec) = (&new["spec"], &old["spec"]);
        let (mut sources, old_sources) = (sources(spec), sources(old_spec));
        // Who makes a volume larger may be said later.
        if get(&old_sources, "csi").is_some() && get(&old_sources["csi"], EXPAND_SECRET).is_none() {
            with(&mut sources, "csi", |csi| drop(remove(csi, EXPAND_SECRET)));
        }
        if !equal(&sources, &old_sources) {
            let path = Path::new("spec").child("persistentvolumesource");
            let difference = diff(&old_sources, &sources);
            let detail = format!("spec.persistentvolumesource is immutable after creation\n{difference}");
            errors.push(FieldError::forbidden(&path, detail));
        }
        check::immutable(spec, old_spec, "volumeMode", &Path::root(), &mut errors);
        if get(old_spec, "nodeAffinity").is_some() {
            kept_affinity(&spec["nodeAffinity"], &old_spec["nodeAffinity"], &mut errors);
        }
        if get(old_spec, ATTRIBUTES_CLASS).is_some() && get(spec, ATTRIBUTES_CLASS).is_none() {
            let path = Path::new("spec").child(ATTRIBUTES_CLASS);
            errors.push(FieldError::forbidden(&path, "update from non-nil value to nil is forbidden"));
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let annotations = &new["metadata"]["annotations"];
        let mut warnings = Vec::new();
        for (key, field) in [(BETA_CLASS, "storageClassName"), (BETA_MOUNT_OPTIONS, "mountOptions")] {
            if get(annotations, key).is_some() {
                let since = if field == "mountOptions" { "v1.31" } else { "v1.8" };
                warnings.push(format!(
                    "metadata.annotations[{key}]: deprecated since {since}; use \"{field}\" attribute instead"
                ));
            }
        }
        if text(&new["spec"], "persistentVolumeReclaimPolicy") == "Recycle" {
            warnings.push(
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
                 approach is to use dynamic provisioning."
                    .to_owned(),
            );
        }
        let path = Path::new("spec").children(&["nodeAffinity", "required", "nodeSelectorTerms"]);
        let terms = list(at(new, &["spec", "nodeAffinity", "required"]), "nodeSelectorTerms");
        for (index, term) in terms.iter().enumerate() {
            crate::warnings::of_node_selector_term(term, &path.index(index), &mut warnings);
        }
        warnings.extend(source::warnings(&new["spec"]));
        warnings
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Capacity", "How much it holds."),
            string("Access Modes", "How it can be used."),
            string("Reclaim Policy", "What becomes of it when its claim is gone."),
            string("Status", "Whether a claim has it."),
            string("Claim", "The claim that has it."),
            string("StorageClass", "The class of storage that it belongs to."),
            string("VolumeAttributesClass", "The class of its attributes."),
            string("Reason", "Why it is in this state, in one word."),
            table::age(),
            wide(string("VolumeMode", "Files, or a device.")),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let spec = &object["spec"];
        let claim = &spec["claimRef"];
        let claim = if claim.is_object() {
            format!("{}/{}", text(claim, "namespace"), text(claim, "name"))
        } else {
            String::new()
        };
        let beta = text(&object["metadata"]["annotations"], BETA_CLASS);
        let class = if beta.is_empty() { text(spec, "storageClassName") } else { beta };
        vec![
            table::name_cell(object),
            quantity(at(spec, &["capacity", "storage"])).canonical().into(),
            access_modes_cell(spec).into(),
            text(spec, "persistentVolumeReclaimPolicy").into(),
            phase(object).into(),
            claim.into(),
            class.into(),
            or_unset(spec, "volumeAttributesClassName"),
            text(&object["status"], "reason").into(),
            table::age_cell(object, now_s),
            or_unset(spec, "volumeMode"),
        ]
    }
}

/// Checks the spec of a volume that has no object of its own.
pub(crate) fn validate_inline(spec: &Value, path: &Path, errors: &mut Errors) {
    const INLINE: &str = "in the context of inline volumes";
    let forbid = |key: &str, detail: &str, errors: &mut Errors| {
        errors.push(FieldError::forbidden(&path.child(key), format!("{detail} {INLINE}")));
    };
    let alien = |key: &&str| !is_unset(spec, key) && (*key != "capacity" || size(spec, key) > 0);
    for key in ["claimRef", "capacity"].into_iter().filter(alien) {
        forbid(key, "may not be specified", errors);
    }
    if get(spec, "csi").is_none() {
        let detail = format!("has to be specified {INLINE}");
        errors.push(FieldError::required(&path.child("csi"), detail));
    }
    access_modes(spec, &path.child("accessModes"), errors);
    if !["", "Retain"].contains(&text(spec, "persistentVolumeReclaimPolicy")) {
        forbid("persistentVolumeReclaimPolicy", "may only be Retain", errors);
    }
    if !is_unset(spec, "nodeAffinity") {
        forbid("nodeAffinity", "may not be specified", errors);
    }
    source::validate(spec, "", path, errors);
    if !is_unset(spec, "storageClassName") {
        forbid("storageClassName", "may not be specified", errors);
    }
    if get(spec, "volumeMode").is_some_and(|mode| *mode != json!("Filesystem")) {
        forbid("volumeMode", "may not specify volumeMode other than Filesystem", errors);
    }
}

/// A path that is the root once its needless parts are gone.
fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| matches!(part, "" | "." | ".."))
}

fn access_modes(spec: &Value, path: &Path, errors: &mut Errors) {
    const MODES: &[&str] = super::persistent_volume_claim::ACCESS_MODES;
    let modes = texts(spec, "accessModes");
    if modes.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    for mode in modes.iter().filter(|mode| !MODES.contains(mode)) {
        errors.push(FieldError::not_supported(path, *mode, MODES));
    }
    let is_other = |mode: &&str| *mode != "ReadWriteOncePod" && MODES.contains(mode);
    if modes.contains(&"ReadWriteOncePod") && modes.iter().any(is_other) {
        errors.push(FieldError::forbidden(path, "may not use ReadWriteOncePod with other access modes"));
    }
}

fn capacity(spec: &Value, path: &Path, errors: &mut Errors) {
    if size(spec, "capacity") == 0 {
        errors.push(FieldError::required(path, ""));
    }
    if get(&spec["capacity"], "storage").is_none() || size(spec, "capacity") > 1 {
        let given = if spec["capacity"].is_null() { json!({}) } else { spec["capacity"].clone() };
        errors.push(FieldError::not_supported(path, given, &["storage"]));
    }
    for (name, amount) in entries(spec, "capacity") {
        let path = path.key(name);
        claim::size(amount, &path, errors);
        if quantity(amount).sign() <= 0 {
            errors.push(FieldError::invalid(&path, quantity(amount).canonical(), NOT_POSITIVE));
        }
    }
}

fn node_affinity(spec: &Value, path: &Path, errors: &mut Errors) {
    let Some(affinity) = get(spec, "nodeAffinity") else { return };
    let path = path.child("required");
    match get(affinity, "required") {
        Some(required) => node_selector(required, &path, errors),
        None => errors.push(FieldError::required(&path, "must specify required node constraints")),
    }
}

/// Labels that got other names, which the affinity of a volume may follow.
const RENAMED: &[(&str, &str)] = &[
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

/// Where a volume can be reached does not change.
fn kept_affinity(new: &Value, old: &Value, errors: &mut Errors) {
    let (new_terms, old_terms) =
        (list(&new["required"], "nodeSelectorTerms"), list(&old["required"], "nodeSelectorTerms"));
    let mut renamed = old.clone();
    with(&mut renamed, "required", |required| {
        let mut term_index = 0;
        each(required, "nodeSelectorTerms", |term| {
            let (new_term, old_term) = (new_terms.get(term_index), &old_terms[term_index]);
            term_index += 1;
            follow_names(term, new_term.unwrap_or(&Value::Null), old_term);
        });
    });
    if !equal(new, &renamed) {
        let detail = "field is immutable, except for updating from beta label to GA";
        errors.push(FieldError::invalid(&Path::new("nodeAffinity"), new.clone(), detail));
    }
}

fn follow_names(term: &mut Value, new: &Value, old: &Value) {
    let (new, old) = (list(new, "matchExpressions"), list(old, "matchExpressions"));
    let mut index = 0;
    each(term, "matchExpressions", |expression| {
        let names = (text(&old[index], "key"), new.get(index).map_or("", |new| text(new, "key")));
        index += 1;
        if RENAMED.contains(&names) {
            set(expression, "key", names.1);
        }
    });
}

fn attributes_class(spec: &Value, path: &Path, errors: &mut Errors) {
    if get(spec, "volumeAttributesClassName").is_none() {
        return;
    }
    if is_unset(spec, "volumeAttributesClassName") {
        let path = path.child("volumeAttributesClassName");
        errors.push(FieldError::required(&path, "an empty string is disallowed"));
    }
    check::name_if_set(spec, "volumeAttributesClassName", names::dns1123_subdomain, path, errors);
    if get(spec, "csi").is_none() {
        let detail = "has to be specified when using volumeAttributesClassName";
        errors.push(FieldError::required(&path.child("csi"), detail));
    }
}

/// The sources alone.
fn sources(spec: &Value) -> Value {
    let mut sources = Value::Object(Map::new());
    SOURCES.iter().for_each(|(key, _)| carry(&mut sources, spec, key));
    sources
}
