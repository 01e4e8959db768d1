//! ControllerRevision: a state that a DaemonSet or StatefulSet once had, to go back to.

use crate::check::{self, Errors};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::table::{self, NONE, string};
use crate::tree::{count, flag, get, list, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

pub(crate) struct ControllerRevision(Descriptor);

pub(crate) fn kind() -> ControllerRevision {
    ControllerRevision(describe("apps", "v1", "ControllerRevision", "controllerrevisions").done())
}

impl Kind for ControllerRevision {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check::nonnegative(object, "revision", &Path::root(), &mut errors);
        let missing = match get(object, "data") {
            Some(Value::Object(_)) => return errors,
            Some(_) => "data must be a valid JSON object",
            None => "data is mandatory",
        };
        errors.push(FieldError::required(&Path::new("data"), missing));
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check::nonnegative(new, "revision", &Path::root(), &mut errors);
        check::immutable(new, old, "data", &Path::root(), &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Controller", "The object whose state it is."),
            string("Revision", "Its place in the order of states."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let owners = list(&object["metadata"], "ownerReferences");
        let controller =
            owners.iter().find(|owner| flag(owner, "controller")).map_or_else(|| NONE.to_owned(), shown);
        let revision = count(object, "revision");
        vec![table::name_cell(object), controller.into(), revision.into(), table::age_cell(object, now_s)]
    }
}

/// An owner as `statefulset.apps/web`.
fn shown(owner: &Value) -> String {
    let (kind, name) = (text(owner, "kind").to_lowercase(), text(owner, "name"));
    match text(owner, "apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{creation, row, updated};
    use serde_json::json;

    #[test]
    fn states_are_whole_and_stay() {
        creation(
            &kind(),
            json!({"revision": -1}),
            &[
                "revision: Invalid value: -1: must be greater than or equal to 0",
                "data: Required value: data is mandatory",
            ],
        );
        updated(
            &kind(),
            &json!({"data": {"a": 1}}),
            json!({"data": {"a": 2}}),
            &["data: Invalid value: {\"a\":2}: field is immutable"],
        );
    }

    #[test]
    fn the_row_shows_the_owner() {
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true});
        row(
            &kind(),
            json!({"revision": 3, "metadata": {"ownerReferences": [owner]}}),
            json!(["x", "statefulset.apps/web", 3, "75s"]),
        );
    }
}
