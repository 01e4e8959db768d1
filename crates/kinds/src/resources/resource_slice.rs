//! ResourceSlice: devices that a driver has, at a node or within reach of several. v1 is the hub; v1beta1 keeps a device's
//! properties one level deeper.

use super::{GROUP, device, driver_name, pool_name, taint, unique};
use crate::check::{self, Errors, messages};
use crate::describe::describe;
use crate::gates::{self, FieldPath};
use crate::kind::{Column, Context, Descriptor, Kind};
use crate::name;
use crate::pod_template::node_selector;
use crate::runtime_config::RuntimeConfig;
use crate::table::{self, string};
use crate::tree::{child, count, each, flag, get, list, remove, set, text, with};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const MAX_DEVICES: usize = 128;
/// Devices of which more is said take more room.
const MAX_ADVANCED_DEVICES: usize = 64;
const MAX_COUNTER_SETS: usize = 8;
const ONE_OF_NODES: &str =
    "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";

pub(crate) struct ResourceSlice(Descriptor);

pub(crate) fn kind(config: &RuntimeConfig) -> ResourceSlice {
    let descriptor = describe(GROUP, "v1", "ResourceSlice", "resourceslices").cluster_scoped();
    let descriptor = descriptor.also(config, "v1beta2").also(config, "v1beta1");
    ResourceSlice(descriptor.converted(to_hub, from_hub).done())
}

fn to_hub(object: &mut Value) {
    with(object, "spec", |spec| {
        each(spec, "devices", |device| {
            let basic = remove(device, "basic");
            for (key, value) in basic.as_ref().and_then(Value::as_object).into_iter().flatten() {
                set(device, key, value.clone());
            }
        });
    });
}

fn from_hub(object: &mut Value) {
    with(object, "spec", |spec| {
        each(spec, "devices", |device| {
            let Some(fields) = device.as_object_mut() else { return };
            let name = fields.remove("name");
            let basic = std::mem::take(fields);
            if let Some(name) = name {
                fields.insert("name".to_owned(), name);
            }
            fields.insert("basic".to_owned(), basic.into());
        });
    });
}

/// Taints say since when they are there.
fn date_taints(slice: &mut Value, now_s: i64) {
    with(slice, "spec", |spec| {
        each(spec, "devices", |device| each(device, "taints", |own| taint::date(own, now_s)));
    });
}

impl Kind for ResourceSlice {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn prepare_create(&self, context: &Context<'_>, object: &mut Value) {
        set(child(object, "metadata"), "generation", 1);
        date_taints(object, context.now_s);
    }

