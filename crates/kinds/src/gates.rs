//! Fields whose feature gates upstream has off by default in the release that is served: they are dropped from what is written, unless
//! the object has them already. A gate that opens takes its line away here.

use crate::kind::Kind;
use serde_json::Value;

/// The way to a field; `*` stands for every item of a list or value of a map.
pub type FieldPath = Vec<&'static str>;

/// Of a pod spec: `GenericWorkload`, `EvictionRequestAPI`.
const POD_SPEC: &[&[&str]] = &[&["schedulingGroup"], &["evictionResponders"]];
/// Of a container: `ContainerStopSignals`, and options of bind mounts.
const CONTAINER: &[&[&str]] = &[&["lifecycle", "stopSignal"], &["volumeMounts", "*", "bindMountOptions"]];
const CONTAINERS: &[&str] = &["containers", "initContainers", "ephemeralContainers"];

/// Below `prefix`.
pub(crate) fn below(prefix: &[&'static str], paths: &[&[&'static str]]) -> Vec<FieldPath> {
    paths.iter().map(|path| [prefix, path].concat()).collect()
}

/// Those of a pod spec that stands at `prefix`.
pub(crate) fn of_pod_spec(prefix: &[&'static str]) -> Vec<FieldPath> {
    let mut all = below(prefix, POD_SPEC);
    for list in CONTAINERS {
        all.extend(below(&[prefix, &[*list, "*"]].concat(), CONTAINER));
    }
    all
}

/// Those of a kind with a template in its spec.
pub(crate) fn of_template() -> Vec<FieldPath> {
    of_pod_spec(&["spec", "template", "spec"])
}

/// Drops the gated fields of a kind that `old` does not use.
pub fn drop_gated(kind: &dyn Kind, new: &mut Value, old: Option<&Value>) {
    for path in kind.gated_fields() {
        if old.is_none_or(|old| !uses(old, &path)) {
            drop_field(new, &path);
        }
    }
}

fn uses(value: &Value, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else { return !value.is_null() };
    match (value, *first) {
        (Value::Array(items), "*") => items.iter().any(|item| uses(item, rest)),
        (Value::Object(map), "*") => map.values().any(|item| uses(item, rest)),
        (Value::Object(map), key) => map.get(key).is_some_and(|field| uses(field, rest)),
        _ => false,
    }
}

fn drop_field(value: &mut Value, path: &[&str]) {
    match (value, path) {
        (Value::Object(map), [key]) if *key != "*" => {
            map.remove(*key);
        }
        (Value::Array(items), ["*", rest @ ..]) => items.iter_mut().for_each(|item| drop_field(item, rest)),
        (Value::Object(map), ["*", rest @ ..]) => map.values_mut().for_each(|item| drop_field(item, rest)),
        (Value::Object(map), [key, rest @ ..]) => {
            if let Some(field) = map.get_mut(*key) {
                drop_field(field, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_dropped_unless_they_were_there() {
        let kind = crate::core::pod::kind();
        let pod = || {
            json!({"spec": {"schedulingGroup": {"podGroupName": "g"}, "nodeName": "n",
                "containers": [{"name": "c", "lifecycle": {"stopSignal": "SIGINT", "preStop": {}}}]}})
        };
        let mut new = pod();
        drop_gated(&kind, &mut new, None);
        let bare =
            json!({"spec": {"nodeName": "n", "containers": [{"name": "c", "lifecycle": {"preStop": {}}}]}});
        assert_eq!(new, bare);
        let mut new = pod();
        drop_gated(&kind, &mut new, Some(&pod()));
        assert_eq!(new, pod());
        let mut new = pod();
        drop_gated(&kind, &mut new, Some(&bare));
        assert_eq!(new, bare);
    }
}
