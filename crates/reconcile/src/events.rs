//! Records events about objects as client-go's recorder does: repeats become a count, a flood of similar ones is
//! combined, and one noisy object cannot flood the store. Recording never blocks its caller.

use nauplius_base::task::CancellationToken;
use nauplius_base::time;
use nauplius_client::{Client, ClientError, Patch};
use nauplius_kinds::{Object, api::core::Event};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Events that wait to be written; beyond it new ones are dropped, with a warning.
const QUEUE_MAX: usize = 1000;
/// Remembered series; upstream's LRU size.
const SERIES_MAX: usize = 4096;
/// More similar events than this within the interval are combined into one.
const SIMILAR_MAX: u32 = 10;
const SIMILAR_INTERVAL: Duration = Duration::from_secs(600);
/// What a combined event's text begins with.
const COMBINED: &str = "(combined from similar events): ";
/// A token bucket per object: 25 at once, then one every five minutes.
const BURST: f64 = 25.0;
const REFILL_PER_S: f64 = 1.0 / 300.0;

/// The type of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// Something happened.
    Normal,
    /// Something is wrong.
    Warning,
}

impl EventKind {
    fn as_str(self) -> &'static str {
        match self {
            EventKind::Normal => "Normal",
            EventKind::Warning => "Warning",
        }
    }
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ObjectRef {
    /// `v1`, `apps/v1`
    pub api_version: String,
    /// `Pod`
    pub kind: String,
    /// Empty for cluster-scoped objects, whose events live in `default`.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: String,
    /// The object's resourceVersion.
    pub resource_version: String,
    /// A part of it: `spec.containers{web}`.
    pub field_path: String,
}

impl ObjectRef {
    /// The reference to a whole object.
    pub fn of<T: Object>(object: &T) -> Self {
        let api_version =
            if T::GROUP.is_empty() { T::VERSION.to_owned() } else { format!("{}/{}", T::GROUP, T::VERSION) };
        Self {
            api_version,
            kind: T::KIND.to_owned(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            resource_version: object.resource_version().to_owned(),
            field_path: String::new(),
        }
    }

    /// The reference to a part of an object.
    pub fn at(mut self, field_path: impl Into<String>) -> Self {
        self.field_path = field_path.into();
        self
    }
}

struct Message {
    about: ObjectRef,
    kind: EventKind,
    reason: String,
    text: String,
    at: time::Timestamp,
}

/// Hands events to the task that writes them. Clones share it.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Message>,
}

/// Where events come from, as `kubectl describe` shows it under "From".
#[derive(Debug, Clone)]
pub struct Source {
    /// `kubelet`, `default-scheduler`, `deployment-controller`, ...
    pub component: &'static str,
    /// The node, for components that belong to one.
    pub host: String,
}

/// The task that writes what a [`Recorder`] hands it.
pub struct Writer {
    receiver: mpsc::Receiver<Message>,
    client: Client,
    source: Source,
    state: Correlator,
}

/// A recorder and the writer that the caller runs as a task.
pub fn recorder(client: Client, source: Source) -> (Recorder, Writer) {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    (Recorder { sender }, Writer { receiver, client, source, state: Correlator::default() })
}

impl Recorder {
    /// Records an event; returns at once.
    pub fn record(&self, about: &ObjectRef, kind: EventKind, reason: &str, text: impl Into<String>) {
        let message = Message {
            about: about.clone(),
            kind,
            reason: reason.to_owned(),
            text: text.into(),
            at: time::now(),
        };
        match self.sender.try_send(message) {
            Ok(()) => {}
            // A component that ends says what it still does, and nobody writes it down any more.
            Err(TrySendError::Closed(_)) => {
                tracing::debug!(object = about.name, reason, "an event came too late")
            }
            Err(error) => tracing::warn!(%error, object = about.name, reason, "an event was dropped"),
        }
    }

    /// Records a Normal event about an object.
    pub fn normal<T: Object>(&self, object: &T, reason: &str, text: impl Into<String>) {
        self.record(&ObjectRef::of(object), EventKind::Normal, reason, text);
    }

