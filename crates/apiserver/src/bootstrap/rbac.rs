//! The default roles and bindings, read from tables of upstream's facts: `rbac.txt` as its golden files have them (made by `cargo
//! xtask rbac`), and `rbac_newer.txt` with what later releases and our own wiring add to and take from them.

use serde_json::{Value, json};
use std::collections::HashMap;

const TABLES: [&str; 2] = [include_str!("rbac.txt"), include_str!("rbac_newer.txt")];
const GROUP: &str = "rbac.authorization.k8s.io";
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";

/// Every default role and binding as an object.
pub fn objects() -> Vec<Value> {
    let mut tables = Tables::default();
    for line in TABLES.iter().flat_map(|table| table.lines()) {
        tables.read(line);
    }
    aggregate_rules(&mut tables.objects);
    tables.objects
}

/// The rules of one default ClusterRole.
pub fn rules_of_cluster_role(name: &str) -> Vec<crate::authz::Rule> {
    let is_it = |object: &Value| object["kind"] == "ClusterRole" && object["metadata"]["name"] == name;
    objects().iter().find(|object| is_it(object)).map(crate::authz::rbac::rules_of).unwrap_or_default()
}

#[derive(Default)]
struct Tables {
    objects: Vec<Value>,
    /// Where each object is, by kind, namespace and name.
    known: HashMap<String, usize>,
    /// Where the object is that the next rules belong to.
    current: usize,
}

impl Tables {
    /// A line is the head of an object, or after a tab a rule of the last one; `-` in front of a rule takes it away again.
    fn read(&mut self, line: &str) {
        let Some(rule) = line.strip_prefix('\t') else { return self.begin(line) };
        let rules = self.objects.get_mut(self.current).and_then(|role| role["rules"].as_array_mut());
        let Some(rules) = rules else { return };
        match rule.strip_prefix('-') {
            Some(gone) => {
                let gone = read_rule(gone);
                rules.retain(|rule| *rule != gone);
            }
            None => rules.push(read_rule(rule)),
        }
    }

    fn begin(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let [kind, namespace, name, rest @ ..] = words.as_slice() else { return };
        let next = self.objects.len();
        self.current = *self.known.entry(format!("{kind} {namespace} {name}")).or_insert(next);
        if self.current == next {
            self.objects.push(read_head(kind, namespace, name, rest));
        }
    }
}

/// Aggregated roles begin with the rules that the default roles give them; a controller follows what is added later.
fn aggregate_rules(objects: &mut [Value]) {
    let labelled = |objects: &[Value], selector: &Value| -> Vec<Value> {
        let wanted = selector["matchLabels"].as_object().into_iter().flatten();
        let wanted: Vec<(&String, &Value)> = wanted.collect();
        let mut roles: Vec<&Value> = objects
            .iter()
            .filter(|role| role["kind"] == "ClusterRole")
            .filter(|role| {
                wanted.iter().all(|(key, value)| role["metadata"]["labels"].get(*key) == Some(*value))
            })
            .collect();
        roles.sort_by_key(|role| role["metadata"]["name"].as_str());
        roles.iter().flat_map(|role| role["rules"].as_array().into_iter().flatten().cloned()).collect()
    };
    // A role may gather from one that gathers itself: from the innermost outwards.
    for name in ["view", "edit", "admin"] {
        let place = objects
            .iter()
            .position(|role| role["metadata"]["name"] == name && role.get("aggregationRule").is_some());
        let Some(place) = place else { continue };
        let selectors = objects[place]["aggregationRule"]["clusterRoleSelectors"].clone();
        let mut rules: Vec<Value> = Vec::new();
        for rule in selectors.as_array().into_iter().flatten().flat_map(|one| labelled(objects, one)) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        objects[place]["rules"] = Value::from(rules);
    }
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
    fn what_is_taken_away_was_there() {
        let mut head = "";
        for line in TABLES[1].lines() {
            let Some(gone) = line.strip_prefix("\t-") else {
                head = if line.starts_with('\t') { head } else { line };
                continue;
            };
            let mut lines = TABLES[0].lines().skip_while(|known| !known.starts_with(head)).skip(1);
            let mut rules = lines.by_ref().take_while(|known| known.starts_with('\t'));
            assert!(rules.any(|rule| rule[1..] == *gone), "{head}: {gone}");
        }
    }

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
        let view = find("ClusterRole", "view");
        assert_eq!(view["rules"], find("ClusterRole", "system:aggregate-to-view")["rules"]);
        let edit = find("ClusterRole", "edit");
        assert!(edit["rules"].as_array().unwrap().len() > view["rules"].as_array().unwrap().len());
        let binder = find("ClusterRole", "system:controller:persistent-volume-binder");
        let text = binder["rules"].to_string();
        assert!(!text.contains("secrets"), "what upstream took away is gone: {text}");
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
