//! Where a container mounts the pod's volumes, and which of them it takes as devices.

use super::spec::Surroundings;
use crate::check::{self, Errors};
use crate::tree::{at, flag, get, list, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

fn volume<'a>(around: &Surroundings<'a>, name: &str) -> Option<&'a Value> {
    around.volumes.iter().find(|(known, _)| *known == name).map(|(_, volume)| *volume)
}

/// Checks `volumeMounts`.
pub(super) fn mounts(container: &Value, around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    let mut mount_paths = Vec::new();
    let devices = list(container, "volumeDevices");
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        let item_path = path.index(index);
        let (name, mount_path) = (text(mount, "name"), text(mount, "mountPath"));
        check::required_text(mount, "name", &item_path, errors);
        if volume(around, name).is_none() {
            errors.push(FieldError::not_found(&item_path.child("name"), name));
        }
        check::required_text(mount, "mountPath", &item_path, errors);
        let mut invalid = |key: &str, value: &str, detail: &str| {
            errors.push(FieldError::invalid(&item_path.child(key), value, detail));
        };
        if mount_paths.contains(&mount_path) {
            invalid("mountPath", mount_path, "must be unique");
        }
        mount_paths.push(mount_path);
        if devices.iter().any(|device| text(device, "name") == name) {
            invalid("name", name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| text(device, "devicePath") == mount_path) {
            invalid("mountPath", mount_path, "must not already exist as a path in volumeDevices");
        }
        sub_paths(mount, &item_path, path, errors);
        propagation(mount, container, &path.child("mountPropagation"), errors);
        recursive_read_only(mount, &path.child("recursiveReadOnly"), errors);
    }
}

/// Some errors stand at the path of the list, as upstream has them.
fn sub_paths(mount: &Value, path: &Path, list_path: &Path, errors: &mut Errors) {
    let (sub_path, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
    if !sub_path.is_empty() {
        check::descending_path(sub_path, &list_path.child("subPath"), errors);
    }
    if !expression.is_empty() {
        if !sub_path.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(&path.child("subPathExpr"), expression, detail));
        }
        check::descending_path(expression, &list_path.child("subPathExpr"), errors);
    }
}

fn propagation(mount: &Value, container: &Value, path: &Path, errors: &mut Errors) {
    let Some(mode) = get(mount, "mountPropagation").and_then(Value::as_str) else { return };
    let modes = ["Bidirectional", "HostToContainer", "None"];
    if !modes.contains(&mode) {
        errors.push(FieldError::not_supported(path, mode, &modes));
    }
    if mode == "Bidirectional" && !flag(at(container, &["securityContext"]), "privileged") {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(FieldError::forbidden(path, detail));
    }
}

fn recursive_read_only(mount: &Value, path: &Path, errors: &mut Errors) {
    match get(mount, "recursiveReadOnly").and_then(Value::as_str) {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !flag(mount, "readOnly") {
                errors.push(FieldError::forbidden(path, "may only be specified when readOnly is true"));
            }
            if get(mount, "mountPropagation").is_some_and(|mode| *mode != json!("None")) {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(path, detail));
            }
        }
        Some(other) => {
            errors.push(FieldError::not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]));
        }
    }
}

/// Checks `volumeDevices`.
pub(super) fn devices(container: &Value, around: &Surroundings<'_>, path: &Path, errors: &mut Errors) {
    let (mut names, mut device_paths) = (Vec::new(), Vec::new());
    let mounts = list(container, "volumeMounts");
    for (index, device) in list(container, "volumeDevices").iter().enumerate() {
        let path = path.index(index);
        let (name, device_path) = (text(device, "name"), text(device, "devicePath"));
        device_name(name, &names, volume(around, name), &path.child("name"), errors);
        let steps_back = device_path.split('/').any(|part| part == "..");
        path_of_device(device_path, &device_paths, steps_back, &path.child("devicePath"), errors);
        if mounts.iter().any(|mount| text(mount, "name") == name) {
            let detail = "must not already exist in volumeMounts";
            errors.push(FieldError::invalid(&path.child("name"), name, detail));
        }
        if mounts.iter().any(|mount| text(mount, "mountPath") == device_path) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(&path.child("devicePath"), device_path, detail));
        }
        names.extend((!name.is_empty()).then_some(name));
        device_paths.extend((!steps_back).then_some(device_path));
    }
}

/// The volume of a device, which is that of a claim.
fn device_name(name: &str, names: &[&str], volume: Option<&Value>, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if names.contains(&name) {
        errors.push(FieldError::invalid(path, name, "must be unique"));
    }
    match volume {
        None => errors.push(FieldError::not_found(path, name)),
        Some(volume)
            if ["persistentVolumeClaim", "ephemeral"].iter().all(|key| get(volume, key).is_none()) =>
        {
            let detail =
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            errors.push(FieldError::invalid(path, name, detail));
        }
        Some(_) => {}
    }
}

fn path_of_device(device: &str, devices: &[&str], steps_back: bool, path: &Path, errors: &mut Errors) {
    if device.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    if devices.contains(&device) {
        errors.push(FieldError::invalid(path, device, "must be unique"));
    }
    if steps_back {
        errors.push(FieldError::invalid(path, device, "can not contain backsteps ('..')"));
    }
}