    /// Records a Warning event about an object.
    pub fn warning<T: Object>(&self, object: &T, reason: &str, text: impl Into<String>) {
        self.record(&ObjectRef::of(object), EventKind::Warning, reason, text);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SimilarKey {
    about: ObjectRef,
    kind: EventKind,
    reason: String,
}

struct Similar {
    texts: Vec<Arc<str>>,
    since: i64,
}

struct Series {
    name: String,
    count: i32,
    used: u64,
}

struct Bucket {
    tokens: f64,
    at: i64,
}

/// What is remembered to tell a repeat from news.
#[derive(Default)]
struct Correlator {
    similar: HashMap<SimilarKey, Similar>,
    series: HashMap<(SimilarKey, String), Series>,
    buckets: HashMap<ObjectRef, Bucket>,
    clock: u64,
}

enum Verdict {
    Create { text: String },
    Repeat { name: String, count: i32, text: String },
    Drop,
}

/// All combined events of an object for one reason are one series that shows the newest of them.
fn series_of(text: &str) -> &str {
    if text.starts_with(COMBINED) { COMBINED } else { text }
}

impl Correlator {
    fn judge(&mut self, key: &SimilarKey, text: &str, now_s: i64) -> Verdict {
        self.clock += 1;
        let text = self.combine(key, text, now_s);
        if !self.admit(&key.about, now_s) {
            return Verdict::Drop;
        }
        match self.series.get_mut(&(key.clone(), series_of(&text).to_owned())) {
            Some(series) => {
                series.count += 1;
                series.used = self.clock;
                Verdict::Repeat { name: series.name.clone(), count: series.count, text }
            }
            None => Verdict::Create { text },
        }
    }

    fn combine(&mut self, key: &SimilarKey, text: &str, now_s: i64) -> String {
        let interval_s = SIMILAR_INTERVAL.as_secs().cast_signed();
        if self.similar.len() >= SERIES_MAX {
            self.similar.retain(|_, similar| now_s - similar.since < interval_s);
        }
        let fresh = || Similar { texts: Vec::new(), since: now_s };
        let similar = self.similar.entry(key.clone()).or_insert_with(fresh);
        if now_s - similar.since > interval_s {
            *similar = fresh();
        }
        similar.since = now_s;
        if !similar.texts.iter().any(|known| **known == *text) && similar.texts.len() < SIMILAR_MAX as usize {
            similar.texts.push(text.into());
        }
        let is_flood = similar.texts.len() >= SIMILAR_MAX as usize;
        if is_flood { format!("{COMBINED}{text}") } else { text.to_owned() }
    }

    fn admit(&mut self, about: &ObjectRef, now_s: i64) -> bool {
        if self.buckets.len() >= SERIES_MAX {
            self.buckets.retain(|_, bucket| now_s - bucket.at < 7200);
        }
        let key = ObjectRef { resource_version: String::new(), field_path: String::new(), ..about.clone() };
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: BURST, at: now_s });
        #[allow(clippy::cast_precision_loss)] // Seconds between two events.
        let earned = (now_s - bucket.at).max(0) as f64 * REFILL_PER_S;
        bucket.tokens = (bucket.tokens + earned).min(BURST);
        bucket.at = now_s;
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }

    fn remember(&mut self, key: SimilarKey, text: String, name: String) {
        if self.series.len() >= SERIES_MAX {
            let horizon = self.clock.saturating_sub(SERIES_MAX as u64 / 2);
            self.series.retain(|_, series| series.used >= horizon);
        }
        let series = series_of(&text).to_owned();
        self.series.insert((key, series), Series { name, count: 1, used: self.clock });
    }

    fn forget(&mut self, key: &SimilarKey, text: &str) {
        self.series.remove(&(key.clone(), series_of(text).to_owned()));
    }
}

