//! DeviceTaintRule: taints devices from outside, for an admin who has to.

use super::{GROUP, driver_name, pool_name, taint};
use crate::check::{Errors, messages};
use crate::conditions;
use crate::describe::describe;
use crate::kind::{Column, Context, Descriptor, Kind, carry, keep_content, keep_metadata};
use crate::name;
use crate::runtime_config::RuntimeConfig;
use crate::table::{self, string};
use crate::tree::{child, get, list, set, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};

const MAX_CONDITIONS: usize = 8;

pub(crate) struct DeviceTaintRule(Descriptor);

pub(crate) fn kind(config: &RuntimeConfig) -> DeviceTaintRule {
    let descriptor = describe(GROUP, "v1", "DeviceTaintRule", "devicetaintrules").cluster_scoped();
    DeviceTaintRule(descriptor.also(config, "v1beta2").status().done())
}

impl Kind for DeviceTaintRule {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn prepare_create(&self, context: &Context<'_>, object: &mut Value) {
        set(object, "status", json!({}));
        set(child(object, "metadata"), "generation", 1);
        taint::date(child(child(object, "spec"), "taint"), context.now_s);
    }

    fn prepare_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        carry(new, old, "status");
        let (taint, before) = (&new["spec"]["taint"], &old["spec"]["taint"]);
        let is_other = ["key", "value", "effect"].iter().any(|key| text(taint, key) != text(before, key));
        if is_other && taint["timeAdded"] == before["timeAdded"] {
            // A taint that changes is a new one, unless it says since when it is there.
            set(child(child(new, "spec"), "taint"), "timeAdded", crate::duration::moment(context.now_s));
        }
        taint::date(child(child(new, "spec"), "taint"), context.now_s);
        super::count_generation(context, new, old);
    }

    fn prepare_subresource_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        keep_content(new, old);
        keep_metadata(new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate_spec(&object["spec"], None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validate_spec(&new["spec"], Some(&old["spec"]["taint"]))
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::new("status").child("conditions");
        conditions::validate(&new["status"], &path, &mut errors);
        let all = list(&new["status"], "conditions");
        if all.len() > MAX_CONDITIONS {
            errors.push(FieldError::too_many(&path, all.len(), MAX_CONDITIONS));
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Key", "The key of the taint."),
            string("Value", "The value of the taint."),
            string("Effect", "What the taint does."),
            string("TimeAdded", "How long ago the taint was added."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let taint = &object["spec"]["taint"];
        let [key, value, effect] = ["key", "value", "effect"].map(|key| text(taint, key).into());
        let added = get(taint, "timeAdded").map_or_else(|| "".into(), |time| table::since_cell(time, now_s));
        vec![table::name_cell(object), key, value, effect, added, table::age_cell(object, now_s)]
    }
}

fn validate_spec(spec: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    if let Some(selector) = get(spec, "deviceSelector") {
        let path = path.child("deviceSelector");
        if get(selector, "driver").is_some() {
            driver_name(text(selector, "driver"), &path.child("driver"), &mut errors);
        }
        if get(selector, "pool").is_some() {
            pool_name(text(selector, "pool"), &path.child("pool"), &mut errors);
        }
        if get(selector, "device").is_some() {
            let device = text(selector, "device");
            messages(names::dns1123_label(device), device, &path.child("device"), &mut errors);
        }
    }
    taint::validate(&spec["taint"], old, &path.child("taint"), &mut errors);
    errors
}
