//! Watchers that want the same are sent the same bytes, made once; those who want something else, or read at another pace, see what they
//! would see alone.

use crate::support::{Fixture, config_map, model};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use nauplius_base::time::timeout;
use nauplius_client::transport::{Body, empty};
use serde_json::{Value, json};
use std::time::Duration;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf;stream=watch";
const CBOR: &str = "application/cbor";

async fn open(fixture: &Fixture, query: &str, accept: &str) -> Body {
    let request = Request::get(format!("{MAPS}?watch=1&{query}")).header("accept", accept);
    let answer = fixture.send(request.body(empty()).unwrap()).await;
    assert_eq!(answer.status(), 200, "{accept}");
    answer.into_body()
}

async fn piece(body: &mut Body) -> Bytes {
    let frame = timeout(Duration::from_secs(10), body.frame()).await.expect("an event in time");
    frame.expect("the watch goes on").unwrap().into_data().unwrap()
}

async fn make(fixture: &Fixture, name: &str) {
    fixture.post(MAPS, &config_map(name, &json!({"on": "yes"}), &json!({"k": "v"}))).await.expect(201);
}

#[tokio::test]
async fn an_event_is_encoded_once_for_all_who_want_the_same() {
    let fixture = model().await;
    make(&fixture, "first").await;
    let start = fixture.get(MAPS).await.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let from = format!("resourceVersion={start}");
    let selected = format!("{from}&labelSelector=on%3Dyes");
    let wants = [
        (&from, JSON),
        (&from, TABLE),
        (&from, METADATA),
        (&from, PROTOBUF),
        (&from, CBOR),
        (&selected, JSON),
    ];
    let mut groups = Vec::new();
    for (query, accept) in wants {
        let mut watchers = Vec::new();
        for _ in 0..4 {
            watchers.push(open(&fixture, query, accept).await);
        }
        groups.push(watchers);
    }
    for name in ["second", "third"] {
        make(&fixture, name).await;
        let mut made = Vec::new();
        for (watchers, (_, accept)) in groups.iter_mut().zip(wants) {
            let first = piece(&mut watchers[0]).await;
            assert!(first.windows(name.len()).any(|part| part == name.as_bytes()), "{accept}");
            for other in &mut watchers[1..] {
                let other = piece(other).await;
                // The first table of each stream says what its columns are.
                if (accept, name) == (TABLE, "second") {
                    assert!(other.windows(17).any(|part| part == b"columnDefinitions"));
                } else {
                    assert_eq!(other.as_ptr(), first.as_ptr(), "{accept} of {name} was made again");
                }
            }
            made.push(first);
        }
        made.sort_by_key(|piece| piece.as_ptr());
        made.dedup_by_key(|piece| piece.as_ptr());
        assert_eq!(made.len(), wants.len());
    }
    let counted = fixture.get("/metrics").await;
    let counted = String::from_utf8_lossy(&counted.bytes).into_owned();
    let line = counted.lines().find(|line| {
        line.starts_with("apiserver_watch_events_total") && line.contains("resource=\"configmaps\"")
    });
    assert!(line.is_some_and(|line| line.ends_with(" 48")), "{line:?}");
}

#[tokio::test]
async fn the_objects_that_a_watch_begins_with_are_encoded_once() {
    let fixture = model().await;
    for number in 0..100 {
        let map = config_map(&format!("m{number}"), &json!({}), &json!({"x": "x".repeat(1_000)}));
        fixture.post(MAPS, &map).await.expect(201);
    }
    let mut told = Vec::new();
    let mut watchers = Vec::new();
    for _ in 0..3 {
        let mut body = open(&fixture, "", JSON).await;
        let (mut pieces, mut events) = (Vec::new(), 0);
        while events < 100 {
            let piece = piece(&mut body).await;
            events += piece.iter().filter(|byte| **byte == b'\n').count();
            pieces.push(piece);
        }
        assert_eq!(events, 100);
        told.push(pieces);
        watchers.push(body);
    }
    assert!(told[0].len() > 4, "{} pieces", told[0].len());
    let addresses = |pieces: &[Bytes]| pieces.iter().map(|piece| piece.as_ptr()).collect::<Vec<_>>();
    // The first watcher was alone, and the last piece of each goes on with changes.
    let (second, third) = (addresses(&told[1]), addresses(&told[2]));
    assert_eq!(second.len(), third.len());
    assert_eq!(second[..second.len() - 1], third[..third.len() - 1]);
    assert_eq!(told[0].concat(), told[1].concat());
    make(&fixture, "one-more").await;
    for body in &mut watchers {
        let piece = piece(body).await;
        assert!(piece.windows(8).any(|part| part == b"one-more"));
    }
}

