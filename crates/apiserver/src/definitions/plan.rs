//! What becomes of a definition: which names it gets, when it is established, what its conditions say. Pure: definitions go in, the
//! definition with its new status comes out.

use super::conditions::{self, Condition, ESTABLISHED, INSTALLING, NO_CONFLICTS, NOT_ACCEPTED};
use nauplius_base::time::Timestamp;
use nauplius_kinds::apiextensions::approval::{Approval, approval, is_protected};
use nauplius_kinds::apiextensions::{condition, is_condition_true, structural};
use nauplius_meta::field::{Path, aggregate};
use nauplius_meta::object;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Names that definitions of a group have been given, its own among them.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    /// Adds what a definition was given.
    pub(crate) fn add(&mut self, definition: &Value) {
        let accepted = &definition["status"]["acceptedNames"];
        let text = |key: &str| object::get_str(accepted, &[key]).to_owned();
        self.resources.extend([text("plural"), text("singular")]);
        self.resources.extend(texts(accepted, "shortNames").into_iter().map(str::to_owned));
        self.kinds.extend([text("kind"), text("listKind")]);
    }
}

fn texts<'a>(names: &'a Value, key: &str) -> Vec<&'a str> {
    object::get_array(names, &[key]).iter().filter_map(Value::as_str).collect()
}

/// The status of a definition as it should be now: names, then conditions of the kind's approval and structure. `None` when it is
/// that already.
pub(crate) fn status(
    definition: &Value,
    taken: &Taken,
    violations: Option<&str>,
    now: Timestamp,
) -> Option<Value> {
    let mut new = definition.clone();
    names(&mut new, taken, now);
    policy(&mut new, now);
    structure(&mut new, violations, now);
    (new["status"] != definition["status"]).then_some(new)
}

/// The status of a definition that is served.
pub(crate) fn established(definition: &Value, now: Timestamp) -> Option<Value> {
    if !is_condition_true(definition, "NamesAccepted") || is_condition_true(definition, "Established") {
        return None;
    }
    let mut new = definition.clone();
    conditions::set(&mut new, &ESTABLISHED, now);
    Some(new)
}

