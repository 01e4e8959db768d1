//! The `resize` subresource of a pod: what containers ask for may change while they run, and nothing else.

use crate::check::Errors;
use crate::kind::carry;
use crate::pod_requests::Shape;
use crate::pod_template::MIRROR;
use crate::tree::{at, child, count, each, entries, equal, get, list, remove, set, size, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const LISTS: [&str; 2] = ["containers", "initContainers"];
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Takes from a write through the subresource what it may write. Where containers do not fit those that are there the write
/// is left as it is, for validation to refuse.
pub(super) fn prepare(new: &mut Value, old: &Value) {
    if LISTS.iter().any(|key| size(&new["spec"], key) != size(&old["spec"], key)) {
        return;
    }
    let mut prepared = old.clone();
    for key in LISTS {
        let wanted = list(&new["spec"], key);
        let named = wanted
            .iter()
            .zip(list(&old["spec"], key))
            .all(|(new, old)| text(new, "name") == text(old, "name"));
        if !named {
            set(&mut prepared["spec"], key, wanted.to_vec());
            continue;
        }
        let mut index = 0;
        each(&mut prepared["spec"], key, |container| {
            for field in ["resources", "resizePolicy"] {
                carry(container, &wanted[index], field);
            }
            index += 1;
        });
    }
    carry(&mut prepared["metadata"], &new["metadata"], "resourceVersion");
    carry(&mut prepared["metadata"], &new["metadata"], "managedFields");
    if !equal(&prepared["spec"], &old["spec"]) {
        let generation = count(&old["metadata"], "generation");
        set(child(&mut prepared, "metadata"), "generation", generation + 1);
    }
    *new = prepared;
}

/// Errors of a resize, besides those of the pod itself.
pub(super) fn validate(new: &Value, old: &Value, mut errors: Errors) -> Errors {
    let refuse = |detail: &str| vec![FieldError::forbidden(&Path::root(), detail)];
    if get(&old["spec"], "resources").is_some() {
        errors.extend(refuse("pods with pod-level resources cannot be resized"));
    }
    if get(&old["metadata"]["annotations"], MIRROR).is_some() {
        return refuse("static pods cannot be resized");
    }
    if text(at(old, &["spec", "os"]), "name") == "windows" {
        return refuse("windows pods cannot be resized");
    }
    let path = Path::new("spec");
    let class = Shape::of_tree(&new["spec"]).qos_class();
    let class_before = match text(&old["status"], "qosClass") {
        "" => Shape::of_tree(&old["spec"]).qos_class(),
        told => told,
    };
    if class != class_before {
        errors.push(FieldError::invalid(
            &path,
            class,
            "Pod QOS Class may not change as a result of resizing",
        ));
    }
    if !is_supported(&old["status"]) {
        errors.push(FieldError::forbidden(&path, "Pod running on node without support for resize"));
    }
    let out_of_order = order(new, old, &path);
    if out_of_order.is_empty() {
        containers(new, old, &path, &mut errors);
        nothing_else(new, old, &path, &mut errors);
    }
    errors.extend(out_of_order);
    errors
}

/// A kubelet that can resize tells what running containers have.
fn is_supported(status: &Value) -> bool {
    let running =
        list(status, "containerStatuses").iter().filter(|status| get(&status["state"], "running").is_some());
    let mut running = running.peekable();
    running.all(|status| get(status, "resources").is_some())
}

fn order(new: &Value, old: &Value, path: &Path) -> Errors {
    let mut errors = Errors::new();
    for key in LISTS {
        let (new, old, path) = (list(&new["spec"], key), list(&old["spec"], key), path.child(key));
        if new.len() != old.len() {
            errors.push(FieldError::forbidden(&path, "containers may not be added or removed on resize"));
            continue;
        }
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            if text(new, "name") != text(old, "name") {
                let detail = "containers may not be renamed or reordered on resize";
                errors.push(FieldError::forbidden(&path.index(index).child("name"), detail));
            }
        }
    }
    errors
}

fn is_resizable(list: &str, container: &Value) -> bool {
    list == "containers" || text(container, "restartPolicy") == "Always"
}

fn containers(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    for key in LISTS {
        for (index, (new, old)) in list(&new["spec"], key).iter().zip(list(&old["spec"], key)).enumerate() {
            let path = path.child(key).index(index).child("resources");
            if is_resizable(key, old) {
                for (part, detail) in [
                    ("limits", "resource limits cannot be removed"),
                    ("requests", "resource requests cannot be removed"),
                ] {
                    let mut before = entries(&old["resources"], part);
                    if before.any(|(name, _)| get(&new["resources"][part], name).is_none()) {
                        errors.push(FieldError::forbidden(&path.child(part), detail));
                    }
                }
            } else if !equal(&new["resources"], &old["resources"]) {
                let detail = "resources for non-sidecar init containers are immutable";
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
    }
}

/// With processor and memory put back, a container must be what it was.
fn nothing_else(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    for key in LISTS {
        for (new, old) in list(&new["spec"], key).iter().zip(list(&old["spec"], key)) {
            if is_resizable(key, old) && !equal(&without_amounts(new), &without_amounts(old)) {
                errors.push(FieldError::forbidden(path, "only cpu and memory resources are mutable"));
            }
        }
    }
}

fn without_amounts(container: &Value) -> Value {
    let mut rest = container.clone();
    if get(&rest, "resources").is_none() {
        return rest;
    }
    for part in ["limits", "requests"] {
        if get(&rest["resources"], part).is_none() {
            continue;
        }
        for name in RESIZABLE {
            remove(&mut rest["resources"][part], name);
        }
        if size_of_map(&rest["resources"][part]) == 0 {
            remove(&mut rest["resources"], part);
        }
    }
    if size_of_map(&rest["resources"]) == 0 {
        remove(&mut rest, "resources");
    }
    rest
}

fn size_of_map(value: &Value) -> usize {
    value.as_object().map_or(0, serde_json::Map::len)
}