/// A small generator: the same changes in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Everything that can be read now.
async fn drain(body: &mut Body, into: &mut Vec<u8>) {
    while let Ok(frame) = timeout(Duration::from_millis(20), body.frame()).await {
        into.extend_from_slice(&frame.expect("the watch goes on").unwrap().into_data().unwrap());
    }
}

async fn change(fixture: &Fixture, chance: &mut Chance, number: u64) {
    let name = format!("m{}", chance.below(6));
    // Some are cut on their way, and some alone fill a piece.
    let size = [10, 100, 6_000, 40_000][chance.below(4) as usize];
    let on = ["yes", "no"][chance.below(2) as usize];
    let map = config_map(&name, &json!({"on": on}), &json!({"n": number.to_string(), "x": "x".repeat(size)}));
    let path = format!("{MAPS}/{name}");
    if chance.below(5) == 0 {
        fixture.delete(&path).await;
    } else if fixture.get(&path).await.code == 200 {
        fixture.put(&path, &map).await.expect(200);
    } else {
        fixture.post(MAPS, &map).await.expect(201);
    }
}

/// Watchers of each group who see metadata only.
const PARTIAL: usize = 3;

fn partial(event: &Value) -> Value {
    let object = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": event["object"]["metadata"]});
    json!({"type": event["type"], "object": object})
}

#[tokio::test(start_paused = true)]
async fn whoever_reads_at_whatever_pace_sees_what_they_would_see_alone() {
    let fixture = model().await;
    let mut chance = Chance(17);
    // The selectors of a pair mean the same and are not the same text, so that their watchers share nothing.
    let pairs = [
        ("labelSelector=on", "labelSelector=on+in+(yes,no)"),
        ("labelSelector=on%3Dyes", "labelSelector=on+in+(yes)"),
    ];
    let start = fixture.get(MAPS).await.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut groups: Vec<Vec<(Body, Vec<u8>)>> = Vec::new();
    for (many, one) in pairs {
        let mut watchers = Vec::new();
        for query in std::iter::repeat_n(many, 12).chain([one]) {
            let query = format!("{query}&resourceVersion={start}");
            let body = open(&fixture, &query, JSON).await;
            watchers.push((body, Vec::new()));
        }
        // What these are sent has to be made, and is made once for all of both groups.
        for _ in 0..PARTIAL {
            let body = open(&fixture, &format!("{many}&resourceVersion={start}"), METADATA).await;
            watchers.push((body, Vec::new()));
        }
        groups.push(watchers);
    }
    for number in 0..120 {
        change(&fixture, &mut chance, number).await;
        for watchers in &mut groups {
            for (body, seen) in watchers {
                match chance.below(4) {
                    0 => drain(body, seen).await,
                    1 => {
                        // One piece, if there is one.
                        if let Ok(frame) = timeout(Duration::from_millis(20), body.frame()).await {
                            seen.extend_from_slice(&frame.unwrap().unwrap().into_data().unwrap());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    for (watchers, (query, _)) in groups.iter_mut().zip(pairs) {
        for (body, seen) in watchers.iter_mut() {
            drain(body, seen).await;
        }
        let lines = |seen: &[u8]| {
            let lines = seen.split_inclusive(|byte| *byte == b'\n');
            lines.map(|line| serde_json::from_slice::<Value>(line).unwrap()).collect::<Vec<_>>()
        };
        let alone = lines(&watchers[12].1);
        assert!(alone.len() > 30, "{} events", alone.len());
        let partial: Vec<_> = alone.iter().map(partial).collect();
        for (index, (_, seen)) in watchers.iter().enumerate() {
            let expected = if index <= 12 { &alone } else { &partial };
            assert!(lines(seen) == *expected, "watcher {index} of {query:?} saw something else");
        }
    }
}
