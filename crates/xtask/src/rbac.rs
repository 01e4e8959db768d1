//! Turns upstream's default roles and bindings into the table of `apiserver::bootstrap::rbac`. It must not know what the rules mean.
//!
//! The format: a head `KIND NAMESPACE NAME ...` for each object (`-` for no namespace), then for a role `to=ROLES` and `from=ROLES`
//! where it is aggregated or aggregates, for a binding the kind and name of its role and `KIND=[NAMESPACE/]NAME` for each subject;
//! below a role, after a tab, its rules: groups, resources, verbs, names and paths, `core` standing for the empty group.
use serde_json::Value;
use std::fmt::Write as _;

/// The files of the facts in the order of the table: roles come before what binds them.
pub const FILES: [&str; 6] = [
    "cluster-roles.yaml",
    "controller-roles.yaml",
    "namespace-roles.yaml",
    "cluster-role-bindings.yaml",
    "controller-role-bindings.yaml",
    "namespace-role-bindings.yaml",
];
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";
const RULE: [&str; 5] = ["apiGroups", "resources", "verbs", "resourceNames", "nonResourceURLs"];

/// Makes the table of the texts of [`FILES`].
pub fn generate(files: &[String]) -> Result<String, String> {
    let mut table = String::new();
    for (name, text) in FILES.iter().zip(files) {
        let list: Value = serde_saphyr::from_str(text).map_err(|error| format!("{name}: {error}"))?;
        for object in items(&list["items"]) {
            write_object(&mut table, object).map_err(|message| format!("{name}: {message}"))?;
        }
    }
    Ok(table)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text<'a>(object: &'a Value, key: &str) -> Result<&'a str, String> {
    object[key].as_str().ok_or_else(|| format!("{key} is missing in {object}"))
}

fn write_object(table: &mut String, object: &Value) -> Result<(), String> {
    let (kind, metadata) = (text(object, "kind")?, &object["metadata"]);
    let namespace = metadata["namespace"].as_str().unwrap_or("-");
    let _infallible = write!(table, "{kind} {namespace} {}", text(metadata, "name")?);
    if kind.ends_with("Binding") {
        let role = &object["roleRef"];
        let _infallible = write!(table, " {} {}", text(role, "kind")?, text(role, "name")?);
        for subject in items(&object["subjects"]) {
            let namespace = subject["namespace"].as_str().map(|own| format!("{own}/")).unwrap_or_default();
            let _infallible =
                write!(table, " {}={namespace}{}", text(subject, "kind")?, text(subject, "name")?);
        }
        table.push('\n');
        return Ok(());
    }
    write_aggregation(table, object);
    for rule in items(&object["rules"]) {
        let lists = RULE.map(|key| write_list(&rule[key], key == "apiGroups"));
        let _infallible = writeln!(table, "\t{}", lists.join("|"));
    }
    Ok(())
}

fn write_list(list: &Value, is_group: bool) -> String {
    let items = items(list).filter_map(Value::as_str);
    let items: Vec<&str> =
        items.map(|item| if is_group && item.is_empty() { "core" } else { item }).collect();
    items.join(",")
}

fn write_aggregation(table: &mut String, role: &Value) {
    let targets = |labels: &Value| -> Vec<String> {
        let labels = labels.as_object().into_iter().flatten();
        labels.filter_map(|(label, _)| label.strip_prefix(AGGREGATE).map(str::to_owned)).collect()
    };
    let to = targets(&role["metadata"]["labels"]);
    let selectors = items(&role["aggregationRule"]["clusterRoleSelectors"]);
    let from: Vec<String> = selectors.flat_map(|selector| targets(&selector["matchLabels"])).collect();
    for (word, roles) in [("to", to), ("from", from)] {
        if !roles.is_empty() {
            let _infallible = write!(table, " {word}={}", roles.join(","));
        }
    }
    table.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_checked_in_table_is_what_the_facts_give() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let facts = own.join("../../../shared/api/rbac");
        if !facts.is_dir() {
            println!("SKIP: the facts of the API (rbac) are not beside the checkout");
            return;
        }
        let files = FILES.map(|name| std::fs::read_to_string(facts.join(name)).unwrap());
        let known = std::fs::read_to_string(own.join("../apiserver/src/bootstrap/rbac.txt")).unwrap();
        let made = generate(&files).unwrap();
        for (number, (made, known)) in made.lines().zip(known.lines()).enumerate() {
            assert_eq!(made, known, "line {}", number + 1);
        }
        assert_eq!(made.len(), known.len());
    }
}
