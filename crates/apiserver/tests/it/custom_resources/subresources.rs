//! The subresources `status` and `scale`.

use super::{TABS, define, defined, definition, tab};
use crate::support::model;
use serde_json::json;

#[tokio::test]
async fn status_and_scale_are_written_on_their_own() {
    let fixture = defined().await;
    let mut tab = tab("a", json!({"cron": "1"}));
    tab["status"] = json!({"replicas": 9});
    let made = fixture.post(TABS, &tab).await.expect(201);
    assert_eq!(made.get("status"), None);
    let mut status = made.clone();
    status["status"] = json!({"replicas": 2, "selector": "a=b"});
    status["spec"]["replicas"] = 7.into();
    let status = fixture.put(&format!("{TABS}/a/status"), &status).await.expect(200);
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(1), &json!(2)));
    assert_eq!(status["metadata"]["generation"], 1);
    let merge = "application/merge-patch+json";
    let bad = fixture.patch(&format!("{TABS}/a/status"), merge, &json!({"status": {"replicas": "x"}})).await;
    assert_eq!(
        bad.refusal().split("invalid: ").nth(1).unwrap().split(", ").next(),
        Some(
            "[status.replicas: Invalid value: \"string\": replicas in body must be of type integer: \"string\""
        )
    );
    let scale = fixture.get(&format!("{TABS}/a/scale")).await.expect(200);
    assert_eq!(
        (&scale["kind"], &scale["spec"], &scale["status"]),
        (&json!("Scale"), &json!({"replicas": 1}), &json!({"replicas": 2, "selector": "a=b"}))
    );
    let scaled =
        fixture.patch(&format!("{TABS}/a/scale"), merge, &json!({"spec": {"replicas": 5}})).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 5);
    let tab = fixture.get(&format!("{TABS}/a")).await.json();
    assert_eq!((&tab["spec"]["replicas"], &tab["metadata"]["generation"]), (&json!(5), &json!(2)));
}

#[tokio::test]
async fn a_scale_needs_the_field_that_it_shows() {
    let fixture = model().await;
    fixture.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let mut definition = definition();
    let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    spec["replicas"].as_object_mut().unwrap().remove("default");
    define(&fixture, &definition).await;
    fixture.post(TABS, &tab("a", json!({"cron": "1"}))).await.expect(201);
    assert_eq!(
        fixture.get(&format!("{TABS}/a/scale")).await.refusal(),
        "500 Internal error occurred: the spec replicas field \".spec.replicas\" does not exist"
    );
}