impl Writer {
    /// Writes events until `shutdown` (what is queued then is still written, for a second at most) or until every recorder is
    /// gone.
    ///
    /// # Errors
    /// Never: an event that cannot be written is logged and dropped, as upstream does.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), std::convert::Infallible> {
        loop {
            let message = tokio::select! {
                () = shutdown.cancelled() => break,
                message = self.receiver.recv() => message,
            };
            match message {
                Some(message) => self.write(message).await,
                None => {
                    shutdown.cancelled().await;
                    break;
                }
            }
        }
        let drain = async {
            while let Ok(message) = self.receiver.try_recv() {
                self.write(message).await;
            }
        };
        if time::timeout(Duration::from_secs(1), drain).await.is_err() {
            tracing::debug!("events were left unwritten at shutdown");
        }
        Ok(())
    }

    async fn write(&mut self, message: Message) {
        // A repeat is the same event about the same object, whichever revision the caller saw.
        let about = ObjectRef { resource_version: String::new(), ..message.about.clone() };
        let key = SimilarKey { about, kind: message.kind, reason: message.reason.clone() };
        let outcome = match self.state.judge(&key, &message.text, message.at.as_second()) {
            Verdict::Drop => Ok(()),
            Verdict::Create { text } => self.create(key, text, &message).await,
            Verdict::Repeat { name, count, text } => match self.count(&message, &name, count, &text).await {
                // It has expired from the store: begin a new series.
                Err(error) if error.is_not_found() => {
                    self.state.forget(&key, &text);
                    self.create(key, text, &message).await
                }
                outcome => outcome,
            },
        };
        if let Err(error) = outcome {
            let (object, reason) = (&message.about.name, &message.reason);
            if error.is_namespace_terminating() || error.is_not_found() {
                tracing::debug!(%error, object, reason, "an event has no namespace to live in");
            } else {
                tracing::warn!(%error, object, reason, "cannot write an event");
            }
        }
    }

    async fn create(&mut self, key: SimilarKey, text: String, message: &Message) -> Result<(), ClientError> {
        // The time in the name keeps lists of events in the order in which they happened.
        let name = format!("{}.{:x}", message.about.name, message.at.as_nanosecond());
        let body = self.render(&name, &text, message).to_string();
        let path = nauplius_client::api::path::<Event>(Some(namespace_of(&message.about)), None, None);
        self.client
            .request(http::Method::POST, &path, Some("application/json"), Some(body.into_bytes()))
            .await?;
        self.state.remember(key, text, name);
        Ok(())
    }

    fn render(&self, name: &str, text: &str, message: &Message) -> serde_json::Value {
        let at = time::rfc3339_seconds(message.at);
        let about = &message.about;
        let mut event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace_of(about)},
            "involvedObject": {
                "apiVersion": about.api_version, "kind": about.kind, "namespace": about.namespace, "name": about.name,
                "uid": about.uid, "resourceVersion": about.resource_version, "fieldPath": about.field_path,
            },
            "reason": message.reason,
            "message": text,
            "type": message.kind.as_str(),
            "source": {"component": self.source.component, "host": self.source.host},
            "reportingComponent": self.source.component,
            "reportingInstance": self.source.host,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        });
        drop_empty(&mut event["involvedObject"]);
        drop_empty(&mut event["source"]);
        event
    }

    async fn count(&self, message: &Message, name: &str, count: i32, text: &str) -> Result<(), ClientError> {
        let patch =
            json!({"count": count, "message": text, "lastTimestamp": time::rfc3339_seconds(message.at)});
        let api = self.client.namespaced::<Event>(namespace_of(&message.about));
        api.patch(name, None, Patch::Strategic(patch)).await.map(drop)
    }
}

fn namespace_of(about: &ObjectRef) -> &str {
    if about.namespace.is_empty() { "default" } else { &about.namespace }
}

fn drop_empty(value: &mut serde_json::Value) {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| value != "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(reason: &str) -> SimilarKey {
        let about = ObjectRef { kind: "Pod".to_owned(), name: "p".to_owned(), ..ObjectRef::default() };
        SimilarKey { about, kind: EventKind::Normal, reason: reason.to_owned() }
    }

    #[test]
    fn repeats_count_and_floods_combine() {
        let mut correlator = Correlator::default();
        assert!(matches!(correlator.judge(&key("Pulled"), "a", 0), Verdict::Create { .. }));
        correlator.remember(key("Pulled"), "a".to_owned(), "p.1".to_owned());
        assert!(matches!(correlator.judge(&key("Pulled"), "a", 1), Verdict::Repeat { count: 2, .. }));
        let mut combined = 0;
        for number in 0..12 {
            if let Verdict::Create { text } = correlator.judge(&key("Failed"), &number.to_string(), 2) {
                combined += i32::from(text.starts_with("(combined from similar events): "));
            }
        }
        assert_eq!(combined, 3);
        correlator.remember(key("Failed"), format!("{COMBINED}11"), "p.2".to_owned());
        let next = correlator.judge(&key("Failed"), "12", 3);
        assert!(
            matches!(next, Verdict::Repeat { name, count: 2, text } if name == "p.2" && text.ends_with("12"))
        );
    }

    #[test]
    fn a_noisy_object_runs_dry_and_recovers() {
        let mut correlator = Correlator::default();
        let dropped =
            (0..30).filter(|_| matches!(correlator.judge(&key("Noise"), "n", 0), Verdict::Drop)).count();
        assert_eq!(dropped, 5);
        assert!(matches!(correlator.judge(&key("Noise"), "n", 301), Verdict::Create { .. }));
    }
}
