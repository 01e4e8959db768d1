//! The driver carries out plans, and ends when it is asked to.

use crate::script::{Answer, Script};
use nauplius_base::task::{CancellationToken, spawn};
use nauplius_base::time::{Timestamp, monotonic, sleep};
use nauplius_client::{Client, ListOptions};
use nauplius_kinds::ConfigMap;
use nauplius_reconcile::events::{Source, recorder};
use nauplius_reconcile::{Action, Controller, Driver, Informer, Key, Plan, Queue};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Creates its one object at each look.
struct Creator;

impl Controller for Creator {
    type View = ConfigMap;
    const NAME: &'static str = "creator";

    fn view(&self, _key: &Key) -> Option<ConfigMap> {
        let object = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"d"}}"#;
        Some(serde_json::from_str(object).unwrap())
    }

    fn plan(&self, view: &ConfigMap, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        plan.act(Action::create(view));
        plan
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_does_not_wait_for_caches_that_have_ended() {
    let script = Script::default();
    let client = Client::new(Arc::new(script.clone()), "test");
    let informer = Informer::new(client.all::<ConfigMap>(), ListOptions::default());
    let (_watch, lines) = mpsc::channel(8);
    let empty = r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"5"},"items":[]}"#;
    script.answer(Answer::Whole(200, empty.to_owned()));
    script.answer(Answer::Lines(lines));
    let shutdown = CancellationToken::new();
    let following = spawn("informer", informer.clone().run(shutdown.clone()));
    informer.synced().await;
    while script.seen().len() < 2 {
        sleep(Duration::from_millis(1)).await;
    }

    // The watch never shows what this write reached.
    let written = r#"{"metadata":{"name":"a","namespace":"d","resourceVersion":"50"}}"#;
    script.answer(Answer::Whole(201, written.to_owned()));
    let queue = Queue::new();
    let (recorder, _writer) = recorder(client.clone(), Source { component: "creator", host: String::new() });
    let driver = Driver::new(Creator, client, queue.clone(), recorder).sees(&informer);
    let driving = spawn("driver", driver.run(1, shutdown.clone()));
    queue.add(Key::new("d", "a"));
    while script.seen().len() < 3 {
        sleep(Duration::from_millis(1)).await;
    }
    let since = monotonic();
    shutdown.cancel();
    driving.await.unwrap().unwrap();
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    following.await.unwrap().unwrap();
}
