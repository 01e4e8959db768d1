//! Requests that are refused, as a table: each row was written from the upstream function that it names, and is sent here.

use crate::network::client_config;
use crate::support::{Answer, Fixture, config_map, configured};
use http::Method;
use nauplius_apiserver::admission;
use nauplius_apiserver::authz::Union;
use nauplius_apiserver::authz::rbac::Rbac;
use nauplius_apiserver::proxy::KubeletDialer;
use nauplius_pki::Authority;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const ROWS: &str = include_str!("refusals.tsv");

struct Row<'a> {
    line: usize,
    code: u16,
    reason: &'a str,
    method: Method,
    path: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a str,
    message: String,
    details: Option<Value>,
    function: &'a str,
}

fn rows() -> Vec<Row<'static>> {
    let lines = ROWS.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    lines.map(|(index, line)| row(index + 1, line)).collect()
}

fn row(line: usize, text: &'static str) -> Row<'static> {
    let columns: Vec<&str> = text.split('\t').collect();
    let [code, reason, method, path, headers, body, message, details, function] = columns[..] else {
        panic!("line {line} has {} columns", columns.len());
    };
    let given = |text: &'static str| Some(text).filter(|text| *text != "-");
    let headers = given(headers).into_iter().flat_map(|headers| headers.split("; "));
    let mut headers: Vec<_> = headers.map(|header| header.split_once(": ").unwrap()).collect();
    if given(body).is_some() && headers.iter().all(|(name, _)| *name != "content-type") {
        headers.push(("content-type", "application/json"));
    }
    Row {
        line,
        code: code.parse().unwrap(),
        reason: given(reason).unwrap_or_default(),
        method: method.parse().unwrap(),
        path,
        headers,
        body: given(body).unwrap_or_default(),
        message: unescape(message),
        details: given(details).map(|details| serde_json::from_str(details).unwrap()),
        function,
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                other => out.extend(other),
            },
            other => out.push(other),
        }
    }
    out
}

fn pod(name: &str, containers: &[&str], labels: Value) -> Value {
    let containers: Vec<Value> = containers.iter().map(|name| json!({"name": name, "image": "i"})).collect();
    json!({"metadata": {"name": name, "labels": labels}, "spec": {"containers": containers}})
}

fn budget(name: &str, app: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}}})
}

