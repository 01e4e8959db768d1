//! Between a served version and the hub version of a kind.

use nauplius_kinds::{Descriptor, Kind, Version};
use serde_json::Value;

/// `apps/v1`, or `v1` for the core group.
pub(crate) fn api_version(descriptor: &Descriptor, version: &str) -> String {
    if descriptor.group.is_empty() { version.to_owned() } else { format!("{}/{version}", descriptor.group) }
}

/// Fills the defaults of `version` and turns the object into the hub's form.
pub(crate) fn to_hub(kind: &dyn Kind, version: &Version, object: &mut Value) {
    (version.default)(object);
    kind.default_fields(object);
    if let Some(convert) = version.to_hub {
        convert(object);
    }
    let descriptor = kind.descriptor();
    name(object, descriptor, &descriptor.hub);
}

/// Turns a hub object into the form of `version`.
pub(crate) fn from_hub(kind: &dyn Kind, version: &Version, object: &mut Value) {
    if let Some(convert) = version.from_hub {
        convert(object);
    }
    name(object, kind.descriptor(), &version.name);
}

/// From one served version to another, without defaults.
pub(crate) fn between(kind: &dyn Kind, from: &Version, to: &Version, object: &mut Value) {
    if let Some(convert) = from.to_hub {
        convert(object);
    }
    from_hub(kind, to, object);
}

fn name(object: &mut Value, descriptor: &Descriptor, version: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("kind".to_owned(), Value::from(&*descriptor.kind));
        fields.insert("apiVersion".to_owned(), Value::from(api_version(descriptor, version)));
    }
}
