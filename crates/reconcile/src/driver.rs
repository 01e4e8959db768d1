//! Runs a controller: takes keys from its queue, lets it plan from what the caches hold, executes the plan, and waits until
//! the caches show what was written, so that no plan is made from a past that its own writes have changed.

use crate::Key;
use crate::events::Recorder;
use crate::informer::Informer;
use crate::plan::{Action, Note, Plan, Write};
use crate::queue::Queue;
use nauplius_base::task::CancellationToken;
use nauplius_base::time::{self, Timestamp};
use nauplius_client::{Client, ClientError};
use nauplius_kinds::Object;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a worker waits for a cache to show a write; a cache that lags longer is looked at as it is.
const CACHE_LAG_MAX: Duration = Duration::from_secs(10);
/// As many failures in a row are more than a moment's trouble.
const NEWSWORTHY: u32 = 4;
/// At most so many requests of one plan are under way at once.
const BATCH_MAX: usize = 64;

/// A view completed by the server's answers.
pub type Asked<'a, View> = Pin<Box<dyn Future<Output = Result<View, ClientError>> + Send + 'a>>;

/// A controller: a view of the caches and a pure plan.
pub trait Controller: Send + Sync + 'static {
    /// All that the plan depends on.
    type View: Send + Sync;

    /// The service account that it acts as: `deployment-controller`, ...
    const NAME: &'static str;
    /// Where its events say that they come from, if upstream calls it otherwise than its account.
    const COMPONENT: &'static str = Self::NAME;
    /// What upstream's metrics call its queue.
    const QUEUE: &'static str = Self::NAME;

    /// Gathers the view for `key` from caches; `None` when there is nothing (left) to look after.
    fn view(&self, key: &Key) -> Option<Self::View>;

    /// Asks the server what caches cannot tell, where a wrong guess would destroy something. Most controllers ask nothing.
    fn ask<'a>(&'a self, _client: &'a Client, view: Self::View) -> Asked<'a, Self::View> {
        Box::pin(std::future::ready(Ok(view)))
    }

    /// Decides. Pure: the same view and time give the same plan.
    fn plan(&self, view: &Self::View, now: Timestamp) -> Plan;

    /// What to do besides when an action was refused, for example to write a condition.
    fn after_failure(&self, _view: &Self::View, _error: &ClientError, _now: Timestamp) -> Vec<Action> {
        Vec::new()
    }
}

type Barrier = Box<dyn Fn(u64) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Drives one controller with one identity.
pub struct Driver<C> {
    controller: C,
    client: Client,
    queue: Queue<Key>,
    recorder: Recorder,
    barriers: BTreeMap<&'static str, Barrier>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    metadata: WrittenMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WrittenMeta {
    name: String,
    resource_version: String,
}

/// The revisions that a plan's writes reached, by resource.
type Reached = BTreeMap<&'static str, u64>;

impl<C: Controller> Driver<C> {
    /// A driver that takes keys from `queue`, writes as `client` and records events with `recorder`.
    pub fn new(controller: C, client: Client, queue: Queue<Key>, recorder: Recorder) -> Self {
        queue.count_as(C::QUEUE);
        Self { controller, client, queue, recorder, barriers: BTreeMap::new() }
    }

    /// After writes to `T`, wait until `informer` shows them before the key is looked at again.
    pub fn sees<T: Object>(mut self, informer: &Informer<T>) -> Self {
        let informer = informer.clone();
        let barrier: Barrier = Box::new(move |revision| {
            let informer = informer.clone();
            Box::pin(async move { informer.reached(revision).await })
        });
        self.barriers.insert(T::PLURAL, barrier);
        self
    }

    /// Works on keys with `workers` tasks until `shutdown`.
    ///
    /// # Errors
    /// When a worker panicked.
    pub async fn run(
        self,
        workers: usize,
        shutdown: CancellationToken,
    ) -> Result<(), tokio::task::JoinError> {
        let driver = Arc::new(self);
        let mut tasks = JoinSet::new();
        for _ in 0..workers.max(1) {
            let (driver, shutdown) = (Arc::clone(&driver), shutdown.clone());
            tasks.spawn(async move { driver.work(&shutdown).await });
        }
        shutdown.cancelled().await;
        driver.queue.close();
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(())
    }

    async fn work(&self, shutdown: &CancellationToken) {
        while let Some(key) = self.queue.next().await {
            self.look_at(&key, shutdown).await;
            self.queue.done(&key);
        }
    }

    async fn look_at(&self, key: &Key, shutdown: &CancellationToken) {
        let Some(view) = self.controller.view(key) else {
            self.queue.forget(key);
            return;
        };
        let view = match self.controller.ask(&self.client, view).await {
            Ok(view) => view,
            Err(error) => return self.schedule(key, &Plan::nothing(), Err(error)),
        };
        let plan = self.controller.plan(&view, time::now());
        for reason in &plan.reasons {
            tracing::debug!(controller = C::NAME, %key, reason = reason.0, "waiting");
        }
        let mut reached = Reached::new();
        let outcome = self.execute(&plan.actions, &mut reached).await;
        if let Err(error) = &outcome {
            let more = self.controller.after_failure(&view, error, time::now());
            if let Err(error) = self.execute(&more, &mut reached).await {
                tracing::debug!(controller = C::NAME, %key, %error, "could not note a failure");
            }
        }
        // Caches end with the shutdown, too, and then do not show what was written last.
        shutdown.run_until_cancelled(self.wait_for_caches(reached)).await;
        self.schedule(key, &plan, outcome);
    }

