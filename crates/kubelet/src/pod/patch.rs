//! The difference between the status that the API has and the one that it should have, as a strategic merge patch. Pure, over JSON
//! trees: the typed form is encoded by `kinds`.

use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Pod, PodStatus};
use serde_json::{Map, Value, json};

/// A status as a tree.
pub fn tree(status: &PodStatus) -> Value {
    let pod = Pod { status: Some(status.clone()), ..Pod::default() };
    // What was encoded a moment ago is JSON.
    let mut value: Value = serde_json::from_slice(&pod.encode()).unwrap_or_default();
    let mut status = value["status"].take();
    drop_empty(&mut status);
    status
}

/// The API writes some structs that nobody set as `{}` (`lastState`): that is no difference. Resources of which there are none are told as
/// `{}`, too, but that says that they can be changed in place.
fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(drop_empty);
            map.retain(|key, value| {
                key == "resources" || value.as_object().is_none_or(|inner| !inner.is_empty())
            });
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

/// The patch; none when nothing differs.
pub fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (old, new) = (tree(old), tree(new));
    let empty = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let mut status = Map::new();
    for (key, value) in new.iter().filter(|(key, value)| old.get(*key) != Some(value)) {
        match key.as_str() {
            "conditions" => conditions(old.get(key), value, &mut status),
            "podIPs" | "hostIPs" => {
                // Lists that would be merged by their key are to be replaced.
                let mut list = value.as_array().cloned().unwrap_or_default();
                if old.contains_key(key) {
                    list.insert(0, json!({"$patch": "replace"}));
                }
                status.insert(key.clone(), Value::Array(list));
            }
            _ => {
                status.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        status.insert(key.clone(), Value::Null);
    }
    (!status.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": status}))
}

fn conditions(old: Option<&Value>, new: &Value, status: &mut Map<String, Value>) {
    let old = old.and_then(Value::as_array).cloned().unwrap_or_default();
    let new = new.as_array().cloned().unwrap_or_default();
    let order: Vec<Value> = new.iter().map(|condition| json!({"type": condition["type"]})).collect();
    let mut changed = Vec::new();
    for condition in new.iter().filter(|condition| !old.contains(condition)) {
        let mut entry = condition.clone();
        let before = old.iter().find(|known| known["type"] == condition["type"]);
        // What a merge would keep has to be taken out by name.
        for key in before.and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            if condition.get(key).is_none() {
                entry[key] = Value::Null;
            }
        }
        changed.push(entry);
    }
    // A merge keeps what it is not told of.
    for known in old.iter().filter(|known| !new.iter().any(|condition| condition["type"] == known["type"])) {
        changed.push(json!({"$patch": "delete", "type": known["type"]}));
    }
    if !changed.is_empty() {
        status.insert("$setElementOrder/conditions".to_owned(), Value::Array(order));
        status.insert("conditions".to_owned(), Value::Array(changed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: &str) -> PodStatus {
        Pod::decode(format!(r#"{{"metadata":{{}},"status":{json}}}"#).as_bytes()).unwrap().status.unwrap()
    }

    #[test]
    fn structs_that_the_api_fills_are_no_difference() {
        let told = status(
            r#"{"containerStatuses":[{"name":"a","image":"i","imageID":"","ready":true,"restartCount":0}]}"#,
        );
        let filled = status(
            r#"{"containerStatuses":[{"name":"a","image":"i","imageID":"","ready":true,"restartCount":0,"lastState":{},
            "state":{}}]}"#,
        );
        assert_eq!(patch("u", &filled, &told), None);
        assert_eq!(patch("u", &told, &filled), None);
        let none = status(
            r#"{"containerStatuses":[{"name":"a","image":"i","imageID":"","ready":true,"restartCount":0,"resources":{}}]}"#,
        );
        let sent = patch("u", &told, &none).unwrap();
        assert_eq!(sent["status"]["containerStatuses"][0]["resources"], json!({}));
    }

    #[test]
    fn only_what_differs_is_sent() {
        let old = status(
            r#"{"phase":"Pending","podIP":"1","podIPs":[{"ip":"1"}],"message":"m",
            "conditions":[{"type":"Ready","status":"False","reason":"r"},{"type":"PodScheduled","status":"True"}]}"#,
        );
        let new = status(
            r#"{"phase":"Running","podIP":"2","podIPs":[{"ip":"2"}],
            "conditions":[{"type":"Ready","status":"True"},{"type":"PodScheduled","status":"True"}]}"#,
        );
        assert_eq!(
            patch("u", &old, &new).unwrap(),
            json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running", "podIP": "2", "message": null, "podIPs": [{"$patch": "replace"}, {"ip": "2"}],
                "$setElementOrder/conditions": [{"type": "Ready"}, {"type": "PodScheduled"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null}],
            }})
        );
        assert_eq!(patch("u", &new, &new), None);
        let fewer = status(
            r#"{"phase":"Running","podIP":"2","podIPs":[{"ip":"2"}],"conditions":[{"type":"Ready","status":"True"}]}"#,
        );
        assert_eq!(
            patch("u", &new, &fewer).unwrap()["status"],
            json!({
                "$setElementOrder/conditions": [{"type": "Ready"}],
                "conditions": [{"$patch": "delete", "type": "PodScheduled"}],
            })
        );
    }
}
