//! What OpenAPI says of custom resources.

use super::{DEFINITIONS, define, defined, definition};
use crate::support::{Answer, Fixture, model};
use http::Method;
use nauplius_base::time::{sleep, timeout};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn definitions_are_published_in_openapi() {
    let fixture = defined().await;
    let index = fixture.get("/openapi/v3").await.expect(200);
    let url = |index: &Value| {
        index["paths"]["apis/stable.example.com/v1"]["serverRelativeURL"].as_str().map(str::to_owned)
    };
    let first = url(&index).unwrap();
    let document = fixture.get(&first).await.expect(200);
    let schemas = &document["components"]["schemas"];
    let tab = &schemas["com.example.stable.v1.CronTab"];
    assert_eq!(
        tab["properties"]["spec"]["properties"]["cron"],
        json!({"type": "string", "pattern": "^[0-9* ]+$"})
    );
    assert_eq!(tab["properties"]["spec"]["properties"]["replicas"]["default"], 1);
    assert_eq!(
        tab["properties"]["metadata"]["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}])
    );
    let gvk = json!([{"group": "stable.example.com", "version": "v1", "kind": "CronTab"}]);
    assert_eq!(tab["x-kubernetes-group-version-kind"], gvk);
    assert_eq!(
        schemas["com.example.stable.v1.CronTabList"]["properties"]["items"]["items"]["$ref"],
        "#/components/schemas/com.example.stable.v1.CronTab"
    );
    assert!(schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry"].is_object());
    let post = &document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs"]["post"];
    assert_eq!(post["operationId"], "createStableExampleComV1NamespacedCronTab");
    let patch = &document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}/status"]
        ["patch"];
    assert!(patch["requestBody"]["content"]["application/merge-patch+json"].is_object());
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_null());

    let old = fixture.get("/openapi/v2").await.expect(200);
    let tab = &old["definitions"]["com.example.stable.v1.CronTab"];
    assert_eq!(
        tab["properties"]["metadata"]["$ref"],
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    // Old clients would take what may be anything for something.
    assert_eq!(
        tab["properties"]["spec"]["properties"]["free"],
        json!({"x-kubernetes-preserve-unknown-fields": true})
    );
    let protobuf = [("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
    let gnostic = fixture.with_headers(Method::GET, "/openapi/v2", &protobuf, "").await;
    let name = b"com.example.stable.v1.CronTabList";
    assert!(gnostic.bytes.windows(name.len()).any(|window| window == name));

    // Another definition changes what is its own.
    let core = |index: &Value| index["paths"]["api/v1"]["serverRelativeURL"].clone();
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let mut definition = fixture.get(&path).await.json();
    let properties = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        ["properties"];
    properties["port"] = json!({"x-kubernetes-int-or-string": true, "description": "A port."});
    fixture.put(&path, &definition).await.expect(200);
    let later = fixture.get("/openapi/v3").await.expect(200);
    assert_ne!(url(&later), Some(first));
    assert_eq!(core(&later), core(&index));
    let document = fixture.get(&url(&later).unwrap()).await.expect(200);
    let port = &document["components"]["schemas"]["com.example.stable.v1.CronTab"]["properties"]["spec"]["properties"]
        ["port"];
    assert_eq!(port["anyOf"], json!([{"type": "integer"}, {"type": "string"}]));
    remove(&fixture, "crontabs").await;
    assert_eq!(url(&fixture.get("/openapi/v3").await.expect(200)), None);
    assert!(
        fixture.get("/openapi/v2").await.expect(200)["definitions"]["com.example.stable.v1.CronTab"]
            .is_null()
    );
}

/// The definition of another kind of the same group.
fn other(plural: &str, kind: &str) -> Value {
    let mut other = definition();
    other["metadata"]["name"] = format!("{plural}.stable.example.com").into();
    other["spec"]["names"] = json!({"plural": plural, "kind": kind});
    other
}

async fn remove(fixture: &Fixture, plural: &str) {
    let path = format!("{DEFINITIONS}/{plural}.stable.example.com");
    fixture.delete(&path).await.expect(200);
    let wait = async {
        while fixture.get(&path).await.code.as_u16() != 404 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap();
}

async fn old(fixture: &Fixture, accept: &str) -> Answer {
    let answer = fixture.with_headers(Method::GET, "/openapi/v2", &[("accept", accept)], "").await;
    assert_eq!(answer.code.as_u16(), 200);
    answer
}

/// A document that is made from what was kept of others says what one says that was made at once, down to its hash.
#[tokio::test]
async fn a_document_that_changes_is_one_made_anew() {
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let changing = defined().await;
    for accept in ["application/json", PROTOBUF] {
        let before = old(&changing, accept).await;
        define(&changing, &other("plants", "Plant")).await;
        let between = old(&changing, accept).await;
        assert_ne!(before.headers["etag"], between.headers["etag"]);
        remove(&changing, "plants").await;
        let after = old(&changing, accept).await;
        assert_eq!((&after.headers["etag"], &after.bytes), (&before.headers["etag"], &before.bytes));
        define(&changing, &other("ants", "Ant")).await;
        let fresh = model().await;
        define(&fresh, &other("ants", "Ant")).await;
        define(&fresh, &definition()).await;
        let (changed, fresh) = (old(&changing, accept).await, old(&fresh, accept).await);
        assert_eq!(changed.headers["etag"], fresh.headers["etag"]);
        assert!(changed.bytes == fresh.bytes, "the bytes differ");
        remove(&changing, "ants").await;
    }
    let document = old(&changing, "application/json").await.json();
    let mut lost = Vec::new();
    lost_references(&document, &document, &mut lost);
    assert!(lost.is_empty(), "{lost:?}");
}

fn lost_references(document: &Value, value: &Value, lost: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let reference =
                fields.get("$ref").and_then(Value::as_str).map(|path| path.trim_start_matches('#'));
            lost.extend(reference.filter(|path| document.pointer(path).is_none()).map(str::to_owned));
            fields.values().for_each(|value| lost_references(document, value, lost));
        }
        Value::Array(values) => values.iter().for_each(|value| lost_references(document, value, lost)),
        _ => {}
    }
}
