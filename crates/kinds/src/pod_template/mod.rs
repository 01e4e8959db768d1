//! The pod spec: what a Pod, and every kind with a pod template, is defaulted by and checked by. It knows what a pod may say,
//! not how it runs.

mod annotation;
mod container;
mod defaults;
mod dns;
mod env;
mod mount;
mod probe;
mod projected;
mod scheduling;
mod security;
mod spec;
mod volume;

pub(crate) use annotation::{
    APP_ARMOR, MIRROR, SECCOMP_CONTAINER, SECCOMP_POD, validate as validate_annotations,
};
pub(crate) use container::trimmed_image;
pub(crate) use defaults::{default_pod, default_spec, default_volume_source, mirror_service_account};
pub(crate) use scheduling::{node_selector, taints, tolerations};
pub(crate) use spec::{Owner, each_container, validate_spec};
pub(crate) use volume::{check_source as check_volume_source, csi_driver};

use crate::check::{self, Errors};
use crate::label_selector;
use crate::tree::{get, list, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

/// Fills the defaults of a template in `object.spec.template`.
pub(crate) fn default_template(object: &mut Value) {
    crate::tree::with(object, "spec", |spec| {
        crate::tree::with(spec, "template", |template| default_spec(crate::tree::child(template, "spec")));
    });
}

/// Checks a template: labels, annotations and spec.
pub(crate) fn validate(template: &Value, path: &Path, errors: &mut Errors) {
    let metadata = &template["metadata"];
    check::labels(metadata, "labels", path, errors);
    check::annotations(metadata, path, errors);
    let spec = &template["spec"];
    validate_annotations(metadata, spec, &path.child("annotations"), errors);
    let spec_path = path.child("spec");
    validate_spec(spec, Owner::Template, &spec_path, errors);
    if !list(spec, "ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&spec_path.child("ephemeralContainers"), detail));
    }
}

/// Checks the template of a controller that keeps pods running: its labels satisfy the selector, and its pods restart.
pub(crate) fn validate_for_replicas(
    template: &Value,
    selector: &Value,
    kind: &str,
    path: &Path,
    errors: &mut Errors,
) {
    let labels = &template["metadata"]["labels"];
    if !label_selector::is_empty(selector) && !label_selector::matches(selector, labels) {
        let path = path.child("metadata").child("labels");
        let labels = if labels.is_null() { Value::Object(serde_json::Map::new()) } else { labels.clone() };
        errors.push(FieldError::invalid(&path, labels, "`selector` does not match template `labels`"));
    }
    validate(template, path, errors);
    let (spec, path) = (&template["spec"], path.child("spec"));
    let restart_policy = text(spec, "restartPolicy");
    if restart_policy != "Always" {
        errors.push(FieldError::not_supported(&path.child("restartPolicy"), restart_policy, &["Always"]));
    }
    if get(spec, "activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(&path.child("activeDeadlineSeconds"), detail));
    }
}