fn names(definition: &mut Value, taken: &Taken, now: Timestamp) {
    let (wanted, had) = (definition["spec"]["names"].clone(), definition["status"]["acceptedNames"].clone());
    if same_names(&wanted, &had) {
        return;
    }
    let mut given = had.clone();
    let mut refused: Option<(&'static str, String)> = None;
    for (key, reason, used) in [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ] {
        if key == "kind"
            && let Some(conflict) = short_names(&wanted, &had, &mut given, taken)
        {
            refused = Some(("ShortNamesConflict", conflict));
        }
        let name = object::get_str(&wanted, &[key]);
        if name != object::get_str(&had, &[key]) && used.contains(name) {
            refused = Some((reason, in_use(name)));
        } else {
            given[key] = name.into();
        }
    }
    take(&wanted, &mut given, "categories");
    let accepted = match refused {
        None => NO_CONFLICTS,
        Some((reason, message)) => {
            Condition { ty: "NamesAccepted", status: "False", reason, message: message.into() }
        }
    };
    let changed = !same_names(&given, &had) || !accepted.is_in(definition);
    if !changed {
        return;
    }
    definition["status"]["acceptedNames"] = given;
    let is_accepted = accepted.status == "True";
    conditions::set(definition, &accepted, now);
    if is_accepted && !is_condition_true(definition, "Established") {
        conditions::set(definition, &INSTALLING, now);
    } else if condition(definition, "Established").is_none() {
        conditions::set(definition, &NOT_ACCEPTED, now);
    }
}

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

fn take(wanted: &Value, given: &mut Value, key: &str) {
    match wanted.get(key) {
        Some(names) => given[key] = names.clone(),
        None => {
            if let Some(given) = given.as_object_mut() {
                given.remove(key);
            }
        }
    }
}

/// All short names, or none of the new ones: what is in use is told.
fn short_names(wanted: &Value, had: &Value, given: &mut Value, taken: &Taken) -> Option<String> {
    let own: Vec<&str> = texts(had, "shortNames")
        .into_iter()
        .chain([object::get_str(had, &["plural"]), object::get_str(had, &["singular"])])
        .collect();
    let is_free = |name: &&str| own.contains(name) || !taken.resources.contains(*name);
    let used: Vec<String> =
        texts(wanted, "shortNames").into_iter().filter(|name| !is_free(name)).map(in_use).collect();
    match used.len() {
        0 => {
            take(wanted, given, "shortNames");
            None
        }
        1 => used.into_iter().next(),
        _ => Some(format!("[{}]", used.join(", "))),
    }
}

/// Equality of names, where an absent list is an empty one.
fn same_names(left: &Value, right: &Value) -> bool {
    let plain = ["plural", "singular", "kind", "listKind"];
    let lists = ["shortNames", "categories"];
    plain.iter().all(|key| object::get_str(left, &[*key]) == object::get_str(right, &[*key]))
        && lists.iter().all(|key| texts(left, key) == texts(right, key))
}

fn policy(definition: &mut Value, now: Timestamp) {
    const TYPE: &str = "KubernetesAPIApprovalPolicyConformant";
    if !is_protected(object::get_str(definition, &["spec", "group"])) {
        return;
    }
    let (state, message) = approval(definition);
    let (status, reason) = match state {
        Approval::Approved => ("True", "ApprovedAnnotation"),
        Approval::Bypassed => ("False", "UnapprovedAnnotation"),
        Approval::Missing => ("False", "MissingAnnotation"),
        Approval::Invalid => ("False", "InvalidAnnotation"),
    };
    let wanted = Condition { ty: TYPE, status, reason, message: message.into() };
    if !wanted.is_in(definition) {
        conditions::set(definition, &wanted, now);
    }
}

/// What keeps the schemas of a definition from being structural, in words. Definitions are refused unless they are structural; what
/// was stored by others may be anything.
pub(crate) fn violations(definition: &Value) -> Option<String> {
    let mut errors = Vec::new();
    for (index, version) in object::get_array(definition, &["spec", "versions"]).iter().enumerate() {
        let path = Path::new("spec").child("versions").index(index).child("schema").child("openAPIV3Schema");
        let schema = &version["schema"]["openAPIV3Schema"];
        if schema.is_object() {
            errors.extend(structural::errors(schema, &path));
        }
    }
    (!errors.is_empty()).then(|| aggregate(&errors))
}

fn structure(definition: &mut Value, violations: Option<&str>, now: Timestamp) {
    const TYPE: &str = "NonStructuralSchema";
    let Some(violations) = violations else {
        if condition(definition, TYPE).is_some() {
            conditions::remove(definition, TYPE);
        }
        return;
    };
    let message = violations.to_owned().into();
    let wanted = Condition { ty: TYPE, status: "True", reason: "Violations", message };
    if !wanted.is_in(definition) {
        conditions::set(definition, &wanted, now);
    }
}

/// A definition without the finalizer that kept it.
pub(crate) fn released(definition: &Value, why: &Condition, now: Timestamp) -> Value {
    let mut new = definition.clone();
    conditions::set(&mut new, why, now);
    let finalizers = object::finalizers(&new).into_iter().filter(|name| *name != super::CLEANUP);
    let finalizers: Vec<String> = finalizers.map(str::to_owned).collect();
    new["metadata"]["finalizers"] = json!(finalizers);
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, names: Value) -> Value {
        let mut all = json!({"plural": plural, "singular": plural.trim_end_matches('s'), "kind": "CronTab", "listKind": "CronTabList"});
        for (key, value) in names.as_object().unwrap() {
            all[key] = value.clone();
        }
        json!({"spec": {"group": "stable.example.com", "names": all, "versions": []}, "status": {"acceptedNames": {"plural": "", "kind": ""}}})
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_000).unwrap()
    }

    /// The status as the plan has it.
    fn status(definition: &Value, taken: &Taken, now: Timestamp) -> Option<Value> {
        super::status(definition, taken, violations(definition).as_deref(), now)
    }

    fn conditions_of(definition: &Value) -> Vec<String> {
        let conditions = definition["status"]["conditions"].as_array().unwrap();
        let shown = |condition: &Value| {
            let text = |key: &str| condition[key].as_str().unwrap().to_owned();
            format!("{}={} {}: {}", text("type"), text("status"), text("reason"), text("message"))
        };
        conditions.iter().map(shown).collect()
    }

    #[test]
    fn free_names_are_given_and_the_resource_is_established_once_it_is_served() {
        let new = definition("crontabs", json!({"shortNames": ["ct"], "categories": ["all"]}));
        let given = status(&new, &Taken::default(), now()).unwrap();
        assert_eq!(given["status"]["acceptedNames"], new["spec"]["names"]);
        assert_eq!(
            conditions_of(&given),
            [
                "NamesAccepted=True NoConflicts: no conflicts found",
                "Established=False Installing: the initial names have been accepted",
            ]
        );
        let mut taken = Taken::default();
        taken.add(&given);
        assert_eq!(status(&given, &taken, now()), None);
        let done = established(&given, now()).unwrap();
        assert_eq!(
            conditions_of(&done)[1],
            "Established=True InitialNamesAccepted: the initial names have been accepted"
        );
        assert_eq!(established(&done, now()), None);
        assert_eq!(status(&done, &taken, now()), None);
    }

    #[test]
    fn names_in_use_are_refused_one_by_one() {
        let first =
            status(&definition("crontabs", json!({"shortNames": ["ct"]})), &Taken::default(), now()).unwrap();
        let mut taken = Taken::default();
        taken.add(&first);
        let second = definition(
            "others",
            json!({"singular": "crontab", "shortNames": ["ct", "crontabs", "o"], "kind": "Other", "listKind": "CronTabList"}),
        );
        let second = status(&second, &taken, now()).unwrap();
        assert_eq!(second["status"]["acceptedNames"], json!({"plural": "others", "kind": "Other"}));
        assert_eq!(
            conditions_of(&second),
            [
                "NamesAccepted=False ListKindConflict: \"CronTabList\" is already in use",
                "Established=False NotAccepted: not all names are accepted",
            ]
        );
        let mut third = definition(
            "thirds",
            json!({"shortNames": ["ct", "crontabs"], "kind": "Third", "listKind": "ThirdList"}),
        );
        third = status(&third, &taken, now()).unwrap();
        assert_eq!(
            conditions_of(&third)[0],
            "NamesAccepted=False ShortNamesConflict: [\"ct\" is already in use, \"crontabs\" is already in use]"
        );
        // Once the names are free they are given.
        let freed = status(&third, &Taken::default(), now()).unwrap();
        assert_eq!(
            conditions_of(&freed),
            [
                "NamesAccepted=True NoConflicts: no conflicts found",
                "Established=False Installing: the initial names have been accepted",
            ]
        );
    }

    #[test]
    fn protected_groups_say_whether_they_were_approved() {
        let mut new = definition("crontabs", json!({}));
        new["spec"]["group"] = "x.k8s.io".into();
        new["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "https://x.y/1"});
        let given = status(&new, &Taken::default(), now()).unwrap();
        assert_eq!(
            conditions_of(&given)[2],
            "KubernetesAPIApprovalPolicyConformant=True ApprovedAnnotation: approved in https://x.y/1"
        );
    }

    #[test]
    fn a_stored_schema_that_is_not_structural_is_told() {
        let mut new = definition("crontabs", json!({}));
        new["spec"]["versions"] = json!([{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": {"a": {}}}}}]);
        let told = status(&new, &Taken::default(), now()).unwrap();
        assert_eq!(
            conditions_of(&told)[2],
            "NonStructuralSchema=True Violations: spec.versions[0].schema.openAPIV3Schema.properties[a].type: Required value: \
             must not be empty for specified object fields"
        );
        let mut mended = told.clone();
        mended["spec"]["versions"] = json!([]);
        let mut taken = Taken::default();
        taken.add(&told);
        assert_eq!(conditions_of(&status(&mended, &taken, now()).unwrap()).len(), 2);
    }

    #[test]
    fn the_finalizer_goes_with_a_reason() {
        let mut old = definition("crontabs", json!({}));
        old["metadata"]["finalizers"] = json!([super::super::CLEANUP, "a.b/c"]);
        let new = released(&old, &conditions::TERMINATION_COMPLETED, now());
        assert_eq!(new["metadata"]["finalizers"], json!(["a.b/c"]));
        assert_eq!(
            conditions_of(&new),
            ["Terminating=False InstanceDeletionCompleted: removed all instances"]
        );
    }
}
