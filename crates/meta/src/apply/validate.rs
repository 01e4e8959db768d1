//! Whether a value keeps to a schema, in upstream's words. It must not change the value.
use std::fmt;

use serde_json::{Map, Value};

use super::element::PathElement;
use super::item;
use super::node::{List, Map as MapNode, Node, Relation, Scalar};
use super::scalar::go_syntax;
use super::set::Set;
use crate::go;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypedError {
    /// Where; empty for the whole.
    pub path: String,
    /// What.
    pub message: String,
}

/// Everything that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TypedErrors(pub Vec<TypedError>);

impl TypedErrors {
    pub(super) fn one(message: impl Into<String>) -> Self {
        Self(vec![TypedError { path: String::new(), message: message.into() }])
    }

    /// As one that was found below an element.
    pub(super) fn below(mut self, element: impl fmt::Display) -> Self {
        if !self.0.is_empty() {
            let prefix = element.to_string();
            self.0.iter_mut().for_each(|error| error.path.insert_str(0, &prefix));
        }
        self
    }
}

impl fmt::Display for TypedErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |error: &TypedError| match error.path.as_str() {
            "" => error.message.clone(),
            path => format!("{path}: {}", error.message),
        };
        match &self.0[..] {
            [error] => f.write_str(&one(error)),
            errors => {
                let lines: Vec<_> = errors.iter().map(|error| format!("  {}", one(error))).collect();
                write!(f, "errors:\n{}", lines.join("\n"))
            }
        }
    }
}

impl std::error::Error for TypedErrors {}

/// Checks a value; `duplicates` says whether lists may have items that are found by the same element.
pub fn validate(value: &Value, node: Node<'_>, duplicates: bool) -> Result<(), TypedErrors> {
    let mut errors = TypedErrors::default();
    check(value, node, duplicates, &mut errors);
    if errors.0.is_empty() { Ok(()) } else { Err(errors) }
}

fn check(value: &Value, node: Node<'_>, duplicates: bool, errors: &mut TypedErrors) {
    let atom = node.atom().deduce(Some(value));
    if let Some(map) = atom.map {
        match value {
            Value::Null => {}
            Value::Object(fields) => check_fields(fields, map, duplicates, errors),
            other => {
                errors.0.extend(TypedErrors::one(format!("expected map, got &{{{}}}", go::value(other))).0)
            }
        }
    } else if let Some(scalar) = atom.scalar {
        errors.0.extend(check_scalar(scalar, Some(value), "").err().unwrap_or_default().0);
    } else if let Some(list) = atom.list {
        match value {
            Value::Null => {}
            Value::Array(items) => check_items(items, list, duplicates, errors),
            other => {
                errors.0.extend(TypedErrors::one(format!("expected list, got &{{{}}}", go::value(other))).0)
            }
        }
    } else {
        errors.0.extend(TypedErrors::one("schema error: invalid atom: inlined").0);
    }
}

/// Checks a scalar that may be missing.
pub(super) fn check_scalar(scalar: Scalar, value: Option<&Value>, prefix: &str) -> Result<(), TypedErrors> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(()) };
    let message = match scalar {
        Scalar::Numeric if !value.is_number() => {
            format!("expected numeric (int or float), got {}", go::type_name(value))
        }
        Scalar::String if !value.is_string() => {
            format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(value))
        }
        Scalar::Boolean if !value.is_boolean() => format!("expected boolean, got &{{{}}}", go::value(value)),
        Scalar::Untyped if value.is_array() || value.is_object() => {
            format!("expected any scalar, got &{{{}}}", go::value(value))
        }
        _ => return Ok(()),
    };
    Err(TypedErrors::one(format!("{prefix}{message}")))
}

fn check_fields(fields: &Map<String, Value>, map: MapNode<'_>, duplicates: bool, errors: &mut TypedErrors) {
    for (name, value) in fields {
        let Some(node) = map.member(name) else {
            errors.0.extend(
                TypedErrors::one("field not declared in schema").below(PathElement::field(name.as_str())).0,
            );
            return;
        };
        if let Err(found) = validate(value, node, duplicates) {
            errors.0.extend(found.below(PathElement::field(name.as_str())).0);
        }
    }
}

fn check_items(items: &[Value], list: List<'_>, duplicates: bool, errors: &mut TypedErrors) {
    let mut seen = Set::default();
    for (index, value) in items.iter().enumerate() {
        let element = if let Relation::Atomic = list.relation {
            PathElement::Index(index as i64)
        } else {
            match item::element(&list, value) {
                Ok(element) => element,
                // Nothing below can be named.
                Err(message) => {
                    errors.0.extend(TypedErrors::one(format!("element {index}: {message}")).0);
                    return;
                }
            }
        };
        if seen.has_member(&element) && !duplicates {
            errors.0.extend(TypedErrors::one(format!("duplicate entries for key {element}")).0);
        }
        seen.insert_member(element.clone());
        if let Err(found) = validate(value, list.item, duplicates) {
            errors.0.extend(found.below(&element).0);
        }
    }
}
