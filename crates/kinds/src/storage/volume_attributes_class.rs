//! VolumeAttributesClass: attributes of volumes that may change while the volumes are used.

use super::{GROUP, fixed, parameters, provisioner};
use crate::check::Errors;
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::table::{self, string};
use crate::tree::text;
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) struct VolumeAttributesClass(Descriptor);

pub(crate) fn kind() -> VolumeAttributesClass {
    let descriptor = describe(GROUP, "v1", "VolumeAttributesClass", "volumeattributesclasses");
    VolumeAttributesClass(descriptor.cluster_scoped().short(&["vac"]).done())
}

impl Kind for VolumeAttributesClass {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        provisioner(object, "driverName", &Path::root(), &mut errors);
        parameters(object, false, &Path::root(), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        fixed(new, old, &["driverName", "parameters"], &mut errors);
        errors.extend(self.validate(new));
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), string("DriverName", "Who changes volumes to this class."), table::age()]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        vec![table::name_cell(object), text(object, "driverName").into(), table::age_cell(object, now_s)]
    }
}
