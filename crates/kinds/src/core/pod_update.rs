//! What of a pod may change once it is there.

use super::pod_diff::diff;
use crate::check::Errors;
use crate::kind::{Context, carry, keep_content};
use crate::pod_template::{APP_ARMOR, MIRROR, tolerations, trimmed_image, validate_annotations, whole};
use crate::tree::{at, count, entries, equal, get, list, number, remove, set, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

const MUTABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 \
    if it was previously negative)";

/// Takes from a write through a subresource only what it may write.
pub(super) fn prepare_subresource(context: &Context<'_>, new: &mut Value, old: &Value) {
    if context.subresource == Some("ephemeralcontainers") {
        let containers = at(new, &["spec", "ephemeralContainers"]).clone();
        let mut prepared = old.clone();
        set(&mut prepared["spec"], "ephemeralContainers", containers);
        carry(&mut prepared["metadata"], &new["metadata"], "resourceVersion");
        carry(&mut prepared["metadata"], &new["metadata"], "managedFields");
        if !equal(&prepared["spec"], &old["spec"]) {
            let generation = count(&old["metadata"], "generation");
            set(&mut prepared["metadata"], "generation", generation + 1);
        }
        *new = prepared;
        return;
    }
    keep_content(new, old);
    let metadata = &mut new["metadata"];
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences", "generation"] {
        carry(metadata, &old["metadata"], key);
    }
    if text(&new["status"], "qosClass").is_empty() {
        let class = at(old, &["status", "qosClass"]).clone();
        set(crate::tree::child(new, "status"), "qosClass", class);
    }
}

/// Adds what is wrong with the change from `old` to `new`, besides what is wrong with `new` itself.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    annotations(new, old, errors);
    let (spec, old_spec, path) = (&new["spec"], &old["spec"], Path::new("spec"));
    for key in ["containers", "initContainers"] {
        if list(spec, key).len() != list(old_spec, key).len() {
            let detail = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(&path.child(key), detail));
            return;
        }
        for (index, container) in list(spec, key).iter().enumerate() {
            let path = path.child(key).index(index);
            crate::check::required_text(container, "image", &path, errors);
            trimmed_image(container, &path, errors);
        }
    }
    if !deadline(spec, old_spec, &path, errors) {
        return;
    }
    added_tolerations(spec, old_spec, &path.child("tolerations"), errors);
    deleted_gates(spec, old_spec, &path.child("schedulingGates"), errors);
    if !equal(spec, old_spec) {
        immutable_rest(spec, old_spec, &path, errors);
    }
}

/// Adds what is wrong with the change of the annotations that mean something.
pub(super) fn annotations(pod: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("metadata").child("annotations");
    let (new, old) = (&pod["metadata"], &old["metadata"]);
    for (key, value) in entries(old, "annotations") {
        if get(&new["annotations"], key) == Some(value) {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors
                .push(FieldError::forbidden(&path.key(key), "may not remove or update AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(FieldError::forbidden(
                &path.key(key),
                "may not remove or update mirror pod annotation",
            ));
        }
    }
    for (key, _) in entries(new, "annotations").filter(|(key, _)| get(&old["annotations"], key).is_none()) {
        if key.starts_with(APP_ARMOR) {
            errors.push(FieldError::forbidden(&path.key(key), "may not add AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(FieldError::forbidden(&path.key(key), "may not add mirror pod annotation"));
        }
    }
    validate_annotations(new, &pod["spec"], &path, errors);
}

/// A deadline may be set or shortened. Says whether to look further.
fn deadline(spec: &Value, old_spec: &Value, path: &Path, errors: &mut Errors) -> bool {
    let key = "activeDeadlineSeconds";
    let path = path.child(key);
    match (number(spec, key), number(old_spec, key)) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            let detail = crate::check::between(0, i64::from(i32::MAX));
            errors.push(FieldError::invalid(&path, new, detail));
            false
        }
        (Some(new), Some(old)) if old < new => {
            errors.push(FieldError::invalid(&path, new, "must be less than or equal to previous value"));
            false
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&path, Value::Null, detail));
            true
        }
        _ => true,
    }
}

fn added_tolerations(spec: &Value, old_spec: &Value, path: &Path, errors: &mut Errors) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        remove(&mut toleration, "tolerationSeconds");
        toleration
    };
    let new: Vec<_> = list(spec, "tolerations").iter().map(without_seconds).collect();
    if !list(old_spec, "tolerations").iter().all(|old| new.contains(&without_seconds(old))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(path, detail));
        return;
    }
    tolerations(list(spec, "tolerations"), path, errors);
}

