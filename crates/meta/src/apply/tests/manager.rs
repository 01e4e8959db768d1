//! Entries of `managedFields`: how they are kept, reset, folded and taken over from client-side apply.
use serde_json::{Value, json};

use super::world::World;
use crate::apply::{LAST_APPLIED, Managed, is_reset, only_times_differ};
use crate::object;

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}, "data": data})
}

#[test]
fn an_entry_looks_as_upstreams() {
    let mut world = World::built_in("", "v1", "ConfigMap");
    world.update("kubectl-create", &map(json!({"a": "1"})));
    assert_eq!(
        world.object["metadata"]["managedFields"],
        json!([{"manager": "kubectl-create", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:01Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {".": {}, "f:a": {}}}}])
    );
    world.apply("me", &map(json!({"b": "2"})));
    let entries = object::managed_fields(&world.object);
    assert_eq!(entries[0]["operation"], "Apply");
    assert_eq!(entries[0]["fieldsV1"], json!({"f:data": {"f:b": {}}}));
    assert_eq!(entries[1]["manager"], "kubectl-create");
}

#[test]
fn what_is_filled_in_anyway_is_nobodys() {
    let mut world = World::built_in("", "v1", "Pod");
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "",
        "resourceVersion": "7", "generation": 3, "labels": {"run": "p"}},
        "spec": {"containers": [{"name": "p", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}],
            "restartPolicy": "Always"}});
    crate::normalize::normalize(
        &mut pod,
        crate::schema::lookup_kind(&crate::gvk::GroupVersionKind::new("", "v1", "Pod")).unwrap(),
        crate::normalize::Mode::Full,
    )
    .unwrap();
    world.update("kubectl-run", &pod);
    assert_eq!(
        object::managed_fields(&world.object)[0]["fieldsV1"],
        json!({"f:metadata": {"f:labels": {".": {}, "f:run": {}}}, "f:spec": {
            "f:containers": {"k:{\"name\":\"p\"}": {".": {}, "f:image": {}, "f:name": {}, "f:resources": {},
                "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}}}},
            "f:restartPolicy": {}}})
    );
}

#[test]
fn times_move_only_with_changes() {
    let mut world = World::built_in("", "v1", "ConfigMap");
    world.update("a", &map(json!({"a": "1"})));
    let before = object::managed_fields(&world.object).to_vec();
    world.update("b", &map(json!({"a": "1"})));
    assert_eq!(object::managed_fields(&world.object), before);
    world.update("a", &map(json!({"a": "2"})));
    let after = object::managed_fields(&world.object);
    assert!(only_times_differ(&before, after) && !only_times_differ(&before, &before));
    assert!(!only_times_differ(&before, &[]));
    world.apply("c", &map(json!({"a": "2"})));
    let time = object::managed_fields(&world.object)[0]["time"].clone();
    // Letting go of a shared field changes the entry, not the object.
    world.apply("c", &map(json!({"a": "2"})));
    assert_eq!(object::managed_fields(&world.object)[0]["time"], time);
}

#[test]
fn clients_may_set_forget_and_not_break_entries() {
    let mut world = World::built_in("", "v1", "ConfigMap");
    world.update("a", &map(json!({"a": "1"})));
    let entries = world.object["metadata"]["managedFields"].clone();
    let with = |entries: Value| {
        let mut object = map(json!({"a": "1"}));
        object["metadata"]["managedFields"] = entries;
        object
    };
    // Entries that nobody can read are as good as none.
    for broken in [
        json!([{"operation": "Nope"}]),
        json!([{"operation": "Update", "apiVersion": "v1", "fieldsType": "V2"}]),
    ] {
        world.update("b", &with(broken));
        assert_eq!(world.object["metadata"]["managedFields"], entries);
    }
    let mut renamed = entries.clone();
    renamed[0]["manager"] = "renamed".into();
    world.update("b", &with(renamed.clone()));
    assert_eq!(world.object["metadata"]["managedFields"], renamed);
    for reset in [json!([]), json!([{}])] {
        assert!(is_reset(Some(&reset)));
        world.update("b", &with(entries.clone()));
        world.update("b", &with(reset));
        assert_eq!(object::managed_fields(&world.object), [] as [Value; 0]);
        // Nobody tracks it any more, until it is applied to.
        world.update("b", &map(json!({"a": "1", "b": "2"})));
        assert_eq!(object::managed_fields(&world.object), [] as [Value; 0]);
        world.apply("me", &map(json!({"c": "3"})));
        assert_eq!(world.owners(), ["before-first-apply Update: .data .data.a .data.b", "me Apply: .data.c"]);
    }
    assert!(!is_reset(None) && !is_reset(Some(&json!(null))) && !is_reset(Some(&entries)));
}

#[test]
fn entries_that_come_with_a_subresource_are_ignored() {
    let mut world = World::built_in("", "v1", "ConfigMap");
    world.update("a", &map(json!({"a": "1"})));
    let entries = world.object["metadata"]["managedFields"].clone();
    world.subresource = "status";
    let mut object = map(json!({"a": "1"}));
    object["metadata"]["managedFields"] = json!([{}]);
    world.update("b", &object);
    assert_eq!(world.object["metadata"]["managedFields"], entries);
}

#[test]
fn the_oldest_updates_are_folded_together() {
    let mut world = World::built_in("", "v1", "ConfigMap");
    let mut data = json!({});
    for index in 0..13 {
        data[format!("k{index:02}")] = "x".into();
        world.update(&format!("m{index:02}"), &map(data.clone()));
    }
    let managed = Managed::decode(object::managed_fields(&world.object)).unwrap();
    assert_eq!(managed.owners().count(), 10);
    assert_eq!(world.owners()[0], "ancient-changes Update: .data .data.k00 .data.k01 .data.k02 .data.k03");
    let time = object::managed_fields(&world.object)[0]["time"].clone();
    assert_eq!(time, "2026-01-01T00:00:04Z");
    world.apply("me", &map(json!({"mine": "1"})));
    assert_eq!(Managed::decode(object::managed_fields(&world.object)).unwrap().owners().count(), 11);
}

#[test]
fn a_manager_without_a_name_is_unknown() {
    let mut world = World::built_in("", "v1", "ConfigMap");
    world.update("", &map(json!({"a": "1"})));
    assert_eq!(world.owners(), ["unknown Update: .data .data.a"]);
}

#[test]
fn kubectl_takes_over_what_client_side_apply_set() {
    let applied = |data: &Value| {
        let mut object = map(data.clone());
        let text = object.to_string();
        object::set_annotation(&mut object, LAST_APPLIED, &text);
        object
    };
    let data = json!({"a": "1", "b": "2"});
    let mut world = World::built_in("", "v1", "ConfigMap");
    world.update("kubectl-client-side-apply", &applied(&data));
    let next = map(json!({"a": "3", "b": "2"}));
    // Only kubectl does.
    assert_eq!(
        world.conflict("other", &next),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.a"
    );
    world.apply("kubectl", &next);
    assert_eq!(world.object["data"], next["data"]);
    assert_eq!(object::annotation(&world.object, LAST_APPLIED), Some(&*format!("{next}\n")),);
    assert_eq!(world.owners()[0], format!("kubectl Apply: .data.a .data.b"));
}

#[test]
fn kubectl_does_not_take_over_what_others_changed_since() {
    let mut object = map(json!({"a": "1", "b": "2"}));
    let text = object.to_string();
    object::set_annotation(&mut object, LAST_APPLIED, &text);
    let mut world = World::built_in("", "v1", "ConfigMap");
    world.update("kubectl-client-side-apply", &object);
    object["data"]["b"] = "changed".into();
    world.update("someone", &object);
    assert_eq!(
        world.conflict("kubectl", &map(json!({"a": "9", "b": "9"}))),
        "Apply failed with 1 conflict: conflict with \"someone\" using v1: .data.b"
    );
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let mut world = World::built_in("", "v1", "ConfigMap");
    for (change, code, message) in [
        (json!({"kind": "Secret"}), 400, "invalid object type: /v1, Kind=Secret"),
        (json!({"apiVersion": "apps/v1"}), 400, "invalid object type: apps/v1, Kind=ConfigMap"),
        (json!({"metadata": {"name": "c", "managedFields": []}}), 400, "metadata.managedFields must be nil"),
        (
            json!({"nope": 1}),
            500,
            "failed to create typed patch object (n/c; /v1, Kind=ConfigMap): .nope: field not declared in schema",
        ),
    ] {
        let mut config = map(json!({"a": "1"}));
        for (name, value) in change.as_object().unwrap() {
            config[name] = value.clone();
        }
        let request_kind = crate::gvk::GroupVersionKind::new("", "v1", "ConfigMap");
        let empty = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
        let request = crate::apply::Request {
            manager: "me",
            kind: &request_kind,
            subresource: "",
            now: "2026-01-01T00:00:00Z",
            versions: &world,
            empty: &empty,
        };
        let error = request.apply(&empty, &config, false).unwrap_err().to_error();
        assert_eq!((error.code(), error.message().as_str()), (code, message));
    }
    world.apply("me", &map(json!({"a": "1"})));
    world.object["metadata"]["managedFields"][0]["operation"] = "Nope".into();
    let failure = world.try_apply("me", &map(json!({"a": "1"})), false).unwrap_err();
    assert_eq!(
        failure.to_error().message(),
        "failed to decode managed fields: operation must be `Apply` or `Update`"
    );
}
