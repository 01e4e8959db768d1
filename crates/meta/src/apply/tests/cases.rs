//! Sequences of writes from a table, which says what they leave and who owns it.
use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::world::{Schemas, World};
use crate::structural::Schema;

const CASES: &str = include_str!("cases.yaml");

/// The schema of that name, of the spec. `deep` is one of maps in maps, which schemas cannot say without an end.
fn schema_of(table: &Value, name: &str) -> Value {
    if name == "deep" {
        let maps = (0..7).fold(
            json!({"type": "object", "nullable": true}),
            |inner, _| json!({"type": "object", "nullable": true, "additionalProperties": inner}),
        );
        return json!({"type": "object", "properties": {"m": maps}});
    }
    table["schemas"][name].clone()
}

fn schemas(spec: &Value) -> Schemas {
    let schema = json!({"type": "object", "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"},
        "metadata": {"type": "object"}, "spec": spec}});
    Schemas::Custom { v1: Some(Schema::read(&schema)), v2: Some(Schema::read(&schema)) }
}

fn step(world: &mut World, table: &Value, case: &str, step: &Value) {
    if let Some(schema) = step["schema"].as_str() {
        world.schemas = schemas(&schema_of(table, schema));
        return;
    }
    let version = step["version"].as_str().unwrap_or("v1");
    let mut object =
        json!({"apiVersion": format!("x.io/{version}"), "kind": "Thing", "metadata": {"name": "t"}});
    if !step["as"].is_null() {
        object["spec"] = step["as"].clone();
    }
    if let Some(manager) = step["update"].as_str() {
        world.update(manager, &object);
        return;
    }
    let (manager, force) = match step["force"].as_str() {
        Some(manager) => (manager, true),
        None => (step["apply"].as_str().unwrap_or_default(), false),
    };
    assert!(!manager.is_empty(), "{case}: the step is none: {step}");
    let applied = world.try_apply(manager, &object, force);
    match (applied, step["fails"].as_str()) {
        (Ok(_), None) => {}
        (Ok(_), Some(reason)) => panic!("{case}: it should have failed: {reason}"),
        (Err(failure), reason) => {
            let message = failure.to_error().message();
            assert!(reason.is_some_and(|reason| message.contains(reason)), "{case}: {message}");
        }
    }
}

/// An owner's paths, of the spec and in no order.
fn owner(line: &str) -> (String, BTreeSet<String>) {
    let (owner, paths) = line.split_once(": ").unwrap_or((line, ""));
    let paths = paths.split_whitespace().map(|path| match path.strip_prefix(".spec") {
        Some("") => ".".to_owned(),
        Some(rest) => rest.to_owned(),
        None => path.to_owned(),
    });
    (owner.to_owned(), paths.collect())
}

#[test]
fn writes_leave_what_upstreams_leave() {
    let table: Value = crate::yaml::decode(CASES).unwrap();
    let mut wrong = Vec::new();
    let cases = table["cases"].as_array().unwrap();
    assert!(cases.len() > 60, "{}", cases.len());
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let mut world = World::of(schemas(&schema_of(&table, case["schema"].as_str().unwrap())));
        for one in case["steps"].as_array().unwrap() {
            step(&mut world, &table, name, one);
        }
        if let Some(expected) = case.get("leaves")
            && world.spec() != expected
        {
            wrong.push(format!("{name}: it is {}, not {expected}", world.spec()));
        }
        if let Some(expected) = case["owners"].as_array() {
            let found: BTreeSet<_> = world.owners().iter().map(|line| owner(line)).collect();
            let expected: BTreeSet<_> = expected.iter().map(|line| owner(line.as_str().unwrap())).collect();
            if found != expected {
                wrong.push(format!("{name}: its owners are {found:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
