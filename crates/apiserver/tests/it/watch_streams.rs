//! Watches as streams: over WebSocket, at the old paths, in every encoding, and what ends them.

use crate::network::{World, http_1, over_tls, pod_on_node, world};
use crate::support::{config_map, configured, model, version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::{cbor, protobuf, schema};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A WebSocket at a path, and the headers of its answer.
async fn open(
    world: &World,
    path: &str,
    headers: &[(&str, &str)],
) -> (TokioIo<hyper::upgrade::Upgraded>, http::HeaderMap) {
    let mut sender = http_1(world).await;
    let mut request = Request::get(path)
        .header(header::HOST, "server")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 101);
    let answered = response.headers().clone();
    (TokioIo::new(hyper::upgrade::on(response).await.unwrap()), answered)
}

/// The opcode and the payload of the next message.
async fn message(io: &mut TokioIo<hyper::upgrade::Upgraded>) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    io.read_exact(&mut head).await.unwrap();
    let length = match head[1] {
        126 => usize::from(io.read_u16().await.unwrap()),
        length => usize::from(length),
    };
    let mut payload = vec![0; length];
    io.read_exact(&mut payload).await.unwrap();
    (head[0] & 0x0f, payload)
}

/// Opens a watch over a WebSocket and reads one message.
async fn first_message(
    world: &World,
    query: &str,
    headers: &[(&str, &str)],
) -> (u8, Vec<u8>, http::HeaderMap) {
    let (mut io, answered) = open(world, &format!("{MAPS}?watch=1&{query}"), headers).await;
    let (opcode, payload) = message(&mut io).await;
    (opcode, payload, answered)
}

#[tokio::test]
async fn logs_come_over_websockets() {
    let world = world().await;
    let admin = over_tls(&world, Some(("admin", "system:masters")));
    pod_on_node(&world, &admin).await;
    let path = "/api/v1/namespaces/default/pods/p/log?tailLines=1";
    let expected = b"asked /containerLogs/default/p/c?tailLines=1\n";
    for (protocol, opcode, text) in [
        ("binary.k8s.io", 2, expected.to_vec()),
        ("base64.binary.k8s.io", 1, STANDARD.encode(expected).into_bytes()),
    ] {
        let (mut io, answered) = open(&world, path, &[("sec-websocket-protocol", protocol)]).await;
        assert_eq!(answered["sec-websocket-protocol"], protocol);
        assert_eq!(message(&mut io).await, (opcode, Vec::new()), "the first message is empty");
        assert_eq!(message(&mut io).await, (opcode, text));
        assert_eq!(message(&mut io).await, (8, 1000_u16.to_be_bytes().to_vec()));
    }
    world.group.shut_down();
}

#[tokio::test]
async fn websockets_carry_an_event_a_message() {
    let world = world().await;
    let admin = over_tls(&world, Some(("admin", "system:masters")));
    admin.post(MAPS, &config_map("a", &json!({}), &json!({"k": "v"}))).await.expect(201);
    let (opcode, message, answered) = first_message(&world, "resourceVersion=0", &[]).await;
    assert_eq!((opcode, message.last()), (1, Some(&b'\n')));
    let event: Value = serde_json::from_slice(&message).unwrap();
    assert_eq!((&event["type"], &event["object"]["data"]), (&json!("ADDED"), &json!({"k": "v"})));
    assert_eq!(answered["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

    let accept =
        [("accept", "application/vnd.kubernetes.protobuf;stream=watch"), ("sec-websocket-protocol", "own")];
    let (opcode, message, answered) = first_message(&world, "resourceVersion=0", &accept).await;
    assert_eq!((opcode, &answered["sec-websocket-protocol"]), (2, &"own".parse().unwrap()));
    let event = schema::lookup_type("meta/v1", "WatchEvent").unwrap();
    let event = protobuf::decode_message(&message, event).unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("a")));

    let accept = [("accept", "application/cbor")];
    let (opcode, message, _) = first_message(&world, "resourceVersion=0", &accept).await;
    let event = cbor::decode(&message).unwrap();
    assert_eq!((opcode, &event["object"]["metadata"]["name"]), (2, &json!("a")));
    world.group.shut_down();
}

