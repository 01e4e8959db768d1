//! Discovery in both forms, health, version and unknown paths.

use crate::support::model;
use http::Method;
use serde_json::json;

#[tokio::test]
async fn the_legacy_form() {
    let fixture = model().await;
    let core = fixture.get("/api").await.expect(200);
    assert_eq!(core["versions"], json!(["v1"]));
    let groups = fixture.get("/apis").await.expect(200);
    assert_eq!(groups["groups"][0]["name"], "apps");
    assert_eq!(groups["groups"][0]["preferredVersion"]["groupVersion"], "apps/v1");
    let apps = fixture.get("/apis/apps").await.expect(200);
    assert_eq!(apps["kind"], "APIGroup");
    let resources = fixture.get("/api/v1").await.expect(200);
    let find =
        |name: &str| resources["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).cloned();
    let pods = find("pods").unwrap();
    assert_eq!(pods["shortNames"], json!(["po"]));
    assert_eq!(pods["categories"], json!(["all"]));
    assert_eq!(find("pods/eviction").unwrap()["group"], "policy");
    assert_eq!(find("pods/log").unwrap()["verbs"], json!(["get"]));
    assert!(!find("namespaces").unwrap()["verbs"].as_array().unwrap().contains(&json!("deletecollection")));
    assert_eq!(fixture.delete("/api/v1/namespaces").await.code.as_u16(), 405);
    fixture.get("/apis/none").await.expect(404);
    fixture.get("/apis/apps/v9").await.expect(404);
    fixture.get("/api/v1/none").await.expect(404);
}

#[tokio::test]
async fn the_aggregated_form_has_a_tag() {
    let fixture = model().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                  application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let answer = fixture.with_headers(Method::GET, "/apis", &[("accept", accept)], "").await;
    assert_eq!(
        answer.headers["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let tag = answer.headers["etag"].to_str().unwrap().to_owned();
    let document = answer.expect(200);
    assert_eq!(document["kind"], "APIGroupDiscoveryList");
    let deployments = document["items"][0]["versions"][0]["resources"].as_array().unwrap();
    let deployments = deployments.iter().find(|resource| resource["resource"] == "deployments").unwrap();
    assert_eq!(deployments["subresources"][0]["responseKind"]["kind"], "Scale");
    let again =
        fixture.with_headers(Method::GET, "/apis", &[("accept", accept), ("if-none-match", &tag)], "").await;
    assert_eq!(again.code.as_u16(), 304);
    let core = fixture.with_headers(Method::GET, "/api", &[("accept", accept)], "").await.expect(200);
    assert_eq!(core["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn health_version_and_paths() {
    let fixture = model().await;
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping"] {
        let answer = fixture.get(path).await;
        assert_eq!((answer.code.as_u16(), &answer.bytes[..]), (200, &b"ok"[..]), "{path}");
    }
    let verbose = fixture.get("/readyz?verbose").await;
    let text = String::from_utf8_lossy(&verbose.bytes).into_owned();
    assert!(text.contains("[+]etcd ok\n") && text.ends_with("readyz check passed\n"), "{text}");
    let version = fixture.get("/version").await.expect(200);
    assert_eq!(version["minor"], "37");
    let paths = fixture.get("/").await.expect(200);
    assert!(paths["paths"].as_array().unwrap().contains(&json!("/apis/apps/v1")));
    let answer = fixture.get("/nothing").await;
    assert!(answer.headers.contains_key("audit-id"));
    answer.expect(404);
}

#[tokio::test]
async fn metrics_count_requests() {
    let fixture = model().await;
    fixture.get("/api/v1/namespaces/default/configmaps").await.expect(200);
    fixture.get("/api/v1/namespaces/default/configmaps/x").await.expect(404);
    fixture.get("/api/v1/namespaces/default/scan-me").await.expect(404);
    let metrics = fixture.get("/metrics").await;
    let text = String::from_utf8(metrics.bytes.to_vec()).unwrap();
    let series = |code: u16, scope: &str, verb: &str| {
        format!(
            "apiserver_request_total{{code=\"{code}\",component=\"apiserver\",dry_run=\"\",group=\"\",\
             resource=\"configmaps\",scope=\"{scope}\",subresource=\"\",verb=\"{verb}\",version=\"v1\"}} 1\n"
        )
    };
    assert!(text.contains(&series(200, "namespace", "LIST")), "{text}");
    assert!(text.contains(&series(404, "resource", "GET")), "{text}");
    assert!(!text.contains("scan-me"), "{text}");
    assert!(text.contains("apiserver_storage_objects{resource=\"configmaps\"} 0\n"), "{text}");
}
