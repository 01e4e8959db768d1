//! What was given to a claim, who may use it, and how the devices are: the status of a claim.

use super::claim::{self, Requests};
use super::{bounded, driver_name, own_text, pool_name, raw, share_id, taint, unique};
use crate::check::{self, Errors, messages};
use crate::conditions;
use crate::pod_template::node_selector;
use crate::tree::{get, list, text, texts};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const MAX_CONSUMERS: usize = 256;
const MAX_RESULTS: usize = 32;
const MAX_BINDING_CONDITIONS: usize = 4;
const MAX_CONDITIONS: usize = 8;
const MAX_INTERFACE_BYTES: usize = 256;
const MAX_HARDWARE_BYTES: usize = 128;
const MAX_ADDRESSES: usize = 16;

/// Field errors of a claim's new status.
pub(super) fn validate_status(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let (status, path) = (&new["status"], Path::new("status"));
    let consumers = list(status, "reservedFor");
    let uid = |item: &Value| text(item, "uid").to_owned();
    let reserved = path.child("reservedFor");
    unique(consumers, MAX_CONSUMERS, &reserved, &mut errors, uid, |own, path, errors| {
        for key in ["resource", "name", "uid"] {
            check::required_text(own, key, path, errors);
        }
    });
    device_statuses(status, &path.child("devices"), &mut errors);
    let (allocation, before) = (get(status, "allocation"), get(&old["status"], "allocation"));
    reservations(new, old, &reserved, &mut errors);
    match (allocation, before) {
        (Some(_), Some(_)) => check::immutable(status, &old["status"], "allocation", &path, &mut errors),
        (Some(allocation), None) => {
            let requests = Requests(&new["spec"]["devices"]);
            check_allocation(allocation, &requests, &path.child("allocation"), &mut errors);
        }
        _ => {}
    }
    errors
}

/// Only what is allocated is reserved, and nothing more of what goes.
fn reservations(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let consumers = list(&new["status"], "reservedFor");
    if consumers.is_empty() {
        return;
    }
    if get(&new["status"], "allocation").is_none() {
        errors.push(FieldError::forbidden(path, "may not be specified when `allocated` is not set"));
    } else if get(&new["metadata"], "deletionTimestamp").is_some() {
        let before = list(&old["status"], "reservedFor");
        if consumers.iter().any(|consumer| !before.contains(consumer)) {
            let detail =
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.push(FieldError::forbidden(path, detail));
        }
    }
}

/// `driver/pool/device`, with the share behind it if the device is shared.
fn device_id(device: &Value) -> String {
    let [driver, pool, name, share] = ["driver", "pool", "device", "shareID"].map(|key| text(device, key));
    let id = format!("{driver}/{pool}/{name}");
    if share.is_empty() { id } else { format!("{id}/{share}") }
}

fn device_statuses(status: &Value, path: &Path, errors: &mut Errors) {
    let results = list(&status["allocation"]["devices"], "results");
    let allocated: Vec<String> = results.iter().map(device_id).collect();
    unique(list(status, "devices"), usize::MAX, path, errors, device_id, |own, path, errors| {
        driver_name(text(own, "driver"), &path.child("driver"), errors);
        pool_name(text(own, "pool"), &path.child("pool"), errors);
        let device = text(own, "device");
        messages(names::dns1123_label(device), device, &path.child("device"), errors);
        share_id(own, path, errors);
        if !allocated.contains(&device_id(own)) {
            errors.push(claim::not_allocated(path, &device_id(own)));
        }
        let all = list(own, "conditions");
        if all.len() > MAX_CONDITIONS {
            errors.push(FieldError::too_many(&path.child("conditions"), all.len(), MAX_CONDITIONS));
        }
        conditions::validate(own, &path.child("conditions"), errors);
        if let Some(data) = get(own, "data") {
            raw(data, &path.child("data"), errors);
        }
        if let Some(network) = get(own, "networkData") {
            network_data(network, &path.child("networkData"), errors);
        }
    });
}

fn network_data(network: &Value, path: &Path, errors: &mut Errors) {
    for (key, max) in [("interfaceName", MAX_INTERFACE_BYTES), ("hardwareAddress", MAX_HARDWARE_BYTES)] {
        if text(network, key).len() > max {
            errors.push(FieldError::too_long(&path.child(key), max));
        }
    }
    unique(list(network, "ips"), MAX_ADDRESSES, &path.child("ips"), errors, own_text, |own, path, errors| {
        let address = own.as_str().unwrap_or_default();
        if names::parse_cidr(address).is_none() {
            let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
            errors.push(FieldError::invalid(path, address, detail));
        }
    });
}

fn check_allocation(allocation: &Value, requests: &Requests<'_>, path: &Path, errors: &mut Errors) {
    let (devices, inner) = (&allocation["devices"], path.child("devices"));
    bounded(list(devices, "results"), MAX_RESULTS, &inner.child("results"), errors, |own, path, errors| {
        requests.check_one(text(own, "request"), &path.child("request"), errors);
        driver_name(text(own, "driver"), &path.child("driver"), errors);
        pool_name(text(own, "pool"), &path.child("pool"), errors);
        let device = text(own, "device");
        messages(names::dns1123_label(device), device, &path.child("device"), errors);
        binding_conditions(own, path, errors);
        share_id(own, path, errors);
        for (index, toleration) in list(own, "tolerations").iter().enumerate() {
            taint::toleration(toleration, &path.child("tolerations").index(index), errors);
        }
    });
    let max = 2 * claim::MAX_ITEMS;
    bounded(list(devices, "config"), max, &inner.child("config"), errors, |own, path, errors| {
        check::one_of(own, "source", &["FromClaim", "FromClass"], path, errors);
        requests.check(own, path, errors);
        claim::configuration(own, path, errors);
    });
    if let Some(selector) = get(allocation, "nodeSelector") {
        node_selector(selector, &path.child("nodeSelector"), errors);
    }
}

/// What must be so before a pod is bound to a node with the device, and what must not.
pub(super) fn binding_conditions(object: &Value, path: &Path, errors: &mut Errors) {
    let [wanted, unwanted] = ["bindingConditions", "bindingFailureConditions"].map(|key| texts(object, key));
    let [wanted_path, unwanted_path] =
        ["bindingConditions", "bindingFailureConditions"].map(|key| path.child(key));
    for key in ["bindingConditions", "bindingFailureConditions"] {
        let check = |own: &Value, path: &Path, errors: &mut Errors| {
            check::label_name(own.as_str().unwrap_or_default(), path, errors);
        };
        bounded(list(object, key), MAX_BINDING_CONDITIONS, &path.child(key), errors, check);
        let items = texts(object, key).into_iter().enumerate();
        check::duplicates(items.map(|(index, item)| (path.child(key).index(index), item)), errors);
    }
    for (index, condition) in unwanted.iter().enumerate().filter(|(_, own)| wanted.contains(own)) {
        let detail = "bindingFailureConditions must not overlap with bindingConditions";
        errors.push(FieldError::invalid(&unwanted_path.index(index), *condition, detail));
    }
    if wanted.is_empty() && !unwanted.is_empty() {
        let detail = "bindingConditions are required to use bindingFailureConditions";
        errors.push(FieldError::invalid(&wanted_path, Vec::<Value>::new(), detail));
    }
    if unwanted.is_empty() && !wanted.is_empty() {
        let detail = "bindingFailureConditions are required to use bindingConditions";
        errors.push(FieldError::invalid(&unwanted_path, Vec::<Value>::new(), detail));
    }
}