fn deleted_gates(spec: &Value, old_spec: &Value, path: &Path, errors: &mut Errors) {
    let old: Vec<_> = list(old_spec, "schedulingGates").iter().map(|gate| text(gate, "name")).collect();
    for (index, gate) in list(spec, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        if !old.contains(&name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(FieldError::forbidden(&path.index(index).child("name"), detail));
        }
    }
}

fn immutable_rest(spec: &Value, old_spec: &Value, path: &Path, errors: &mut Errors) {
    let mut munged = spec.clone();
    for key in ["containers", "initContainers"] {
        let old = list(old_spec, key);
        let mut index = 0;
        crate::tree::each(&mut munged, key, |container| {
            carry(container, &old[index], "image");
            index += 1;
        });
    }
    for key in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        carry(&mut munged, old_spec, key);
    }
    let grace = "terminationGracePeriodSeconds";
    if count(old_spec, grace) < 0 && munged.get(grace) == Some(&json!(1)) {
        carry(&mut munged, old_spec, grace);
    }
    if !list(old_spec, "schedulingGates").is_empty() {
        narrowed_node(&mut munged, old_spec, path, errors);
    }
    if !equal(&munged, old_spec) {
        let difference = diff(old_spec, &munged);
        let detail = format!("pod updates may not change fields other than {MUTABLE}\n{difference}");
        errors.push(FieldError::forbidden(path, detail));
    }
}

/// A gated pod may ask for fewer nodes than before.
fn narrowed_node(munged: &mut Value, old_spec: &Value, path: &Path, errors: &mut Errors) {
    let kept =
        entries(old_spec, "nodeSelector").all(|(key, value)| munged["nodeSelector"].get(key) == Some(value));
    if !kept {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(FieldError::invalid(&path.child("nodeSelector"), munged["nodeSelector"].clone(), detail));
    }
    carry(munged, old_spec, "nodeSelector");
    let keys = ["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
    let old_terms = list(at(old_spec, &keys), "nodeSelectorTerms");
    let terms = list(at(munged, &keys), "nodeSelectorTerms").to_vec();
    let path = keys.iter().fold(path.clone(), |path, key| path.child(key)).child("nodeSelectorTerms");
    if !old_terms.is_empty() && old_terms.len() != terms.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(&path, terms, detail));
    } else {
        for (index, (new, old)) in terms.iter().zip(old_terms).enumerate() {
            if !only_additions(new, old) {
                let detail = "only additions are allowed (no mutations or deletions)";
                errors.push(FieldError::invalid(&path.index(index), new.clone(), detail));
            }
        }
    }
    let old_affinity = at(old_spec, &["affinity", "nodeAffinity"]).clone();
    if let Some(affinity) = munged.get_mut("affinity") {
        set(affinity, "nodeAffinity", old_affinity);
    } else if !old_affinity.is_null() {
        set(munged, "affinity", json!({"nodeAffinity": old_affinity}));
    }
}

fn only_additions(new: &Value, old: &Value) -> bool {
    let fields = ["matchExpressions", "matchFields"];
    let was_empty = fields.iter().all(|field| list(old, field).is_empty());
    let is_empty = fields.iter().all(|field| list(new, field).is_empty());
    (!was_empty || is_empty) && fields.iter().all(|field| list(new, field).starts_with(list(old, field)))
}

/// Errors of a write of the ephemeral containers: those that are there stay.
pub(super) fn validate_ephemeral(new: &Value, old: &Value, mut errors: Errors) -> Errors {
    if get(&old["metadata"]["annotations"], MIRROR).is_some() {
        return vec![FieldError::forbidden(&whole(), "static pods do not support ephemeral containers")];
    }
    annotations(new, old, &mut errors);
    let path = Path::new("spec").child("ephemeralContainers");
    for container in list(&old["spec"], "ephemeralContainers") {
        let name = text(container, "name");
        let same = list(&new["spec"], "ephemeralContainers").iter().find(|other| text(other, "name") == name);
        match same {
            None => {
                let detail = format!("existing ephemeral containers \"{name}\" may not be removed\n");
                errors.push(FieldError::forbidden(&path, detail));
            }
            Some(same) if !equal(same, container) => {
                let difference = diff(container, same);
                let detail =
                    format!("existing ephemeral containers \"{name}\" may not be changed\n{difference}");
                errors.push(FieldError::forbidden(&path, detail));
            }
            Some(_) => {}
        }
    }
    errors
}
