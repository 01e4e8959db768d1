//! Versions that a webhook converts.

use super::{DEFINITIONS, TABS, define, definition, tab, webhook};
use crate::support::{configured, model};
use futures_util::future::{BoxFuture, join_all};
use nauplius_apiserver::proxy::Dial;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::net::TcpStream;

fn with_webhook(client: Value) -> Value {
    let texts = |names: &[&str]| {
        let properties: serde_json::Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
        json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}})
    };
    let mut definition = definition();
    definition["spec"]["versions"] = json!([
        {"name": "v1", "served": true, "storage": true, "schema": texts(&["host", "port"]),
            "selectableFields": [{"jsonPath": ".spec.host"}]},
        {"name": "v2", "served": true, "storage": false, "schema": texts(&["address"]),
            "selectableFields": [{"jsonPath": ".spec.address"}]},
    ]);
    definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": client}});
    definition
}

/// Leads every address to this machine.
struct ToLoopback;

impl Dial for ToLoopback {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(("127.0.0.1", address.port())))
    }
}

#[tokio::test]
async fn a_webhook_converts_between_versions() {
    let webhook = webhook::start().await;
    let fixture = configured(|config| config.backends = Arc::new(ToLoopback)).await;
    fixture.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    // Reached through a service: the endpoints lead to it.
    let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 9443, "name": "https"}]}});
    fixture.post("/api/v1/namespaces/n/services", &service).await.expect(201);
    let endpoints = json!({"metadata": {"name": "hook"}, "subsets": [{"addresses": [{"ip": "10.255.255.1"}], "ports": [{"name": "https", "port": webhook.port}]}]});
    fixture.post("/api/v1/namespaces/n/endpoints", &endpoints).await.expect(201);
    let service = json!({"namespace": "n", "name": "hook", "path": "/convert", "port": 9443});
    define(&fixture, &with_webhook(json!({"service": service, "caBundle": webhook.ca_bundle}))).await;
    let newer = "/apis/stable.example.com/v2/namespaces/n/crontabs";

    let made = fixture.post(TABS, &tab("a", json!({"host": "h", "port": "1"}))).await.expect(201);
    let found = fixture.get(&format!("{newer}/a")).await.expect(200);
    assert_eq!(
        (&found["apiVersion"], &found["spec"]),
        (&json!("stable.example.com/v2"), &json!({"address": "h:1"}))
    );
    assert_eq!(found["metadata"], made["metadata"]);
    let mut second = tab("b", json!({"address": "i:2", "odd": 1}));
    second["apiVersion"] = "stable.example.com/v2".into();
    let second = fixture.post(newer, &second).await.expect(201);
    assert_eq!(
        (&second["apiVersion"], &second["spec"]),
        (&json!("stable.example.com/v2"), &json!({"address": "i:2"}))
    );
    assert_eq!(
        fixture.get(&format!("{TABS}/b")).await.expect(200)["spec"],
        json!({"host": "i", "port": "2"})
    );

    let list = fixture.get(&format!("{newer}?fieldSelector=spec.address%3Di%3A2")).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(list["items"][0]["spec"], json!({"address": "i:2"}));
    let page = fixture.get(&format!("{newer}?limit=1")).await.expect(200);
    assert_eq!(page["items"][0]["metadata"]["name"], "a");
    let next = page["metadata"]["continue"].as_str().unwrap();
    let rest = fixture.get(&format!("{newer}?limit=1&continue={next}")).await.expect(200);
    assert_eq!(rest["items"][0]["spec"], json!({"address": "i:2"}));

    let mut watch = fixture.watch(&format!("{newer}?watch=1&resourceVersion=0")).await;
    for expected in ["h:1", "i:2"] {
        assert_eq!(watch.next().await.unwrap()["object"]["spec"]["address"], expected);
    }
    let merge = "application/merge-patch+json";
    let patched =
        fixture.patch(&format!("{newer}/a"), merge, &json!({"spec": {"address": "j:3"}})).await.expect(200);
    assert_eq!(
        (&patched["spec"], &patched["metadata"]["generation"]),
        (&json!({"address": "j:3"}), &json!(2))
    );
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["spec"]), (&json!("MODIFIED"), &json!({"address": "j:3"})));
    fixture.delete(&format!("{newer}/b")).await.expect(200);
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["spec"]), (&json!("DELETED"), &json!({"address": "i:2"})));

    // What was converted once is not asked for again.
    let calls = webhook.calls.load(Relaxed);
    fixture.get(newer).await.expect(200);
    fixture.get(&format!("{newer}/a")).await.expect(200);
    assert_eq!(webhook.calls.load(Relaxed), calls);

    let mut broken = tab("c", json!({"host": "h", "port": "1"}));
    broken["metadata"]["labels"] = json!({"break": "yes"});
    fixture.post(TABS, &broken).await.expect(201);
    assert_eq!(
        fixture.get(&format!("{newer}/c")).await.refusal(),
        "500 conversion webhook for stable.example.com/v1, Kind=CronTab failed: told to break"
    );
    fixture.get(&format!("{TABS}/c")).await.expect(200);
    fixture.delete(&format!("{TABS}/c")).await.expect(200);

    // The storage version moves on; what is stored in the older one is converted, too.
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let mut definition = fixture.get(&path).await.json();
    definition["spec"]["versions"][0]["storage"] = false.into();
    definition["spec"]["versions"][1]["storage"] = true.into();
    fixture.put(&path, &definition).await.expect(200);
    assert_eq!(fixture.get(&format!("{newer}/a")).await.expect(200)["spec"], json!({"address": "j:3"}));
    assert_eq!(
        fixture.get(&format!("{TABS}/a")).await.expect(200)["spec"],
        json!({"host": "j", "port": "3"})
    );
    let patched =
        fixture.patch(&format!("{TABS}/a"), merge, &json!({"spec": {"port": "4"}})).await.expect(200);
    assert_eq!(patched["spec"], json!({"host": "j", "port": "4"}));
    assert_eq!(fixture.get(&format!("{newer}/a")).await.expect(200)["spec"], json!({"address": "j:4"}));
}

