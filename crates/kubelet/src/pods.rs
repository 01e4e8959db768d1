//! Keeps one actor for each pod of this node: those that the API has, and those that the runtime has although the API does not. It
//! wakes them when the runtime or the API tell something new, and decides nothing about them but whether there is room.

use crate::context::Context;
use crate::eviction::Sentence;
use crate::names;
use crate::pod::actor::{self, Desired, Start};
use crate::pod::facts;
use crate::pod::step::Verdict;
use crate::remains;
use crate::spec::apparmor;
use crate::sweep;
use crate::waker::Waker;
use futures_util::StreamExt;
use nauplius_base::mailbox::{Sender, mailbox};
use nauplius_base::task::{self, CancellationToken};
use nauplius_base::time;
use nauplius_cri::{ContainerEvents, v1};
use nauplius_kinds::Object;
use nauplius_kinds::api::core::Pod;
use nauplius_reconcile::events::ObjectRef;
use nauplius_reconcile::{EventKind, Informer, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;

/// How the message of a pod begins that was not taken in; its event says only why.
const REJECTED: &str = "Pod was rejected: ";

/// Everything is looked at once in this time, should an event have been lost.
const RELIST: Duration = Duration::from_secs(300);
const RESUBSCRIBE: Duration = Duration::from_secs(1);
/// Ends of actors that wait to be noticed; an actor waits for its turn.
const ENDED: usize = 16;

struct Known {
    inbox: Sender<Desired>,
    waker: Waker,
    revision: String,
    removed: bool,
    counts: bool,
    sentence: Arc<OnceLock<Sentence>>,
}

/// The owner of all actors.
pub struct Pods {
    context: Arc<Context>,
    informer: Informer<Pod>,
    known: BTreeMap<String, Known>,
    ended: mpsc::Sender<String>,
    sentences: mpsc::Receiver<Sentence>,
    shutdown: CancellationToken,
}

impl Pods {
    /// Of the pods that `informer` follows.
    pub fn new(
        context: Arc<Context>,
        informer: Informer<Pod>,
        sentences: mpsc::Receiver<Sentence>,
        shutdown: CancellationToken,
    ) -> (Self, mpsc::Receiver<String>) {
        let (ended, endings) = mpsc::channel(ENDED);
        (Self { context, informer, known: BTreeMap::new(), ended, sentences, shutdown }, endings)
    }

    /// Serves until shutdown.
    ///
    /// # Errors
    /// Never.
    pub async fn run(mut self, mut endings: mpsc::Receiver<String>) -> Result<(), Infallible> {
        let shutdown = self.shutdown.clone();
        shutdown.run_until_cancelled(self.serve(&mut endings)).await;
        Ok(())
    }

    async fn serve(&mut self, endings: &mut mpsc::Receiver<String>) {
        self.informer.synced().await;
        let mut changes = self.informer.subscribe();
        let mut events = self.subscribe().await;
        self.compare();
        self.adopt_orphans().await;
        sweep::sweep(&self.context.config, &|uid| self.known.contains_key(uid));
        let mut relist = time::interval(RELIST);
        relist.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        relist.reset();
        loop {
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return; // The informer has ended, and so has the kubelet.
                    }
                    changes.mark_unchanged();
                    self.compare();
                }
                event = events.next() => match event {
                    Some(Ok(event)) => self.wake(&event),
                    _ => {
                        events = self.subscribe().await;
                        self.wake_all();
                    }
                },
                Some(uid) = endings.recv() => self.bury(&uid),
                Some(sentence) = self.sentences.recv() => self.evict(sentence),
                _ = relist.tick() => {
                    self.adopt_orphans().await;
                    self.wake_all();
                }
            }
        }
    }

    async fn subscribe(&self) -> ContainerEvents {
        loop {
            match self.context.runtime.container_events(v1::GetEventsRequest {}).await {
                Ok(events) => return events,
                Err(error) => {
                    tracing::warn!(%error, "the runtime gives no events, trying again");
                    time::sleep(RESUBSCRIBE).await;
                }
            }
        }
    }

    fn wake(&self, event: &v1::ContainerEventResponse) {
        let sandbox = event.pod_sandbox_status.as_ref();
        let uid = sandbox.and_then(|sandbox| sandbox.metadata.as_ref()).map(|metadata| metadata.uid.as_str());
        match uid.and_then(|uid| self.known.get(uid)) {
            Some(known) => known.waker.wake_runtime(),
            // An event that does not say whose it is may be anybody's.
            None if uid.is_none() => self.known.values().for_each(|known| known.waker.wake_runtime()),
            None => {}
        }
    }

    fn wake_all(&self) {
        for known in self.known.values() {
            known.waker.wake_all();
        }
    }

    /// Brings actors and cache together.
    fn compare(&mut self) {
        let snapshot = self.informer.snapshot();
        let mut freed = false;
        for pod in snapshot.iter() {
            match self.known.get_mut(pod.uid()) {
                Some(known) if known.revision == pod.resource_version() => {}
                Some(known) => {
                    known.revision = pod.resource_version().to_owned();
                    let counted = std::mem::replace(&mut known.counts, !facts::ended(pod));
                    freed |= counted && !known.counts;
                    known.inbox.send(Desired::Pod(Arc::clone(pod)));
                }
                None => self.start(pod, false),
            }
        }
        freed |= self.drop_missing(&snapshot);
        if freed {
            // Whoever waits for room looks again.
            self.known.values().for_each(|known| known.waker.wake_room());
        }
    }

    /// True when room became free.
    fn drop_missing(&mut self, snapshot: &Snapshot<Pod>) -> bool {
        let there: BTreeSet<&str> = snapshot.iter().map(|pod| pod.uid()).collect();
        let mut freed = false;
        for (uid, known) in &mut self.known {
            if !known.removed && !there.contains(uid.as_str()) {
                known.removed = true;
                freed |= std::mem::take(&mut known.counts);
                known.inbox.send(Desired::Removed);
            }
        }
        freed
    }

    fn start(&mut self, pod: &Arc<Pod>, removed: bool) {
        let (inbox, receiver) = mailbox();
        let waker = Waker::default();
        let verdict = self.verdict(pod).filter(|_| !removed);
        if let Some(verdict) = &verdict {
            let why = verdict.message.trim_start_matches(REJECTED).to_owned();
            self.context.recorder.record(&ObjectRef::of(&**pod), EventKind::Warning, &verdict.reason, why);
        }
        let known = Known {
            inbox,
            waker: waker.clone(),
            revision: pod.resource_version().to_owned(),
            removed,
            counts: !removed && verdict.is_none() && !facts::ended(pod),
            sentence: Arc::default(),
        };
        let sentence = Arc::clone(&known.sentence);
        self.known.insert(pod.uid().to_owned(), known);
        let start = Start {
            context: Arc::clone(&self.context),
            pod: Arc::clone(pod),
            removed,
            verdict,
            sentence,
            inbox: receiver,
            waker,
            shutdown: self.shutdown.clone(),
        };
        let (ended, uid) = (self.ended.clone(), pod.uid().to_owned());
        task::spawn("kubelet-pod", async move {
            actor::run(start).await;
            // The owner ends with the kubelet.
            let _ = ended.send(uid).await;
        });
    }

    /// A pod that has not begun may find no room, or ask for what no pod may.
    fn verdict(&self, pod: &Pod) -> Option<Verdict> {
        let begun = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
        if begun {
            return None;
        }
        let reject = |reason: &str, why: String| Some(Verdict::new(reason, format!("{REJECTED}{why}")));
        if let Some(why) = self.context.pressure.borrow().refusal(pod) {
            return reject("Evicted", why);
        }
        if let Some(name) = facts::forbidden_sysctl(pod) {
            return reject("SysctlForbidden", format!("forbidden sysctl: {name:?} not allowlisted"));
        }
        if let Some(why) = apparmor::refusal(pod, apparmor::is_on()) {
            return reject("AppArmor", why.to_owned());
        }
        let used = self.known.values().filter(|known| known.counts).count();
        let capacity = self.context.config.max_pods as usize;
        if used < capacity {
            return None;
        }
        let why = format!(
            "Node didn't have enough resource: pods, requested: 1, used: {used}, capacity: {capacity}"
        );
        reject("OutOfpods", why)
    }

    fn evict(&self, sentence: Sentence) {
        let Some(known) = self.known.get(&sentence.uid) else { return };
        // The first sentence stands.
        let _ = known.sentence.set(sentence);
        known.waker.wake_room();
    }

    fn bury(&mut self, uid: &str) {
        self.known.remove(uid);
        self.context.probe_counts.forget(uid);
    }

    /// Pods that were deleted while no kubelet looked are ended as gracefully as any.
    async fn adopt_orphans(&mut self) {
        let all =
            match self.context.runtime.list_pod_sandbox(v1::ListPodSandboxRequest { filter: None }).await {
                Ok(all) => all.items,
                Err(error) => {
                    tracing::warn!(%error, "the runtime does not list its sandboxes");
                    return;
                }
            };
        for sandbox in all {
            let Some(uid) = sandbox.labels.get(names::POD_UID).filter(|uid| !self.known.contains_key(*uid))
            else {
                continue;
            };
            tracing::info!(uid, "a pod was deleted meanwhile, its containers are stopped");
            match remains::pod_of(&*self.context.runtime, &sandbox).await {
                Ok(pod) => self.start(&Arc::new(pod), true),
                // It is looked for again.
                Err(error) => tracing::warn!(uid, %error, "the runtime does not tell about a pod"),
            }
        }
    }
}
