//! What operators ask of the server, and what it answers when it cannot do what is asked: health, metrics, limits, panics, deadlines.

use crate::support::{Fixture, config_map, configured, model};
use futures_util::future::BoxFuture;
use http::Method;
use nauplius_apiserver::UserInfo;
use nauplius_apiserver::authz::{Authorize, RuleList, Verdict};
use nauplius_apiserver::request::Attributes;
use serde_json::json;
use std::sync::Arc;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn text(answer: &crate::support::Answer) -> String {
    String::from_utf8_lossy(&answer.bytes).into_owned()
}

#[tokio::test]
async fn health_is_told_by_named_checks() {
    let fixture = model().await;
    for endpoint in ["healthz", "livez", "readyz"] {
        let plain = fixture.get(&format!("/{endpoint}")).await;
        assert_eq!((plain.code.as_u16(), text(&plain).as_str()), (200, "ok"));
        assert_eq!(plain.headers["x-content-type-options"], "nosniff");
        let verbose = text(&fixture.get(&format!("/{endpoint}?verbose")).await);
        for check in ["ping", "log", "etcd", "poststarthook/rbac/bootstrap-roles"] {
            assert!(verbose.contains(&format!("[+]{check} ok\n")), "{verbose}");
            assert_eq!(text(&fixture.get(&format!("/{endpoint}/{check}")).await), "ok");
        }
        assert!(verbose.ends_with(&format!("{endpoint} check passed\n")));
        assert_eq!(verbose.contains("[+]shutdown ok"), endpoint == "readyz");
        assert_eq!(fixture.get(&format!("/{endpoint}/none")).await.code.as_u16(), 404);
    }
    let excluded = text(&fixture.get("/readyz?verbose&exclude=etcd&exclude=zoo&exclude=ape").await);
    assert!(excluded.contains("[+]etcd excluded: ok\n"), "{excluded}");
    let warning = "warn: some health checks cannot be excluded: no matches for \"ape\",\"zoo\"\n";
    assert!(excluded.contains(warning), "{excluded}");
    let server = Arc::clone(&fixture.server);
    server.shutdown_token().cancel();
    let request = http::Request::get("/readyz").body(nauplius_client::transport::empty()).unwrap();
    let reply = Arc::clone(&server).handle(request).await;
    assert_eq!(reply.status(), 403, "nobody may ask in this server without rights");
}

#[tokio::test]
async fn metrics_have_upstreams_names() {
    let fixture = model().await;
    fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    fixture.get(MAPS).await.expect(200);
    let mut events = fixture.watch(&format!("{MAPS}?watch=1&resourceVersion=0")).await;
    assert!(events.line().await.starts_with("ADDED a@"));
    let metrics = fixture.get("/metrics").await;
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let metrics = text(&metrics);
    for line in [
        "apiserver_request_total{code=\"201\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\",\
         scope=\"namespace\",subresource=\"\",verb=\"POST\",version=\"v1\"} 1",
        "apiserver_request_duration_seconds_count{component=\"apiserver\",dry_run=\"\",group=\"\",\
         resource=\"configmaps\",scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 1",
        "apiserver_response_sizes_count{component=\"apiserver\",group=\"\",resource=\"configmaps\",\
         scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 1",
        "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0",
        "apiserver_longrunning_requests{component=\"apiserver\"} 1",
        "apiserver_watch_events_total{group=\"\",resource=\"configmaps\",version=\"v1\"} 1",
        "apiserver_resource_objects{group=\"\",resource=\"configmaps\"} 1",
        "apiserver_storage_objects{resource=\"configmaps\"} 1",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert!(metrics.lines().any(|own| own == line), "{line} is not in\n{metrics}");
    }
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    assert!(value("process_resident_memory_bytes ") > 1e6);
    assert!(value("process_start_time_seconds ") > 1.5e9);
    assert!(value("process_open_fds ") >= 1.0);
}

