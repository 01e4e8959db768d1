//! StorageClass: a sort of storage, and who makes volumes of it.

use super::{GROUP, fixed, parameters, provisioner};
use crate::check::{self, Errors, messages};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::table::{self, string};
use crate::tree::{default, flag, get, list, text, texts};
use crate::{name, warnings};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Marks the class of claims that name none, in the newer form and the older.
const DEFAULT_MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(crate) struct StorageClass(Descriptor);

pub(crate) fn kind() -> StorageClass {
    let descriptor = describe(GROUP, "v1", "StorageClass", "storageclasses").cluster_scoped().short(&["sc"]);
    StorageClass(descriptor.defaults(set_defaults).done())
}

fn set_defaults(object: &mut Value) {
    default(object, "reclaimPolicy", "Delete");
    default(object, "volumeBindingMode", "Immediate");
}

impl Kind for StorageClass {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::root();
        provisioner(object, "provisioner", &path, &mut errors);
        parameters(object, true, &path, &mut errors);
        check::one_of_if_set(object, "reclaimPolicy", &["Delete", "Retain"], &path, &mut errors);
        let modes = ["Immediate", "WaitForFirstConsumer"];
        check::one_of(object, "volumeBindingMode", &modes, &path, &mut errors);
        allowed_topologies(object, &path.child("allowedTopologies"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        fixed(new, old, &["parameters", "provisioner", "reclaimPolicy"], &mut errors);
        check::immutable(new, old, "volumeBindingMode", &Path::root(), &mut errors);
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut found = Vec::new();
        for (index, topology) in list(new, "allowedTopologies").iter().enumerate() {
            let path = Path::new("allowedTopologies").index(index).child("matchLabelExpressions");
            for (index, expression) in list(topology, "matchLabelExpressions").iter().enumerate() {
                if let Some(words) = warnings::deprecated_node_label(text(expression, "key")) {
                    found.push(format!("{}: {words}", path.index(index).child("key")));
                }
            }
        }
        found
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Provisioner", "Who makes volumes of this class."),
            string("ReclaimPolicy", "What becomes of a volume when its claim is gone."),
            string("VolumeBindingMode", "Whether a volume waits for its first pod."),
            string("AllowVolumeExpansion", "Whether volumes may grow."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let name = text(&object["metadata"], "name");
        let annotations = &object["metadata"]["annotations"];
        let is_default = DEFAULT_MARKS.iter().any(|mark| text(annotations, mark) == "true");
        let name = if is_default { format!("{name} (default)") } else { name.to_owned() };
        vec![
            name.into(),
            text(object, "provisioner").into(),
            get(object, "reclaimPolicy").cloned().unwrap_or_else(|| "Delete".into()),
            get(object, "volumeBindingMode").cloned().unwrap_or_else(|| "<unset>".into()),
            flag(object, "allowVolumeExpansion").into(),
            table::age_cell(object, now_s),
        ]
    }
}

fn allowed_topologies(class: &Value, path: &Path, errors: &mut Errors) {
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for (index, term) in list(class, "allowedTopologies").iter().enumerate() {
        let path = path.index(index).child("matchLabelExpressions");
        let found = topology_term(term, &path, errors);
        if seen.contains(&found) {
            errors.push(FieldError::duplicate(&path, ""));
        }
        seen.push(found);
    }
}

fn topology_term<'a>(
    term: &'a Value,
    path: &Path,
    errors: &mut Errors,
) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut found = BTreeMap::new();
    for (index, expression) in list(term, "matchLabelExpressions").iter().enumerate() {
        let path = path.index(index);
        let key = text(expression, "key");
        let values: BTreeSet<_> = expression_values(expression, &path, errors);
        check::label_name(key, &path.child("key"), errors);
        if found.insert(key, values).is_some() {
            errors.push(FieldError::duplicate(&path.child("key"), key));
        }
    }
    found
}

fn expression_values<'a>(expression: &'a Value, path: &Path, errors: &mut Errors) -> BTreeSet<&'a str> {
    let values = texts(expression, "values");
    if values.is_empty() {
        errors.push(FieldError::required(&path.child("values"), ""));
    }
    let mut found = BTreeSet::new();
    for (index, value) in values.into_iter().enumerate() {
        let path = path.child("values").index(index);
        if !found.insert(value) {
            errors.push(FieldError::duplicate(&path, value));
        }
        messages(names::label_value(value), value, &path, errors);
    }
    found
}
