//! Named tasks with an owner. A component is spawned into a [`Group`]; the first one that ends before the group was asked to
//! shut down brings the group down, so there is no half-dead cluster.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tokio::task::JoinSet;
pub use tokio_util::sync::CancellationToken;

/// Why a group ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Ended {
    /// A component returned or panicked although nobody asked it to stop.
    #[error("task {task} ended unexpectedly: {reason}")]
    Unexpectedly {
        /// The name it was spawned under.
        task: String,
        /// Its error, or the panic's message.
        reason: String,
    },
}

/// A task's name and how it ended; `None` when it ended as it should.
type NamedOutcome = Option<(String, Result<(), String>)>;

/// Owns a set of component tasks and their one shutdown token. Clones own the same set.
#[derive(Clone)]
pub struct Group {
    shutdown: CancellationToken,
    tasks: Arc<Mutex<JoinSet<NamedOutcome>>>,
    spawned: Arc<Notify>,
    names: Arc<Mutex<Names>>,
}

/// The tasks that have not ended, in the order they were spawned in.
#[derive(Default)]
struct Names {
    next: u64,
    unfinished: BTreeMap<u64, String>,
}

/// A task's line in its group's list; it goes when the task ends, panics or is dropped.
struct Listed {
    names: Arc<Mutex<Names>>,
    number: u64,
}

impl Listed {
    fn new(names: &Arc<Mutex<Names>>, name: &str) -> Self {
        let mut list = names.lock().unwrap_or_else(PoisonError::into_inner);
        let number = list.next;
        list.next += 1;
        list.unfinished.insert(number, name.to_owned());
        Self { names: Arc::clone(names), number }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).unfinished.remove(&self.number);
    }
}

impl Default for Group {
    fn default() -> Self {
        Self::new()
    }
}

impl Group {
    /// An empty group.
    pub fn new() -> Self {
        Self {
            shutdown: CancellationToken::new(),
            tasks: Arc::new(Mutex::new(JoinSet::new())),
            spawned: Arc::new(Notify::new()),
            names: Arc::default(),
        }
    }

    /// The token that every task of the group watches.
    pub fn token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Spawns a component that must run until the group's token is cancelled.
    pub fn spawn<F, E>(&self, name: impl Into<String>, component: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send,
    {
        let name = name.into();
        let listed = Listed::new(&self.names, &name);
        self.add(async move {
            let _listed = listed;
            Some((name, component.await.map_err(|error| error.to_string())))
        });
    }

    /// Spawns a component that must run until `end` is cancelled, which is before the group's end: what it works for may go.
    pub fn spawn_until<F, E>(&self, name: impl Into<String>, end: CancellationToken, component: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send,
    {
        let name = name.into();
        let listed = Listed::new(&self.names, &name);
        self.add(async move {
            let _listed = listed;
            let outcome = component.await.map_err(|error| error.to_string());
            if outcome.is_ok() && end.is_cancelled() { None } else { Some((name, outcome)) }
        });
    }

    fn add(&self, task: impl Future<Output = NamedOutcome> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
        self.spawned.notify_one();
    }

    /// The names of the tasks that have not ended.
    pub fn unfinished(&self) -> Vec<String> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).unfinished.values().cloned().collect()
    }

    /// Asks every task to end.
    pub fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Waits for the shutdown and for every task's end. The first task that ends before cancels the rest and is the error. A group
    /// without tasks waits for its first.
    ///
    /// # Errors
    /// [`Ended::Unexpectedly`] names the task that ended before the shutdown.
    pub async fn join(&self) -> Result<(), Ended> {
        let mut first = None;
        loop {
            let Some(ended) = self.next_ended().await else {
                if self.shutdown.is_cancelled() {
                    return first.map_or(Ok(()), Err);
                }
                tokio::select! {
                    () = self.shutdown.cancelled() => {}
                    () = self.spawned.notified() => {}
                }
                continue;
            };
            if let Some((task, outcome)) = ended
                && !self.shutdown.is_cancelled()
            {
                let reason = outcome.err().unwrap_or_else(|| "it returned".to_owned());
                first.get_or_insert(Ended::Unexpectedly { task, reason });
                self.shutdown.cancel();
            }
        }
    }

    async fn next_ended(&self) -> Option<NamedOutcome> {
        std::future::poll_fn(|context| {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.poll_join_next(context)
        })
        .await
        .map(|joined| match joined {
            Ok(ended) => ended,
            Err(error) => Some(("a task".to_owned(), Err(error.to_string()))),
        })
    }
}

/// Spawns a task that serves one connection, request or object and may end at any time. Its panic is logged, not lost.
/// The caller keeps the handle when it wants to abort or await it.
#[allow(clippy::disallowed_methods)] // The one place that spawns.
pub fn spawn<F>(name: &'static str, work: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(async move {
        let _guard = PanicNote(name);
        work.await
    })
}

struct PanicNote(&'static str);

impl Drop for PanicNote {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.0, "a task panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[tokio::test]
    async fn a_component_that_returns_brings_the_group_down() {
        let group = Group::new();
        let token = group.token();
        group.spawn("patient", async move {
            token.cancelled().await;
            Ok::<_, Infallible>(())
        });
        group.spawn("hasty", async { Err("no disk") });
        assert_eq!(group.unfinished(), ["patient", "hasty"]);
        let ended = group.join().await.unwrap_err();
        assert_eq!(group.unfinished(), [""; 0]);
        assert_eq!(ended.to_string(), "task hasty ended unexpectedly: no disk");
    }

    #[tokio::test]
    async fn what_works_for_something_ends_with_it() {
        let group = Group::new();
        let (end, early) = (CancellationToken::new(), CancellationToken::new());
        let until = end.clone();
        group.spawn_until("follower", end.clone(), async move {
            until.cancelled().await;
            Ok::<_, Infallible>(())
        });
        let joining = group.clone();
        let joined = spawn("join", async move { joining.join().await });
        end.cancel();
        tokio::task::yield_now().await;
        assert!(!joined.is_finished() && !group.token().is_cancelled());
        group.spawn_until("hasty", early, async { Ok::<_, Infallible>(()) });
        assert_eq!(
            joined.await.unwrap().unwrap_err().to_string(),
            "task hasty ended unexpectedly: it returned"
        );
    }

    #[tokio::test]
    async fn an_empty_group_waits_for_its_first_task() {
        let group = Group::new();
        let joining = group.clone();
        let joined = spawn("join", async move { joining.join().await });
        tokio::task::yield_now().await;
        group.spawn("late", async { Err("no disk") });
        assert!(joined.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_shutdown_is_clean() {
        let group = Group::new();
        let token = group.token();
        group.spawn("patient", async move {
            token.cancelled().await;
            Ok::<_, Infallible>(())
        });
        group.shut_down();
        assert!(group.join().await.is_ok());
    }
}
