//! Where a persistent volume's data lies: one of many sources, most of them of drivers that are gone. It checks what a source
//! says, and reaches none.

use crate::check::{self, Errors, messages};
use crate::pod_template::{
    LONG_ISCSI, check_volume_source, csi_driver, is_long_iscsi, shown_source, validate_persistent_iscsi,
};
use crate::tree::{get, is_unset, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const ONE_TYPE: &str = "may not specify more than 1 volume type";

/// The sources in the order that upstream looks at them, with the fields that each must have.
pub(super) const SOURCES: &[(&str, &[&str])] = &[
    ("hostPath", &["path"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("nfs", &["server", "path"]),
    ("rbd", &["monitors", "image"]),
    ("quobyte", &[]),
    ("cephfs", &["monitors"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("cinder", &["volumeID"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("local", &["path"]),
    ("storageos", &["volumeName"]),
    ("csi", &["driver", "volumeHandle"]),
];

/// Sources whose drivers are gone, and what is said of them.
const GONE: &[(&str, &str)] = &[
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

const CSI_SECRETS: &[&str] = &[
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "nodePublishSecretRef",
    "nodeExpandSecretRef",
];

/// What is said of a source that nothing can use any more.
pub(super) fn warnings(spec: &Value) -> Vec<String> {
    let given = GONE.iter().filter(|(key, _)| get(spec, key).is_some());
    given
        .map(|(key, words)| {
            let key = if *key == "storageos" { "storageOS" } else { key };
            format!("spec.{key}: {words}")
        })
        .collect()
}

/// Checks that there is one source, and what it says.
pub(super) fn validate(spec: &Value, name: &str, path: &Path, errors: &mut Errors) {
    let given: Vec<_> = SOURCES.iter().filter(|(key, _)| get(spec, key).is_some()).collect();
    for (index, (key, required)) in given.iter().enumerate() {
        // Upstream does not count here what comes before this one.
        if index > 0 && *key != "flexVolume" {
            errors.push(FieldError::forbidden(&path.child(shown_source(key)), ONE_TYPE));
            continue;
        }
        let inner = match *key {
            "gcePersistentDisk" => path.child("persistentDisk"),
            key => path.child(key),
        };
        for field in required.iter().filter(|field| is_unset(&spec[*key], field)) {
            errors.push(FieldError::required(&inner.child(field), ""));
        }
        if *key == "iscsi" {
            iscsi(&spec["iscsi"], name, &inner, errors);
        } else {
            check_volume_source(key, &spec[*key], &inner, errors);
        }
        details(key, spec, &inner, path, errors);
    }
    if given.is_empty() {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

fn details(key: &str, spec: &Value, inner: &Path, path: &Path, errors: &mut Errors) {
    let source = &spec[key];
    match key {
        "glusterfs" => {
            let path = inner.child("endpointsNamespace");
            match get(source, "endpointsNamespace").and_then(Value::as_str) {
                Some("") => {
                    let detail = "if the endpointnamespace is set, it must be a valid namespace name";
                    errors.push(FieldError::invalid(&path, "", detail));
                }
                Some(namespace) => messages(names::dns1123_label(namespace), namespace, &path, errors),
                None => {}
            }
        }
        "azureFile" if get(source, "secretNamespace").is_some() && is_unset(source, "secretNamespace") => {
            errors.push(FieldError::required(&inner.child("secretNamespace"), ""));
        }
        "cinder" | "storageos" => {
            if let Some(reference) = get(source, "secretRef") {
                let path = inner.child("secretRef");
                check::required_text(reference, "name", &path, errors);
                check::required_text(reference, "namespace", &path, errors);
            }
        }
        "local" => {
            check::no_backsteps(text(source, "path"), &inner.child("path"), errors);
            if get(spec, "nodeAffinity").is_none() {
                let detail = "Local volume requires node affinity";
                errors.push(FieldError::required(&path.child("nodeAffinity"), detail));
            }
        }
        "csi" => {
            if !is_unset(source, "driver") {
                csi_driver(text(source, "driver"), &inner.child("driver"), errors);
            }
            CSI_SECRETS.iter().for_each(|key| secret(source, key, inner, errors));
        }
        _ => {}
    }
}

fn iscsi(source: &Value, name: &str, path: &Path, errors: &mut Errors) {
    if is_long_iscsi(source, name) {
        let portal = text(source, "targetPortal");
        errors.push(FieldError::invalid(&path.child("targetportal"), portal, LONG_ISCSI));
    }
    validate_persistent_iscsi(source, path, errors);
    if let Some(reference) = get(source, "secretRef") {
        check::required_text(reference, "name", &path.child("secretRef"), errors);
    }
}

/// A secret by name and namespace, if there is one.
fn secret(source: &Value, key: &str, path: &Path, errors: &mut Errors) {
    let Some(reference) = get(source, key) else { return };
    let path = path.child(key);
    check::required_text(reference, "name", &path, errors);
    check::name_if_set(reference, "name", names::dns1123_subdomain, &path, errors);
    check::required_text(reference, "namespace", &path, errors);
    check::name_if_set(reference, "namespace", names::dns1123_label, &path, errors);
}
