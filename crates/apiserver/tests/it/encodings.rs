//! YAML, protobuf and field validation, and objects that two groups show.

use crate::support::{Fixture, config_map, model};
use http::Method;
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::{cbor, protobuf, schema};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const CBOR: &str = "application/cbor";

fn type_of(kind: &str) -> schema::TypeRef {
    schema::lookup_kind(&GroupVersionKind::new("", "v1", kind)).unwrap()
}

#[tokio::test]
async fn objects_travel_as_protobuf() {
    let fixture = model().await;
    let object = config_map("a", &json!({"x": "y"}), &json!({"k": "v"}));
    let body = protobuf::encode(&object, type_of("ConfigMap")).unwrap();
    let headers = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    let made = fixture.with_headers(Method::POST, MAPS, &headers, body).await;
    assert_eq!(made.code.as_u16(), 201, "{:?}", made.bytes);
    let made = protobuf::decode(&made.bytes, type_of("ConfigMap")).unwrap();
    assert_eq!(made["data"], json!({"k": "v"}));
    let list = fixture.with_headers(Method::GET, MAPS, &headers[1..], "").await;
    let list = protobuf::decode(&list.bytes, type_of("ConfigMapList")).unwrap();
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    let missing = fixture.with_headers(Method::GET, &format!("{MAPS}/none"), &headers[1..], "").await;
    let status = protobuf::decode(&missing.bytes, type_of("Status")).unwrap();
    assert_eq!(status["reason"], "NotFound");
}

#[tokio::test]
async fn objects_travel_as_cbor() {
    let fixture = model().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret =
        json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": "AQI="}});
    let headers = [("content-type", CBOR), ("accept", CBOR)];
    let made = fixture.with_headers(Method::POST, secrets, &headers, cbor::encode(&secret)).await;
    assert_eq!((made.code.as_u16(), &made.headers["content-type"]), (201, &CBOR.parse().unwrap()));
    assert_eq!(fixture.get(&format!("{secrets}/a")).await.json()["data"], json!({"k": "AQI="}));
    // Bytes are bytes, in a list, too.
    let bytes = [0xd6, 0x42, 1, 2];
    let list = fixture.with_headers(Method::GET, secrets, &headers[1..], "").await;
    for bytes_in in [&made.bytes, &list.bytes] {
        assert!(bytes_in.windows(4).any(|window| window == bytes) && bytes_in.starts_with(&cbor::MAGIC));
    }
    let missing = fixture.with_headers(Method::GET, &format!("{secrets}/none"), &headers[1..], "").await;
    assert_eq!(cbor::decode(&missing.bytes).unwrap()["reason"], "NotFound");
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "another"}});
    let path = format!("{secrets}/a");
    let refused = fixture.with_headers(Method::DELETE, &path, &headers, cbor::encode(&options)).await;
    assert_eq!(refused.code.as_u16(), 409);
    let patch =
        json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"l": "AwQ="}});
    let apply = [("content-type", "application/apply-patch+cbor")];
    let applied = format!("{path}?fieldManager=m");
    let applied =
        fixture.with_headers(Method::PATCH, &applied, &apply, cbor::encode(&patch)).await.expect(200);
    assert_eq!(applied["data"], json!({"k": "AQI=", "l": "AwQ="}));
    let refused =
        fixture.with_headers(Method::PATCH, &format!("{path}?fieldManager=m"), &apply, "\u{1f}").await;
    assert!(refused.refusal().starts_with("400 error decoding CBOR: "), "{}", refused.refusal());
    let mut unknown = secret;
    unknown["dta"] = json!(1);
    let strict = format!("{secrets}?fieldValidation=Strict");
    let refused = fixture.with_headers(Method::POST, &strict, &headers, cbor::encode(&unknown)).await;
    let status = cbor::decode(&refused.bytes).unwrap();
    assert!(status["message"].as_str().unwrap().contains("unknown field \"dta\""), "{status}");
}

#[tokio::test]
async fn objects_travel_as_yaml() {
    let fixture = model().await;
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: \"1\"\n";
    let headers = [("content-type", "application/yaml"), ("accept", "application/yaml")];
    let made = fixture.with_headers(Method::POST, MAPS, &headers, body).await;
    assert_eq!(made.code.as_u16(), 201, "{:?}", made.bytes);
    assert!(String::from_utf8_lossy(&made.bytes).contains("\nkind: ConfigMap\n"));
    let refused = fixture.with_headers(Method::POST, MAPS, &[("content-type", "text/plain")], "x").await;
    assert_eq!(refused.code.as_u16(), 415);
    let large = vec![b' '; (3 << 20) + 1];
    let refused =
        fixture.with_headers(Method::POST, MAPS, &[("content-type", "application/json")], large).await;
    assert_eq!(refused.code.as_u16(), 413);
}

async fn with_unknown(fixture: &Fixture, query: &str) -> (u16, Vec<String>, Value) {
    let body = r#"{"metadata":{"name":"a"},"data":{},"dta":{},"data":{}}"#;
    let path = format!("{MAPS}?dryRun=All{query}");
    let answer =
        fixture.with_headers(Method::POST, &path, &[("content-type", "application/json")], body).await;
    let warnings =
        answer.headers.get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned()).collect();
    (answer.code.as_u16(), warnings, answer.json())
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_told() {
    let fixture = model().await;
    let (code, warnings, object) = with_unknown(&fixture, "").await;
    assert_eq!(code, 201);
    assert_eq!(warnings, [r#"299 - "duplicate field \"data\"""#, r#"299 - "unknown field \"dta\"""#]);
    assert!(object.get("dta").is_none());
    let (code, warnings, _) = with_unknown(&fixture, "&fieldValidation=Ignore").await;
    assert_eq!((code, warnings.len()), (201, 0));
    let (code, _, status) = with_unknown(&fixture, "&fieldValidation=Strict").await;
    assert_eq!(code, 400);
    assert_eq!(
        status["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"data\", \
         unknown field \"dta\""
    );
    let (code, _, status) = with_unknown(&fixture, "&fieldValidation=Loud").await;
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")));
}

#[tokio::test]
async fn two_groups_show_the_same_events() {
    let fixture = model().await;
    let event = json!({
        "metadata": {"name": "e"}, "reason": "Started", "message": "hello", "type": "Normal",
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
    });
    fixture.post("/api/v1/namespaces/default/events", &event).await.expect(201);
    let newer = fixture.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await.expect(200);
    assert_eq!(newer["apiVersion"], "events.k8s.io/v1");
    assert_eq!(newer["note"], "hello");
    assert_eq!(newer["regarding"]["name"], "p");
    let list = fixture.get("/apis/events.k8s.io/v1/events").await.expect(200);
    assert_eq!(list["items"][0]["note"], "hello");
    let found = fixture.get("/api/v1/events?fieldSelector=involvedObject.name%3Dp").await.expect(200);
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
}