    fn schedule(&self, key: &Key, plan: &Plan, outcome: Result<(), ClientError>) {
        match outcome {
            Ok(()) => {
                self.queue.forget(key);
                if let Some(delay) = plan.again_after {
                    self.queue.add_after(key.clone(), delay);
                }
            }
            Err(error) => {
                self.log_failure(key, &error);
                self.queue.retry(key.clone());
            }
        }
    }

    /// A lost race is everyday. What the server refuses because of what somebody wrote is theirs to mend: events tell them. Anything else
    /// that lasts is worth a warning.
    fn log_failure(&self, key: &Key, error: &ClientError) {
        let everyday = error.is_conflict()
            || error.is_already_exists()
            || error.is_not_found()
            || error.is_namespace_terminating();
        let failures = self.queue.failures(key);
        if everyday || failures < NEWSWORTHY || (error.is_refusal() && failures > NEWSWORTHY) {
            tracing::debug!(controller = C::NAME, %key, %error, "will look again");
        } else if error.is_refusal() {
            tracing::info!(controller = C::NAME, %key, %error, "is refused, will look again");
        } else {
            tracing::warn!(controller = C::NAME, %key, %error, "keeps failing, will look again");
        }
    }

    async fn wait_for_caches(&self, reached: Reached) {
        for (resource, revision) in reached {
            let Some(barrier) = self.barriers.get(resource) else { continue };
            if time::timeout(CACHE_LAG_MAX, barrier(revision)).await.is_err() {
                tracing::warn!(
                    controller = C::NAME,
                    resource,
                    revision,
                    "the cache lags behind our own writes"
                );
            }
        }
    }

    /// Executes in order and stops at the first refusal.
    async fn execute(&self, actions: &[Action], reached: &mut Reached) -> Result<(), ClientError> {
        let mut rest = actions;
        while let Some(first) = rest.first() {
            match first {
                Action::Event(note) => {
                    self.record(note, "", "");
                    rest = &rest[1..];
                }
                Action::Write(write) => {
                    let alike = rest.iter().take_while(|action| is_alike(write, action)).count().max(1);
                    self.execute_batches(&rest[..alike], reached).await?;
                    rest = &rest[alike..];
                }
            }
        }
        Ok(())
    }

    /// 1, 2, 4, ... at once, as upstream's slow start: a refusal that would meet all of them meets only few.
    async fn execute_batches(&self, actions: &[Action], reached: &mut Reached) -> Result<(), ClientError> {
        let mut rest = actions;
        let mut size = 1;
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(size.min(rest.len()));
            self.execute_batch(batch, reached).await?;
            rest = later;
            size = (size * 2).min(BATCH_MAX);
        }
        Ok(())
    }

    async fn execute_batch(&self, batch: &[Action], reached: &mut Reached) -> Result<(), ClientError> {
        let mut requests = JoinSet::new();
        for action in batch {
            let Action::Write(write) = action else { continue };
            let (client, write) = (self.client.clone(), write.clone());
            requests.spawn(async move {
                let outcome = send(&client, &write).await;
                (write, outcome)
            });
        }
        let mut failure = None;
        while let Some(joined) = requests.join_next().await {
            let (write, outcome) = joined.map_err(|error| ClientError::Request(error.to_string()))?;
            if let Err(error) = self.finish(&write, outcome, reached) {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn finish(
        &self,
        write: &Write,
        outcome: Result<Option<Written>, ClientError>,
        reached: &mut Reached,
    ) -> Result<(), ClientError> {
        match outcome {
            Ok(None) => Ok(()),
            Ok(Some(written)) => {
                if let Ok(revision) = written.metadata.resource_version.parse::<u64>() {
                    let known = reached.entry(write.resource).or_insert(0);
                    *known = revision.max(*known);
                }
                if let Some(note) = &write.on_success {
                    self.record(note, &written.metadata.name, "");
                }
                Ok(())
            }
            Err(error) => {
                // In a namespace that ends, events cannot be written either.
                if let Some(note) = write.on_failure.as_ref().filter(|_| !error.is_namespace_terminating()) {
                    self.record(note, "", &error.to_string());
                }
                Err(error)
            }
        }
    }

    fn record(&self, note: &Note, name: &str, error: &str) {
        let message = note.message.replace("{name}", name).replace("{error}", error);
        self.recorder.record(&note.about, note.kind, note.reason, message);
    }
}

fn is_alike(first: &Write, action: &Action) -> bool {
    let Action::Write(write) = action else { return false };
    first.batchable && write.batchable && write.method == first.method && write.resource == first.resource
}

/// Deleting what is gone, or was replaced by a namesake, is a success without a trace: the caller wanted that uid away.
async fn send(client: &Client, write: &Write) -> Result<Option<Written>, ClientError> {
    let body = Some(write.body.clone());
    let answer = client.request(write.method.clone(), &write.path, Some(write.content_type), body).await;
    match answer {
        // A body without metadata (a Status) moves no cache.
        Ok(bytes) => {
            Ok(Some(serde_json::from_slice(&bytes).unwrap_or(Written { metadata: WrittenMeta::default() })))
        }
        Err(error)
            if write.method == http::Method::DELETE && (error.is_not_found() || error.is_conflict()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
