//! Lists: selectors, pages at an exact revision, resourceVersion rules.

use crate::support::{Fixture, config_map, embedded, model};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn filled(fixture: &Fixture, count: usize) {
    for index in 0..count {
        let labels = json!({"parity": if index.is_multiple_of(2) { "even" } else { "odd" }});
        let map = config_map(&format!("m-{index:03}"), &labels, &json!({"i": index.to_string()}));
        fixture.post(MAPS, &map).await.expect(201);
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn selectors_select() {
    let fixture = model().await;
    filled(&fixture, 6).await;
    let check = async |query: &str, expected: &[&str]| {
        let list = fixture.get(&format!("{MAPS}?{query}")).await.expect(200);
        assert_eq!(names(&list), expected, "{query}");
    };
    check("labelSelector=parity%3Dodd", &["m-001", "m-003", "m-005"]).await;
    check("labelSelector=parity+notin+(odd)", &["m-000", "m-002", "m-004"]).await;
    check("labelSelector=!parity", &[]).await;
    check("fieldSelector=metadata.name%3Dm-002", &["m-002"]).await;
    check("fieldSelector=metadata.name!%3Dm-002&limit=2", &["m-000", "m-001"]).await;
    check("fieldSelector=metadata.namespace%3Ddefault&limit=1", &["m-000"]).await;
    let refused = fixture.get(&format!("{MAPS}?fieldSelector=spec.x%3D1")).await;
    assert_eq!(
        refused.refusal(),
        "400 \"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
    let all = fixture.get("/api/v1/configmaps").await.expect(200);
    assert_eq!(all["kind"], "ConfigMapList");
    assert_eq!(names(&all).len(), 6);
    assert!(all["items"][0].get("kind").is_none());
    assert!(all["items"][0]["metadata"]["resourceVersion"].is_string());
}

#[tokio::test]
async fn pages_show_one_revision_whatever_happens() {
    for fixture in [embedded().await, model().await] {
        filled(&fixture, 7).await;
        let first = fixture.get(&format!("{MAPS}?limit=3")).await.expect(200);
        assert_eq!(names(&first), ["m-000", "m-001", "m-002"]);
        assert_eq!(first["metadata"]["remainingItemCount"], 4);
        fixture.delete(&format!("{MAPS}/m-004")).await.expect(200);
        fixture.post(MAPS, &config_map("m-003a", &json!({}), &json!({}))).await.expect(201);
        let token = first["metadata"]["continue"].as_str().unwrap();
        let second = fixture.get(&format!("{MAPS}?limit=3&continue={token}")).await.expect(200);
        assert_eq!(names(&second), ["m-003", "m-004", "m-005"]);
        assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        assert_eq!(second["metadata"]["remainingItemCount"], 1);
        let token = second["metadata"]["continue"].as_str().unwrap();
        let third = fixture.get(&format!("{MAPS}?limit=3&continue={token}")).await.expect(200);
        assert_eq!(names(&third), ["m-006"]);
        assert!(third["metadata"].get("continue").is_none());

        let version = first["metadata"]["resourceVersion"].as_str().unwrap();
        let exact = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
        assert_eq!(names(&fixture.get(&exact).await.expect(200)).len(), 7);
        let ahead = fixture.get(&format!("{MAPS}?resourceVersion=999999")).await;
        assert!(ahead.refusal().starts_with("504 Timeout: Too large resource version: 999999, current: "));
    }
}

/// Larger than what is read at once, so that it is written while it is read.
#[tokio::test]
async fn a_large_list_of_the_past_is_whole() {
    let fixture = embedded().await;
    let map = |index: usize, text: &str| {
        let labels = json!({"parity": if index.is_multiple_of(2) { "even" } else { "odd" }});
        config_map(&format!("m-{index:03}"), &labels, &json!({"text": text.repeat(200_000)}))
    };
    for index in 0..40 {
        fixture.post(MAPS, &map(index, "a")).await.expect(201);
    }
    let then = fixture.get(&format!("{MAPS}?limit=1")).await.expect(200);
    let then = then["metadata"]["resourceVersion"].as_str().unwrap();
    for index in 0..40 {
        match index % 3 {
            0 => fixture.delete(&format!("{MAPS}/m-{index:03}")).await.expect(200),
            _ => fixture.put(&format!("{MAPS}/m-{index:03}"), &map(index, "b")).await.expect(200),
        };
    }
    let exactly = format!("{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact");
    let expect = |list: &Value, count: usize, step: usize| {
        let expected: Vec<String> = (0..count).map(|index| format!("m-{:03}", index * step)).collect();
        assert_eq!(names(list), expected);
        assert_eq!(list["metadata"]["resourceVersion"], then);
        let old = |item: &Value| item["data"]["text"].as_str().unwrap().starts_with("aa");
        assert!(list["items"].as_array().unwrap().iter().all(old));
    };
    expect(&fixture.get(&exactly).await.expect(200), 40, 1);
    expect(&fixture.get(&format!("{exactly}&labelSelector=parity%3Deven")).await.expect(200), 20, 2);
    for (query, remaining) in [("", json!(10)), ("&labelSelector=parity", Value::Null)] {
        let page = fixture.get(&format!("{exactly}&limit=30{query}")).await.expect(200);
        expect(&page, 30, 1);
        assert_eq!(page["metadata"]["remainingItemCount"], remaining, "{query}");
        let token = page["metadata"]["continue"].as_str().unwrap();
        let rest = fixture.get(&format!("{MAPS}?limit=30{query}&continue={token}")).await.expect(200);
        assert_eq!((names(&rest).len(), names(&rest)[0]), (10, "m-030"));
        assert!(rest["metadata"].get("continue").is_none());
    }
    let protobuf = [("accept", "application/vnd.kubernetes.protobuf")];
    let packed = fixture.with_headers(http::Method::GET, &exactly, &protobuf, "").await;
    let list = nauplius_meta::gvk::GroupVersionKind::new("", "v1", "ConfigMapList");
    let list =
        nauplius_meta::protobuf::decode(&packed.bytes, nauplius_meta::schema::lookup_kind(&list).unwrap());
    assert_eq!(names(&list.unwrap()).len(), 40);
}

#[tokio::test]
async fn an_expired_page_comes_with_a_fresh_token() {
    let fixture = model().await;
    filled(&fixture, 4).await;
    let first = fixture.get(&format!("{MAPS}?limit=2")).await.expect(200);
    fixture.delete(&format!("{MAPS}/m-000")).await.expect(200);
    fixture.get(&format!("{MAPS}/m-000")).await.expect(404);
    let store = fixture.server.caches().store();
    store.compact(store.revision().await.unwrap()).await.unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let expired = fixture.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(410);
    assert_eq!(expired["reason"], "Expired");
    let token = expired["metadata"]["continue"].as_str().unwrap();
    let rest = fixture.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&rest), ["m-002", "m-003"]);
}

#[tokio::test]
async fn large_lists_stream_whole() {
    let fixture = embedded().await;
    let filler = "x".repeat(1_000);
    for index in 0..300 {
        let map = config_map(&format!("m-{index:03}"), &json!({}), &json!({"f": filler}));
        fixture.post(MAPS, &map).await.expect(201);
    }
    let list = fixture.get(MAPS).await.expect(200);
    assert_eq!(names(&list).len(), 300);
    let packed = fixture.with_headers(http::Method::GET, MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(packed.bytes.len() < 60_000, "{}", packed.bytes.len());
    let mut unpacked = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed.bytes[..]), &mut unpacked)
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(&unpacked).unwrap()["items"], list["items"]);
    let pretty = fixture.get(&format!("{MAPS}?pretty=true")).await;
    assert!(pretty.bytes.starts_with(b"{\n"));
    assert_eq!(pretty.json()["items"], list["items"]);
}

#[tokio::test]
async fn tables_and_metadata_only() {
    let fixture = model().await;
    filled(&fixture, 2).await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = fixture.with_headers(http::Method::GET, MAPS, &[("accept", accept)], "").await.expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][1]["cells"][0], "m-001");
    assert_eq!(table["rows"][1]["object"]["kind"], "PartialObjectMetadata");
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = fixture.with_headers(http::Method::GET, MAPS, &[("accept", accept)], "").await.expect(200);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert!(list["items"][0].get("data").is_none());
    let refused = fixture.with_headers(http::Method::GET, MAPS, &[("accept", "text/html")], "").await;
    assert_eq!(refused.code.as_u16(), 406);
}
