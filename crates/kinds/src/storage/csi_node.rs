//! CSINode: which drivers of volumes a node has.

use super::GROUP;
use crate::check::{self, Errors};
use crate::describe::describe;
use crate::gates::FieldPath;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::pod_template::csi_driver;
use crate::table::{self, integer};
use crate::tree::{equal, list, remove, text, texts};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const MAX_ID_BYTES: usize = 256;

pub(crate) struct CsiNode(Descriptor);

pub(crate) fn kind() -> CsiNode {
    CsiNode(describe(GROUP, "v1", "CSINode", "csinodes").cluster_scoped().done())
}

impl Kind for CsiNode {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn gated_fields(&self) -> Vec<FieldPath> {
        vec![vec!["status", "storageHealth"]]
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::new("spec").child("drivers");
        let mut seen = Vec::new();
        for (index, driver) in list(&object["spec"], "drivers").iter().enumerate() {
            let path = path.index(index);
            check_driver(driver, &path, &mut errors);
            let name = text(driver, "name");
            if seen.contains(&name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            seen.push(name);
            topology_keys(driver, &path, &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let path = Path::new("spec").child("drivers");
        let fixed = |driver: &Value| {
            let mut driver = driver.clone();
            remove(&mut driver, "allocatable");
            driver
        };
        for driver in list(&old["spec"], "drivers") {
            let is_same = |other: &&Value| other["name"] == driver["name"];
            let new = list(&new["spec"], "drivers").iter().find(is_same).map(fixed);
            if let Some(new) = new.filter(|new| !equal(new, &fixed(driver))) {
                errors.push(FieldError::invalid(&path, new, check::IMMUTABLE));
            }
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), integer("Drivers", "How many drivers the node has."), table::age()]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let drivers = list(&object["spec"], "drivers").len();
        vec![table::name_cell(object), drivers.into(), table::age_cell(object, now_s)]
    }
}

fn check_driver(driver: &Value, path: &Path, errors: &mut Errors) {
    if check::required_text(driver, "name", path, errors) {
        csi_driver(text(driver, "name"), &path.child("name"), errors);
    }
    let id = text(driver, "nodeID");
    check::required_text(driver, "nodeID", path, errors);
    if id.len() > MAX_ID_BYTES {
        let detail = format!("must be {MAX_ID_BYTES} characters or less");
        errors.push(FieldError::invalid(&path.child("nodeID"), id, detail));
    }
    check::nonnegative(&driver["allocatable"], "count", &path.child("allocatable"), errors);
}

fn topology_keys(driver: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for key in texts(driver, "topologyKeys") {
        if key.is_empty() {
            errors.push(FieldError::required(path, key));
        }
        if seen.contains(&key) {
            errors.push(FieldError::duplicate(path, key));
        }
        seen.push(key);
        check::label_name(key, path, errors);
    }
}
