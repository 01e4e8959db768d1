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
        "apiserver_request_sli_duration_seconds_count{component=\"apiserver\",group=\"\",resource=\"configmaps\",\
         scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 1",
        "apiserver_longrunning_requests{component=\"apiserver\",group=\"\",resource=\"configmaps\",\
         scope=\"namespace\",subresource=\"\",verb=\"WATCH\",version=\"v1\"} 1",
        "apiserver_watch_events_sizes_count{group=\"\",resource=\"configmaps\",version=\"v1\"} 1",
        "apiserver_tls_handshake_errors_total 0",
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
    assert!(value("apiserver_storage_size_bytes{storage_cluster_id=\"etcd-0\"} ") >= 0.0);
}

/// Families that are the whole process's are filled by whatever runs in it, other tests included.
#[tokio::test]
async fn families_of_the_process_have_upstreams_names_and_labels() {
    let fixture = model().await;
    fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    fixture.put(&format!("{MAPS}/a"), &config_map("a", &json!({"x": "y"}), &json!({}))).await.expect(200);
    fixture.delete(&format!("{MAPS}/a")).await.expect(200);
    let metrics = text(&fixture.get("/metrics").await);
    for (family, kind, labels) in [
        ("rest_client_requests_total", "counter", "code=\"201\",host=\"in-process\",method=\"POST\""),
        ("rest_client_request_duration_seconds", "histogram", "host=\"in-process\",verb=\"GET\""),
        ("rest_client_request_size_bytes", "histogram", "host=\"in-process\",verb=\"POST\""),
        ("rest_client_response_size_bytes", "histogram", "host=\"in-process\",verb=\"POST\""),
        (
            "etcd_request_duration_seconds",
            "histogram",
            "group=\"\",operation=\"create\",resource=\"configmaps\"",
        ),
        ("etcd_requests_total", "counter", "group=\"\",operation=\"update\",resource=\"configmaps\""),
        ("etcd_requests_total", "counter", "group=\"\",operation=\"delete\",resource=\"configmaps\""),
        ("apiserver_storage_events_received_total", "counter", "group=\"\",resource=\"configmaps\""),
        ("authentication_attempts", "counter", "result=\"success\""),
        ("authentication_duration_seconds", "histogram", "result=\"success\""),
        ("authenticated_user_requests", "counter", "username=\"admin\""),
        ("authorization_attempts_total", "counter", "result=\"allowed\""),
        ("authorization_duration_seconds", "histogram", "result=\"allowed\""),
        (
            "apiserver_admission_step_admission_duration_seconds",
            "histogram",
            "operation=\"CREATE\",rejected=\"false\",type=\"validate\"",
        ),
    ] {
        assert!(metrics.contains(&format!("\n# TYPE {family} {kind}\n")), "{family} is no {kind}");
        let sample = if kind == "histogram" { format!("{family}_count") } else { family.to_owned() };
        let line = format!("\n{sample}{{{labels}}} ");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
}

/// A scraper refuses a page with one bad line, and one with a series twice.
#[tokio::test]
async fn metrics_are_a_page_that_prometheus_takes() {
    let fixture = model().await;
    let apply = "application/apply-patch+yaml";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}});
    for code in [201, 200] {
        fixture.patch(&format!("{MAPS}/b?fieldManager=x"), apply, &map).await.expect(code);
    }
    let page = text(&fixture.get("/metrics").await);
    let (mut series, mut families) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            assert!(families.insert(family.split(' ').next().unwrap()), "{line} twice");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(series.insert(name), "{name} twice");
            value.parse::<f64>().unwrap_or_else(|error| panic!("{error}: {line}"));
        }
    }
    assert!(page.contains("verb=\"APPLY\""), "{page}");
}

#[tokio::test]
async fn checks_are_counted_for_service_levels() {
    let fixture = model().await;
    fixture.get("/readyz").await;
    let slis = fixture.get("/metrics/slis").await;
    assert_eq!(slis.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let slis = text(&slis);
    for line in [
        "kubernetes_healthcheck{name=\"etcd\",type=\"readyz\"} 1",
        "kubernetes_healthchecks_total{name=\"etcd\",status=\"success\",type=\"readyz\"} 2",
        "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"livez\"} 1",
    ] {
        assert!(slis.lines().any(|own| own == line), "{line} is not in\n{slis}");
    }
}

#[tokio::test]
async fn pages_about_the_server_itself() {
    let fixture = model().await;
    let get = async |path: &str, accept: &str| {
        let headers: &[(&str, &str)] = &[("accept", accept)];
        fixture.with_headers(Method::GET, path, headers, "").await
    };
    for (path, kind) in [("/statusz", "Statusz"), ("/flagz", "Flagz")] {
        for accept in ["text/plain", "*/*", ""] {
            let page = get(path, accept).await;
            assert_eq!(
                (page.code.as_u16(), page.headers["content-type"].to_str().unwrap()),
                (200, "text/plain; charset=utf-8")
            );
            let begin =
                format!("\nkube-apiserver {}\nWarning: This endpoint is not meant", path.trim_matches('/'));
            assert!(text(&page).starts_with(&begin), "{}", text(&page));
        }
        let object =
            get(path, &format!("application/json;as={kind};v=v1beta1;g=config.k8s.io")).await.expect(200);
        assert_eq!((&object["kind"], &object["apiVersion"]), (&json!(kind), &json!("config.k8s.io/v1beta1")));
        assert_eq!(object["metadata"]["name"], "kube-apiserver");
        for accept in ["application/json", "application/json;as=Other;v=v1beta1;g=config.k8s.io", "image/png"]
        {
            assert_eq!(get(path, accept).await.code.as_u16(), 406, "{accept}");
        }
    }
    let flags = get("/flagz", "application/json;as=Flagz;v=v1beta1;g=config.k8s.io").await.json();
    assert_eq!(flags["flags"]["max-requests-inflight"], "400");
    let status = get("/statusz", "application/json;as=Statusz;v=v1alpha1;g=config.k8s.io").await.json();
    assert!(
        status["uptimeSeconds"].as_i64().unwrap() >= 0
            && status["paths"].as_array().unwrap().contains(&json!("/livez"))
    );
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
    assert_eq!(unknown.json()["message"], "the server could not find the requested resource");
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
    // Nothing, and less, says nothing; what is meant to last has no deadline that could be wrong.
    for query in ["timeout=0s", "timeout=-1s", "watch=1&timeoutSeconds=1&timeout=x"] {
        assert_eq!(fixture.get(&format!("{MAPS}?{query}")).await.code.as_u16(), 200, "{query}");
    }
}

#[tokio::test]
async fn a_request_that_is_late_already_is_told_so() {
    let fixture = model().await;
    for (method, path) in [(Method::GET, MAPS), (Method::GET, "/version"), (Method::DELETE, MAPS)] {
        let answer = fixture.with_headers(method, &format!("{path}?timeout=1ns"), &[], "").await;
        let expected = "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"Timeout: request did not complete within the \
                        allotted timeout\",\"reason\":\"Timeout\",\"details\":{},\"code\":504}\n";
        assert_eq!((answer.code.as_u16(), &*String::from_utf8_lossy(&answer.bytes)), (504, expected));
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        assert!(answer.headers.contains_key("audit-id"));
    }
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
