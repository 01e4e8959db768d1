//! The informer follows a kind through additions, deletions, bookmarks, broken watches and lost revisions.

use crate::script::{Answer, Script};
use nauplius_base::task::CancellationToken;
use nauplius_client::{Client, ListOptions};
use nauplius_kinds::{ConfigMap, Object};
use nauplius_reconcile::{Change, Informer};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

fn config_map(name: &str, revision: u64) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","namespace":"d","resourceVersion":"{revision}"}}}}"#
    )
}

fn list(revision: u64, items: &[String]) -> Answer {
    let items = items.join(",");
    Answer::Whole(
        200,
        format!(
            r#"{{"kind":"ConfigMapList","apiVersion":"v1","metadata":{{"resourceVersion":"{revision}"}},"items":[{items}]}}"#
        ),
    )
}

fn event(kind: &str, object: &str) -> String {
    format!(r#"{{"type":"{kind}","object":{object}}}"#)
}

fn names(informer: &Informer<ConfigMap>) -> Vec<String> {
    informer.snapshot().iter().map(|object| object.name().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn follows_a_kind_and_recovers() {
    let script = Script::default();
    let client = Client::new(Arc::new(script.clone()), "test");
    let informer = Informer::with_indexes(
        client.all::<ConfigMap>(),
        ListOptions::default(),
        vec![("initial", |object: &ConfigMap| vec![object.name()[..1].to_owned()])],
    );
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&log);
    informer.on_change(move |change| {
        let what = match change {
            Change::Added(_) => "added",
            Change::Updated { .. } => "updated",
            Change::Deleted(_) => "deleted",
        };
        writer.lock().unwrap().push(format!("{what} {}", change.object().name()));
    });
    let (first, lines) = mpsc::channel(8);
    script.answer(list(5, &[config_map("a1", 2), config_map("b1", 3)]));
    script.answer(Answer::Lines(lines));
    let shutdown = CancellationToken::new();
    let task = nauplius_base::task::spawn("informer", informer.clone().run(shutdown.clone()));

    informer.synced().await;
    first.send(event("ADDED", &config_map("a2", 6))).await.unwrap();
    first.send(event("DELETED", &config_map("b1", 7))).await.unwrap();
    first.send(event("BOOKMARK", &config_map("", 9))).await.unwrap();
    informer.reached(9).await;
    assert_eq!(names(&informer), ["a1", "a2"]);
    assert_eq!(informer.snapshot().indexed("initial", "a").count(), 2);
    assert_eq!(informer.snapshot().indexed("initial", "b").count(), 0);

    // A watch that ends resumes at the bookmark; a lost revision lists again and reports what went meanwhile.
    script.answer(Answer::Whole(
        410,
        r#"{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version: 9 (20)"}"#
            .to_owned(),
    ));
    script.answer(list(20, &[config_map("a2", 15)]));
    drop(first);
    informer.reached(20).await;
    assert_eq!(names(&informer), ["a2"]);
    assert_eq!(
        *log.lock().unwrap(),
        ["added a1", "added b1", "added a2", "deleted b1", "deleted a1", "updated a2"]
    );
    let seen = script.seen();
    assert!(seen[0].starts_with("GET /api/v1/configmaps?resourceVersion=0"), "{seen:?}");
    assert!(seen[2].contains("resourceVersion=9"), "{seen:?}");
    shutdown.cancel();
    task.await.unwrap().unwrap();
}
