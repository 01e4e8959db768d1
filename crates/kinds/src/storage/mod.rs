//! The kinds of the group storage.k8s.io.

pub(crate) mod csi_driver;
pub(crate) mod csi_node;
pub(crate) mod csi_storage_capacity;
pub(crate) mod storage_class;
pub(crate) mod volume_attachment;
pub(crate) mod volume_attributes_class;

use crate::check::{self, Errors};
use crate::tree::{entries, same, size, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const GROUP: &str = "storage.k8s.io";
const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETER_BYTES: usize = 256 * 1024;

/// The name of who makes volumes.
fn provisioner(object: &Value, key: &str, path: &Path, errors: &mut Errors) {
    if check::required_text(object, key, path, errors) {
        check::label_name(&text(object, key).to_lowercase(), &path.child(key), errors);
    }
}

/// What is handed to who makes volumes.
fn parameters(object: &Value, may_be_empty: bool, path: &Path, errors: &mut Errors) {
    let path = path.child("parameters");
    if size(object, "parameters") > MAX_PARAMETERS {
        errors.push(FieldError::too_long(&path, MAX_PARAMETERS));
        return;
    }
    let mut bytes = 0;
    for (key, value) in entries(object, "parameters") {
        if key.is_empty() {
            errors.push(FieldError::invalid(&path, key, "field can not be empty."));
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > MAX_PARAMETER_BYTES {
        errors.push(FieldError::too_long(&path, MAX_PARAMETER_BYTES));
    }
    if !may_be_empty && size(object, "parameters") == 0 {
        errors.push(FieldError::required(&path, "must contain at least one key/value pair"));
    }
}

/// Fields that no update may change, in the words of classes.
fn fixed(new: &Value, old: &Value, keys: &[&str], errors: &mut Errors) {
    for key in keys.iter().filter(|key| !same(new, old, key)) {
        let detail = format!("updates to {key} are forbidden.");
        errors.push(FieldError::forbidden(&Path::new(*key), detail));
    }
}
