//! What the tests of every kind ask: is a create refused with this message, is an update, what is defaulted, what does the
//! row show. Objects are named `x` and were created 75 seconds ago.

use crate::kind::{Context, Kind};
use crate::tree::{child, default};
use serde_json::{Value, json};

/// The time of the tests.
pub(crate) const NOW_S: i64 = 1_000_075;

/// A request by the admin.
pub(crate) fn context(subresource: Option<&str>) -> Context<'_> {
    Context { subresource, user: "admin", now_s: NOW_S, ..Context::default() }
}

fn defaulted(kind: &dyn Kind, mut object: Value) -> Value {
    let version = kind.descriptor().version(&kind.descriptor().hub).expect("the hub is served");
    (version.default)(&mut object);
    object
}

fn texts(errors: Vec<nauplius_meta::field::FieldError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// The object as it is stored: defaulted and prepared.
pub(crate) fn created(kind: &dyn Kind, object: Value) -> Value {
    let mut object = defaulted(kind, object);
    kind.prepare_create(&context(None), &mut object);
    object
}

/// Checks what a create is told.
pub(crate) fn creation(kind: &dyn Kind, object: Value, expected: &[&str]) {
    assert_eq!(texts(kind.validate(&created(kind, object))), expected);
}

/// Checks that a create is refused with that message among others.
pub(crate) fn refused(kind: &dyn Kind, object: Value, expected: &str) {
    let errors = texts(kind.validate(&created(kind, object)));
    assert!(errors.iter().any(|error| error == expected), "{expected}\nis not among\n{}", errors.join("\n"));
}

/// Checks what an update is told.
pub(crate) fn updated(kind: &dyn Kind, old: &Value, new: Value, expected: &[&str]) {
    let old = created(kind, old.clone());
    let mut new = defaulted(kind, new);
    kind.prepare_update(&context(None), &mut new, &old);
    assert_eq!(texts(kind.validate_update(&new, &old)), expected);
}

/// Checks what a write through a subresource is told.
pub(crate) fn subresource(kind: &dyn Kind, name: &str, old: &Value, mut new: Value, expected: &[&str]) {
    kind.prepare_subresource_update(&context(Some(name)), &mut new, old);
    assert_eq!(texts(kind.validate_subresource_update(name, &new, old)), expected);
}

/// Checks a row.
pub(crate) fn row(kind: &dyn Kind, mut object: Value, expected: Value) {
    let metadata = child(&mut object, "metadata");
    default(metadata, "name", "x");
    default(metadata, "creationTimestamp", "1970-01-12T13:46:40Z");
    let cells = kind.cells(&object, NOW_S);
    assert_eq!(Value::from(cells.clone()), expected);
    assert_eq!(cells.len(), kind.columns().len(), "one cell for each column");
}

/// A container that has all it needs.
pub(crate) fn container(name: &str) -> Value {
    json!({"name": name, "image": "demo:1"})
}
