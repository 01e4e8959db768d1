//! The volumes of a pod: that each has one source, and what each source needs.

use super::spec::Owner;
use super::{env, projected};
use crate::check::{self, Errors, messages};
use crate::resource::quantity;
use crate::tree::{count, entries, get, is_unset, list, number, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const ONE_TYPE: &str = "may not specify more than 1 volume type";
/// Metadata that the claim of a pod's volume may not have, in the order of its fields.
const CLAIM_METADATA: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
];
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// The sources in the order that upstream looks at them, with the fields each must have.
const SOURCES: &[(&str, &[&str])] = &[
    ("emptyDir", &[]),
    ("hostPath", &["path"]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &[]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &["driver"]),
    ("ephemeral", &["volumeClaimTemplate"]),
    ("image", &[]),
];

/// Checks all volumes and returns those that are sound, by name.
pub(super) fn validate<'a>(
    spec: &'a Value,
    owner: Owner<'_>,
    path: &Path,
    errors: &mut Errors,
) -> Vec<(&'a str, &'a Value)> {
    let mut sound: Vec<(&str, &Value)> = Vec::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let path = path.index(index);
        let before = errors.len();
        let name = text(volume, "name");
        source(volume, owner, &path, errors);
        if check::required_text(volume, "name", &path, errors) {
            check::name_if_set(volume, "name", names::dns1123_label, &path, errors);
        }
        if sound.iter().any(|(other, _)| *other == name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        if errors.len() == before {
            sound.push((name, volume));
        }
        claim_of_ephemeral(volume, spec, owner, &path, errors);
    }
    sound
}

/// A claim that the pod itself makes is not also one that it waits for.
fn claim_of_ephemeral(volume: &Value, spec: &Value, owner: Owner<'_>, path: &Path, errors: &mut Errors) {
    let pod = owner.pod_name();
    let claim = text(&volume["persistentVolumeClaim"], "claimName");
    let makes = |other: &&Value| {
        get(other, "ephemeral").is_some() && format!("{pod}-{}", text(other, "name")) == claim
    };
    if !claim.is_empty() && !pod.is_empty() && list(spec, "volumes").iter().any(|other| makes(&other)) {
        let path = path.child("persistentVolumeClaim").child("claimName");
        let detail = "must not reference a PVC that gets created for an ephemeral volume";
        errors.push(FieldError::invalid(&path, claim, detail));
    }
}

