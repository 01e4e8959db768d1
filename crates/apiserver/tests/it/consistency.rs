//! Lists and watches fit together while writers are at work, and too much at once is refused.

use crate::support::{Everyone, Fixture, config_map, configured, embedded, over_store, version};
use nauplius_apiserver::{Limits, UserInfo};
use nauplius_base::id;
use nauplius_store::etcd_process::EtcdProcess;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const NAMES: u64 = 20;

async fn write(fixture: &Fixture, rounds: usize) {
    for round in 0..rounds {
        let name = format!("m-{}", id::below(NAMES));
        let path = format!("{MAPS}/{name}");
        let map = config_map(
            &name,
            &json!({"side": (id::below(2)).to_string()}),
            &json!({"round": round.to_string()}),
        );
        // Others may have been faster: each answer is a good one.
        let answer = match id::below(3) {
            0 => fixture.post(MAPS, &map).await,
            1 => fixture.put(&path, &map).await,
            _ => fixture.delete(&path).await,
        };
        assert!(matches!(answer.code.as_u16(), 200 | 201 | 404 | 409), "{}", answer.refusal());
    }
}

type State = BTreeMap<String, Value>;

fn apply(state: &mut State, event: &Value, last: &mut i64) {
    let object = event["object"].clone();
    let revision: i64 = version(&object).parse().unwrap();
    assert!(revision > *last, "{revision} after {last}");
    *last = revision;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    match event["type"].as_str().unwrap() {
        "ADDED" => assert!(state.insert(name, object).is_none()),
        "MODIFIED" => assert!(state.insert(name, object).is_some()),
        "DELETED" => assert!(state.remove(&name).is_some()),
        other => panic!("{other}: {event}"),
    }
}

/// Lists, watches from there on, and ends with what the marker says is the end.
async fn follow(fixture: &Fixture, selector: &str) -> State {
    let list = fixture.get(&format!("{MAPS}?labelSelector={selector}")).await.expect(200);
    let mut state: State = BTreeMap::new();
    for mut item in list["items"].as_array().unwrap().iter().cloned() {
        item["kind"] = "ConfigMap".into();
        item["apiVersion"] = "v1".into();
        state.insert(item["metadata"]["name"].as_str().unwrap().to_owned(), item);
    }
    let mut last: i64 = version(&list).parse().unwrap();
    let query = format!("watch=1&labelSelector={selector}&resourceVersion={last}");
    let mut events = fixture.watch(&format!("{MAPS}?{query}")).await;
    loop {
        let event = events.next().await.expect("an event");
        apply(&mut state, &event, &mut last);
        if state.contains_key("end") {
            return state;
        }
    }
}

#[tokio::test]
async fn a_list_and_the_watch_from_it_are_the_whole_story() {
    whole_story(&embedded().await).await;
    let Some(etcd) = EtcdProcess::start("a_list_and_the_watch_from_it", &[]).await else { return };
    let store = etcd.store("/registry/", "/registry/").await.unwrap();
    whole_story(&over_store(Arc::new(store)).await).await;
}

async fn whole_story(fixture: &Fixture) {
    let work = async {
        futures_util::join!(write(fixture, 80), write(fixture, 80), write(fixture, 80));
        let end = config_map("end", &json!({"side": "1"}), &json!({}));
        fixture.post(MAPS, &end).await.expect(201);
    };
    let all = "side";
    let one = "side%3D1";
    let (_, first, second, third) =
        futures_util::join!(work, follow(fixture, all), follow(fixture, one), follow(fixture, all));
    let last = follow_now(fixture, all).await;
    assert_eq!(first, last);
    assert_eq!(third, last);
    assert_eq!(second, follow_now(fixture, one).await);
}

async fn follow_now(fixture: &Fixture, selector: &str) -> State {
    let list = fixture.get(&format!("{MAPS}?labelSelector={selector}")).await.expect(200);
    let mut state: State = BTreeMap::new();
    for mut item in list["items"].as_array().unwrap().iter().cloned() {
        item["kind"] = "ConfigMap".into();
        item["apiVersion"] = "v1".into();
        state.insert(item["metadata"]["name"].as_str().unwrap().to_owned(), item);
    }
    state
}

#[tokio::test]
async fn too_much_at_once_is_refused() {
    let admin = configured(|config| {
        config.limits = Limits { reads: 0, writes: 1, long_running: 0, ..Limits::default() };
        config.authorizer = Arc::new(Everyone);
    })
    .await;
    let joe = admin.server.transport(UserInfo::authenticated("joe", &[]));
    let fixture = Fixture::over(Arc::clone(&admin.server), joe);
    let refused = fixture.get(MAPS).await;
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.code.as_u16(), 429);
    assert_eq!(&refused.bytes[..], b"Too many requests, please try again later.\n");
    assert_eq!(
        (&refused.headers["retry-after"], &refused.headers["content-type"]),
        (&"1".parse().unwrap(), &"text/plain; charset=utf-8".parse().unwrap())
    );
    fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    assert_eq!(fixture.get(&format!("{MAPS}?watch=1")).await.code.as_u16(), 429);
    admin.get(MAPS).await.expect(200);
    let metrics = admin.get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.bytes);
    for line in [
        "apiserver_dropped_requests_total{request_kind=\"readOnly\"} 2",
        "apiserver_request_terminations_total{code=\"429\",component=\"apiserver\",group=\"\",resource=\"configmaps\",\
         scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 1",
    ] {
        assert!(metrics.lines().any(|own| own == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn what_is_not_built_is_refused() {
    let fixture = configured(|_| {}).await;
    let token = fixture.post("/api/v1/namespaces/default/serviceaccounts/a/token", &json!({})).await;
    assert_eq!(token.code.as_u16(), 501);
}
