//! Values along a schema: what is valid, which fields they have, what changed, what a merge and a removal make of them.
use serde_json::{Value, json};

use crate::apply::{Node, Set, collect, compare, from_json, merge, reconcile, remove, to_json, validate};
use crate::gvk::GroupVersionKind;
use crate::schema::lookup_kind;
use crate::structural::Schema;

fn kind(group: &str, version: &str, kind: &str) -> Node<'static> {
    Node::Type(lookup_kind(&GroupVersionKind::new(group, version, kind)).unwrap())
}

fn grab_bag() -> Schema {
    Schema::read(&json!({"type": "object", "properties": {
        "number": {"type": "integer"}, "text": {"type": "string"}, "flag": {"type": "boolean"},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "atomicMap": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        "atomicList": {"type": "array", "items": {"type": "string"}},
        "any": {},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["key", "id"],
            "items": {"type": "object", "properties": {"key": {"type": "string"}, "id": {"type": "integer"},
                "value": {"type": "object", "additionalProperties": {"type": "string"}}}}},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
            "items": {"type": "object", "properties": {"port": {"type": "integer"},
                "protocol": {"type": "string", "default": "TCP"}, "name": {"type": "string"}}}},
    }}))
}

#[test]
fn values_are_checked_in_upstreams_words() {
    let schema = grab_bag();
    let node = Node::Custom(&schema);
    for (value, expected) in [
        (
            json!({"number": 1.5, "text": "", "flag": false, "any": {"a": [1, {}]}, "set": ["a"], "list": null}),
            "",
        ),
        (json!({"text": null, "set": null, "map": null}), ""),
        (json!({"number": "x"}), ".number: expected numeric (int or float), got string"),
        (
            json!({"number": {"a": 1}}),
            ".number: expected numeric (int or float), got map[string]interface {}",
        ),
        (json!({"text": 1}), ".text: expected string, got &value.valueUnstructured{Value:1}"),
        (
            json!({"text": [true]}),
            ".text: expected string, got &value.valueUnstructured{Value:[]interface {}{true}}",
        ),
        (json!({"flag": "yes"}), ".flag: expected boolean, got &{yes}"),
        (json!({"map": [1]}), ".map: expected map, got &{[1]}"),
        (json!({"map": {"a": 1}}), ".map.a: expected string, got &value.valueUnstructured{Value:1}"),
        (json!({"list": {"a": 1}}), ".list: expected list, got &{map[a:1]}"),
        (json!({"other": 1}), ".other: field not declared in schema"),
        (json!({"set": ["a", "a"]}), ".set: duplicate entries for key [=\"a\"]"),
        (
            json!({"set": [{}]}),
            ".set: element 0: associative list without keys has an element that's a map type",
        ),
        (
            json!({"set": [null]}),
            ".set: element 0: associative list without keys has an element that's an explicit null",
        ),
        (
            json!({"list": [{"key": "a", "id": 1}, {"key": "a", "id": 1}]}),
            ".list: duplicate entries for key [id=1,key=\"a\"]",
        ),
        (
            json!({"list": [{"key": "a"}]}),
            ".list: element 0: associative list with keys has an element that omits key field \"id\" (and doesn't have default value)",
        ),
        (json!({"list": [null]}), ".list: element 0: associative list with keys may not have a null element"),
        (
            json!({"list": [{"key": "a", "id": 1, "value": {"x": 1}}]}),
            ".list[id=1,key=\"a\"].value.x: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            json!({"flag": 1, "number": true}),
            "errors:\n  .flag: expected boolean, got &{1}\n  .number: expected numeric (int or float), got bool",
        ),
        (json!({"ports": [{"port": 1}, {"port": 1, "protocol": "UDP"}]}), ""),
        (
            json!({"ports": [{"port": 1}, {"port": 1, "protocol": "TCP"}]}),
            ".ports: duplicate entries for key [port=1,protocol=\"TCP\"]",
        ),
        (json!([]), "expected map, got &{[]}"),
    ] {
        let found =
            validate(&value, node, false).map_or_else(|errors| errors.to_string(), |()| String::new());
        assert_eq!(found, expected, "{value}");
    }
    assert!(validate(&json!({"set": ["a", "a"]}), node, true).is_ok());
}