fn source(volume: &Value, owner: Owner<'_>, path: &Path, errors: &mut Errors) {
    let given: Vec<_> = SOURCES.iter().filter(|(key, _)| get(volume, key).is_some()).collect();
    for (index, (key, required)) in given.iter().enumerate() {
        if index > 0 {
            errors.push(FieldError::forbidden(&path.child(shown(key)), ONE_TYPE));
            if *key == "iscsi" {
                iscsi_name(volume, path, errors);
            }
            continue;
        }
        let inner = match *key {
            "gcePersistentDisk" => path.child("persistentDisk"),
            key => path.child(key),
        };
        for field in required.iter().filter(|field| is_unset(&volume[*key], field)) {
            errors.push(FieldError::required(&inner.child(field), ""));
        }
        details(key, volume, owner, path, &inner, errors);
    }
    if given.is_empty() {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
}

fn details(key: &str, volume: &Value, owner: Owner<'_>, path: &Path, inner: &Path, errors: &mut Errors) {
    let source = &volume[key];
    match key {
        "emptyDir" if quantity(&source["sizeLimit"]).sign() < 0 => {
            let detail = "SizeLimit field must be a valid resource quantity";
            errors.push(FieldError::forbidden(&inner.child("sizeLimit"), detail));
        }
        "gitRepo" => check::descending_path(text(source, "directory"), &inner.child("directory"), errors),
        "secret" | "configMap" => keys_to_paths(source, inner, errors),
        "downwardAPI" => {
            check::file_mode(source, "defaultMode", inner, errors);
            downward_files(source, inner, errors);
        }
        "projected" => projected::validate(source, inner, errors),
        "csi" => csi(source, inner, errors),
        "ephemeral" => ephemeral(volume, owner, path, inner, errors),
        "image" => image(source, owner, inner, errors),
        _ => check_source(key, source, inner, errors),
    }
    if ["cinder", "storageos"].contains(&key)
        && let Some(reference) = get(source, "secretRef")
    {
        check::required_text(reference, "name", &inner.child("secretRef"), errors);
    }
    if key == "iscsi" {
        iscsi_name(volume, path, errors);
    }
}

/// How upstream names a source that is one too many.
pub(crate) fn shown(key: &str) -> &str {
    match key {
        "cephfs" => "cephFS",
        "downwardAPI" => "downwarAPI",
        key => key,
    }
}

/// With a name of its own an initiator calls its device by the volume and the portal, which must not be too long.
fn iscsi_name(volume: &Value, path: &Path, errors: &mut Errors) {
    let name = text(volume, "name");
    if is_long_iscsi(&volume["iscsi"], name) {
        errors.push(FieldError::invalid(&path.child("name"), name, LONG_ISCSI));
    }
}

/// Whether a volume of that name has a portal that goes with no initiator's name.
pub(crate) fn is_long_iscsi(source: &Value, name: &str) -> bool {
    const MAX_BYTES: usize = 64;
    get(source, "initiatorName").is_some() && name.len() + 1 + text(source, "targetPortal").len() > MAX_BYTES
}

/// What is said then.
pub(crate) const LONG_ISCSI: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                                     iscsi.initiatorName is specified.";

/// What is checked of a source alike in a pod and in a persistent volume.
pub(crate) fn check_source(key: &str, source: &Value, inner: &Path, errors: &mut Errors) {
    match key {
        "hostPath" => host_path(source, inner, errors),
        "gcePersistentDisk" | "awsElasticBlockStore" => partition(source, inner, errors),
        "nfs" if !text(source, "path").starts_with('/') => {
            let path = inner.child("path");
            errors.push(FieldError::invalid(&path, text(source, "path"), "must be an absolute path"));
        }
        "iscsi" => super::iscsi::validate(source, inner, errors),
        "quobyte" => quobyte(source, inner, errors),
        "storageos" => {
            for key in ["volumeName", "volumeNamespace"] {
                check::name_if_set(source, key, names::dns1123_label, inner, errors);
            }
        }
        "flocker" => flocker(source, inner, errors),
        "fc" => fibre_channel(source, inner, errors),
        "flexVolume" => flex(source, inner, errors),
        "azureDisk" => azure_disk(source, inner, errors),
        _ => {}
    }
}

fn host_path(source: &Value, path: &Path, errors: &mut Errors) {
    if !is_unset(source, "path") {
        check::no_backsteps(text(source, "path"), &path.child("path"), errors);
        check::one_of_if_set(source, "type", HOST_PATH_TYPES, path, errors);
    }
}

fn partition(source: &Value, path: &Path, errors: &mut Errors) {
    if !(0..=255).contains(&count(source, "partition")) {
        let detail = check::between(1, 255);
        errors.push(FieldError::invalid(&path.child("partition"), count(source, "partition"), detail));
    }
}

/// The keys of a Secret or ConfigMap that become files, and their modes.
pub(super) fn keys_to_paths(source: &Value, path: &Path, errors: &mut Errors) {
    check::file_mode(source, "defaultMode", path, errors);
    for (index, item) in list(source, "items").iter().enumerate() {
        let path = path.child("items").index(index);
        check::required_text(item, "key", &path, errors);
        check::required_text(item, "path", &path, errors);
        check::non_reserved_path(text(item, "path"), &path.child("path"), errors);
        check::file_mode(item, "mode", &path, errors);
    }
}

/// The files of the downward API. Their errors stand at the volume's path, as upstream has them.
pub(super) fn downward_files(source: &Value, path: &Path, errors: &mut Errors) {
    for file in list(source, "items") {
        check::required_text(file, "path", path, errors);
        check::non_reserved_path(text(file, "path"), &path.child("path"), errors);
        match (get(file, "fieldRef"), get(file, "resourceFieldRef")) {
            (None, None) => {
                errors.push(FieldError::required(path, "one of fieldRef and resourceFieldRef is required"));
            }
            (None, Some(reference)) => {
                env::resource_field(reference, true, &path.child("resourceFieldRef"), errors)
            }
            (Some(reference), other) => {
                env::file_field(reference, &path.child("fieldRef"), errors);
                if other.is_some() {
                    let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                    errors.push(FieldError::invalid(path, "resource", detail));
                }
            }
        }
        check::file_mode(file, "mode", path, errors);
    }
}

fn flocker(source: &Value, path: &Path, errors: &mut Errors) {
    let (name, uuid) = (text(source, "datasetName"), text(source, "datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.push(FieldError::required(path, "one of datasetName and datasetUUID is required"));
    } else if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(FieldError::invalid(path, "resource", detail));
    }
    if name.contains('/') {
        errors.push(FieldError::invalid(&path.child("datasetName"), name, "must not contain '/'"));
    }
}

fn fibre_channel(source: &Value, path: &Path, errors: &mut Errors) {
    let targets = path.child("targetWWNs");
    match (is_unset(source, "targetWWNs"), is_unset(source, "wwids")) {
        (true, true) => {
            errors.push(FieldError::required(
                &targets,
                "must specify either targetWWNs or wwids, but not both",
            ));
        }
        (false, false) => {
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            errors.push(FieldError::invalid(&targets, source["targetWWNs"].clone(), detail));
        }
        _ => {}
    }
    if !is_unset(source, "targetWWNs") {
        if number(source, "lun").is_none() {
            let detail = "lun is required if targetWWNs is specified";
            errors.push(FieldError::required(&path.child("lun"), detail));
        }
        check::within(source, "lun", (0, 255), path, errors);
    }
}

fn flex(source: &Value, path: &Path, errors: &mut Errors) {
    for (key, _) in entries(source, "options") {
        let namespace = format!(".{}", key.split('/').next().unwrap_or(key).to_lowercase());
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(FieldError::invalid(&path.child("options").key(key), key, detail));
        }
    }
}

