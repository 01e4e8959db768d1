//! Watches: what is seen, in which order, and how watches end.

use crate::support::{config_map, embedded, model, version};
use nauplius_meta::cbor;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn a_watch_from_a_revision_sees_each_change_once() {
    for fixture in [embedded().await, model().await] {
        let first = fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
        let mut second = fixture.post(MAPS, &config_map("b", &json!({}), &json!({}))).await.expect(201);
        let mut events = fixture.watch(&format!("{MAPS}?watch=1&resourceVersion={}", version(&first))).await;
        assert_eq!(events.line().await, format!("ADDED b@{}", version(&second)));
        second["data"] = json!({"x": "1"});
        let second = fixture.put(&format!("{MAPS}/b"), &second).await.expect(200);
        assert_eq!(events.line().await, format!("MODIFIED b@{}", version(&second)));
        fixture.delete(&format!("{MAPS}/b")).await.expect(200);
        let gone = events.next().await.unwrap();
        assert_eq!(gone["type"], "DELETED");
        assert_eq!(gone["object"]["data"], json!({"x": "1"}));
        assert!(version(&gone["object"]).parse::<i64>().unwrap() > version(&second).parse::<i64>().unwrap());
    }
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let fixture = model().await;
    let mut events = fixture.watch(&format!("{MAPS}?watch=1&labelSelector=on%3Dyes")).await;
    let mut map = fixture.post(MAPS, &config_map("a", &json!({"on": "no"}), &json!({}))).await.expect(201);
    map["metadata"]["labels"]["on"] = json!("yes");
    let mut map = fixture.put(&format!("{MAPS}/a"), &map).await.expect(200);
    assert_eq!(events.line().await, format!("ADDED a@{}", version(&map)));
    map["metadata"]["labels"]["on"] = json!("no");
    let map = fixture.put(&format!("{MAPS}/a"), &map).await.expect(200);
    let left = events.next().await.unwrap();
    assert_eq!(left["type"], "DELETED");
    assert_eq!(left["object"]["metadata"]["labels"]["on"], "yes");
    assert_eq!(version(&left["object"]), version(&map));
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let fixture = model().await;
    let a = fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = fixture.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(events.line().await, format!("ADDED a@{}", version(&a)));
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let b = fixture.post(MAPS, &config_map("b", &json!({}), &json!({}))).await.expect(201);
    assert_eq!(events.line().await, format!("ADDED b@{}", version(&b)));
    let refused = fixture.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await;
    assert_eq!(refused.code.as_u16(), 422);
}

/// What a watch has shown so far.
#[derive(Default)]
struct Seen {
    objects: BTreeMap<String, i64>,
    /// The newest revision of each object, of those that are gone, too.
    newest: BTreeMap<String, i64>,
    bookmark: Option<i64>,
}

impl Seen {
    fn take(&mut self, event: &Value) {
        let object = &event["object"];
        let revision: i64 = version(object).parse().unwrap();
        if event["type"] == "BOOKMARK" {
            assert_eq!(self.bookmark.replace(revision), None, "a second bookmark");
            return;
        }
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let before = self.newest.insert(name.clone(), revision);
        assert!(before.is_none_or(|before| before < revision), "{name}: {revision} after {before:?}");
        assert!(self.bookmark.is_none_or(|bookmark| bookmark < revision), "{name} after the bookmark");
        let was_there = match event["type"].as_str().unwrap() {
            "DELETED" => self.objects.remove(&name).is_some(),
            _ => self.objects.insert(name.clone(), revision).is_some(),
        };
        assert_eq!(was_there, event["type"] != "ADDED", "{name}: {}", event["type"]);
    }
}

fn revisions(list: &Value) -> BTreeMap<String, i64> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| (item["metadata"]["name"].as_str().unwrap().to_owned(), version(item).parse().unwrap()))
        .collect()
}

