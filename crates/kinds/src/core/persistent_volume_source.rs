//! Where a persistent volume's data lies: one of many sources, most of them of drivers that are gone. It checks what a source
//! says, and reaches none.

use crate::check::{self, Errors, messages};
use crate::pod_template::{check_volume_source, csi_driver};
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
    ("quobyte", &["registry", "volume"]),
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
    "nodeStageSecretRef",
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
pub(super) fn validate(spec: &Value, path: &Path, errors: &mut Errors) {
    let given: Vec<_> = SOURCES.iter().filter(|(key, _)| get(spec, key).is_some()).collect();
    for (index, (key, required)) in given.iter().enumerate() {
        if index > 0 {
            errors.push(FieldError::forbidden(&path.child(key), ONE_TYPE));
            continue;
        }
        let inner = match *key {
            "gcePersistentDisk" => path.child("persistentDisk"),
            key => path.child(key),
        };
        for field in required.iter().filter(|field| is_unset(&spec[*key], field)) {
            errors.push(FieldError::required(&inner.child(field), ""));
        }
        check_volume_source(key, &spec[*key], &inner, errors);
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
            if let Some(namespace) = get(source, "endpointsNamespace").and_then(Value::as_str) {
                let path = inner.child("endpointsNamespace");
                messages(names::dns1123_label(namespace), namespace, &path, errors);
            }
        }
        "azureFile" if get(source, "secretNamespace").is_some() && is_unset(source, "secretNamespace") => {
            let path = inner.child("secretNamespace");
            errors.push(FieldError::invalid(&path, "", "secret namespace cannot be empty"));
        }
        "cinder" | "storageos" | "scaleIO" => secret(source, "secretRef", inner, errors),
        "iscsi" => {
            if let Some(reference) = get(source, "secretRef") {
                check::required_text(reference, "name", &inner.child("secretRef"), errors);
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

/// A secret by name and namespace, if there is one.
fn secret(source: &Value, key: &str, path: &Path, errors: &mut Errors) {
    let Some(reference) = get(source, key) else { return };
    let path = path.child(key);
    check::required_text(reference, "name", &path, errors);
    check::name_if_set(reference, "name", names::dns1123_subdomain, &path, errors);
    check::required_text(reference, "namespace", &path, errors);
    check::name_if_set(reference, "namespace", names::dns1123_label, &path, errors);
}
