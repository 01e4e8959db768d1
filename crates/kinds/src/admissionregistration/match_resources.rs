//! What policies and their bindings match: namespaces, objects, and rules with exceptions.

use super::{MATCH_POLICIES, rule};
use crate::check::{Errors, one_of_if_set};
use crate::label_selector;
use crate::tree::{default, each, get, list};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

/// Fills what is left out: everything matches, in every version of a resource.
pub(super) fn set_defaults(matches: &mut Value) {
    default(matches, "matchPolicy", "Equivalent");
    default(matches, "namespaceSelector", json!({}));
    default(matches, "objectSelector", json!({}));
    for key in ["resourceRules", "excludeResourceRules"] {
        each(matches, key, rule::set_defaults);
    }
}

/// Checks what is to match.
pub(super) fn validate(matches: &Value, path: &Path, errors: &mut Errors) {
    if get(matches, "matchPolicy").is_none() {
        errors.push(FieldError::required(&path.child("matchPolicy"), ""));
    }
    one_of_if_set(matches, "matchPolicy", MATCH_POLICIES, path, errors);
    for key in ["namespaceSelector", "objectSelector"] {
        match get(matches, key) {
            Some(selector) => label_selector::validate(selector, &path.child(key), errors),
            None => errors.push(FieldError::required(&path.child(key), "")),
        }
    }
    for key in ["resourceRules", "excludeResourceRules"] {
        let path = path.child(key);
        for (index, own) in list(matches, key).iter().enumerate() {
            rule::resource_names(own, &path.index(index), errors);
            rule::validate(own, &path.index(index), errors);
        }
    }
}
