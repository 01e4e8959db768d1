//! CSIStorageCapacity: how much room a driver has for volumes of a class at a place.

use super::GROUP;
use crate::check::{self, Errors, messages};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::resource::{canonicalize_value, quantity};
use crate::table::{self, string};
use crate::tree::{get, text};
use crate::{label_selector, name, warnings};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

pub(crate) struct CsiStorageCapacity(Descriptor);

pub(crate) fn kind() -> CsiStorageCapacity {
    let descriptor = describe(GROUP, "v1", "CSIStorageCapacity", "csistoragecapacities");
    CsiStorageCapacity(descriptor.defaults(set_defaults).done())
}

fn set_defaults(object: &mut Value) {
    ["capacity", "maximumVolumeSize"].iter().for_each(|key| canonicalize_value(object, key));
}

impl Kind for CsiStorageCapacity {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        label_selector::validate(&object["nodeTopology"], &Path::new("nodeTopology"), &mut errors);
        let class = text(object, "storageClassName");
        messages(names::dns1123_subdomain(class), class, &Path::new("storageClassName"), &mut errors);
        let amount = get(object, "capacity").map(quantity);
        if let Some(amount) = amount.filter(|amount| amount.sign() < 0) {
            let detail = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(&Path::new("capacity"), amount.canonical(), detail));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        for key in ["nodeTopology", "storageClassName"] {
            check::immutable(new, old, key, &Path::root(), &mut errors);
        }
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut found = Vec::new();
        warnings::of_selector(&new["nodeTopology"], &Path::new("nodeTopology"), &mut found);
        found
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("StorageClassName", "The class of storage that it is about."),
            string("Capacity", "How much room there is."),
        ]
    }

    fn cells(&self, object: &Value, _now_s: i64) -> Vec<Value> {
        let capacity = get(object, "capacity").map(|amount| quantity(amount).canonical());
        vec![
            table::name_cell(object),
            text(object, "storageClassName").into(),
            capacity.unwrap_or_else(|| "<unset>".to_owned()).into(),
        ]
    }
}
