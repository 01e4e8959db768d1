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
        let found = volume(around, name);
        if found.is_none() {
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
        let is_image = found.is_some_and(|volume| get(volume, "image").is_some());
        sub_paths(mount, is_image, &item_path, path, errors);
        propagation(mount, container, &path.child("mountPropagation"), errors);
        recursive_read_only(mount, &path.child("recursiveReadOnly"), errors);
    }
}

/// Some errors stand at the path of the list, as upstream has them.
fn sub_paths(mount: &Value, is_image: bool, path: &Path, list_path: &Path, errors: &mut Errors) {
    let (sub_path, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
    if is_image {
        for (key, value) in [("subPath", sub_path), ("subPathExpr", expression)] {
            if !value.is_empty() {
                errors.push(FieldError::invalid(
                    &path.child(key),
                    value,
                    "not allowed in image volume sources",
                ));
            }
        }
    }
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
        check::required_text(device, "name", &path, errors);
        let found = volume(around, name);
        if found.is_none() {
            errors.push(FieldError::not_found(&path.child("name"), name));
        }
        check::required_text(device, "devicePath", &path, errors);
        let is_claim = |volume: &Value| {
            ["persistentVolumeClaim", "ephemeral"].iter().any(|key| get(volume, key).is_some())
        };
        let problems = [
            (names.contains(&name), "name", "must be unique"),
            (
                found.is_some_and(|volume| !is_claim(volume)),
                "name",
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            ),
            (device_paths.contains(&device_path), "devicePath", "must be unique"),
            (
                device_path.split('/').any(|part| part == ".."),
                "devicePath",
                "can not contain backsteps ('..')",
            ),
            (
                mounts.iter().any(|mount| text(mount, "name") == name),
                "name",
                "must not already exist in volumeMounts",
            ),
            (
                mounts.iter().any(|mount| text(mount, "mountPath") == device_path),
                "devicePath",
                "must not already exist as a path in volumeMounts",
            ),
        ];
        for (_, key, detail) in problems.into_iter().filter(|(is_so, _, _)| *is_so) {
            errors.push(FieldError::invalid(&path.child(key), text(device, key), detail));
        }
        names.push(name);
        device_paths.push(device_path);
    }
}
