//! Event: something that happened to an object. The core group's form is the hub; events.k8s.io shows the same objects under
//! newer names. Events live for an hour.

use crate::check::{self, Errors};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::table::{string, wide};
use crate::tree::{at, count, get, text};
use crate::{name, table};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const TTL_S: i64 = 3600;
const MAX_NAME_CHARACTERS: usize = 128;
const MAX_MESSAGE_CHARACTERS: usize = 1024;

/// The names that differ: in the core group, in events.k8s.io.
const RENAMED: &[(&str, &str)] = &[
    ("message", "note"),
    ("involvedObject", "regarding"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

pub(crate) struct Event(Descriptor);

pub(crate) fn kind() -> Event {
    Event(describe("", "v1", "Event", "events").short(&["ev"]).ttl_s(TTL_S).done())
}

/// The kind of the group events.k8s.io, whose objects are stored as the core group's.
pub(crate) fn newer_kind() -> Event {
    let descriptor = describe("events.k8s.io", "v1", "Event", "events").short(&["ev"]).ttl_s(TTL_S);
    Event(descriptor.stored_as("", "events").converted(to_hub, from_hub).done())
}

fn to_hub(object: &mut Value) {
    rename(object, RENAMED.iter().map(|(old, new)| (*new, *old)));
}

fn from_hub(object: &mut Value) {
    rename(object, RENAMED.iter().copied());
}

fn rename<'a>(object: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(map) = object.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

impl Kind for Event {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let is_new = get(object, "eventTime").is_some();
        namespaces(object, is_new, &mut errors);
        if is_new {
            new_fields(object, &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.validate(new)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::path_segment(name, prefix)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    }

    fn selectable_field(&self, object: &Value, name: &str) -> String {
        let value = match name.strip_prefix("involvedObject.") {
            Some(field) => text(&object["involvedObject"], field),
            None if name == "source" => component(object),
            None => text(object, name),
        };
        value.to_owned()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            string("Last Seen", "The time since it happened last."),
            string("Type", "Normal, or Warning."),
            string("Reason", "Why it happened, in one word."),
            string("Object", "What it happened to."),
            wide(string("Subobject", "The part of the object.")),
            wide(string("Source", "Who tells of it.")),
            string("Message", "What happened."),
            wide(string("First Seen", "The time since it happened first.")),
            wide(string("Count", "How often it happened.")),
            wide(table::name()),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let first = first_of(object, &["firstTimestamp", "eventTime"]);
        let (last, occurrences) = match get(object, "series") {
            Some(series) => (at(series, &["lastObservedTime"]), count(series, "count")),
            None => (
                first_of(object, &["lastTimestamp", "firstTimestamp", "eventTime"]),
                count(object, "count").max(1),
            ),
        };
        vec![
            table::since_cell(last, now_s),
            text(object, "type").into(),
            text(object, "reason").into(),
            target(object).into(),
            text(&object["involvedObject"], "fieldPath").into(),
            source(object).into(),
            text(object, "message").trim().into(),
            table::since_cell(first, now_s),
            occurrences.into(),
            table::name_cell(object),
        ]
    }
}

fn first_of<'a>(object: &'a Value, keys: &[&str]) -> &'a Value {
    keys.iter().find_map(|key| get(object, key)).unwrap_or(&Value::Null)
}

fn component(object: &Value) -> &str {
    let component = text(&object["source"], "component");
    if component.is_empty() { text(object, "reportingComponent") } else { component }
}

fn source(object: &Value) -> String {
    let host = text(&object["source"], "host");
    let host = if host.is_empty() { text(object, "reportingInstance") } else { host };
    let component = component(object);
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

fn target(object: &Value) -> String {
    let involved = &object["involvedObject"];
    let (kind, name) = (text(involved, "kind").to_lowercase(), text(involved, "name"));
    if name.is_empty() { kind } else { format!("{kind}/{name}") }
}

/// An event stands in the namespace of its object; those of cluster-wide objects stand in default.
fn namespaces(object: &Value, is_new: bool, errors: &mut Errors) {
    let namespace = text(&object["metadata"], "namespace");
    let involved = text(&object["involvedObject"], "namespace");
    let fits = match involved {
        "" if is_new => ["default", "kube-system"].contains(&namespace),
        "" => ["", "default"].contains(&namespace),
        _ => is_new || involved == namespace,
    };
    if !fits {
        let path = Path::new("involvedObject").child("namespace");
        errors.push(FieldError::invalid(&path, involved, "does not match event.namespace"));
    }
}

/// What events of the new form must have.
fn new_fields(object: &Value, errors: &mut Errors) {
    let controller = text(object, "reportingComponent");
    let path = Path::new("reportingController");
    if controller.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    check::label_name(controller, &path, errors);
    let bounded = [("reportingInstance", "repotingIntance"), ("action", "action"), ("reason", "reason")];
    for (key, shown) in bounded {
        check::required_text(object, key, &Path::root(), errors);
        too_long(object, key, shown, MAX_NAME_CHARACTERS, errors);
    }
    too_long(object, "message", "message", MAX_MESSAGE_CHARACTERS, errors);
}

fn too_long(object: &Value, key: &str, shown: &str, max: usize, errors: &mut Errors) {
    if text(object, key).len() > max {
        errors.push(FieldError::invalid(&Path::new(shown), "", format!("can have at most {max} characters")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{creation, row, updated};
    use serde_json::json;

    #[test]
    fn namespaces_agree() {
        let event = |namespace: &str, involved: &str| json!({"metadata": {"namespace": namespace}, "involvedObject": {"namespace": involved}});
        creation(&kind(), event("a", "a"), &[]);
        creation(&kind(), event("default", ""), &[]);
        let refused = "involvedObject.namespace: Invalid value: \"b\": does not match event.namespace";
        creation(&kind(), event("a", "b"), &[refused]);
        updated(&kind(), &event("a", "a"), event("a", "b"), &[refused]);
    }

    #[test]
    fn new_events_say_who_and_what() {
        let event = json!({"metadata": {"namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z", "reportingComponent": "c"});
        creation(
            &kind(),
            event,
            &["reportingInstance: Required value", "action: Required value", "reason: Required value"],
        );
    }

    #[test]
    fn both_groups_show_one_event() {
        let mut event = json!({"message": "m", "involvedObject": {"name": "p"}, "reportingComponent": "c", "count": 2, "reason": "r"});
        let hub = event.clone();
        from_hub(&mut event);
        let newer = json!({"note": "m", "regarding": {"name": "p"}, "reportingController": "c", "deprecatedCount": 2, "reason": "r"});
        assert_eq!(event, newer);
        to_hub(&mut event);
        assert_eq!(event, hub);
        assert_eq!(newer_kind().descriptor().stored_as, Some(("".into(), "events".into())));
    }

    #[test]
    fn the_row_tells_what_happened() {
        let event = json!({"type": "Normal", "reason": "Started", "message": "Started container\n", "count": 3,
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"}, "source": {"component": "kubelet", "host": "n"},
            "firstTimestamp": "1970-01-12T13:46:40Z", "lastTimestamp": "1970-01-12T13:47:40Z"});
        row(
            &kind(),
            event,
            json!([
                "15s",
                "Normal",
                "Started",
                "pod/p",
                "spec.containers{c}",
                "kubelet, n",
                "Started container",
                "75s",
                3,
                "x"
            ]),
        );
        let event = json!({"eventTime": "1970-01-12T13:46:40.5Z", "involvedObject": {"kind": "Node"}, "reportingComponent": "c"});
        row(&kind(), event, json!(["75s", "", "", "node", "", "c", "", "75s", 1, "x"]));
    }
}
