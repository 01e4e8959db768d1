//! The written form of sets of fields, `FieldsV1`: as a tree, and as text in upstream's order. It must not know who owns them.
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::element::{PathElement, ReadElementError};
use super::set::Set;

/// Says that a field with fields below it is itself in.
const SELF: &str = ".";

/// The set as a tree.
pub fn to_tree(set: &Set) -> Value {
    Value::Object(contents(set, false))
}

fn contents(set: &Set, is_member: bool) -> Map<String, Value> {
    let empty = || Value::Object(Map::new());
    let mut fields = Map::new();
    if is_member && !(set.members.is_empty() && set.children.is_empty()) {
        fields.insert(SELF.to_owned(), empty());
    }
    for member in &set.members {
        fields.insert(member.write(), empty());
    }
    for (element, child) in &set.children {
        fields.insert(element.write(), Value::Object(contents(child, set.has_member(element))));
    }
    fields
}

/// Reads a tree. Elements of unknown types are left out, as a later version may have written them.
pub fn from_tree(tree: &Value) -> Result<Set, ReadElementError> {
    Ok(read(tree)?.0)
}

/// What is below, and whether the field itself is in.
fn read(tree: &Value) -> Result<(Set, bool), ReadElementError> {
    let (mut set, mut is_member) = (Set::default(), false);
    for (name, below) in tree.as_object().into_iter().flatten() {
        if name == SELF {
            is_member = true;
            continue;
        }
        let element = match PathElement::read(name) {
            Err(ReadElementError::UnknownType) => continue,
            other => other?,
        };
        let (child, child_is_member) = read(below)?;
        if child_is_member {
            set.insert_member(element.clone());
        }
        set.insert_child(element, child);
    }
    let nothing_below = set.members.is_empty() && set.children.is_empty();
    Ok((set, is_member || nothing_below))
}

/// The set as text, its elements in upstream's order: by what they are, and numbers by their worth.
pub fn to_json(set: &Set) -> String {
    let mut out = String::new();
    write(set, false, &mut out);
    out
}

fn write(set: &Set, is_member: bool, out: &mut String) {
    out.push('{');
    if is_member {
        out.push_str("\".\":{}");
    }
    let mut first = !is_member;
    let (mut members, mut children) = (set.members.iter().peekable(), set.children.iter().peekable());
    loop {
        let element = match (members.peek(), children.peek()) {
            (None, None) => break,
            (Some(member), None) => (*member).clone(),
            (None, Some((child, _))) => child.clone(),
            (Some(member), Some((child, _))) => (*member).min(child).clone(),
        };
        let own = members.next_if(|member| **member == element).is_some();
        let below = children.next_if(|(child, _)| *child == element);
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        // Writing to a string cannot fail.
        let _ = write!(out, "{}:", Value::from(element.write()));
        match below {
            Some((_, child)) => write(child, own, out),
            None => out.push_str("{}"),
        }
    }
    out.push('}');
}

/// Reads text.
pub fn from_json(text: &str) -> Result<Set, ReadElementError> {
    let tree = serde_json::from_str(text).map_err(|error| ReadElementError::Content(error.to_string()))?;
    from_tree(&tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sets_survive_their_text() {
        for text in [
            r#"{}"#,
            r#"{"f:spec":{"f:replicas":{}}}"#,
            r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}},"k:{\"port\":443,\"protocol\":\"TCP\"}":{"f:name":{}}}}}"#,
            r#"{"f:metadata":{"f:finalizers":{".":{},"v:\"a\"":{},"v:\"b\"":{}}}}"#,
            r#"{"f:a":{},"k:{\"n\":1}":{},"v:2":{},"i:3":{}}"#,
        ] {
            let set = from_json(text).unwrap();
            assert_eq!(to_json(&set), text);
            assert_eq!(from_tree(&to_tree(&set)).unwrap(), set);
        }
    }

    #[test]
    fn unknown_elements_are_left_out_and_nonsense_is_refused() {
        assert_eq!(to_json(&from_json(r#"{"x:new":{"f:a":{}},"f:b":{}}"#).unwrap()), r#"{"f:b":{}}"#);
        assert!(from_json(r#"{"b":{}}"#).is_err());
        assert!(from_json(r#"{"f:b":{"k:nope":{}}}"#).is_err());
        assert!(from_json("[").is_err());
    }

    fn sets() -> impl Strategy<Value = Set> {
        let element = prop_oneof![
            "[a-c]".prop_map(PathElement::Field),
            (0..3i64).prop_map(|port| PathElement::Key(vec![("port".to_owned(), port.into())])),
            "[a-b]".prop_map(|text| PathElement::Value(text.into())),
        ];
        prop::collection::vec(prop::collection::vec(element, 1..4), 0..12).prop_map(|paths| {
            let mut set = Set::default();
            paths.iter().for_each(|path| set.insert(path));
            set
        })
    }

    proptest! {
        #[test]
        fn sets_obey_the_laws_of_sets(a in sets(), b in sets()) {
            let shared = a.intersection(&b);
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(&shared, &b.intersection(&a));
            prop_assert_eq!(a.difference(&b).union(&shared), a.clone());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.len() + b.len(), a.union(&b).len() + shared.len());
            prop_assert_eq!(a.difference(&a).is_empty(), true);
            a.recursive_difference(&b).for_each(&mut |path| assert!((1..=path.len()).all(|end| !b.has(&path[..end]))));
        }

        #[test]
        fn any_set_survives_its_tree_and_its_text(set in sets()) {
            prop_assert_eq!(from_tree(&to_tree(&set)).unwrap(), set.clone());
            prop_assert_eq!(from_json(&to_json(&set)).unwrap(), set);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _either_way = from_json(&text);
            let _either_way = PathElement::read(&text);
        }
    }
}