/// What the rows speak of.
fn given() -> Vec<(&'static str, Value)> {
    let rbac = "rbac.authorization.k8s.io";
    let template =
        json!({"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    vec![
        ("/api/v1/namespaces", json!({"metadata": {"name": "default"}})),
        ("/api/v1/namespaces/default/serviceaccounts", json!({"metadata": {"name": "default"}})),
        ("/api/v1/namespaces/default/configmaps", config_map("cm", &json!({}), &json!({"k": "v"}))),
        (
            "/api/v1/namespaces/default/configmaps",
            json!({"metadata": {"name": "frozen"}, "immutable": true, "data": {"a": "1"}}),
        ),
        ("/api/v1/namespaces/default/secrets", json!({"metadata": {"name": "s"}})),
        (
            "/api/v1/namespaces/default/secrets",
            json!({"metadata": {"name": "frozen"}, "immutable": true, "data": {"a": "MQ=="}}),
        ),
        ("/api/v1/nodes", json!({"metadata": {"name": "n"}})),
        ("/api/v1/namespaces/default/pods", pod("p", &["c"], json!({}))),
        ("/api/v1/namespaces/default/pods", pod("free", &["c"], json!({}))),
        ("/api/v1/namespaces/default/pods", pod("two", &["a", "b"], json!({}))),
        ("/api/v1/namespaces/default/pods", pod("guarded", &["c"], json!({"app": "guarded"}))),
        ("/api/v1/namespaces/default/pods", pod("twice", &["c"], json!({"app": "twice"}))),
        ("/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget("b", "guarded")),
        ("/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget("t1", "twice")),
        ("/apis/policy/v1/namespaces/default/poddisruptionbudgets", budget("t2", "twice")),
        (
            "/api/v1/namespaces/default/pods/p/binding",
            json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}),
        ),
        (
            "/api/v1/namespaces/default/services",
            json!({"metadata": {"name": "svc"}, "spec": {"ports": [{"port": 80}]}}),
        ),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": template}}),
        ),
        ("/apis/scheduling.k8s.io/v1/priorityclasses", json!({"metadata": {"name": "pc"}, "value": 5})),
        ("/apis/storage.k8s.io/v1/csidrivers", json!({"metadata": {"name": "drv"}, "spec": {}})),
        (
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            json!({"metadata": {"name": "es"}, "addressType": "IPv4", "endpoints": []}),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings",
            json!({"metadata": {"name": "rb"}, "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "r"}}),
        ),
    ]
}

async fn world() -> Fixture {
    let authority = Authority::create("test").unwrap();
    let tls = Arc::new(client_config(&authority, None));
    let fixture = configured(|config| {
        config.authorizer = Arc::new(Union(vec![Arc::new(Rbac::new(Arc::clone(&config.caches)))]));
        config.admission = admission::Chain::standard(&config.caches, &config.authorizer);
        config.kubelets = Some(KubeletDialer { tls });
    })
    .await;
    for (path, object) in given() {
        fixture.post(path, &object).await.expect(201);
    }
    for name in ["guarded", "twice"] {
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        let mut running = fixture.get(&path).await.expect(200);
        running["status"]["phase"] = "Running".into();
        fixture.put(&format!("{path}/status"), &running).await.expect(200);
    }
    fixture
}

/// Details as rows write them: causes by reason and field, for their texts are in the message.
fn shown(details: &Value, message: &str) -> Result<Value, String> {
    let Some(fields) = details.as_object() else { return Err(format!("details are {details}")) };
    let mut shown: Map<String, Value> = fields
        .iter()
        .filter(|(key, _)| *key != "causes" && *key != "uid")
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if let Some(causes) = details["causes"].as_array() {
        let mut short = Vec::new();
        for cause in causes {
            let text = |key: &str| cause[key].as_str().unwrap_or_default();
            if !text("field").is_empty()
                && !message.contains(&format!("{}: {}", text("field"), text("message")))
            {
                return Err(format!("a cause is not in the message: {cause}"));
            }
            short.push(Value::from(format!("{} {}", text("reason"), text("field"))));
        }
        shown.insert("causes".to_owned(), short.into());
    }
    Ok(shown.into())
}

fn check(row: &Row<'_>, answer: &Answer) -> Result<(), String> {
    if answer.code.as_u16() != row.code {
        return Err(format!("{} {}", answer.code, String::from_utf8_lossy(&answer.bytes)));
    }
    let status = match answer.headers["content-type"].to_str().unwrap() {
        "application/json" => answer.json(),
        "application/yaml" => nauplius_meta::yaml::decode(&String::from_utf8_lossy(&answer.bytes)).unwrap(),
        other => return Err(format!("answered as {other}")),
    };
    let text = |key: &str| status[key].as_str().unwrap_or_default();
    if (text("kind"), text("apiVersion"), text("status")) != ("Status", "v1", "Failure") {
        return Err(format!("no Status: {status}"));
    }
    let fits = match row.message.strip_suffix('*') {
        Some(start) => text("message").starts_with(start),
        None => text("message") == row.message,
    };
    if !fits || text("reason") != row.reason || status["code"] != row.code {
        return Err(format!(
            "{} {}\n      instead of {} {}",
            text("reason"),
            text("message"),
            row.reason,
            row.message
        ));
    }
    let details = status.get("details").map(|details| shown(details, text("message"))).transpose()?;
    if details == row.details {
        Ok(())
    } else {
        Err(format!("details {details:?} instead of {:?}", row.details))
    }
}

#[tokio::test]
async fn every_refusal_is_upstreams() {
    let fixture = world().await;
    let rows = rows();
    assert!(rows.len() >= 300, "{}", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        assert!(!row.function.is_empty(), "line {}", row.line);
        let answer =
            fixture.with_headers(row.method.clone(), row.path, &row.headers, row.body.to_owned()).await;
        if let Err(why) = check(row, &answer) {
            wrong.push(format!("line {}: {} {} {}\n      {why}", row.line, row.method, row.path, row.body));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
