//! Discovery in both forms, health, version and unknown paths.

use crate::support::{configured, model};
use http::Method;
use nauplius_apiserver::discovery::OpenIdDocuments;
use serde_json::json;

#[tokio::test]
async fn the_legacy_form() {
    let fixture = model().await;
    let core = fixture.get("/api").await.expect(200);
    assert_eq!(core["versions"], json!(["v1"]));
    let groups = fixture.get("/apis").await.expect(200);
    assert_eq!(groups["groups"][0]["name"], "apiregistration.k8s.io");
    assert_eq!(groups["groups"][1]["name"], "apps");
    assert_eq!(groups["groups"][1]["preferredVersion"]["groupVersion"], "apps/v1");
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
    let deployments = document["items"][1]["versions"][0]["resources"].as_array().unwrap();
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

#[tokio::test]
async fn groups_come_in_upstreams_order() {
    let fixture = model().await;
    let groups = fixture.get("/apis").await.expect(200);
    let names: Vec<_> =
        groups["groups"].as_array().unwrap().iter().map(|group| group["name"].clone()).collect();
    let order = [
        "apiregistration.k8s.io",
        "apps",
        "events.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
        "certificates.k8s.io",
        "networking.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "storage.k8s.io",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "scheduling.k8s.io",
        "coordination.k8s.io",
        "node.k8s.io",
        "discovery.k8s.io",
        "resource.k8s.io",
        "flowcontrol.apiserver.k8s.io",
        "storagemigration.k8s.io",
    ];
    let known: Vec<_> = order.into_iter().filter(|name| names.contains(&json!(name))).collect();
    assert_eq!(names, known);
}

/// The whole documents of one group, as upstream writes them.
#[tokio::test]
async fn one_group_in_both_forms() {
    let fixture = model().await;
    let verbs = json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
    let legacy = fixture.get("/apis/policy/v1").await.expect(200);
    let expected = json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": "policy/v1",
        "resources": [
            {
                "name": "poddisruptionbudgets",
                "singularName": "poddisruptionbudget",
                "namespaced": true,
                "kind": "PodDisruptionBudget",
                "verbs": verbs,
                "shortNames": ["pdb"],
                "storageVersionHash": "EVWiDmWqyJw=",
            },
            {
                "name": "poddisruptionbudgets/status",
                "singularName": "",
                "namespaced": true,
                "kind": "PodDisruptionBudget",
                "verbs": ["get", "patch", "update"],
            },
        ],
    });
    assert_eq!(legacy, expected);
    // What only older clients ask for is no longer served, as upstream; they take the legacy form.
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let older = fixture.with_headers(Method::GET, "/apis", &[("accept", accept)], "").await.expect(200);
    assert_eq!(older["kind"], "APIGroupList");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let aggregated = fixture.with_headers(Method::GET, "/apis", &[("accept", accept)], "").await.expect(200);
    assert_eq!(aggregated["apiVersion"], "apidiscovery.k8s.io/v2");
    let policy =
        aggregated["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == "policy");
    let kind = json!({"group": "policy", "version": "v1", "kind": "PodDisruptionBudget"});
    let expected = json!({
        "metadata": {"name": "policy"},
        "versions": [{
            "version": "v1",
            "freshness": "Current",
            "resources": [{
                "resource": "poddisruptionbudgets",
                "responseKind": kind,
                "scope": "Namespaced",
                "singularResource": "poddisruptionbudget",
                "verbs": verbs,
                "shortNames": ["pdb"],
                "subresources": [
                    {"subresource": "status", "responseKind": kind, "verbs": ["get", "patch", "update"]},
                ],
            }],
        }],
    });
    assert_eq!(policy, Some(&expected));
    // Protobuf is not offered for these documents: the next clause of the header wins.
    let accept = "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let plain = fixture.with_headers(Method::GET, "/apis", &[("accept", accept)], "").await.expect(200);
    assert_eq!(plain["kind"], "APIGroupList");
}

#[tokio::test]
async fn tokens_can_be_checked_by_others() {
    let key = nauplius_pki::PrivateKey::generate().unwrap();
    let keys = [*nauplius_pki::TokenSigner::new(key).public()];
    let fixture = configured(|config| {
        config.openid = Some(OpenIdDocuments::new("https://issuer", "https://issuer/openid/v1/jwks", &keys));
    })
    .await;
    let answer = fixture.get("/.well-known/openid-configuration").await;
    assert_eq!(answer.headers["cache-control"], "public, max-age=3600");
    assert_eq!(answer.expect(200)["jwks_uri"], "https://issuer/openid/v1/jwks");
    let answer = fixture.get("/openid/v1/jwks").await;
    assert_eq!(answer.headers["content-type"], "application/jwk-set+json");
    assert_eq!(answer.expect(200)["keys"][0]["kid"], keys[0].key_id());
    assert_eq!(model().await.get("/openid/v1/jwks").await.code.as_u16(), 404);
}

/// Old clients ask for these documents in protobuf, too.
#[tokio::test]
async fn the_legacy_form_in_other_encodings() {
    let fixture = model().await;
    for path in ["/api", "/apis", "/apis/apps", "/api/v1", "/apis/apps/v1"] {
        for accept in ["application/vnd.kubernetes.protobuf", "application/yaml"] {
            let headers = [("accept", format!("{accept}, application/json"))];
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            let answer = fixture.with_headers(Method::GET, path, &headers, "").await;
            assert_eq!(
                (answer.code.as_u16(), &answer.headers["content-type"]),
                (200, &accept.parse().unwrap()),
                "{path}"
            );
            assert!(accept.ends_with("yaml") || answer.bytes.starts_with(b"k8s\0"), "{path}");
        }
    }
}

/// Upstream's router knows its paths for GET alone; what the aggregator serves itself, it serves whatever the method.
#[tokio::test]
async fn methods_of_discovery() {
    let fixture = model().await;
    for (path, code) in [
        ("/version", 405),
        ("/version/", 405),
        ("/version/more", 404),
        ("/api", 405),
        ("/api/", 405),
        ("/api/v1", 405),
        ("/apis", 200),
        ("/apis/apps", 200),
        ("/apis/apps/v1", 405),
        ("/apis/apiextensions.k8s.io/v1", 405),
        ("/", 200),
        ("/openapi/v3", 200),
        ("/metrics", 200),
        ("/nothing", 404),
    ] {
        for method in [Method::HEAD, Method::POST, Method::PUT, Method::PATCH] {
            let answer = fixture.with_headers(method.clone(), path, &[], "").await;
            assert_eq!(answer.code.as_u16(), code, "{method} {path}");
        }
    }
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let posted = fixture.with_headers(Method::POST, "/apis", &[("accept", accept)], "").await.expect(200);
    assert_eq!(posted["kind"], "APIGroupDiscoveryList");
}
