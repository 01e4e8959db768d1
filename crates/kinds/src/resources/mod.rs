//! The kinds of the group resource.k8s.io: devices that pods may claim.

mod allocation;
mod claim;
mod device;
pub(crate) mod device_class;
pub(crate) mod device_taint_rule;
pub(crate) mod resource_claim;
pub(crate) mod resource_claim_template;
pub(crate) mod resource_slice;
mod taint;

use crate::check::{Errors, messages};
use crate::kind::{Context, content_differs};
use crate::pod_template::csi_driver;
use crate::tree::{child, get, set};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const GROUP: &str = "resource.k8s.io";
const MAX_POOL_BYTES: usize = 253;
const MAX_ID_BYTES: usize = 32;
const UNIVERSAL: &str = "must be a valid JSON object";

/// A list of bounded size; beyond it nothing else is said.
fn bounded<'a>(
    items: &'a [Value],
    max: usize,
    path: &Path,
    errors: &mut Errors,
    mut check: impl FnMut(&'a Value, &Path, &mut Errors),
) -> bool {
    if items.len() > max {
        errors.push(FieldError::too_many(path, items.len(), max));
        return false;
    }
    for (index, item) in items.iter().enumerate() {
        check(item, &path.index(index), errors);
    }
    true
}

/// The same, of items that differ by a key.
fn unique<'a>(
    items: &'a [Value],
    max: usize,
    path: &Path,
    errors: &mut Errors,
    key: impl Fn(&'a Value) -> String,
    check: impl FnMut(&'a Value, &Path, &mut Errors),
) {
    if !bounded(items, max, path, errors, check) {
        return;
    }
    let mut seen = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let key = key(item);
        if seen.contains(&key) {
            errors.push(FieldError::duplicate(&path.index(index), key.clone()));
        }
        seen.push(key);
    }
}

/// A string item as its own key.
fn own_text(item: &Value) -> String {
    item.as_str().unwrap_or_default().to_owned()
}

/// The name of a driver.
fn driver_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        csi_driver(name, path, errors);
    }
}

/// The name of a pool: subdomains behind slashes.
fn pool_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if name.len() > MAX_POOL_BYTES {
        errors.push(FieldError::too_long(path, MAX_POOL_BYTES));
    }
    for part in name.split('/') {
        messages(names::dns1123_subdomain(part), part, path, errors);
    }
}

/// A name with a driver's domain in front or without one.
fn qualified_name(name: &str, path: &Path, errors: &mut Errors) {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [id] => identifier(id, path, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.push(FieldError::invalid(path, "", "the domain must not be empty"));
            } else {
                driver_name(domain, path, errors);
            }
            if id.is_empty() {
                errors.push(FieldError::invalid(path, "", "the name must not be empty"));
            } else {
                identifier(id, path, errors);
            }
        }
        _ => {}
    }
}

fn identifier(id: &str, path: &Path, errors: &mut Errors) {
    if id.len() > MAX_ID_BYTES {
        errors.push(FieldError::too_long(path, MAX_ID_BYTES));
    }
    messages(names::c_identifier(id), id, path, errors);
}

/// The id of a share of a device, if there is one: a UUID in its one form.
fn share_id(object: &Value, path: &Path, errors: &mut Errors) {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let Some(id) = get(object, "shareID").and_then(Value::as_str) else { return };
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_uuid = id.len() == 36
        && id
            .bytes()
            .enumerate()
            .all(|(at, byte)| if DASHES.contains(&at) { byte == b'-' } else { is_digit(byte) });
    if !is_uuid {
        let detail = "must be a lowercase UUID in 8-4-4-4-12 format";
        errors.push(FieldError::invalid(&path.child("shareID"), id, detail));
    }
}

/// A name with a domain.
fn fully_qualified_name(name: &str, path: &Path, errors: &mut Errors) {
    qualified_name(name, path, errors);
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(FieldError::invalid(path, name, detail));
    }
}

/// JSON of a driver's own, which must be an object.
fn raw(value: &Value, path: &Path, errors: &mut Errors) {
    const MAX_BYTES: usize = 10 * 1024;
    if value.is_null() {
        errors.push(FieldError::required(path, ""));
    } else if value.to_string().len() > MAX_BYTES {
        errors.push(FieldError::too_long(path, MAX_BYTES));
    } else if !value.is_object() {
        errors.push(FieldError::invalid(path, "<value omitted>", UNIVERSAL));
    }
}

/// Counts generations of kinds whose status is no part of them, or that have none.
fn count_generation(_context: &Context<'_>, new: &mut Value, old: &Value) {
    let generation = crate::tree::count(&old["metadata"], "generation");
    let moved = i64::from(content_differs(new, old));
    set(child(new, "metadata"), "generation", generation + moved);
}
