//! Labels and owners of typed objects: who selects whom, who controls whom.

use crate::api::meta::{LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference};
use std::collections::BTreeMap;

/// Whether the selector selects an object with these labels; one without requirements selects all.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().flatten().all(|requirement| holds(requirement, labels))
}

/// Whether the selector has no requirement.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

fn holds(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let among = || value.is_some_and(|value| requirement.values.iter().flatten().any(|other| other == value));
    match requirement.operator.as_str() {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// The one owner that controls the object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether the object with that uid controls it.
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_select() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let requirement = |key: &str, operator: &str, values: &[&str]| LabelSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: Some(values.iter().map(ToString::to_string).collect()),
        };
        let check = |requirement, expected| {
            let selector = LabelSelector { match_expressions: Some(vec![requirement]), match_labels: None };
            assert_eq!(selects(&selector, &labels), expected, "{selector:?}");
        };
        check(requirement("a", "In", &["1", "2"]), true);
        check(requirement("a", "NotIn", &["1"]), false);
        check(requirement("b", "NotIn", &["1"]), true);
        check(requirement("b", "Exists", &[]), false);
        check(requirement("b", "DoesNotExist", &[]), true);
        assert!(selects(&LabelSelector::default(), &labels) && is_empty(&LabelSelector::default()));
    }

    #[test]
    fn one_owner_controls() {
        let owner =
            |uid: &str, controller| OwnerReference { uid: uid.into(), controller, ..Default::default() };
        let meta = ObjectMeta {
            owner_references: Some(vec![owner("a", None), owner("b", Some(true))]),
            ..Default::default()
        };
        assert!(is_controlled_by(&meta, "b") && !is_controlled_by(&meta, "a"));
    }
}
