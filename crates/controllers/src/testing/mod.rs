//! What tests share: objects from JSON, plans as text a person can read, and a small API server to run controllers against.

pub(crate) mod server;
pub(crate) mod world;

use nauplius_base::time::Timestamp;
use nauplius_kinds::Object;
use nauplius_reconcile::{Action, Plan};
use serde_json::Value;
use std::sync::Arc;

/// An object of a kind, from JSON.
pub(crate) fn object<T: Object>(value: Value) -> Arc<T> {
    Arc::new(T::decode(value.to_string().as_bytes()).expect("an object of that kind"))
}

/// A time in seconds since the epoch.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a second of this era")
}

/// One line an action: method, the path's end, and what of the body matters.
pub(crate) fn trace(plan: &Plan) -> Vec<String> {
    plan.actions.iter().map(line).collect()
}

fn line(action: &Action) -> String {
    let write = match action {
        Action::Event(note) => return format!("event {:?} {}: {}", note.kind, note.reason, note.message),
        Action::Write(write) => write,
    };
    let body: Value = serde_json::from_slice(&write.body).unwrap_or(Value::Null);
    let path = write.path.split_once("/namespaces/").map_or(write.path.as_str(), |(_, path)| path);
    let note = write.on_success.as_ref().map_or(String::new(), |note| format!(" ({})", note.message));
    let about = match body.pointer("/spec/replicas") {
        Some(replicas) if !path.ends_with("status") => format!(" replicas={replicas}"),
        _ => String::new(),
    };
    format!("{} {path}{about}{note}", write.method)
}
