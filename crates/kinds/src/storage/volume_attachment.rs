//! VolumeAttachment: that a volume is to be attached to a node, and whether it is.

use super::GROUP;
use crate::check::{self, Errors, messages};
use crate::core::persistent_volume::validate_inline;
use crate::describe::describe;
use crate::kind::{Column, Context, Descriptor, Kind, tracked_without_metadata};
use crate::name;
use crate::pod_template::csi_driver;
use crate::table::{self, string};
use crate::tree::{entries, flag, get, number, set, text};
use nauplius_meta::apply::Filter;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

const MAX_METADATA_BYTES: usize = 256 * 1024;
const MAX_MESSAGE_BYTES: usize = 1024;

pub(crate) struct VolumeAttachment(Descriptor);

pub(crate) fn kind() -> VolumeAttachment {
    let descriptor = describe(GROUP, "v1", "VolumeAttachment", "volumeattachments");
    VolumeAttachment(descriptor.cluster_scoped().status().done())
}

impl Kind for VolumeAttachment {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        set(object, "status", json!({"attached": false}));
    }

    fn tracked(&self, subresource: &str) -> Filter {
        tracked_without_metadata(subresource)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        if check::required_text(spec, "attacher", &path, &mut errors) {
            csi_driver(text(spec, "attacher"), &path.child("attacher"), &mut errors);
        }
        check_source(&spec["source"], &path.child("source"), &mut errors);
        let node = text(spec, "nodeName");
        messages(names::dns1123_subdomain(node), node, &path.child("nodeName"), &mut errors);
        check_status(&object["status"], &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        check::immutable(new, old, "spec", &Path::root(), &mut errors);
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate_update(new, old)
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
            Column { format: "name".into(), ..string("Attacher", "Who attaches it.") },
            string("PV", "The volume."),
            string("Node", "The node."),
            table::boolean("Attached", "Whether it is attached."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let spec = &object["spec"];
        vec![
            table::name_cell(object),
            text(spec, "attacher").into(),
            text(&spec["source"], "persistentVolumeName").into(),
            text(spec, "nodeName").into(),
            flag(&object["status"], "attached").into(),
            table::age_cell(object, now_s),
        ]
    }
}

fn check_source(source: &Value, path: &Path, errors: &mut Errors) {
    let volume = get(source, "persistentVolumeName").and_then(Value::as_str);
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (get(source, "inlineVolumeSpec"), volume) {
        (None, None) => errors.push(FieldError::required(path, one)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(path, one)),
        (Some(spec), None) => validate_inline(spec, &path.child("inlineVolumeSpec"), errors),
        (None, Some("")) => {
            let detail = "must specify non empty persistentVolumeName";
            errors.push(FieldError::required(&path.child("persistentVolumeName"), detail));
        }
        (None, Some(_)) => {}
    }
    if let Some(volume) = volume {
        messages(names::dns1123_subdomain(volume), volume, &path.child("persistentVolumeName"), errors);
    }
}

fn check_status(status: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let metadata = entries(status, "attachmentMetadata");
    let bytes: usize = metadata.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > MAX_METADATA_BYTES {
        errors.push(FieldError::too_long(&path.child("attachmentMetadata"), MAX_METADATA_BYTES));
    }
    for key in ["attachError", "detachError"] {
        let (error, path) = (&status[key], path.child(key));
        if text(error, "message").len() > MAX_MESSAGE_BYTES {
            // Upstream names another bound than the one that it checks.
            errors.push(FieldError::too_long(&path.child("message"), MAX_METADATA_BYTES));
        }
        if let Some(code) = number(error, "errorCode").filter(|code| *code < 0) {
            let detail = check::between(0, i64::from(i32::MAX));
            errors.push(FieldError::invalid(&path.child("errorCode"), code, detail));
        }
    }
}