/// A webhook is asked for as little as will do: for the objects of a page, and once for all watchers of a version.
#[tokio::test]
async fn pages_and_watchers_ask_for_no_more_than_they_show() {
    let webhook = webhook::start().await;
    let fixture = model().await;
    fixture.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let url = format!("https://127.0.0.1:{}/convert", webhook.port);
    define(&fixture, &with_webhook(json!({"url": url, "caBundle": webhook.ca_bundle}))).await;
    let newer = "/apis/stable.example.com/v2/namespaces/n/crontabs";
    for (number, name) in ["a", "b", "c", "d", "e", "f", "g"].iter().enumerate() {
        let host = if number % 2 == 0 { "even" } else { "odd" };
        fixture.post(TABS, &tab(name, json!({"host": host, "port": "1"}))).await.expect(201);
    }
    let (calls, objects) = (|| webhook.calls.load(Relaxed), || webhook.objects.load(Relaxed));
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((calls(), objects()), (0, 0));
    let page = fixture.get(&format!("{newer}?limit=2")).await.expect(200);
    assert_eq!(
        (names(&page), &page["metadata"]["remainingItemCount"]),
        (vec!["a".into(), "b".into()], &json!(5))
    );
    assert_eq!((calls(), objects()), (1, 2), "what is on no page is not converted");
    let selected = format!("{newer}?limit=2&fieldSelector=spec.address%3Deven%3A1");
    let page = fixture.get(&selected).await.expect(200);
    assert_eq!(names(&page), ["a", "c"]);
    let token = page["metadata"]["continue"].as_str().unwrap();
    let page = fixture.get(&format!("{selected}&continue={token}")).await.expect(200);
    assert_eq!((names(&page), page["metadata"].get("continue")), (vec!["e".into(), "g".into()], None));

    let version = page["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watchers = Vec::new();
    for _ in 0..8 {
        watchers.push(fixture.watch(&format!("{newer}?watch=1&resourceVersion={version}")).await);
    }
    let (before, reading) = (calls(), join_all(watchers.iter_mut().map(|watch| watch.next())));
    let merge = "application/merge-patch+json";
    let path = format!("{TABS}/a");
    let patch = json!({"spec": {"port": "2"}});
    let (patched, seen) = tokio::join!(fixture.patch(&path, merge, &patch), reading);
    patched.expect(200);
    for event in seen {
        assert_eq!(event.unwrap()["object"]["spec"], json!({"address": "even:2"}));
    }
    assert_eq!(calls(), before + 1, "watchers that are woken by the same change share what is converted");

    for name in ["h", "i", "j", "k", "l"] {
        fixture.post(TABS, &tab(name, json!({"host": "late", "port": "1"}))).await.expect(201);
    }
    let version = fixture.get(TABS).await.expect(200)["metadata"]["resourceVersion"].clone();
    fixture.delete(&format!("{TABS}/l")).await.expect(200);
    let then = format!("{newer}?resourceVersion={}&resourceVersionMatch=Exact", version.as_str().unwrap());
    let before = calls();
    assert_eq!(names(&fixture.get(&then).await.expect(200)).len(), 12);
    assert_eq!(calls(), before + 1, "a list of the past is converted a page at a time");
}

/// Whose fields are whose is worked out in each owner's version, which only the webhook can make.
#[tokio::test]
async fn owners_follow_an_object_through_its_webhook() {
    let webhook = webhook::start().await;
    let fixture = model().await;
    fixture.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let url = format!("https://127.0.0.1:{}/convert", webhook.port);
    define(&fixture, &with_webhook(json!({"url": url, "caBundle": webhook.ca_bundle}))).await;
    let (older, newer) =
        (format!("{TABS}/a"), "/apis/stable.example.com/v2/namespaces/n/crontabs/a".to_owned());
    let apply = async |path: &str, query: &str, spec: Value| {
        let version = if path == newer { "v2" } else { "v1" };
        let mut config = tab("a", spec);
        config["apiVersion"] = format!("stable.example.com/{version}").into();
        fixture.patch(&format!("{path}?{query}"), "application/apply-patch+yaml", &config).await
    };
    let owners = |object: &Value| -> Vec<String> {
        let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
        // One that changed nothing has no time, and stands first.
        let mut owners: Vec<_> =
            entries.map(|entry| format!("{} {}", entry["manager"], entry["fieldsV1"])).collect();
        owners.sort_unstable();
        owners
    };
    apply(&older, "fieldManager=one", json!({"host": "h", "port": "1"})).await.expect(201);
    let shared = apply(&newer, "fieldManager=two", json!({"address": "h:1"})).await.expect(200);
    let both = [
        r#""one" {"f:spec":{"f:host":{},"f:port":{}}}"#.to_owned(),
        r#""two" {"f:spec":{"f:address":{}}}"#.to_owned(),
    ];
    assert_eq!(owners(&shared), both);
    let refused = apply(&newer, "fieldManager=three", json!({"address": "h:2"})).await;
    assert_eq!(
        refused.refusal(),
        "409 Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.port\nconflicts with \"two\":\n- .spec.address"
    );
    let forced = apply(&newer, "fieldManager=three&force=true", json!({"address": "h:2"})).await.expect(200);
    assert_eq!(
        owners(&forced),
        [r#""one" {"f:spec":{"f:host":{}}}"#, r#""three" {"f:spec":{"f:address":{}}}"#]
    );
    // An update in the other version takes what it changes, too.
    let merge = "application/merge-patch+json";
    let change = json!({"spec": {"port": "3"}});
    let patched = fixture.patch(&format!("{older}?fieldManager=cli"), merge, &change).await.expect(200);
    assert_eq!(owners(&patched), [r#""cli" {"f:spec":{"f:port":{}}}"#, r#""one" {"f:spec":{"f:host":{}}}"#]);
}

#[tokio::test]
async fn a_webhook_that_cannot_be_reached_or_trusted_is_told() {
    let webhook = webhook::start().await;
    let fixture = model().await;
    fixture.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let other = nauplius_pki::Authority::create("others").unwrap().certificate_pem();
    let other = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(other)
    };
    let url = format!("https://127.0.0.1:{}/convert", webhook.port);
    define(&fixture, &with_webhook(json!({"url": url, "caBundle": other}))).await;
    fixture.post(TABS, &tab("a", json!({"host": "h", "port": "1"}))).await.expect(201);
    let newer = "/apis/stable.example.com/v2/namespaces/n/crontabs/a";
    let about = "500 conversion webhook for stable.example.com/v1, Kind=CronTab failed: Post";
    assert_eq!(
        fixture.get(newer).await.refusal(),
        format!(
            "{about} \"https://127.0.0.1:{}/convert?timeout=30s\": tls: failed to verify certificate: x509: certificate signed by \
             unknown authority",
            webhook.port
        )
    );
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let mut definition = fixture.get(&path).await.json();
    let service = json!({"service": {"namespace": "n", "name": "none", "path": "/convert", "port": 443}, "caBundle": webhook.ca_bundle});
    definition["spec"]["conversion"]["webhook"]["clientConfig"] = service;
    fixture.put(&path, &definition).await.expect(200);
    assert_eq!(
        fixture.get(newer).await.refusal(),
        format!("{about} \"https://none.n.svc:443/convert?timeout=30s\": service \"none\" not found")
    );
    // In the version that is stored nobody is asked.
    fixture.get(&format!("{TABS}/a")).await.expect(200);
}
