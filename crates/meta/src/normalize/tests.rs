use super::*;
use crate::gvk::GroupVersionKind;
use crate::schema::lookup_kind;
use serde_json::{Value, json};

fn kind(group: &str, version: &str, kind: &str) -> TypeRef {
    lookup_kind(&GroupVersionKind::new(group, version, kind)).unwrap()
}

fn pod() -> TypeRef {
    kind("", "v1", "Pod")
}

fn full(ty: TypeRef, mut value: Value) -> (Value, Vec<String>) {
    let issues = normalize(&mut value, ty, Mode::Full).unwrap();
    (value, issues.iter().map(ToString::to_string).collect())
}

fn refused(ty: TypeRef, mut value: Value, expected: &str) {
    assert_eq!(normalize(&mut value, ty, Mode::Full).unwrap_err().to_string(), expected);
}

#[test]
fn unknown_fields_are_dropped_and_reported() {
    let (value, issues) = full(
        pod(),
        json!({"foo": 1, "spec": {"containers": [{"name": "a", "bar": 2, "Image": "x"}], "foo": null},
            "metadata": {"labels": {"x": "y"}}}),
    );
    assert_eq!(
        issues,
        [
            "unknown field \"foo\"",
            "unknown field \"spec.containers[0].Image\"",
            "unknown field \"spec.containers[0].bar\"",
            "unknown field \"spec.foo\"",
        ]
    );
    assert_eq!(
        value,
        json!({"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "a", "resources": {}}]}, "status": {}})
    );
}

#[test]
fn types_are_checked_in_gos_words() {
    let deployment = kind("apps", "v1", "Deployment");
    for (value, expected) in [
        (
            json!({"spec": {"replicas": "3"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 3_000_000_000u64}}),
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"name": 1}]}}}}),
            "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.name of type string",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": {}}}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": ["x"]}}}}),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type v1.Container",
        ),
        (
            json!({"spec": {"template": {"spec": {"restartPolicy": true}}}}),
            "json: cannot unmarshal bool into Go struct field PodSpec.spec.template.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            json!({"metadata": []}),
            "json: cannot unmarshal array into Go struct field Deployment.metadata of type v1.ObjectMeta",
        ),
        (
            json!({"kind": 1}),
            "json: cannot unmarshal number into Go struct field Deployment.kind of type string",
        ),
        (json!("x"), "json: cannot unmarshal string into Go value of type v1.Deployment"),
        (
            json!({"metadata": {"creationTimestamp": 5}}),
            "json: cannot unmarshal number into Go value of type string",
        ),
        (
            json!({"metadata": {"creationTimestamp": "x"}}),
            "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\"",
        ),
        (
            json!({"spec": {"strategy": {"rollingUpdate": {"maxSurge": true}}}}),
            "json: cannot unmarshal bool into Go value of type int32",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "1x"}}}]}}}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ] {
        refused(deployment, value, expected);
    }
    refused(kind("", "v1", "Secret"), json!({"data": {"a": "%%"}}), "illegal base64 data at input byte 0");
}

#[test]
fn values_become_canonical() {
    let (value, _) = full(
        pod(),
        json!({"metadata": {"name": "a", "creationTimestamp": null, "deletionTimestamp": "2024-01-01T01:00:00+01:00"},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi", "x": null}}}]}}),
    );
    assert_eq!(
        value,
        json!({"metadata": {"name": "a", "deletionTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1Gi", "x": "0"}}}]},
            "status": {}})
    );
    let (secret, _) = full(kind("", "v1", "Secret"), json!({"data": {"a": "YWJj\nZGVm", "b": null}}));
    assert_eq!(secret, json!({"metadata": {}, "data": {"a": "YWJjZGVm", "b": null}}));
}

#[test]
fn zero_values_are_written_as_go_writes_them() {
    let (value, _) = full(
        kind("apps", "v1", "Deployment"),
        json!({"metadata": {"name": "", "labels": {}, "finalizers": []},
            "spec": {"replicas": 0, "paused": false, "minReadySeconds": 0, "template": {"spec": {"hostNetwork": false,
                "volumes": [{"name": "v", "emptyDir": {}}], "containers": [{"name": "a", "command": [], "stdin": true}]}}}}),
    );
    assert_eq!(
        value,
        json!({"metadata": {}, "status": {}, "spec": {"replicas": 0, "selector": null, "strategy": {}, "template": {
            "metadata": {}, "spec": {"containers": [{"name": "a", "stdin": true, "resources": {}}],
            "volumes": [{"name": "v", "emptyDir": {}}]}}}})
    );
    let (slice, _) = full(
        kind("discovery.k8s.io", "v1", "EndpointSlice"),
        json!({"addressType": "IPv4", "endpoints": []}),
    );
    assert_eq!(slice, json!({"metadata": {}, "addressType": "IPv4", "endpoints": null, "ports": null}));
    let (event, _) = full(kind("", "v1", "Event"), json!({}));
    assert_eq!(
        event,
        json!({"metadata": {}, "involvedObject": {}, "source": {}, "firstTimestamp": null, "lastTimestamp": null,
            "eventTime": null, "reportingComponent": "", "reportingInstance": ""})
    );
    let again = full(kind("", "v1", "Event"), event.clone()).0;
    assert_eq!(again, event);
}

#[test]
fn partial_documents_keep_their_zero_values() {
    let mut value =
        json!({"spec": {"replicas": 0, "paused": false, "x": 1, "template": {"spec": {"containers": []}}}});
    let issues = normalize(&mut value, kind("apps", "v1", "Deployment"), Mode::Sparse).unwrap();
    assert_eq!(issues, [StrictIssue::UnknownField("spec.x".to_owned())]);
    assert_eq!(
        value,
        json!({"spec": {"replicas": 0, "paused": false, "template": {"spec": {"containers": []}}}})
    );
}

#[test]
fn schemas_of_custom_resources_are_checked() {
    let definition = kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let schema = |schema: Value| json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"properties": {"a": schema}}}}]}});
    let good =
        schema(json!({"items": {"type": "string"}, "additionalProperties": false, "default": {"x": [1]}}));
    let (value, issues) = full(definition, good.clone());
    assert_eq!(issues, Vec::<String>::new());
    assert_eq!(
        value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["a"],
        good["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["a"]
    );
    let (_, issues) = full(definition, schema(json!({"items": {"typo": "string"}})));
    assert_eq!(issues.len(), 1);
    let mut bad = schema(json!({"additionalProperties": 5}));
    assert!(normalize(&mut bad, definition, Mode::Full).is_err());
}

#[test]
fn duplicates_are_reported_before_unknown_fields() {
    let decoded =
        crate::json::decode_strict(br#"{"spec": {"nodeName": "a", "x": 1, "nodeName": "b"}}"#).unwrap();
    let (value, issues) = normalize_decoded(decoded, pod(), Mode::Full).unwrap();
    assert_eq!(value["spec"]["nodeName"], "b");
    assert_eq!(
        strict_error(&issues),
        "strict decoding error: duplicate field \"spec.nodeName\", unknown field \"spec.x\""
    );
}
