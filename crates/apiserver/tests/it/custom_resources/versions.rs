//! Several versions of one resource.

use super::{DEFINITIONS, TABS, defined, tab};
use serde_json::json;

#[tokio::test]
async fn versions_share_objects_and_the_old_ones_are_warned_of() {
    let fixture = defined().await;
    fixture.post(TABS, &tab("a", json!({"cron": "1", "color": "red"}))).await.expect(201);
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let mut definition = fixture.get(&path).await.json();
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    // Selectable fields that differ stand beside schemas that do.
    second["schema"]["openAPIV3Schema"]["description"] = "newer".into();
    second["selectableFields"] = json!([{"jsonPath": ".spec.cron"}]);
    definition["spec"]["versions"][0]["deprecated"] = true.into();
    definition["spec"]["versions"][0]["storage"] = false.into();
    definition["spec"]["versions"] = json!([definition["spec"]["versions"][0], second]);
    let mut watch = fixture.watch(&format!("{TABS}?watch=1&resourceVersion=0")).await;
    assert!(watch.line().await.starts_with("ADDED a@"));
    let changed = fixture.put(&path, &definition).await.expect(200);
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    // A definition that changed is served anew.
    assert_eq!(watch.line().await, "END");
    let newer = "/apis/stable.example.com/v2/namespaces/n/crontabs";
    let found = fixture.get(&format!("{newer}/a")).await.expect(200);
    assert_eq!(
        (&found["apiVersion"], &found["spec"]["color"]),
        (&json!("stable.example.com/v2"), &json!("red"))
    );
    let older = fixture.get(&format!("{TABS}/a")).await;
    assert_eq!(older.headers["warning"], "299 - \"stable.example.com/v1 CronTab is deprecated\"");
    assert_eq!(older.json()["apiVersion"], "stable.example.com/v1");
    let mut both = fixture.watch(&format!("{newer}?watch=1&resourceVersion=0")).await;
    assert_eq!(both.next().await.unwrap()["object"]["apiVersion"], "stable.example.com/v2");
    let mut old_watch =
        fixture.watch(&format!("{TABS}?watch=1&resourceVersion=0&fieldSelector=spec.color%3Dred")).await;
    assert_eq!(old_watch.next().await.unwrap()["object"]["apiVersion"], "stable.example.com/v1");
    let merge = "application/merge-patch+json";
    let patched =
        fixture.patch(&format!("{TABS}/a"), merge, &json!({"spec": {"replicas": 4}})).await.expect(200);
    assert_eq!(patched["apiVersion"], "stable.example.com/v1");
    let event = both.next().await.unwrap();
    assert_eq!(
        (&event["object"]["apiVersion"], &event["object"]["spec"]["replicas"]),
        (&json!("stable.example.com/v2"), &json!(4))
    );
    let event = old_watch.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["apiVersion"]),
        (&json!("MODIFIED"), &json!("stable.example.com/v1"))
    );
    // Each version has fields of its own to select by.
    let by_cron = |root: &str| format!("{root}?fieldSelector=spec.cron%3D1");
    assert_eq!(fixture.get(&by_cron(newer)).await.expect(200)["items"].as_array().unwrap().len(), 1);
    assert_eq!(fixture.get(&by_cron(TABS)).await.code.as_u16(), 400);
    let mut later = fixture.get(&path).await.json();
    later["spec"]["versions"][0]["served"] = false.into();
    fixture.put(&path, &later).await.expect(200);
    assert_eq!(fixture.get(TABS).await.code.as_u16(), 404);
    fixture.get(newer).await.expect(200);
}
