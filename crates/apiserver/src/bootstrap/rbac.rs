//! The default roles and bindings, read from tables of upstream's facts: `rbac.txt` as its golden files have them, and
//! `rbac_newer.txt` with what later releases and our own wiring add to roles of the same name.

use serde_json::{Value, json};

const TABLES: [&str; 2] = [include_str!("rbac.txt"), include_str!("rbac_newer.txt")];
const GROUP: &str = "rbac.authorization.k8s.io";
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";

/// Every default role and binding as an object.
pub fn objects() -> Vec<Value> {
    let mut objects: Vec<Value> = Vec::new();
    for line in TABLES.iter().flat_map(|table| table.lines()) {
        if let Some(rule) = line.strip_prefix('\t') {
            let rules = objects.last_mut().and_then(|role| role["rules"].as_array_mut());
            rules.into_iter().for_each(|rules| rules.push(read_rule(rule)));
        } else {
            begin(&mut objects, line);
        }
    }
    objects
}

/// The rules of one default ClusterRole.
pub fn rules_of_cluster_role(name: &str) -> Vec<crate::authz::Rule> {
    let is_it = |object: &Value| object["kind"] == "ClusterRole" && object["metadata"]["name"] == name;
    objects().iter().find(|object| is_it(object)).map(crate::authz::rbac::rules_of).unwrap_or_default()
}

/// Starts a new object; a role that is known already moves to the end to get more rules.
fn begin(objects: &mut Vec<Value>, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let [kind, namespace, name, rest @ ..] = words.as_slice() else { return };
    let known = objects.iter().position(|object| {
        object["kind"] == **kind
            && object["metadata"]["name"] == **name
            && object["metadata"]["namespace"].as_str().unwrap_or("-") == *namespace
    });
    let object = match known {
        Some(known) => objects.remove(known),
        None => read_head(kind, namespace, name, rest),
    };
    objects.push(object);
}

fn read_head(kind: &str, namespace: &str, name: &str, rest: &[&str]) -> Value {
    let mut object = json!({
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
    });
    if namespace != "-" {
        object["metadata"]["namespace"] = Value::from(namespace);
    }
    if kind.ends_with("Binding") {
        bind(&mut object, rest);
    } else {
        object["rules"] = json!([]);
        rest.iter().for_each(|word| aggregate(&mut object, word));
    }
    object
}

fn bind(object: &mut Value, words: &[&str]) {
    let [kind, name, subjects @ ..] = words else { return };
    object["roleRef"] = json!({"apiGroup": GROUP, "kind": kind, "name": name});
    object["subjects"] = subjects.iter().filter_map(|subject| read_subject(subject)).collect();
}

fn read_subject(word: &str) -> Option<Value> {
    let (kind, name) = word.split_once('=')?;
    match name.split_once('/') {
        Some((namespace, name)) if kind == "ServiceAccount" => {
            Some(json!({"kind": kind, "namespace": namespace, "name": name}))
        }
        _ => Some(json!({"kind": kind, "apiGroup": GROUP, "name": name})),
    }
}

fn aggregate(object: &mut Value, word: &str) {
    let label = |role: &str| format!("rbac.authorization.k8s.io/aggregate-to-{role}");
    match word.split_once('=') {
        Some(("to", roles)) => {
            for role in roles.split(',') {
                object["metadata"]["labels"][label(role)] = Value::from("true");
            }
        }
        Some(("from", roles)) => {
            let selectors: Vec<Value> =
                roles.split(',').map(|role| json!({"matchLabels": {label(role): "true"}})).collect();
            object["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
        }
        _ => {}
    }
}

fn read_rule(text: &str) -> Value {
    const KEYS: [&str; 5] = ["apiGroups", "resources", "verbs", "resourceNames", "nonResourceURLs"];
    let mut rule = json!({});
    for (key, list) in KEYS.iter().zip(text.split('|')) {
        if !list.is_empty() {
            let items =
                list.split(',').map(|item| if *key == "apiGroups" && item == "core" { "" } else { item });
            rule[*key] = items.map(Value::from).collect();
        }
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_read_whole() {
        let objects = objects();
        let find = |kind: &str, name: &str| {
            let found =
                objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
            found.unwrap_or_else(|| panic!("{kind} {name}")).clone()
        };
        let admin = find("ClusterRole", "admin");
        assert_eq!(
            admin["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"],
            json!({"rbac.authorization.k8s.io/aggregate-to-admin": "true"})
        );
        let basic = find("ClusterRole", "system:basic-user");
        assert_eq!(basic["rules"].as_array().unwrap().len(), 2);
        assert_eq!(basic["rules"][1]["resources"], json!(["selfsubjectreviews"]));
        let binding = find("ClusterRoleBinding", "system:kube-dns");
        assert_eq!(
            binding["subjects"],
            json!([{"kind": "ServiceAccount", "namespace": "kube-system", "name": "kube-dns"}])
        );
        let reader = find("Role", "extension-apiserver-authentication-reader");
        assert_eq!(reader["metadata"]["namespace"], "kube-system");
        assert_eq!(reader["rules"][0]["apiGroups"], json!([""]));
        assert!(rules_of_cluster_role("system:node").len() > 15);
        let mut names: Vec<String> = objects
            .iter()
            .map(|object| {
                format!(
                    "{}/{}/{}",
                    object["kind"], object["metadata"]["namespace"], object["metadata"]["name"]
                )
            })
            .collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
