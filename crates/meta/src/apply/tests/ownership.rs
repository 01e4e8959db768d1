//! Who owns what after which writes.
use serde_json::{Value, json};

use super::world::{Schemas, World};
use crate::apply::Filter;
use crate::structural::Schema;

fn leaves() -> World {
    World::custom(&json!({"type": "object", "properties": {
        "a": {"type": "string"}, "b": {"type": "string"}, "name": {"type": "string"}, "renamed": {"type": "string"},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "struct": {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "atomic": {"type": "array", "items": {"type": "string"}},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "value": {"type": "integer"}}}},
    }}))
}

fn thing(spec: Value) -> Value {
    json!({"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec})
}

#[test]
fn applying_twice_changes_nothing() {
    let mut world = leaves();
    let config =
        thing(json!({"a": "1", "map": {"k": "v"}, "set": ["x"], "list": [{"name": "n", "value": 1}]}));
    assert!(world.try_apply("one", &config, false).unwrap());
    let before = world.object.clone();
    assert!(!world.try_apply("one", &config, false).unwrap());
    assert_eq!(world.object, before);
    assert_eq!(
        world.owners(),
        [
            "one Apply: .spec.a .spec.list[name=\"n\"] .spec.list[name=\"n\"].name .spec.list[name=\"n\"].value .spec.map.k .spec.set[=\"x\"]"
        ]
    );
}

#[test]
fn equal_values_are_shared_and_different_ones_conflict() {
    let mut world = leaves();
    world.apply("one", &thing(json!({"a": "1"})));
    world.apply("two", &thing(json!({"a": "1", "b": "2"})));
    assert_eq!(world.owners(), ["one Apply: .spec.a", "two Apply: .spec.a .spec.b"]);
    assert_eq!(
        world.conflict("two", &thing(json!({"a": "x", "b": "2"}))),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.a"
    );
    world.force("two", &thing(json!({"a": "x", "b": "2"})));
    assert_eq!(world.owners(), ["two Apply: .spec.a .spec.b"]);
    assert_eq!(world.spec(), &json!({"a": "x", "b": "2"}));
}

#[test]
fn conflicts_are_told_by_manager() {
    let mut world = leaves();
    world.apply("zed", &thing(json!({"a": "1"})));
    world.apply("abe", &thing(json!({"b": "1", "map": {"k": "v"}})));
    world.update("cli", &thing(json!({"a": "1", "b": "1", "map": {"k": "v"}, "atomic": ["x"]})));
    let config = thing(json!({"a": "2", "b": "2", "map": {"k": "w"}, "atomic": ["y"]}));
    assert_eq!(
        world.conflict("new", &config),
        "Apply failed with 4 conflicts: conflicts with \"abe\":\n- .spec.b\n- .spec.map.k\nconflicts with \"cli\" using x.io/v1:\n\
         - .spec.atomic\nconflicts with \"zed\":\n- .spec.a"
    );
    let crate::error::ApiError::ApplyConflict { causes, .. } =
        world.try_apply("new", &config, false).unwrap_err().to_error()
    else {
        panic!("it is a conflict");
    };
    let causes: Vec<_> =
        causes.iter().map(|cause| (&*cause.cause_type, &*cause.message, &*cause.field)).collect();
    assert_eq!(causes[2], ("FieldManagerConflict", "conflict with \"cli\" using x.io/v1", ".spec.atomic"));
    assert_eq!(causes.len(), 4);
}

#[test]
fn what_is_not_applied_any_more_goes_unless_another_owns_it() {
    let mut world = leaves();
    world.apply(
        "one",
        &thing(json!({"a": "1", "b": "2", "map": {"k": "v", "l": "w"}, "set": ["x", "y"],
        "list": [{"name": "n", "value": 1}, {"name": "m"}], "struct": {"x": "1"}})),
    );
    world.apply("two", &thing(json!({"b": "2", "map": {"k": "v"}, "set": ["y"], "list": [{"name": "m"}]})));
    world.apply("one", &thing(json!({"a": "1"})));
    assert_eq!(
        world.spec(),
        &json!({"a": "1", "b": "2", "map": {"k": "v"}, "set": ["y"], "list": [{"name": "m"}]})
    );
    world.apply("two", &thing(json!({})));
    assert_eq!(world.spec(), &json!({"a": "1"}));
    // An empty map is a value, too.
    assert_eq!(world.owners(), ["one Apply: .spec.a", "two Apply: .spec"]);
}

#[test]
fn what_an_update_set_stays_unless_its_item_goes() {
    let mut world = leaves();
    world.apply("one", &thing(json!({"a": "1", "list": [{"name": "n"}]})));
    world.update("cli", &thing(json!({"a": "2", "list": [{"name": "n", "value": 3}]})));
    assert_eq!(
        world.owners(),
        [
            "cli Update: .spec.a .spec.list[name=\"n\"].value",
            "one Apply: .spec.list[name=\"n\"] .spec.list[name=\"n\"].name"
        ]
    );
    // The item is its applier's alone, with whatever others put into it.
    world.apply("one", &thing(json!({})));
    assert_eq!(world.spec(), &json!({"a": "2", "list": null}));
    assert_eq!(world.owners(), ["cli Update: .spec.a", "one Apply: .spec"]);
}

#[test]
fn updates_take_what_they_change_and_drop_what_they_remove() {
    let mut world = leaves();
    world.apply("one", &thing(json!({"a": "1", "b": "1"})));
    world.update("cli", &thing(json!({"a": "2"})));
    assert_eq!(world.owners(), ["cli Update: .spec.a"]);
    world.update("cli", &thing(json!({"a": "2", "b": "3"})));
    assert_eq!(world.owners(), ["cli Update: .spec.a .spec.b"]);
    world.update("gui", &thing(json!({"a": "4", "b": "3"})));
    assert_eq!(world.owners(), ["cli Update: .spec.b", "gui Update: .spec.a"]);
    assert_eq!(
        world.conflict("one", &thing(json!({"a": "1"}))),
        "Apply failed with 1 conflict: conflict with \"gui\" using x.io/v1: .spec.a"
    );
}

#[test]
fn a_list_is_reordered_by_who_applies_it() {
    let mut world = leaves();
    world.apply("one", &thing(json!({"list": [{"name": "a"}, {"name": "b"}, {"name": "c"}]})));
    world.apply("two", &thing(json!({"list": [{"name": "c"}, {"name": "x"}, {"name": "a"}]})));
    let names: Vec<_> =
        world.spec()["list"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["b", "c", "x", "a"]);
}

#[test]
fn an_empty_map_and_a_null_are_owned() {
    let mut world = leaves();
    world.apply("one", &thing(json!({"struct": {}, "a": null})));
    assert_eq!(world.owners(), ["one Apply: .spec.a .spec.struct"]);
    world.apply("two", &thing(json!({"struct": {"x": "1"}})));
    assert_eq!(world.owners(), ["one Apply: .spec.a .spec.struct", "two Apply: .spec.struct.x"]);
}

#[test]
fn owners_follow_a_field_through_versions() {
    let second = |spec: Value| {
        let mut object = thing(spec);
        object["apiVersion"] = "x.io/v2".into();
        object
    };
    let mut world = leaves();
    world.apply("one", &thing(json!({"name": "x", "a": "1"})));
    world.apply("two", &second(json!({"b": "2"})));
    assert_eq!(world.owners(), ["one Apply x.io/v1: .spec.a .spec.name", "two Apply: .spec.b"]);
    assert_eq!(
        world.conflict("two", &second(json!({"renamed": "y"}))),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.name"
    );
    // The same manager in another version: what it had there and has not here goes.
    world.apply("one", &second(json!({"renamed": "x"})));
    assert_eq!(world.owners(), ["one Apply: .spec.renamed", "two Apply: .spec.b"]);
    assert_eq!(world.spec(), &json!({"renamed": "x", "b": "2"}));
}

#[test]
fn owners_in_versions_that_are_gone_are_forgotten() {
    let mut world = leaves();
    world.apply("one", &thing(json!({"a": "1"})));
    world.object["apiVersion"] = "x.io/v2".into();
    let Schemas::Custom { v1, .. } = &mut world.schemas else { panic!("it is custom") };
    *v1 = None;
    let mut config = thing(json!({"a": "2"}));
    config["apiVersion"] = "x.io/v2".into();
    world.apply("two", &config);
    assert_eq!(world.owners(), ["two Apply: .spec.a"]);
}

#[test]
fn owners_follow_a_schema_that_changes() {
    let mut world = leaves();
    world.apply("one", &thing(json!({"struct": {"x": "1", "y": "2"}})));
    let atomic = json!({"type": "object", "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"},
        "metadata": {"type": "object"}, "spec": {"type": "object", "properties": {"struct": {"type": "object",
            "x-kubernetes-map-type": "atomic", "properties": {"x": {"type": "string"}, "y": {"type": "string"}}}}}}});
    world.schemas = Schemas::Custom { v1: Some(Schema::read(&atomic)), v2: None };
    assert_eq!(
        world.conflict("two", &thing(json!({"struct": {"x": "3"}}))),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.struct"
    );
    world.force("two", &thing(json!({"struct": {"x": "3"}})));
    assert_eq!(world.owners(), ["two Apply: .spec.struct"]);
    assert_eq!(world.spec(), &json!({"struct": {"x": "3"}}));
}