#[tokio::test]
async fn other_paths_of_operators() {
    let fixture = model().await;
    let config = fixture.get("/configz").await.expect(200);
    assert_eq!(config["apiserver.nauplius"]["maxRequestsInflight"], 400);
    assert_eq!(config["apiserver.nauplius"]["serviceNodePortRange"], "30000-32767");
    let refused = fixture.get("/debug/pprof/profile").await;
    assert_eq!(refused.code.as_u16(), 501);
    assert_eq!(fixture.get("/logs/").await.code.as_u16(), 404);
    let unknown = fixture.get("/nothing").await;
    assert_eq!(unknown.code.as_u16(), 404);
    assert!(unknown.json()["paths"].as_array().unwrap().contains(&json!("/healthz")));
}

/// Panics for one user.
struct Fragile;

impl Authorize for Fragile {
    fn authorize<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, Verdict> {
        assert_ne!(attributes.info.name, "bomb");
        Box::pin(async { Verdict::allow("") })
    }

    fn rules<'a>(&'a self, _user: &'a UserInfo, _namespace: &'a str) -> BoxFuture<'a, RuleList> {
        Box::pin(async { RuleList::default() })
    }
}

#[tokio::test]
async fn a_panic_ends_one_request() {
    let fixture = configured(|config| config.authorizer = Arc::new(Fragile)).await;
    let broken = fixture.get(&format!("{MAPS}/bomb")).await;
    assert_eq!(broken.code.as_u16(), 500);
    assert_eq!(text(&broken), "This request caused apiserver to panic. Look in the logs for details.\n");
    assert!(broken.headers.contains_key("audit-id"));
    fixture.get(MAPS).await.expect(200);
}

async fn refused(fixture: &Fixture, method: Method, path: &str) -> (u16, String) {
    let answer = fixture.with_headers(method, path, &[], "").await;
    let message = match answer.bytes.is_empty() {
        true => String::new(),
        false => answer.json()["message"].as_str().unwrap().to_owned(),
    };
    (answer.code.as_u16(), message)
}

#[tokio::test]
async fn methods_without_a_route_are_refused() {
    let fixture = model().await;
    let no_method = "the server does not allow this method on the requested resource".to_owned();
    for (method, path) in [
        (Method::OPTIONS, MAPS.to_owned()),
        (Method::TRACE, MAPS.to_owned()),
        (Method::PUT, MAPS.to_owned()),
        (Method::PATCH, MAPS.to_owned()),
        (Method::POST, format!("{MAPS}/a")),
        (Method::DELETE, "/api/v1/namespaces".to_owned()),
        (Method::DELETE, format!("{}/a/status", MAPS.replace("configmaps", "pods"))),
        (Method::GET, format!("{}/a/eviction", MAPS.replace("configmaps", "pods"))),
    ] {
        assert_eq!(
            refused(&fixture, method.clone(), &path).await,
            (405, no_method.clone()),
            "{method} {path}"
        );
    }
    assert_eq!(fixture.with_headers(Method::HEAD, MAPS, &[], "").await.code.as_u16(), 405);
}

#[tokio::test]
async fn deadlines_of_clients_are_read() {
    let fixture = model().await;
    fixture.get(&format!("{MAPS}?timeout=5s")).await.expect(200);
    let (code, message) = refused(&fixture, Method::GET, &format!("{MAPS}?timeout=soon")).await;
    let expected = "invalid timeout specified in the request URL - time: invalid duration \"soon\"";
    assert_eq!((code, message.as_str()), (400, expected));
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let fixture = model().await;
    let json = [("content-type", "application/json")];
    let large = vec![b' '; (3 << 20) + 1];
    for (method, path) in
        [(Method::POST, MAPS), (Method::PUT, &format!("{MAPS}/a")), (Method::DELETE, &format!("{MAPS}/a"))]
    {
        let answer = fixture.with_headers(method.clone(), path, &json, large.clone()).await;
        assert_eq!(answer.refusal(), "413 Request entity too large: limit is 3145728", "{method}");
    }
}