/// Clients that read at different paces are still sent the objects that were there while these change, come and go.
#[tokio::test]
async fn what_changes_while_a_watch_begins_is_seen_once() {
    const QUERY: &str =
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    for fixture in [embedded().await, model().await] {
        let text = "x".repeat(2_000);
        let map = |index: usize, round: usize| {
            let data = json!({"round": round.to_string(), "text": text});
            config_map(&format!("m-{index:03}"), &json!({}), &data)
        };
        for index in (0..100).step_by(2) {
            fixture.post(MAPS, &map(index, 0)).await.expect(201);
        }
        let mut watches = Vec::new();
        for pace in [4, 1, 6, 4] {
            watches.push((fixture.watch(&format!("{MAPS}?{QUERY}")).await, Seen::default(), pace));
        }
        for round in 0..8 {
            for (watch, seen, pace) in &mut watches {
                for _ in 0..*pace {
                    seen.take(&watch.next().await.unwrap());
                }
            }
            let one = |index: usize| format!("{MAPS}/m-{index:03}");
            fixture.put(&one(0), &map(0, round)).await.expect(200);
            fixture.put(&one(98), &map(98, round)).await.expect(200);
            fixture.post(MAPS, &map(2 * round + 1, round)).await.expect(201);
            fixture.post(MAPS, &map(2 * round + 61, round)).await.expect(201);
            fixture.delete(&one(96 - 2 * round)).await.expect(200);
            match round {
                3 => fixture.delete(&one(2)).await.expect(200),
                5 => fixture.post(MAPS, &map(2, round)).await.expect(201),
                _ => fixture.put(&one(50), &map(50, round)).await.expect(200),
            };
            fixture.get(&one(0)).await.expect(200);
        }
        let end = fixture.post(MAPS, &config_map("z", &json!({}), &json!({}))).await.expect(201);
        let end: i64 = version(&end).parse().unwrap();
        let last = revisions(&fixture.get(MAPS).await.expect(200));
        for (mut watch, mut seen, pace) in watches {
            while seen.bookmark.is_none() {
                seen.take(&watch.next().await.unwrap());
            }
            let then =
                format!("{MAPS}?resourceVersion={}&resourceVersionMatch=Exact", seen.bookmark.unwrap());
            assert_eq!(seen.objects, revisions(&fixture.get(&then).await.expect(200)), "at pace {pace}");
            while !seen.objects.contains_key("z") {
                seen.take(&watch.next().await.unwrap());
            }
            assert_eq!((&seen.objects, seen.newest["z"]), (&last, end), "at pace {pace}");
        }
    }
}

#[tokio::test]
async fn watches_end_when_told_and_when_time_is_up() {
    let fixture = model().await;
    fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    let mut events = fixture.watch(&format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion=0")).await;
    assert!(events.line().await.starts_with("ADDED a@"));
    assert_eq!(events.line().await, "END");
    let mut events = fixture.watch(&format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Da")).await;
    assert!(events.line().await.starts_with("ADDED a@"));
    fixture.server.shutdown_token().cancel();
    assert_eq!(events.line().await, "END");
}

#[tokio::test]
async fn a_revision_from_before_the_cache_is_too_old() {
    let fixture = model().await;
    let a = fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    let mut events = fixture.watch(&format!("{MAPS}?watch=1&resourceVersion={}", version(&a))).await;
    let b = fixture.post(MAPS, &config_map("b", &json!({}), &json!({}))).await.expect(201);
    assert_eq!(events.line().await, format!("ADDED b@{}", version(&b)));
}

#[tokio::test]
async fn watches_come_as_tables_and_protobuf() {
    let fixture = model().await;
    fixture.post(MAPS, &config_map("a", &json!({}), &json!({"k": "v"}))).await.expect(201);
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1");
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let table = fixture.with_headers(http::Method::GET, &path, &accept, "").await.json();
    assert_eq!(table["object"]["kind"], "Table");
    assert_eq!(table["object"]["rows"][0]["cells"][0], "a");
    let accept = [("accept", "application/vnd.kubernetes.protobuf;stream=watch")];
    let frames = fixture.with_headers(http::Method::GET, &path, &accept, "").await;
    assert_eq!(frames.headers["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let length = u32::from_be_bytes(frames.bytes[..4].try_into().unwrap());
    assert_eq!(length as usize, frames.bytes.len() - 4);
    assert!(frames.bytes.windows(4).any(|window| window == b"k8s\0"));
    for asked in ["application/cbor", "application/cbor;stream=watch"] {
        let sequence = fixture.with_headers(http::Method::GET, &path, &[("accept", asked)], "").await;
        assert_eq!(sequence.headers["content-type"], "application/cbor-seq");
        let event = cbor::decode(&sequence.bytes).unwrap();
        assert_eq!((&event["type"], &event["object"]["data"]), (&json!("ADDED"), &json!({"k": "v"})));
    }
    let accept = [("accept", "application/yaml")];
    assert_eq!(fixture.with_headers(http::Method::GET, &path, &accept, "").await.code.as_u16(), 406);
}

#[tokio::test]
async fn events_carry_a_lease() {
    let fixture = model().await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}});
    fixture.post("/api/v1/namespaces/default/events", &event).await.expect(201);
    let request = nauplius_store::RangeRequest::key("/registry/events/default/e");
    let stored = fixture.server.caches().store().range(request).await.unwrap();
    assert!(stored.kvs[0].lease.is_some());
}