#[test]
fn built_in_types_are_checked_the_same() {
    let deployment = kind("apps", "v1", "Deployment");
    for (value, expected) in [
        (json!({"spec": {"replicas": "1"}}), ".spec.replicas: expected numeric (int or float), got string"),
        (json!({"spec": {"replica": 1}}), ".spec.replica: field not declared in schema"),
        (
            json!({"metadata": {"labels": {"a": true}}}),
            ".metadata.labels.a: expected string, got &value.valueUnstructured{Value:true}",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"image": "x"}]}}}}),
            ".spec.template.spec.containers: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "ports": [
                {"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}]}]}}}}),
            ".spec.template.spec.containers[name=\"a\"].ports: duplicate entries for key [containerPort=80,protocol=\"TCP\"]",
        ),
        (json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}}}), ""),
        (
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": {"containers": [
            {"name": "a", "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}]}}}}),
            "",
        ),
    ] {
        let found =
            validate(&value, deployment, false).map_or_else(|errors| errors.to_string(), |()| String::new());
        assert_eq!(found, expected, "{value}");
    }
}

#[test]
fn the_fields_of_a_value_are_its_leaves_and_items() {
    let schema = grab_bag();
    for (value, expected) in [
        (json!({}), "{}"),
        (json!({"number": 1, "text": "a"}), r#"{"f:number":{},"f:text":{}}"#),
        (json!({"set": ["b", "a"]}), r#"{"f:set":{"v:\"a\"":{},"v:\"b\"":{}}}"#),
        (json!({"map": {"a": "x"}}), r#"{"f:map":{"f:a":{}}}"#),
        (json!({"map": {}, "set": [], "text": null}), r#"{"f:map":{},"f:text":{}}"#),
        (json!({"atomicMap": {"a": "x"}, "atomicList": ["a"]}), r#"{"f:atomicList":{},"f:atomicMap":{}}"#),
        (json!({"any": {"a": {"b": [1]}}}), r#"{"f:any":{"f:a":{".":{},"f:b":{}}}}"#),
        (
            json!({"list": [{"key": "a", "id": 1, "value": {"x": "y"}}]}),
            r#"{"f:list":{"k:{\"id\":1,\"key\":\"a\"}":{".":{},"f:id":{},"f:key":{},"f:value":{"f:x":{}}}}}"#,
        ),
        (
            json!({"ports": [{"port": 1}]}),
            r#"{"f:ports":{"k:{\"port\":1,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}}}"#,
        ),
        (
            json!({"list": [{"key": "a", "id": 1}, {"key": "b", "id": 1}, {"key": "a", "id": 1}]}),
            r#"{"f:list":{"k:{\"id\":1,\"key\":\"a\"}":{},"k:{\"id\":1,\"key\":\"b\"}":{".":{},"f:id":{},"f:key":{}}}}"#,
        ),
    ] {
        assert_eq!(to_json(&collect(&value, Node::Custom(&schema))), expected, "{value}");
    }
}

#[test]
fn structures_of_built_in_types_are_atomic_where_upstream_says_so() {
    let pod = kind("", "v1", "Pod");
    let value = json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "a"}], "finalizers": ["x/y"]},
        "spec": {"nodeSelector": {"a": "b"}, "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{}]}}}, "tolerations": [{"key": "a"}],
            "containers": [{"name": "a", "args": ["x"], "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}]}});
    assert_eq!(
        collect(&value, pod).paths(),
        [
            ".metadata.finalizers[=\"x/y\"]",
            ".metadata.ownerReferences[uid=\"1\"]",
            ".spec.nodeSelector",
            ".spec.tolerations",
            ".spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution",
            ".spec.containers[name=\"a\"]",
            ".spec.containers[name=\"a\"].args",
            ".spec.containers[name=\"a\"].name",
            ".spec.containers[name=\"a\"].env[name=\"E\"]",
            ".spec.containers[name=\"a\"].env[name=\"E\"].name",
            ".spec.containers[name=\"a\"].env[name=\"E\"].valueFrom.fieldRef",
        ]
    );
    let selector = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}});
    assert_eq!(collect(&selector, kind("apps", "v1", "Deployment")).paths(), [".spec.selector"]);
    assert_eq!(collect(&json!({"data": {"a": "b"}}), kind("", "v1", "ConfigMap")).paths(), [".data.a"]);
}

fn changed(old: &Value, new: &Value, removed: &[&str], modified: &[&str], added: &[&str]) {
    let schema = grab_bag();
    let changes = compare(old, new, Node::Custom(&schema)).unwrap();
    let found = [changes.removed.paths(), changes.modified.paths(), changes.added.paths()];
    assert_eq!(found, [removed, modified, added], "{old} {new}");
}

#[test]
fn changes_are_told_field_by_field() {
    changed(&json!({"number": 1}), &json!({"number": 1.0}), &[], &[], &[]);
    changed(
        &json!({"number": 1, "text": "a"}),
        &json!({"number": 2, "flag": true}),
        &[".text"],
        &[".number"],
        &[".flag"],
    );
    changed(
        &json!({"set": ["a", "b"]}),
        &json!({"set": ["c", "b"]}),
        &[".set[=\"a\"]"],
        &[],
        &[".set[=\"c\"]"],
    );
    changed(&json!({"set": ["a"]}), &json!({}), &[".set", ".set[=\"a\"]"], &[], &[]);
    changed(&json!({"set": []}), &json!({"set": ["a"]}), &[], &[], &[".set[=\"a\"]"]);
    changed(&json!({"set": null}), &json!({"set": []}), &[], &[".set"], &[]);
    changed(
        &json!({"map": {"a": "x", "b": "y"}}),
        &json!({"map": {"a": "z", "c": "y"}}),
        &[".map.b"],
        &[".map.a"],
        &[".map.c"],
    );
    changed(&json!({}), &json!({"map": {"a": "x"}}), &[], &[], &[".map", ".map.a"]);
    changed(&json!({"atomicMap": {"a": "x"}}), &json!({"atomicMap": {"a": "y"}}), &[], &[".atomicMap"], &[]);
    changed(&json!({"atomicList": ["a"]}), &json!({"atomicList": ["a", "b"]}), &[], &[".atomicList"], &[]);
    changed(&json!({"any": 1}), &json!({"any": {"a": 1}}), &[], &[".any"], &[".any.a"]);
    changed(&json!({"any": {"a": 1}}), &json!({"any": 1}), &[".any.a"], &[".any"], &[]);
    changed(
        &json!({"list": [{"key": "a", "id": 1, "value": {"x": "1"}}, {"key": "b", "id": 1}]}),
        &json!({"list": [{"key": "c", "id": 1}, {"key": "a", "id": 1, "value": {"x": "2"}}]}),
        &[".list[id=1,key=\"b\"]", ".list[id=1,key=\"b\"].id", ".list[id=1,key=\"b\"].key"],
        &[".list[id=1,key=\"a\"].value.x"],
        &[".list[id=1,key=\"c\"]", ".list[id=1,key=\"c\"].id", ".list[id=1,key=\"c\"].key"],
    );
}

#[test]
fn items_that_nothing_tells_apart_change_together() {
    let item = |name: &str| json!({"port": 1, "name": name});
    let key = ".ports[port=1,protocol=\"TCP\"]";
    let below: Vec<String> = ["name", "port"].iter().map(|field| format!("{key}.{field}")).collect();
    let with_below = [key, &below[0], &below[1]];
    let list = |items: &[Value]| json!({"ports": items});
    changed(&list(&[item("a"), item("b")]), &list(&[item("a"), item("b")]), &[], &[], &[]);
    changed(&list(&[item("a"), item("b")]), &list(&[item("a"), item("c")]), &[], &[key], &[]);
    changed(&list(&[item("a"), item("b")]), &list(&[item("a")]), &[key], &[], &with_below);
    changed(&list(&[item("a")]), &list(&[item("a"), item("b")]), &with_below, &[], &[key]);
    changed(&list(&[item("a"), item("b")]), &json!({"ports": []}), &[key], &[], &[]);
}

#[test]
fn merging_keeps_what_the_patch_does_not_say() {
    let schema = grab_bag();
    let named = |names: &[&str]| {
        let items: Vec<_> = names.iter().map(|name| json!({"key": name, "id": 1})).collect();
        json!({"list": items})
    };
    for (live, patch, expected) in [
        (json!({"number": 1, "text": "a"}), json!({"number": 2}), json!({"number": 2, "text": "a"})),
        (json!({"text": "a"}), json!({"text": null}), json!({"text": null})),
        (json!({"map": {"a": "x"}}), json!({"map": {"b": "y"}}), json!({"map": {"a": "x", "b": "y"}})),
        (json!({"map": {"a": "x"}}), json!({"map": {}}), json!({"map": {"a": "x"}})),
        (json!({}), json!({"map": {}}), json!({"map": {}})),
        (
            json!({"atomicMap": {"a": "x"}}),
            json!({"atomicMap": {"b": "y"}}),
            json!({"atomicMap": {"b": "y"}}),
        ),
        (json!({"atomicList": ["a"]}), json!({"atomicList": ["b"]}), json!({"atomicList": ["b"]})),
        (json!({"set": ["a", "b"]}), json!({"set": ["c"]}), json!({"set": ["a", "b", "c"]})),
        (json!({"any": 1}), json!({"any": {"a": 1}}), json!({"any": {"a": 1}})),
        (
            json!({"any": {"a": {"b": 1}}}),
            json!({"any": {"a": {"c": [2]}}}),
            json!({"any": {"a": {"b": 1, "c": [2]}}}),
        ),
        (
            json!({"list": [{"key": "a", "id": 1, "value": {"x": "1"}}]}),
            json!({"list": [{"key": "a", "id": 1, "value": {"y": "2"}}]}),
            json!({"list": [{"key": "a", "id": 1, "value": {"x": "1", "y": "2"}}]}),
        ),
        (named(&["a", "b", "c"]), named(&["c", "a"]), named(&["b", "c", "a"])),
        (named(&["a", "b", "c", "d"]), named(&["c", "a"]), named(&["b", "c", "d", "a"])),
        (named(&["a", "b"]), named(&["c", "d"]), named(&["a", "b", "c", "d"])),
        (named(&["a", "b"]), named(&["b", "x", "a"]), named(&["b", "x", "a"])),
        (json!({"set": ["a", "b", "a"]}), json!({"set": ["b", "a"]}), json!({"set": ["b", "a"]})),
        (json!({"set": ["a", "b", "a", "c"]}), json!({"set": ["c"]}), json!({"set": ["a", "b", "a", "c"]})),
    ] {
        assert_eq!(merge(&live, &patch, Node::Custom(&schema)).unwrap(), expected, "{live} {patch}");
    }
    let twice = json!({"set": ["a", "a"]});
    let error = merge(&json!({}), &twice, Node::Custom(&schema)).unwrap_err();
    assert_eq!(error.to_string(), ".set: duplicate entries for key [=\"a\"]");
}

#[test]
fn removing_leaves_the_rest() {
    let schema = grab_bag();
    let value = json!({"number": 1, "set": ["a", "b"], "map": {"x": "1", "y": "2"}, "atomicList": ["a"],
        "list": [{"key": "a", "id": 1, "value": {"x": "1"}}, {"key": "b", "id": 1}]});
    for (gone, expected) in [
        (r#"{}"#, value.clone()),
        (
            r#"{"f:number":{},"f:set":{"v:\"a\"":{}},"f:atomicList":{}}"#,
            json!({"set": ["b"], "map": {"x": "1", "y": "2"}, "list": value["list"]}),
        ),
        (
            r#"{"f:map":{"f:x":{},"f:y":{}},"f:list":{"k:{\"id\":1,\"key\":\"b\"}":{},"k:{\"id\":1,\"key\":\"a\"}":{"f:value":{}}}}"#,
            json!({"number": 1, "set": ["a", "b"], "map": null, "atomicList": ["a"], "list": [{"key": "a", "id": 1}]}),
        ),
    ] {
        assert_eq!(remove(&value, &from_json(gone).unwrap(), Node::Custom(&schema)), expected, "{gone}");
    }
}

#[test]
fn what_became_one_value_is_owned_as_one() {
    let schema = grab_bag();
    for (set, expected) in [
        (r#"{"f:map":{"f:a":{}},"f:set":{"v:\"a\"":{}},"f:gone":{"f:x":{}}}"#, None),
        (r#"{"f:atomicMap":{"f:a":{}}}"#, Some(r#"{"f:atomicMap":{}}"#)),
        (r#"{"f:atomicMap":{".":{},"f:a":{}}}"#, Some(r#"{"f:atomicMap":{}}"#)),
        (r#"{"f:atomicMap":{}}"#, None),
        (
            r#"{"f:atomicList":{"v:\"a\"":{},"v:\"b\"":{}},"f:number":{}}"#,
            Some(r#"{"f:atomicList":{},"f:number":{}}"#),
        ),
        (r#"{"f:any":{"f:a":{"f:b":{}}}}"#, None),
    ] {
        let found = reconcile(&from_json(set).unwrap(), Node::Custom(&schema));
        assert_eq!(found.as_ref().map(to_json).as_deref(), expected, "{set}");
    }
    let set = Set::of_fields(&[&["spec", "selector", "matchLabels", "a"], &["spec", "replicas"]]);
    let found = reconcile(&set, kind("apps", "v1", "Deployment")).unwrap();
    assert_eq!(found.paths(), [".spec.replicas", ".spec.selector"]);
}
