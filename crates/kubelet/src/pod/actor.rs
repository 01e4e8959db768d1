//! The actor of one pod: it gathers news, takes a step, begins the jobs that the step asks for, runs probes and tells the API the
//! status, one write at a time. It decides nothing itself.

use super::crash::BackOffs;
use super::jobs::{self, Done, PodJob, Work};
use super::launch::Failure;
use super::observe::observe;
use super::probes::{Answer, Due, Schedule};
use super::resize::{self, Allotted, Amounts, Judgement, Room};
use super::status::{self, Sources};
use super::step::{self, Input, Job, Phase, Resize, State, Waiting};
use super::view::{ContainerState, Observed};
use super::{facts, patch};
use crate::context::Context;
use crate::eviction::Sentence;
use crate::names::ID_SCHEME;
use crate::probe;
use crate::sources::Followed;
use crate::volumes::setup::{self, Tokens};
use crate::waker::{News, Waker};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use nauplius_base::backoff::Backoff;
use nauplius_base::mailbox::Receiver;
use nauplius_base::task::CancellationToken;
use nauplius_base::time::{self, Instant, Timestamp};
use nauplius_client::ClientError;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Pod, PodStatus};
use nauplius_reconcile::EventKind;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// How long a failure reads as itself before it reads as back-off.
const SETTLES: Duration = Duration::from_secs(2);
/// How long until a failed sandbox, stop or observation is tried again.
const RETRY: Duration = Duration::from_secs(10);
const OBSERVE_RETRY: Duration = Duration::from_secs(1);

/// What the API wants of a pod. The newest counts.
#[derive(Debug, Clone)]
pub enum Desired {
    /// It is this.
    Pod(Arc<Pod>),
    /// It is gone.
    Removed,
}

/// What an actor begins with.
pub struct Start {
    /// The node.
    pub context: Arc<Context>,
    /// The pod.
    pub pod: Arc<Pod>,
    /// Whether the API has it no more: only its remains are to be ended.
    pub removed: bool,
    /// Why it may not run here.
    pub verdict: Option<step::Verdict>,
    /// That the node has to end it, once it has.
    pub sentence: Arc<OnceLock<Sentence>>,
    /// What the API wants, from now on.
    pub inbox: Receiver<Desired>,
    /// News from elsewhere.
    pub waker: Waker,
    /// Of the kubelet.
    pub shutdown: CancellationToken,
}

/// The status that the API has, and the write that is under way.
struct Told {
    status: PodStatus,
    revision: u64,
    writing: bool,
    retry_at: Option<Timestamp>,
    backoff: Backoff,
    deletion_confirmed: bool,
    /// What was wanted at the last write, and what the API made of it: it is not told the same again.
    settled: Option<(PodStatus, PodStatus)>,
    sent: PodStatus,
}

struct Actor {
    context: Arc<Context>,
    /// As the API has it.
    asked: Arc<Pod>,
    /// As it is worked with: with the resources that it is allotted.
    pod: Arc<Pod>,
    allotted: Allotted,
    sentence: Arc<OnceLock<Sentence>>,
    removed: bool,
    inbox: Receiver<Desired>,
    waker: Waker,
    network: watch::Receiver<Option<String>>,
    followed: Followed,
    interrupt: CancellationToken,
    state: State,
    observed: Observed,
    schedule: Schedule,
    pulls: BackOffs,
    failures: BackOffs,
    volume_backoff: Backoff,
    tokens: Tokens,
    work: FuturesUnordered<Work>,
    told: Told,
    wake_at: Option<Timestamp>,
    clock: Steady,
    look: bool,
}

fn revision(pod: &Pod) -> u64 {
    // Revisions of our caches are numbers; anything else counts as the oldest.
    pod.resource_version().parse().unwrap_or(0)
}

/// A clock that does not jump: what the wall showed at first, and the time since. Retries and probes go by it.
struct Steady {
    first: Timestamp,
    since: Instant,
}

impl Steady {
    fn new() -> Self {
        Self { first: time::now(), since: time::monotonic() }
    }

    fn now(&self) -> Timestamp {
        self.first.checked_add(self.since.elapsed()).unwrap_or(Timestamp::MAX)
    }

    fn later(&self, delay: Duration) -> Timestamp {
        self.now().checked_add(delay).unwrap_or(Timestamp::MAX)
    }
}

