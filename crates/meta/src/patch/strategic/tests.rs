use super::*;
use crate::schema::lookup_type;
use proptest::prelude::*;
use serde_json::json;

fn pod_spec() -> TypeRef {
    lookup_type("core/v1", "PodSpec").unwrap()
}

fn merged(mut document: Value, patch: Value, ty: TypeRef) -> Value {
    apply(&mut document, patch.clone(), ty).unwrap_or_else(|error| panic!("{patch}: {error}"));
    document
}

fn check(document: Value, patch: Value, expected: Value) {
    assert_eq!(merged(document, patch.clone(), pod_spec()), expected, "{patch}");
}

fn refused(mut document: Value, patch: Value, expected: &str) {
    let error = apply(&mut document, patch, pod_spec()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

fn names(value: &Value) -> Vec<&str> {
    value["containers"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn objects_merge_by_key_and_nulls_remove() {
    let document =
        json!({"nodeName": "n", "hostname": "h", "containers": [{"name": "a", "image": "1"}, {"name": "b"}]});
    check(
        document,
        json!({"nodeName": null, "subdomain": null, "containers": [{"name": "b", "image": "2"}, {"name": "c", "image": null}]}),
        json!({"hostname": "h", "containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": null}]}),
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    check(
        json!({"containers": [{"name": "a", "command": ["x"], "env": [{"name": "A", "value": "1"}]}]}),
        json!({"containers": [{"name": "a", "command": ["y"], "env": [{"name": "B", "value": "2"}]}]}),
        json!({"containers": [{"name": "a", "command": ["y"], "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]}]}),
    );
    check(json!({"tolerations": [{"key": "a"}]}), json!({"tolerations": []}), json!({"tolerations": []}));
}

#[test]
fn directives_delete_and_replace() {
    let document =
        || json!({"containers": [{"name": "a"}, {"name": "b"}], "nodeSelector": {"x": "1", "y": "2"}});
    check(
        document(),
        json!({"containers": [{"$patch": "delete", "name": "a"}, {"$patch": "delete", "name": "z"}]}),
        json!({"containers": [{"name": "b"}], "nodeSelector": {"x": "1", "y": "2"}}),
    );
    check(
        document(),
        json!({"containers": [{"$patch": "replace"}, {"name": "c"}], "nodeSelector": {"$patch": "replace", "z": "3"}}),
        json!({"containers": [{"name": "c"}], "nodeSelector": {"z": "3"}}),
    );
    check(
        document(),
        json!({"nodeSelector": {"$patch": "delete"}, "securityContext": {"$patch": "delete", "runAsUser": 1}}),
        json!({"containers": [{"name": "a"}, {"name": "b"}], "nodeSelector": {}}),
    );
}

#[test]
fn retained_keys_clear_the_others() {
    let deployment = lookup_type("apps/v1", "DeploymentSpec").unwrap();
    let document = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}});
    let patch = json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}});
    assert_eq!(merged(document, patch, deployment), json!({"strategy": {"type": "Recreate"}}));
    check(
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
        json!({"volumes": [{"$retainKeys": ["name", "emptyDir"], "name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
    );
    refused(
        json!({"volumes": [{"name": "v"}]}),
        json!({"volumes": [{"$retainKeys": ["name"], "name": "v", "emptyDir": {}}]}),
        "invalid patch format of retainKeys",
    );
}

#[test]
fn scalars_merge_and_are_deleted_from_lists() {
    let meta = lookup_type("meta/v1", "ObjectMeta").unwrap();
    let document = || json!({"finalizers": ["a", "b", "c"]});
    assert_eq!(
        merged(document(), json!({"finalizers": ["d", "b"]}), meta),
        json!({"finalizers": ["d", "a", "b", "c"]})
    );
    let patch = json!({"$deleteFromPrimitiveList/finalizers": ["a", "x"]});
    assert_eq!(merged(document(), patch, meta), json!({"finalizers": ["b", "c"]}));
    let patch =
        json!({"$setElementOrder/finalizers": ["c", "a"], "$deleteFromPrimitiveList/finalizers": ["b"]});
    assert_eq!(merged(document(), patch, meta), json!({"finalizers": ["c", "a"]}));
    assert_eq!(merged(json!({}), json!({"$deleteFromPrimitiveList/finalizers": ["a"]}), meta), json!({}));
}

#[test]
fn the_stated_order_rules() {
    let document = || json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]});
    let order = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    let patch = json!({"$setElementOrder/containers": order(&["c", "a"])});
    assert_eq!(names(&merged(document(), patch, pod_spec())), ["b", "c", "a"]);
    let patch = json!({"$setElementOrder/containers": order(&["d", "c", "b", "a"]), "containers": [{"name": "d", "image": "x"}]});
    let result = merged(document(), patch, pod_spec());
    assert_eq!(names(&result), ["d", "c", "b", "a"]);
    assert_eq!(result["containers"][0], json!({"name": "d", "image": "x"}));
    let patch = json!({"$setElementOrder/containers": order(&["a"]), "containers": [{"name": "b"}]});
    refused(document(), patch, "doesn't match $setElementOrder list");
    let patch = json!({"$setElementOrder/containers": order(&["x"]), "containers": [{"$patch": "delete", "name": "b"}]});
    assert_eq!(names(&merged(document(), patch, pod_spec())), ["a", "c"]);
}

#[test]
fn what_kubectl_apply_sends_works() {
    let deployment = lookup_type("apps/v1", "Deployment").unwrap();
    let document = json!({"kind": "Deployment", "metadata": {"name": "web", "annotations": {"a": "1"}}, "spec": {"template": {"spec": {
        "containers": [{"name": "web", "image": "v1", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}}});
    let patch = json!({"kind": "Deployment", "metadata": {"annotations": {"b": "2"}}, "spec": {"template": {"spec": {
        "$setElementOrder/containers": [{"name": "web"}],
        "containers": [{"$setElementOrder/ports": [{"containerPort": 80}], "name": "web", "image": "v2"}]}}}});
    let result = merged(document, patch, deployment);
    assert_eq!(result["metadata"]["annotations"], json!({"a": "1", "b": "2"}));
    assert_eq!(
        result["spec"]["template"]["spec"]["containers"],
        json!([{"name": "web", "image": "v2", "ports": [{"containerPort": 80, "protocol": "TCP"}]}])
    );
}

#[test]
fn nonsense_is_refused_in_upstreams_words() {
    let document = || json!({"containers": [{"name": "a"}], "nodeSelector": {"x": "1"}});
    refused(
        document(),
        json!({"containers": [{"image": "b"}]}),
        "map: map[image:b] does not contain declared merge key: name",
    );
    refused(document(), json!({"containers": ["x"]}), "list element types are not identical");
    refused(
        document(),
        json!({"containers": [{"$patch": "merge", "name": "a"}]}),
        "merging lists cannot yet be specified",
    );
    refused(
        document(),
        json!({"nodeSelector": {"$patch": "x"}}),
        "unknown patch type: x in map: map[$patch:x]",
    );
    refused(
        document(),
        json!({"$setElementOrder/containers": 1}),
        "expected a []interface {}, but received a int64",
    );
}

proptest! {
    /// Applying a patch that states lists by key twice is applying it once.
    #[test]
    fn merging_twice_is_merging_once(have in prop::collection::vec("[a-d]", 0..5), patch in prop::collection::vec(("[a-f]", "[x-z]"), 0..5)) {
        let list: Vec<_> = have.iter().collect::<std::collections::BTreeSet<_>>().into_iter().map(|name| json!({"name": name})).collect();
        let mut seen = std::collections::BTreeSet::new();
        let patch: Vec<_> = patch.into_iter().filter(|(name, _)| seen.insert(name.clone()))
            .map(|(name, image)| json!({"name": name, "image": image})).collect();
        let patch = json!({"containers": patch});
        let once = merged(json!({"containers": list}), patch.clone(), pod_spec());
        prop_assert_eq!(merged(once.clone(), patch, pod_spec()), once);
    }
}

/// Rows say which of upstream's tests or functions they were read from.
#[test]
fn patches_merge_as_upstreams_do() {
    let rows = include_str!("cases.tsv").lines().filter(|row| !row.starts_with('#'));
    for row in rows {
        let [package, name, source, document, patch, expected] = row.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("{row}: not six columns");
        };
        let read =
            |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| panic!("{source}: {text}"));
        let ty = lookup_type(package, name).unwrap_or_else(|| panic!("{row}: no such type"));
        let mut merged = read(document);
        let outcome = apply(&mut merged, read(patch), ty).map_err(|error| error.to_string());
        let expected = match expected.strip_prefix("! ") {
            None => Ok(read(expected)),
            Some(refusal) => Err(refusal.replace("\\n", "\n")),
        };
        assert_eq!(outcome.map(|()| merged), expected, "{row}");
    }
}

/// Read from upstream's `fromUnstructured`, which strategic patches are made objects with.
#[test]
fn what_no_object_can_hold_is_told_as_upstreams_converter_tells_it() {
    for (fields, expected) in [
        (json!({"activeDeadlineSeconds": "x"}), "unrecognized type: int64"),
        (json!({"activeDeadlineSeconds": 1.5}), "cannot convert float64 to int64"),
        (json!({"activeDeadlineSeconds": 2.0, "hostname": null}), ""),
        (json!({"restartPolicy": 1}), "cannot convert int64 to v1.RestartPolicy"),
        (json!({"restartPolicy": true}), "unrecognized type: string"),
        (json!({"hostNetwork": "true"}), "unrecognized type: bool"),
        (json!({"containers": {}}), "cannot restore slice from map"),
        (json!({"containers": "x"}), "cannot restore slice from string"),
        (json!({"containers": ["x"]}), "cannot restore struct from: string"),
        (json!({"containers": [{"args": [1]}]}), "cannot convert int64 to string"),
        (json!({"nodeSelector": []}), "cannot restore map from slice"),
        (json!({"nodeSelector": {"a": {}}}), "unrecognized type: string"),
        (json!({"securityContext": 1}), "cannot restore struct from: int64"),
        (json!({"volumes": [{"hostPath": false}]}), "cannot restore struct from: bool"),
    ] {
        let pod = json!({"kind": "Pod", "spec": fields});
        let outcome = restore(&pod, lookup_type("core/v1", "Pod").unwrap());
        assert_eq!(outcome.err().map(|error| error.to_string()).unwrap_or_default(), expected, "{pod}");
    }
    let odd = json!({"kind": 1});
    let error = restore(&odd, lookup_type("core/v1", "Pod").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "cannot convert int64 to string");
}

#[test]
fn refusals_show_what_is_left_of_a_patch() {
    let document = json!({"spec": {"template": {"containers": [{"name": "a"}]}, "strategy": {"type": "x"}}});
    for (patch, left) in [
        (json!({"spec": {"replicas": "x"}}), json!({"spec": {"replicas": "x"}})),
        (
            json!({"spec": {"replicas": "x", "strategy": {"$retainKeys": ["type"], "type": "y"}}}),
            json!({"spec": {"replicas": "x", "strategy": {"type": "y"}}}),
        ),
        (
            json!({"spec": {"template": {"$setElementOrder/containers": [], "containers": [], "hostname": 1}}}),
            json!({"spec": {"template": {"hostname": 1}}}),
        ),
        (json!({"spec": {"$patch": "replace", "x": 1}}), json!({"spec": {"x": 1}})),
        (json!({"other": {"$retainKeys": []}}), json!({"other": {"$retainKeys": []}})),
    ] {
        assert_eq!(used(&document, &patch), left);
    }
}