#[tokio::test]
async fn the_old_paths_watch() {
    let fixture = model().await;
    let a = fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    let b = fixture.post(MAPS, &config_map("b", &json!({}), &json!({}))).await.expect(201);
    let (a, b) = (format!("ADDED a@{}", version(&a)), format!("ADDED b@{}", version(&b)));
    for (path, expected) in [
        ("/api/v1/watch/configmaps", vec![&a, &b]),
        ("/api/v1/watch/namespaces/default/configmaps", vec![&a, &b]),
        ("/api/v1/watch/namespaces/default/configmaps/b", vec![&b]),
        ("/api/v1/namespaces/default/configmaps?watch=true&fieldSelector=metadata.name%3Db", vec![&b]),
    ] {
        let mut events = fixture.watch(path).await;
        for line in expected {
            assert_eq!(&events.line().await, line, "{path}");
        }
    }
    let wrong =
        fixture.get("/api/v1/watch/namespaces/default/configmaps/b?fieldSelector=metadata.name%3Da").await;
    assert_eq!(wrong.refusal(), "400 fieldSelector metadata.name doesn't match requested name");
}

#[tokio::test(start_paused = true)]
async fn a_watch_gets_a_last_bookmark_before_its_end() {
    let fixture = model().await;
    let a = fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    let query = format!("watch=1&allowWatchBookmarks=true&timeoutSeconds=5&resourceVersion={}", version(&a));
    let mut events = fixture.watch(&format!("{MAPS}?{query}")).await;
    let bookmark = events.next().await.unwrap();
    assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
    assert!(version(&bookmark["object"]) >= version(&a));
    assert_eq!(events.line().await, "END");
}