    fn prepare_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        date_taints(new, context.now_s);
        super::count_generation(context, new, old);
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        // DRANodeAllocatableResources, DRAListTypeAttributes, DRADerivedAttributes and DRAOptionalNodeOperations.
        let of_device: &[&[&'static str]] = &[
            &["nodeAllocatableResources"],
            &["attributes", "*", "bools"],
            &["attributes", "*", "ints"],
            &["attributes", "*", "strings"],
            &["attributes", "*", "versions"],
        ];
        let mut all = gates::below(&["spec", "devices", "*"], of_device);
        all.extend(gates::below(&["spec"], &[&["partitionTypeAttribute"], &["skipNodeOperations"]]));
        all
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate_spec(&object["spec"], None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validate_spec(&new["spec"], Some(&old["spec"]))
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.nodeName", "spec.driver"]
    }

    fn selectable_field(&self, object: &Value, name: &str) -> String {
        text(&object["spec"], name.trim_start_matches("spec.")).to_owned()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Node", "The node that has the devices."),
            string("Driver", "Whose devices these are."),
            string("Pool", "The pool that they belong to."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let spec = &object["spec"];
        vec![
            table::name_cell(object),
            text(spec, "nodeName").into(),
            text(spec, "driver").into(),
            text(&spec["pool"], "name").into(),
            table::age_cell(object, now_s),
        ]
    }
}

fn validate_spec(spec: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    driver_name(text(spec, "driver"), &path.child("driver"), &mut errors);
    check_pool(&spec["pool"], &path.child("pool"), &mut errors);
    if let Some(old) = old {
        check::immutable(&spec["pool"], &old["pool"], "name", &path.child("pool"), &mut errors);
        check::immutable(spec, old, "driver", &path, &mut errors);
        check::immutable(spec, old, "nodeName", &path, &mut errors);
    }
    nodes(spec, &path, &mut errors);
    let devices = list(spec, "devices");
    if get(spec, "sharedCounters").is_some() && get(spec, "devices").is_some() {
        let detail = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(FieldError::invalid(&path, "", detail));
    }
    let per_device = flag(spec, "perDeviceNodeSelection");
    let max = if devices.iter().any(is_advanced) { MAX_ADVANCED_DEVICES } else { MAX_DEVICES };
    let name = |own: &Value| text(own, "name").to_owned();
    unique(devices, max, &path.child("devices"), &mut errors, name, |own, path, errors| {
        let is_same = |other: &&Value| other["name"] == own["name"];
        let before = old.and_then(|old| list(old, "devices").iter().find(is_same));
        device::validate(own, before, per_device, path, errors);
    });
    let sets = path.child("sharedCounters");
    unique(list(spec, "sharedCounters"), MAX_COUNTER_SETS, &sets, &mut errors, name, |own, path, errors| {
        device::counters(own, "name", path, errors);
    });
    errors
}

/// Whether more is said of a device than a name and plain values.
fn is_advanced(device: &Value) -> bool {
    let has_lists = crate::tree::entries(device, "attributes")
        .any(|(_, own)| ["bools", "ints", "strings", "versions"].iter().any(|key| get(own, key).is_some()));
    has_lists || !list(device, "taints").is_empty() || !list(device, "consumesCounters").is_empty()
}

fn check_pool(pool: &Value, path: &Path, errors: &mut Errors) {
    pool_name(text(pool, "name"), &path.child("name"), errors);
    let slices = count(pool, "resourceSliceCount");
    if slices <= 0 {
        errors.push(FieldError::invalid(
            &path.child("resourceSliceCount"),
            slices,
            "must be greater than zero",
        ));
    }
    let generation = count(pool, "generation");
    if generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&path.child("generation"), generation, detail));
    }
}

fn nodes(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut set = Vec::new();
    match get(spec, "nodeName").and_then(Value::as_str) {
        Some("") => {
            let detail = "must be either unset or set to a non-empty string";
            errors.push(FieldError::invalid(&path.child("nodeName"), "", detail));
        }
        Some(name) => {
            set.push("`nodeName`");
            messages(names::dns1123_subdomain(name), name, &path.child("nodeName"), errors);
        }
        None => {}
    }
    if let Some(selector) = get(spec, "nodeSelector") {
        set.push("`nodeSelector`");
        node_selector(selector, &path.child("nodeSelector"), errors);
        if list(selector, "nodeSelectorTerms").len() != 1 {
            let path = path.child("nodeSelector").child("nodeSelectorTerms");
            let detail = "must have exactly one node selector term";
            errors.push(FieldError::invalid(&path, selector["nodeSelectorTerms"].clone(), detail));
        }
    }
    for (key, shown) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        match get(spec, key).and_then(Value::as_bool) {
            Some(true) => set.push(shown),
            Some(false) => {
                let detail = "must be either unset or set to true";
                errors.push(FieldError::invalid(&path.child(key), false, detail));
            }
            None => {}
        }
    }
    match set.len() {
        0 => errors.push(FieldError::required(path, ONE_OF_NODES)),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            let detail = format!("{ONE_OF_NODES}, but multiple fields are set");
            errors.push(FieldError::invalid(path, shown, detail));
        }
    }
}