/// Runs a pod until nothing of it is left, or the kubelet ends: its containers then go on without it.
pub async fn run(start: Start) {
    let shutdown = start.shutdown.clone();
    let mut actor = Actor::new(start);
    // Dropped jobs leave containers as they are; the next kubelet looks.
    shutdown.run_until_cancelled(actor.live()).await;
}

impl Actor {
    fn new(start: Start) -> Self {
        let Start { context, pod, removed, verdict, sentence, inbox, waker, shutdown } = start;
        let followed = context.sources.for_pod(pod.namespace(), pod.uid(), waker.clone());
        let told = Told {
            status: pod.status.clone().unwrap_or_default(),
            revision: revision(&pod),
            writing: false,
            retry_at: None,
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)).with_jitter(0.2),
            deletion_confirmed: false,
            settled: None,
            sent: PodStatus::default(),
        };
        let allotted = resize::adopted(&pod);
        let network = context.network.follow();
        Self {
            context,
            asked: Arc::clone(&pod),
            pod: resize::with(&pod, &allotted),
            allotted,
            sentence,
            removed,
            inbox,
            waker,
            network,
            followed,
            interrupt: shutdown.child_token(),
            state: State { verdict, ..State::default() },
            observed: Observed::default(),
            schedule: Schedule::default(),
            pulls: BackOffs::default(),
            failures: BackOffs::default(),
            volume_backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(122)),
            tokens: Tokens::default(),
            work: FuturesUnordered::new(),
            told,
            wake_at: None,
            clock: Steady::new(),
            look: true,
        }
    }

    async fn live(&mut self) {
        while !self.look_now().await {
            time::sleep(OBSERVE_RETRY).await;
        }
        self.adopt();
        while self.state.phase != Phase::Gone {
            self.turn();
            if self.state.phase == Phase::Gone {
                break;
            }
            self.wait().await;
            if self.look && !self.look_now().await {
                self.wake_at = Some(self.clock.later(OBSERVE_RETRY));
            }
        }
        tracing::debug!(pod = self.pod.name(), namespace = self.pod.namespace(), "nothing is left of a pod");
    }

    async fn look_now(&mut self) -> bool {
        match observe(&*self.context.runtime, self.pod.uid()).await {
            Ok(observed) => {
                self.observed = observed;
                self.look = false;
                true
            }
            Err(error) => {
                tracing::warn!(pod = self.pod.name(), %error, "the runtime does not tell about a pod");
                false
            }
        }
    }

    /// Containers that ran before this kubelet keep the readiness that the API knows.
    fn adopt(&mut self) {
        let known =
            self.told.status.container_statuses.iter().chain(&self.told.status.init_container_statuses);
        for status in known.flatten() {
            let id =
                status.container_id.as_deref().and_then(|id| id.strip_prefix(ID_SCHEME)).unwrap_or_default();
            let view = self.observed.containers.iter().find(|view| view.id == id);
            if view.is_some_and(|view| view.state == ContainerState::Running) {
                self.state.probes.adopt(id, status.ready, status.started == Some(true));
            }
        }
    }

    /// Waits for anything to happen, and takes it in.
    async fn wait(&mut self) {
        let nap = self.wake_at.map(|at| {
            let left = at.duration_since(self.clock.now());
            Duration::try_from(left).unwrap_or(Duration::ZERO) // The past is now.
        });
        let waker = self.waker.clone();
        tokio::select! {
            desired = self.inbox.recv() => self.take(desired),
            news = waker.news() => self.hear(news),
            // Its sender lives in the context, as long as we do.
            _ = self.network.changed() => {}
            Some(done) = self.work.next(), if !self.work.is_empty() => self.finish(done),
            () = time::sleep(nap.unwrap_or_default()), if nap.is_some() => {}
        }
    }

    fn take(&mut self, desired: Option<Desired>) {
        match desired {
            Some(Desired::Pod(pod)) => {
                if pod.meta().generation != self.pod.meta().generation
                    || pod.meta().labels != self.pod.meta().labels
                    || pod.meta().annotations != self.pod.meta().annotations
                {
                    self.refresh();
                }
                self.learn(&pod);
            }
            Some(Desired::Removed) => self.removed = true,
            // The dispatcher closes no mailbox while the kubelet runs.
            None => self.removed = true,
        }
    }

    /// Takes the newer of two states of the object: an informer may lag behind our own write.
    fn learn(&mut self, pod: &Arc<Pod>) {
        if pod.uid() != self.pod.uid() || revision(pod) < self.told.revision {
            return;
        }
        self.told.revision = revision(pod);
        self.told.status = pod.status.clone().unwrap_or_default();
        self.asked = Arc::clone(pod);
        self.pod = resize::with(pod, &self.allotted);
    }

    /// Takes in that the node has to end the pod.
    fn obey(&mut self) {
        let Some(sentence) = self.sentence.get().filter(|_| self.state.verdict.is_none()) else { return };
        let message = sentence.message.clone();
        self.job().event(None, EventKind::Warning, "Evicted", message.clone());
        self.state.verdict = Some(step::Verdict {
            grace_s: Some(sentence.grace_s),
            disrupted: true,
            ..step::Verdict::new("Evicted", message)
        });
    }

    /// Allots what the pod asks, if the node has it.
    fn allot(&mut self) {
        if resize::asked(&self.asked) == self.allotted {
            self.state.resize.pending = None;
            return;
        }
        let pods = self.context.pods.snapshot();
        let facts = &self.context.facts;
        let capacity = Amounts { cpu_m: facts.cpus * 1000, memory: facts.allocatable_memory };
        let room = Room { capacity, used: resize::used(pods.iter(), self.asked.uid()) };
        match resize::judge(&self.asked, &self.allotted, &room) {
            Judgement::Nothing => self.state.resize.pending = None,
            Judgement::Fits => {
                self.allotted = resize::asked(&self.asked);
                self.pod = Arc::clone(&self.asked);
                self.state.resize = Resize { in_progress: true, ..Resize::default() };
                self.state.volumes_stale = true;
                let message = format!("Pod resize started: {}", resize::told(&self.pod, None));
                self.job().event(None, EventKind::Normal, "ResizeStarted", message);
            }
            Judgement::Pending(reason, words) => self.put_off_resize(reason, words),
        }
    }

    fn put_off_resize(&mut self, reason: &'static str, words: String) {
        let pending = Some((reason, words));
        if self.state.resize.pending == pending {
            return;
        }
        if let Some((reason, words)) = &pending {
            let event = if *reason == "Infeasible" { "ResizeInfeasible" } else { "ResizeDeferred" };
            let message = format!("Pod resize {reason}: {}", resize::told(&self.asked, Some(words)));
            self.job().event(None, EventKind::Warning, event, message);
        }
        self.state.resize.pending = pending;
    }

    fn hear(&mut self, news: News) {
        self.look |= news.runtime;
        if news.content {
            self.refresh();
        }
    }

    /// What volumes and environments are made from has changed: what failed for it is tried at once.
    fn refresh(&mut self) {
        self.state.volumes_stale = true;
        self.state.volumes_retry_at = None;
        for waiting in self.state.waiting.values_mut() {
            if waiting.reason == "CreateContainerConfigError" {
                waiting.retry_at = self.clock.now();
            }
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Volumes(outcome, tokens) => {
                self.close(&Job::Volumes);
                self.tokens = tokens;
                self.finish_volumes(outcome.is_ok());
            }
            Done::Sandbox(outcome) => {
                self.close(&Job::Sandbox);
                self.state.sandbox_retry_at = outcome.is_err().then(|| self.clock.later(RETRY));
                self.look = true;
            }
            Done::Start(name, outcome) => {
                self.close(&Job::Start(name.clone()));
                self.look = true;
                match outcome {
                    Ok(()) => {
                        self.state.waiting.remove(&name);
                        self.failures.forget(&name);
                    }
                    Err(failure) => self.put_off(name, failure),
                }
            }
            Done::Ended(job, outcome) => self.finish_ending(&job, outcome),
            Done::Probe(due, answer) => self.finish_probe(&due, &answer),
            Done::Status(outcome) => self.finish_status(outcome),
            Done::Delete(outcome) => self.finish_deletion(outcome),
        }
    }

    fn close(&mut self, job: &Job) {
        self.state.jobs.retain(|known| known != job);
    }

    fn finish_volumes(&mut self, succeeded: bool) {
        if succeeded {
            self.state.volumes_ready = true;
            self.state.volumes_retry_at = None;
            self.volume_backoff.reset();
        } else {
            self.state.volumes_stale = true;
            self.state.volumes_retry_at = Some(self.clock.later(self.volume_backoff.next_delay()));
        }
    }

    fn put_off(&mut self, name: String, failure: Failure) {
        let now = self.clock.now();
        let image = facts::any_container(&self.pod, &name).and_then(|(container, _)| container.image.clone());
        let (backoffs, key) = match image {
            Some(image) if failure.pull => (&mut self.pulls, image),
            _ => (&mut self.failures, name.clone()),
        };
        backoffs.next(&key, now, now);
        let retry_at = backoffs.waiting(&key, now, now).map_or(now, |(_, until)| until);
        let settles = failure.pull || step::is_failed_start(failure.reason);
        let settles_at = settles.then(|| self.clock.later(SETTLES));
        let waiting =
            Waiting { reason: failure.reason.to_owned(), message: failure.message, retry_at, settles_at };
        self.state.waiting.insert(name, waiting);
    }

    fn finish_resize(&mut self, outcome: Result<(), String>) {
        if let Err(error) = &outcome {
            let message = format!("Pod resize error: {}", resize::told(&self.pod, Some(error)));
            self.job().event(None, EventKind::Warning, "ResizeError", message);
            self.state.resize.retry_at = Some(self.clock.later(RETRY));
        }
        self.state.resize.error = outcome.err();
    }

    fn finish_ending(&mut self, job: &Job, outcome: Result<(), String>) {
        self.close(job);
        self.look = true;
        if *job == Job::Resize {
            self.finish_resize(outcome);
            return;
        }
        if let Err(error) = outcome {
            tracing::warn!(pod = self.pod.name(), ?job, error, "what is left of a pod is tried again");
            self.state.release_retry_at = Some(self.clock.later(RETRY));
            return;
        }
        match job {
            Job::Release => self.state.released = true,
            Job::CleanUp => self.state.cleaned = true,
            Job::Forget => self.state.forgotten = true,
            // Asked to end, and yet running: not again at once.
            Job::Terminate(_) => self.state.release_retry_at = Some(self.clock.later(OBSERVE_RETRY)),
            _ => {}
        }
        if !matches!(job, Job::Terminate(_)) {
            self.state.release_retry_at = None;
        }
    }

    fn finish_probe(&mut self, due: &Due, answer: &Answer) {
        let title = due.kind.title();
        let result = match answer {
            Answer::Success | Answer::Warning(_) => "successful",
            Answer::Failure(_) => "failed",
            Answer::Unknown(_) => "unknown",
        };
        self.context.probe_counts.count(&self.pod, &due.name, title, result);
        let told = match answer {
            Answer::Success => None,
            Answer::Warning(output) => Some(("ProbeWarning", format!("{title} probe warning: {output}"))),
            Answer::Failure(output) => Some(("Unhealthy", format!("{title} probe failed: {output}"))),
            Answer::Unknown(error) => {
                Some(("Unhealthy", format!("{title} probe errored and resulted in unknown state: {error}")))
            }
        };
        if let Some((reason, text)) = told.filter(|_| self.state.phase == Phase::Running) {
            self.job().event(Some(&due.name), EventKind::Warning, reason, text);
        }
        self.schedule.report(due, answer, &self.pod, &mut self.state.probes, self.clock.now());
    }

    fn finish_status(&mut self, outcome: Result<Box<Pod>, ClientError>) {
        self.told.writing = false;
        match outcome {
            Ok(pod) => {
                self.told.backoff.reset();
                self.told.retry_at = None;
                let made = pod.status.clone().unwrap_or_default();
                self.told.settled = Some((std::mem::take(&mut self.told.sent), made));
                self.learn(&Arc::from(pod));
            }
            // The pod is gone, or another of its name is there: its end comes from the informer.
            Err(error) if error.is_not_found() || error.is_conflict() => {
                self.told.retry_at = Some(self.clock.later(RETRY));
            }
            Err(error) => {
                let delay = self.told.backoff.next_delay();
                tracing::warn!(pod = self.pod.name(), %error, "a pod's status could not be written, trying again");
                self.told.retry_at = Some(self.clock.later(delay));
            }
        }
    }

    fn finish_deletion(&mut self, outcome: Result<(), ClientError>) {
        self.told.writing = false;
        match outcome {
            Ok(()) => self.told.deletion_confirmed = true,
            Err(error) if error.is_not_found() || error.is_conflict() => self.told.deletion_confirmed = true,
            Err(error) => {
                let delay = self.told.backoff.next_delay();
                tracing::warn!(pod = self.pod.name(), %error, "a pod's deletion could not be confirmed, trying again");
                self.told.retry_at = Some(self.clock.later(delay));
            }
        }
    }

    fn job(&self) -> PodJob {
        PodJob {
            context: Arc::clone(&self.context),
            pod: Arc::clone(&self.pod),
            followed: self.followed.clone(),
            interrupt: self.interrupt.clone(),
        }
    }

    /// One look at everything: step, jobs, probes, status.
    fn turn(&mut self) {
        let now = self.clock.now();
        self.wake_at = None;
        if self.state.phase == Phase::Running {
            self.obey();
            self.allot();
        }
        let refresh_at = self.token_refresh();
        self.state.volumes_stale |= refresh_at.is_some_and(|at| at <= now);
        let network_problem = self.network.borrow_and_update().clone();
        let input = Input {
            pod: &self.pod,
            removed: self.removed,
            observed: &self.observed,
            now,
            machine_memory: self.context.facts.memory,
            network_problem: network_problem.as_deref(),
        };
        let outcome = step::step(std::mem::take(&mut self.state), &input);
        self.state = outcome.state;
        self.wake(outcome.wake_at);
        for action in outcome.actions {
            if let Some(work) = self.job().begin(action, &self.observed, &mut self.tokens) {
                self.work.push(work);
            }
        }
        if self.state.phase == Phase::Running {
            self.wake(refresh_at);
            self.probe(now);
        }
        self.tell(now);
    }

    /// Tokens live by the wall's clock.
    fn token_refresh(&self) -> Option<Timestamp> {
        let left = setup::next_refresh(&self.tokens)?.duration_since(time::now());
        Some(self.clock.later(Duration::try_from(left).unwrap_or(Duration::ZERO))) // The past is now.
    }

    fn wake(&mut self, at: Option<Timestamp>) {
        self.wake_at = match (self.wake_at, at) {
            (Some(known), Some(at)) => Some(known.min(at)),
            (known, at) => known.or(at),
        };
    }

    fn probe(&mut self, now: Timestamp) {
        self.schedule.follow(&self.pod, &self.observed, &mut self.state.probes, now);
        let ip = match self.observed.sandbox() {
            Some(_) if facts::host_network(&self.pod) => self.context.config.node_ip.to_string(),
            Some(sandbox) => sandbox.ips.first().cloned().unwrap_or_default(),
            None => return,
        };
        for due in self.schedule.due(&self.state.probes, now) {
            let (runtime, pod, ip) = (Arc::clone(&self.context.runtime), Arc::clone(&self.pod), ip.clone());
            self.work.push(Box::pin(async move {
                let answer = probe::run(&*runtime, &pod, &due, &ip).await;
                Done::Probe(due, answer)
            }));
        }
        self.wake(self.schedule.next_at(&self.state.probes));
    }

    /// Tells the API what it does not know. After the deletion is confirmed there is nothing more to tell.
    fn tell(&mut self, now: Timestamp) {
        if self.removed || self.told.writing || self.told.deletion_confirmed {
            return;
        }
        if let Some(at) = self.told.retry_at.filter(|at| now < *at) {
            self.wake(Some(at));
            return;
        }
        let sources = Sources {
            pod: &self.pod,
            state: &self.state,
            observed: &self.observed,
            node_ip: self.context.config.node_ip,
            now: time::now(),
            machine_memory: self.context.facts.memory,
        };
        let wanted = status::status(&sources);
        let known = self
            .told
            .settled
            .as_ref()
            .is_some_and(|(sent, made)| *sent == wanted && *made == self.told.status);
        let patch = if known { None } else { patch::patch(self.pod.uid(), &self.told.status, &wanted) };
        if let Some(patch) = patch {
            self.told.writing = true;
            self.told.sent = wanted;
            self.work.push(jobs::write_status(&self.context, &self.pod, patch));
        } else if self.state.phase == Phase::Terminated && self.state.cleaned && facts::deleting(&self.pod) {
            self.told.writing = true;
            self.work.push(jobs::confirm_deletion(&self.context, &self.pod));
        }
    }
}