#[tokio::test]
async fn what_is_no_longer_kept_is_an_error_in_the_stream() {
    let fixture = model().await;
    fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    let mut events = fixture.watch(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    let mut event = events.next().await.unwrap();
    if event["type"] == "ADDED" {
        // The cache began before the object: enough changes push the first out.
        for index in 0..9_000 {
            let map = json!({"metadata": {"name": "a"}, "data": {"i": index.to_string()}});
            fixture.put(&format!("{MAPS}/a"), &map).await.expect(200);
        }
        // A read waits for the cache; a watch does not.
        fixture.get(&format!("{MAPS}/a")).await.expect(200);
        events = fixture.watch(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
        event = events.next().await.unwrap();
    }
    let status = &event["object"];
    assert_eq!(event["type"], "ERROR");
    assert_eq!(
        (&status["kind"], &status["code"], &status["reason"]),
        (&json!("Status"), &json!(410), &json!("Expired"))
    );
    assert!(status["message"].as_str().unwrap().starts_with("too old resource version: 1 ("), "{status}");
    assert_eq!(events.line().await, "END");

    let accept = [("accept", "application/vnd.kubernetes.protobuf;stream=watch")];
    let path = format!("{MAPS}?watch=1&resourceVersion=1");
    let frames = fixture.with_headers(Method::GET, &path, &accept, "").await;
    let event = schema::lookup_type("meta/v1", "WatchEvent").unwrap();
    let event = protobuf::decode_message(&frames.bytes[4..], event).unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
}

#[tokio::test]
async fn a_watch_that_stalls_among_the_first_objects_does_not_keep_what_was_replaced() {
    let fixture = model().await;
    let kilobyte = "x".repeat(1 << 10);
    for index in 0..100 {
        let map = config_map(&format!("a{index}"), &json!({}), &json!({"k": kilobyte}));
        fixture.post(MAPS, &map).await.expect(201);
    }
    let path = format!("{MAPS}?watch=1&resourceVersion=0");
    let mut quick = fixture.watch(&path).await;
    for _ in 0..100 {
        assert_eq!(quick.next().await.unwrap()["type"], "ADDED");
    }
    // What others were sent lately is there for everybody: this one shall be alone.
    drop(quick);
    let mut stalled = fixture.watch(&path).await;
    assert_eq!(stalled.next().await.unwrap()["type"], "ADDED");
    // More than is kept of the changes of a resource.
    for index in 0..40 {
        let data = json!({"k": format!("{index}{}", "y".repeat(700 << 10))});
        fixture.put(&format!("{MAPS}/a0"), &config_map("a0", &json!({}), &data)).await.expect(200);
    }
    fixture.get(&format!("{MAPS}/a0")).await.expect(200);
    let mut before = 1;
    let status = loop {
        let event = stalled.next().await.unwrap_or_else(|| panic!("ended after {before}"));
        if event["type"] == "ERROR" {
            break event["object"].clone();
        }
        before += 1;
    };
    assert!(before < 100, "only what was made before");
    assert_eq!((&status["code"], &status["reason"]), (&json!(410), &json!("Expired")));
    assert_eq!(stalled.line().await, "END");
}

#[tokio::test]
async fn a_revision_to_come_is_waited_for() {
    let fixture = configured(|_| {}).await;
    let a = fixture.post(MAPS, &config_map("a", &json!({}), &json!({}))).await.expect(201);
    let later = version(&a).parse::<i64>().unwrap() + 1;
    let mut events = fixture.watch(&format!("{MAPS}?watch=1&resourceVersion={later}")).await;
    // This one has the revision itself, so it is not seen.
    fixture.post(MAPS, &config_map("b", &json!({}), &json!({}))).await.expect(201);
    let c = fixture.post(MAPS, &config_map("c", &json!({}), &json!({}))).await.expect(201);
    assert_eq!(events.line().await, format!("ADDED c@{}", version(&c)));
}

#[tokio::test]
async fn bookmarks_and_metadata_come_in_every_shape() {
    let fixture = model().await;
    fixture.post(MAPS, &config_map("a", &json!({"l": "1"}), &json!({"k": "v"}))).await.expect(201);
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";
    let path = format!("{MAPS}?{query}");
    let lines = |answer: crate::support::Answer| -> Vec<Value> {
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    for (accept, kind) in [
        ("application/json", "ConfigMap"),
        ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "PartialObjectMetadata"),
        ("application/json;as=Table;g=meta.k8s.io;v=v1", "Table"),
    ] {
        let answer = fixture.with_headers(Method::GET, &path, &[("accept", accept)], "").await;
        assert_eq!(answer.headers["content-type"], "application/json", "{accept}");
        let events = lines(answer);
        assert_eq!(events.iter().map(|event| &event["type"]).collect::<Vec<_>>(), ["ADDED", "BOOKMARK"]);
        for event in &events {
            assert_eq!(event["object"]["kind"], kind, "{accept}: {event}");
        }
        let mark = |object: &Value| object["metadata"]["annotations"]["k8s.io/initial-events-end"].clone();
        let end = &events[1]["object"];
        let end = if kind == "Table" { mark(&end["rows"][0]["object"]) } else { mark(end) };
        assert_eq!(end, "true", "{accept}");
    }
    let list = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let object = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let refused = fixture.with_headers(Method::GET, MAPS, &[("accept", object)], "").await;
    assert_eq!(
        refused.refusal(),
        "406 you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)"
    );
    let refused = fixture.with_headers(Method::GET, &format!("{MAPS}/a"), &[("accept", list)], "").await;
    assert_eq!(
        refused.refusal(),
        "406 you requested PartialObjectMetadataList, but the requested object is not a list"
    );
    let accept =
        [("accept", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")];
    let packed = fixture.with_headers(Method::GET, MAPS, &accept, "").await;
    let ty = schema::lookup_kind(&GroupVersionKind::new("meta.k8s.io", "v1", "PartialObjectMetadataList"))
        .unwrap();
    let list = protobuf::decode(&packed.bytes, ty).unwrap();
    assert_eq!(list["items"][0]["metadata"]["labels"], json!({"l": "1"}));
}
