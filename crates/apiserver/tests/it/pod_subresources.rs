//! Subresources that change a running pod: ephemeral containers and resize.

use crate::support::{Fixture, model};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

async fn pod(fixture: &Fixture, spec: Value) -> Value {
    fixture.post(PODS, &json!({"metadata": {"name": "p"}, "spec": spec})).await.expect(201)
}

fn ephemeral(containers: Value) -> Value {
    json!({"spec": {"ephemeralContainers": containers}})
}

#[tokio::test]
async fn ephemeral_containers_are_added_and_stay() {
    let fixture = model().await;
    pod(&fixture, json!({"containers": [{"name": "c", "image": "i"}]})).await;
    let path = format!("{PODS}/p/ephemeralcontainers");
    let debug = json!({"name": "debug", "image": "busybox", "stdin": true, "targetContainerName": "c"});
    let mut patch = ephemeral(json!([debug]));
    // Only the list is taken from a write through this path.
    patch["metadata"] = json!({"labels": {"not": "taken"}});
    patch["spec"]["containers"] = json!([{"name": "c", "image": "other"}]);
    let added = fixture.patch(&path, STRATEGIC, &patch).await.expect(200);
    assert_eq!(added["kind"], "Pod");
    assert_eq!(added["metadata"]["generation"], 2);
    assert_eq!(added["metadata"]["labels"], Value::Null);
    assert_eq!(added["spec"]["containers"][0]["image"], "i");
    let made = &added["spec"]["ephemeralContainers"][0];
    assert_eq!((&made["name"], &made["imagePullPolicy"]), (&json!("debug"), &json!("Always")));
    assert_eq!(made["terminationMessagePolicy"], "File");
    assert_eq!(fixture.get(&path).await.expect(200), added);

    let mut again = added.clone();
    again["spec"]["ephemeralContainers"] = json!([]);
    let removed = fixture.put(&path, &again).await.refusal();
    let words = "422 Pod \"p\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers \
                 \"debug\" may not be removed";
    assert!(removed.starts_with(words), "{removed}");
    again["spec"]["ephemeralContainers"] = added["spec"]["ephemeralContainers"].clone();
    again["spec"]["ephemeralContainers"][0]["image"] = json!("other");
    let changed = fixture.put(&path, &again).await.refusal();
    assert!(changed.contains("existing ephemeral containers \"debug\" may not be changed"), "{changed}");
    // The plain path takes none.
    let plain = fixture
        .patch(&format!("{PODS}/p"), STRATEGIC, &ephemeral(json!([{"name": "e", "image": "i"}])))
        .await;
    assert!(plain.refusal().contains("pod updates may not change fields other than"), "{}", plain.refusal());
}

#[tokio::test]
async fn ephemeral_containers_may_not_have_everything() {
    let fixture = model().await;
    pod(
        &fixture,
        json!({"containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v", "emptyDir": {}}]}),
    )
    .await;
    let path = format!("{PODS}/p/ephemeralcontainers");
    for (container, words) in [
        (json!({"name": "c", "image": "i"}), "spec.ephemeralContainers[0].name: Duplicate value: \"c\""),
        (
            json!({"name": "e", "image": "i", "targetContainerName": "none"}),
            "spec.ephemeralContainers[0].targetContainerName: Not found: \"none\"",
        ),
        (
            json!({"name": "e", "image": "i", "ports": [{"containerPort": 80}]}),
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            json!({"name": "e", "image": "i", "livenessProbe": {"exec": {"command": ["x"]}}}),
            "spec.ephemeralContainers[0].livenessProbe: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            json!({"name": "e", "image": "i", "resources": {"requests": {"cpu": "1"}}}),
            "spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            json!({"name": "e", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s"}]}),
            "spec.ephemeralContainers[0].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container",
        ),
    ] {
        let refused = fixture.patch(&path, STRATEGIC, &ephemeral(json!([container]))).await.refusal();
        assert!(refused.contains(words), "{refused}");
    }
    let created = json!({"metadata": {"name": "q"}, "spec": {"containers": [{"name": "c", "image": "i"}],
        "ephemeralContainers": [{"name": "e", "image": "i"}]}});
    let refused = fixture.post(PODS, &created).await.refusal();
    assert!(refused.contains("spec.ephemeralContainers: Forbidden: cannot be set on create"), "{refused}");
}

fn resources(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": "2", "memory": "1Gi"}})
}

#[tokio::test]
async fn a_resize_changes_amounts_and_nothing_else() {
    let fixture = model().await;
    let made = pod(
        &fixture,
        json!({"containers": [
            {"name": "a", "image": "i", "resources": resources("100m", "64Mi")},
            {"name": "b", "image": "i", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}},
        ]}),
    )
    .await;
    let path = format!("{PODS}/p/resize");
    let mut patch =
        json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "200m"}}}]}});
    patch["metadata"] = json!({"labels": {"not": "taken"}});
    let resized = fixture.patch(&path, STRATEGIC, &patch).await.expect(200);
    assert_eq!(
        resized["spec"]["containers"][0]["resources"]["requests"],
        json!({"cpu": "200m", "memory": "64Mi"})
    );
    assert_eq!(resized["spec"]["containers"][1], made["spec"]["containers"][1]);
    assert_eq!(
        (&resized["metadata"]["generation"], &resized["metadata"]["labels"]),
        (&json!(2), &Value::Null)
    );
    // The plain path does not resize.
    let more = json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "250m"}}}]}});
    let plain = fixture.patch(&format!("{PODS}/p"), STRATEGIC, &more).await.refusal();
    assert!(plain.contains("pod updates may not change fields other than"), "{plain}");

    for (change, words) in [
        (
            json!({"containers": [{"name": "b", "resources": {"requests": {"cpu": null}}}]}),
            "spec.containers[1].resources.requests: Forbidden: resource requests cannot be removed",
        ),
        (
            json!({"containers": [{"name": "a", "resources": {"limits": {"memory": null}}}]}),
            "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
        ),
        (
            json!({"containers": [{"name": "a", "resources": {"limits": {"ephemeral-storage": "1Gi"}}}]}),
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i"}]}),
            "spec.containers: Forbidden: containers may not be added or removed on resize",
        ),
        (
            json!({"containers": [
                {"name": "a", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}},
                {"name": "b", "resources": resources("2", "1Gi")},
            ]}),
            "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
        ),
        (
            json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "3"}}}]}),
            "must be less than or equal to cpu limit of 2",
        ),
    ] {
        let refused = fixture.patch(&path, STRATEGIC, &json!({"spec": change})).await.refusal();
        assert!(refused.starts_with("422 ") && refused.contains(words), "{refused}");
    }
    let mut swapped = resized.clone();
    swapped["spec"]["containers"].as_array_mut().unwrap().reverse();
    let refused = fixture.put(&path, &swapped).await.refusal();
    for index in 0..2 {
        let words = format!(
            "spec.containers[{index}].name: Forbidden: containers may not be renamed or reordered on resize"
        );
        assert!(refused.contains(&words), "{refused}");
    }
}