fn azure_disk(source: &Value, path: &Path, errors: &mut Errors) {
    check::one_of_if_set(source, "cachingMode", &["None", "ReadOnly", "ReadWrite"], path, errors);
    check::one_of_if_set(source, "kind", &["Dedicated", "Managed", "Shared"], path, errors);
    let uri = text(source, "diskURI");
    let (prefix, pattern) = if text(source, "kind") == "Managed" {
        let pattern =
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
        ("/subscriptions/", pattern)
    } else {
        ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
    };
    if !uri.starts_with(prefix) {
        errors.push(FieldError::not_supported(&path.child("diskURI"), uri, &[pattern]));
    }
}

/// The name of a CSI driver: a subdomain whose letters may be large.
pub(crate) fn csi_driver(driver: &str, path: &Path, errors: &mut Errors) {
    const MAX_BYTES: usize = 63;
    if driver.len() > MAX_BYTES {
        errors.push(FieldError::too_long(path, MAX_BYTES));
    }
    messages(names::dns1123_subdomain(&driver.to_lowercase()), driver, path, errors);
}

fn csi(source: &Value, path: &Path, errors: &mut Errors) {
    let driver = text(source, "driver");
    if !driver.is_empty() {
        csi_driver(driver, &path.child("driver"), errors);
    }
    if let Some(reference) = get(source, "nodePublishSecretRef")
        && check::required_text(reference, "name", &path.child("nodePublishSecretRef"), errors)
    {
        // The path is upstream's.
        check::name_if_set(reference, "name", names::dns1123_subdomain, path, errors);
    }
}

fn ephemeral(volume: &Value, owner: Owner<'_>, path: &Path, inner: &Path, errors: &mut Errors) {
    if let Some(template) = get(&volume["ephemeral"], "volumeClaimTemplate") {
        let path = inner.child("volumeClaimTemplate");
        claim_metadata(&template["metadata"], &path.child("metadata"), errors);
        crate::core::persistent_volume_claim::validate_spec(&template["spec"], &path.child("spec"), errors);
    }
    let name = text(volume, "name");
    let pod = owner.pod_name();
    if !pod.is_empty() && !name.is_empty() {
        let claim = format!("{pod}-{name}");
        let problems = names::dns1123_subdomain(&claim).into_iter();
        let details = problems.map(|problem| format!("PVC name \"{claim}\": {problem}"));
        messages(details.collect(), name, &path.child("name"), errors);
    }
}

/// The metadata of a claim that is made for a pod: nothing but what claims are found by.
fn claim_metadata(metadata: &Value, path: &Path, errors: &mut Errors) {
    check::annotations(metadata, path, errors);
    check::labels(metadata, "labels", path, errors);
    for key in CLAIM_METADATA.iter().filter(|key| !is_unset(metadata, key)) {
        errors.push(FieldError::forbidden(&path.child(key), "cannot be set"));
    }
}

fn quobyte(source: &Value, path: &Path, errors: &mut Errors) {
    const MAX_TENANT_BYTES: usize = 64;
    let pairs = "must be a host:port pair or multiple pairs separated by commas";
    let registry = text(source, "registry");
    if registry.is_empty() {
        errors.push(FieldError::required(&path.child("registry"), pairs));
    } else if text(source, "tenant").len() > MAX_TENANT_BYTES {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(FieldError::required(&path.child("tenant"), detail));
    } else {
        for _ in registry.split(',').filter(|pair| !is_host_and_port(pair)) {
            errors.push(FieldError::invalid(&path.child("registry"), registry, pairs));
        }
    }
    check::required_text(source, "volume", path, errors);
}

/// `host:port`, or `[host]:port` where the host has colons.
fn is_host_and_port(pair: &str) -> bool {
    match pair.strip_prefix('[') {
        Some(rest) => rest
            .split_once("]:")
            .is_some_and(|(host, port)| !host.contains(['[', ']']) && !port.contains([':', '[', ']'])),
        None => pair.matches(':').count() == 1 && !pair.contains(['[', ']']),
    }
}

fn image(source: &Value, owner: Owner<'_>, path: &Path, errors: &mut Errors) {
    if owner.is_pod() {
        check::required_text(source, "reference", path, errors);
    }
    check::one_of(source, "pullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
}
