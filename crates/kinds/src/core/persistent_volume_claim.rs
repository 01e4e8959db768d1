//! PersistentVolumeClaim: a wish for storage.

use crate::check::{self, Errors, NOT_POSITIVE};
use crate::label_selector;
use crate::resource::{check_amount, quantity};
use crate::tree::{get, list, texts};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

pub(crate) const ACCESS_MODES: &[&str] =
    &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Checks a claim's spec, also in the template of an ephemeral volume.
pub(crate) fn validate_spec(spec: &Value, path: &Path, errors: &mut Errors) {
    access_modes(spec, path, errors);
    if let Some(selector) = get(spec, "selector") {
        label_selector::validate(selector, &path.child("selector"), errors);
    }
    let resources = path.child("resources");
    match get(&spec["resources"]["requests"], "storage") {
        None => errors.push(FieldError::required(&resources.key("storage"), "")),
        Some(value) if quantity(value).sign() <= 0 => {
            errors.push(FieldError::invalid(
                &resources.key("storage"),
                quantity(value).canonical(),
                NOT_POSITIVE,
            ));
        }
        Some(value) => check_amount("storage", value, &resources.key("storage"), errors),
    }
    check::name_if_set(spec, "storageClassName", names::dns1123_subdomain, path, errors);
    check::one_of_if_set(spec, "volumeMode", &["Block", "Filesystem"], path, errors);
    check::name_if_set(spec, "volumeAttributesClassName", names::dns1123_subdomain, path, errors);
}

/// The access modes of a claim or a volume: at least one, and one that excludes others stands alone.
pub(crate) fn access_modes(spec: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("accessModes");
    if list(spec, "accessModes").is_empty() {
        errors.push(FieldError::required(&path, "at least 1 access mode is required"));
    }
    let modes = texts(spec, "accessModes");
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.push(FieldError::not_supported(&path, *mode, ACCESS_MODES));
    }
    let exclusive = modes.contains(&"ReadWriteOncePod");
    if exclusive && modes.iter().any(|mode| *mode != "ReadWriteOncePod" && ACCESS_MODES.contains(mode)) {
        errors.push(FieldError::forbidden(&path, "may not use ReadWriteOncePod with other access modes"));
    }
}
