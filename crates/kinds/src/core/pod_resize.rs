//! The `resize` subresource of a pod: what containers ask for may change while they run, and nothing else.

use crate::check::Errors;
use crate::kind::carry;
use crate::pod_requests::Shape;
use crate::pod_template::{MIRROR, whole};
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

/// Errors of a resize, besides those of the pod itself. What the kubelet does not do is refused in the words that upstream has for
/// gates that are off: `InPlacePodLevelResourcesVerticalScaling` and `InPlacePodVerticalScalingInitContainers`.
pub(super) fn validate(new: &Value, old: &Value, mut errors: Errors) -> Errors {
    let refusal = |detail: &str| FieldError::forbidden(&whole(), detail);
    if get(&old["metadata"]["annotations"], MIRROR).is_some() {
        return vec![refusal("static pods cannot be resized")];
    }
    if text(at(old, &["spec", "os"]), "name") == "windows" {
        return vec![refusal("windows pods cannot be resized")];
    }
    let path = Path::new("spec");
    let before = text(&old["status"], "qosClass");
    let class = Shape::of_tree(&new["spec"]).qos_class();
    if class != if before.is_empty() { Shape::of_tree(&old["spec"]).qos_class() } else { before } {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&path, text(&new["status"], "qosClass"), detail));
    }
    if !is_supported(&old["status"]) {
        errors.push(FieldError::forbidden(&path, "Pod running on node without support for resize"));
    }
    if [new, old].iter().any(|pod| has_resources(&pod["spec"]["resources"])) {
        let detail = "resize of pods with pod-level resources is forbidden when \
                      InPlacePodLevelResourcesVerticalScalingEnabled feature gate is disabled";
        errors.push(refusal(detail));
        return errors;
    }
    let out_of_order = order(new, old, &path);
    if out_of_order.is_empty() {
        nothing_removed(new, old, &path, &mut errors);
        nothing_else(new, old, &path, &mut errors);
    }
    errors.extend(out_of_order);
    errors
}

fn has_resources(resources: &Value) -> bool {
    ["requests", "limits"].iter().any(|part| size_of_map(&resources[*part]) > 0)
}

/// A kubelet that can resize tells what running containers have; the first one shows which it is.
fn is_supported(status: &Value) -> bool {
    let mut containers = list(status, "containerStatuses").iter();
    let running = containers.find(|status| get(&status["state"], "running").is_some());
    running.is_none_or(|status| get(status, "resources").is_some())
}

fn order(new: &Value, old: &Value, path: &Path) -> Errors {
    let mut errors = Errors::new();
    for key in LISTS {
        let (new, old, path) = (list(&new["spec"], key), list(&old["spec"], key), path.child(key));
        if new.len() != old.len() {
            let detail = format!("{key} may not be added or removed on resize");
            errors.push(FieldError::forbidden(&path, detail));
            continue;
        }
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            if text(new, "name") != text(old, "name") {
                let detail = format!("{key} may not be renamed or reordered on resize");
                errors.push(FieldError::forbidden(&path.index(index).child("name"), detail));
            }
        }
    }
    errors
}

fn is_resizable(list: &str, container: &Value) -> bool {
    list == "containers" || text(container, "restartPolicy") == "Always"
}

/// The containers of both pods, in upstream's order of `lists`.
fn pairs<'a>(
    new: &'a Value,
    old: &'a Value,
    lists: [&'static str; 2],
) -> impl Iterator<Item = (&'static str, usize, &'a Value, &'a Value)> {
    lists.into_iter().flat_map(move |key| {
        let pairs = list(&new["spec"], key).iter().zip(list(&old["spec"], key)).enumerate();
        pairs.map(move |(index, (new, old))| (key, index, new, old))
    })
}

fn nothing_removed(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    for (key, index, new, old) in pairs(new, old, ["initContainers", "containers"]) {
        if !is_resizable(key, old) {
            continue;
        }
        let path = path.child(key).index(index).child("resources");
        for part in ["requests", "limits"] {
            let mut before = entries(&old["resources"], part);
            if before.any(|(name, _)| get(&new["resources"][part], name).is_none()) {
                let detail = format!("resource {part} cannot be removed");
                errors.push(FieldError::forbidden(&path.child(part), detail));
            }
        }
    }
}

/// With processor and memory put back, a container must be what it was.
fn nothing_else(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    for (key, index, new, old) in pairs(new, old, LISTS) {
        if !is_resizable(key, new) {
            if !equal(new, old) {
                let detail = "resources for non-sidecar init containers are immutable";
                errors.push(FieldError::forbidden(path, detail));
            }
        } else if !equal(&without_amounts(new), &without_amounts(old)) {
            errors.push(if key == "containers" {
                FieldError::forbidden(path, "only cpu and memory resources are mutable")
            } else {
                let detail = "only cpu and memory resources for init or sidecar containers are mutable";
                FieldError::forbidden(&path.child(key).index(index), detail)
            });
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