#[test]
fn fields_that_a_write_does_not_take_have_no_owner() {
    let mut world = leaves();
    world.filter = Filter::Exclude(&[&["status"]]);
    let mut config = thing(json!({"a": "1"}));
    config["status"] = json!({"ready": true});
    world.apply("one", &config);
    world.update("cli", &config);
    assert_eq!(world.owners(), ["one Apply: .spec.a"]);
}

#[test]
fn each_subresource_is_a_manager_of_its_own() {
    let mut world = leaves();
    world.apply("one", &thing(json!({"a": "1"})));
    world.subresource = "status";
    let mut status = thing(json!({}));
    status["status"] = json!({"ready": true});
    world.apply("one", &status);
    assert_eq!(world.owners(), ["one Apply: .spec.a", "one Apply: .spec .status.ready"]);
    let entries = world.object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries[1]["subresource"], "status");
    world.subresource = "";
    let mut other = thing(json!({}));
    other["status"] = json!({"ready": false});
    assert_eq!(
        world.conflict("two", &other),
        "Apply failed with 1 conflict: conflict with \"one\" with subresource \"status\": .status.ready"
    );
}

#[test]
fn a_default_in_a_key_need_not_be_said() {
    let mut world = World::built_in("", "v1", "Service");
    let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports}});
    world.apply("one", &service(json!([{"port": 80}, {"port": 80, "protocol": "UDP"}])));
    assert_eq!(
        world.owners(),
        ["one Apply: .spec.ports[port=80,protocol=\"TCP\"] .spec.ports[port=80,protocol=\"UDP\"] \
          .spec.ports[port=80,protocol=\"TCP\"].port .spec.ports[port=80,protocol=\"UDP\"].port \
          .spec.ports[port=80,protocol=\"UDP\"].protocol"]
    );
    world.apply("two", &service(json!([{"port": 80, "protocol": "TCP", "name": "web"}])));
    assert_eq!(world.spec()["ports"].as_array().unwrap().len(), 2);
    world.apply("one", &service(json!([{"port": 80}])));
    assert_eq!(world.spec()["ports"], json!([{"port": 80, "protocol": "TCP", "name": "web"}]));
}

#[test]
fn a_deployment_and_its_autoscaler_share_it() {
    let deployment = |replicas: Option<i64>, image: &str| {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"app": "d"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}});
        if let Some(replicas) = replicas {
            object["spec"]["replicas"] = replicas.into();
        }
        object
    };
    let mut world = World::built_in("apps", "v1", "Deployment");
    world.apply("owner", &deployment(Some(3), "a:1"));
    let mut scaled = world.object.clone();
    scaled["spec"]["replicas"] = 5.into();
    world.update("autoscaler", &scaled);
    assert_eq!(
        world.conflict("owner", &deployment(Some(3), "a:2")),
        "Apply failed with 1 conflict: conflict with \"autoscaler\" using apps/v1: .spec.replicas"
    );
    world.apply("owner", &deployment(None, "a:2"));
    assert_eq!(world.spec()["replicas"], 5);
    assert_eq!(world.owners()[0], "autoscaler Update: .spec.replicas");
}
