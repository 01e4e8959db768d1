//! The decision about one pod: from its phase, its spec, what is observed and the time to the next phase and the actions that lead
//! there. Pure: it calls nothing and waits for nothing, and what it asks for comes back as an observation or a finished job.
//! No arm leads from terminating back to running.

use super::crash::{BackOffs, go_seconds};
use super::facts::{self, Role};
use super::probes::Verdicts;
use super::resize;
use super::view::{ContainerState, ContainerView, Observed};
use crate::names;
use nauplius_base::time::Timestamp;
use nauplius_kinds::api::core::{Container, Pod};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Where a pod is on its one-way road.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is brought up and kept up.
    Running,
    /// Its containers get so many seconds to end.
    Terminating {
        /// Seconds, counted from when the containers were asked.
        grace_s: i64,
    },
    /// Nothing of it runs any more; what it held is given back.
    Terminated,
    /// The API knows it no more; what is left of it on the node is removed.
    Removing,
    /// Nothing is left.
    Gone,
}

/// Why a pod ended that its containers did not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `DeadlineExceeded`, `OutOfpods`, ...
    pub reason: String,
    /// In words.
    pub message: String,
    /// The seconds that it gets at most, when not all of its own.
    pub grace_s: Option<i64>,
    /// Whether the node ended it for its own sake.
    pub disrupted: bool,
}

impl Verdict {
    /// Over a pod that gets all of its own grace.
    pub fn new(reason: &str, message: String) -> Self {
        Self { reason: reason.to_owned(), message, grace_s: None, disrupted: false }
    }
}

/// Why a container is not running, and when it is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// `ErrImagePull`, `CrashLoopBackOff`, ...
    pub reason: String,
    /// In words.
    pub message: String,
    /// Not before.
    pub retry_at: Timestamp,
    /// When it reads as back-off.
    pub settles_at: Option<Timestamp>,
}

/// Whether the container was made, and then did not come up.
pub fn is_failed_start(reason: &str) -> bool {
    matches!(reason, "RunContainerError" | "PostStartHookError")
}

/// Work that is under way. It reports when it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Volumes are made, or written anew.
    Volumes,
    /// A sandbox is made.
    Sandbox,
    /// A container is pulled, made and started.
    Start(String),
    /// A container is stopped.
    Kill(String),
    /// Containers get other limits.
    Resize,
    /// All containers are stopped, with so much grace.
    Terminate(i64),
    /// Sandboxes are stopped.
    Release,
    /// Volumes and cgroup are removed.
    CleanUp,
    /// The rest is removed.
    Forget,
}

/// What is to be done. Each starts the job of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the pod's volumes, or write them anew.
    Volumes,
    /// Make a sandbox, after stopping those before it.
    Sandbox {
        /// How many there were before.
        attempt: u32,
    },
    /// Pull, make and start a container.
    Start {
        /// Its name.
        name: String,
        /// How often it was started before.
        attempt: u32,
    },
    /// Stop a container, to be started anew.
    Kill {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// Its grace in seconds.
        grace_s: i64,
        /// For the event.
        message: String,
    },
    /// Give containers the limits that they are allotted.
    Resize {
        /// Their ids and names.
        containers: Vec<(String, String)>,
    },
    /// Give up what is under way: the pod is to end.
    Interrupt,
    /// Stop all containers in order.
    Terminate {
        /// Their grace in seconds.
        grace_s: i64,
    },
    /// Stop the sandboxes.
    Release,
    /// Remove volumes and cgroup.
    CleanUp,
    /// Remove sandboxes, containers, logs and directories.
    Forget,
    /// Record an event, about a container or the pod.
    Event {
        /// The container.
        container: Option<String>,
        /// Warning or Normal.
        warning: bool,
        /// `BackOff`, ...
        reason: &'static str,
        /// In words.
        message: String,
    },
}

/// Everything that is remembered between two steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The road.
    pub phase: Phase,
    /// Under way.
    pub jobs: Vec<Job>,
    /// Whether the volumes are there.
    pub volumes_ready: bool,
    /// Whether their content may have changed.
    pub volumes_stale: bool,
    /// When setting them up is tried again, after a failure.
    pub volumes_retry_at: Option<Timestamp>,
    /// When a sandbox is tried again, after a failure.
    pub sandbox_retry_at: Option<Timestamp>,
    /// What was told of the network that the pod waits for.
    pub network_told: Option<String>,
    /// By container.
    pub crashes: BackOffs,
    /// By container.
    pub waiting: BTreeMap<String, Waiting>,
    /// Containers, by id, that are stopped to be started anew, whatever they end with and whatever the policy.
    pub anew: BTreeSet<String>,
    /// Why it ended, when not by itself.
    pub verdict: Option<Verdict>,
    /// What probes said.
    pub probes: Verdicts,
    /// What became of the wish for other resources, when the pod does not have them yet.
    pub resize: Resize,
    /// Sandboxes are stopped.
    pub released: bool,
    /// Volumes and cgroup are gone.
    pub cleaned: bool,
    /// Sandboxes, containers, logs and directories are gone.
    pub forgotten: bool,
    /// When giving something back is tried again, after a failure.
    pub release_retry_at: Option<Timestamp>,
}

/// Where a resize stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resize {
    /// Why the pod does not get what it asks: reason and words.
    pub pending: Option<(&'static str, String)>,
    /// Containers are to get what the pod is allotted.
    pub in_progress: bool,
    /// Why they did not get it.
    pub error: Option<String>,
    /// When it is tried again, after a failure.
    pub retry_at: Option<Timestamp>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::Running,
            jobs: Vec::new(),
            volumes_ready: false,
            volumes_stale: false,
            volumes_retry_at: None,
            sandbox_retry_at: None,
            network_told: None,
            crashes: BackOffs::default(),
            waiting: BTreeMap::new(),
            anew: BTreeSet::new(),
            verdict: None,
            probes: Verdicts::default(),
            resize: Resize::default(),
            released: false,
            cleaned: false,
            forgotten: false,
            release_retry_at: None,
        }
    }
}

impl State {
    /// Whether a container that has ended is started again.
    pub fn restarts(&self, pod: &Pod, container: &Container, role: Role, view: &ContainerView) -> bool {
        self.anew.contains(&view.id) || facts::restarts(pod, container, role, view.exit_code)
    }
}

/// What a step looks at.
pub struct Input<'a> {
    /// The newest spec.
    pub pod: &'a Pod,
    /// Whether the API has removed it.
    pub removed: bool,
    /// What the runtime says.
    pub observed: &'a Observed,
    /// The time.
    pub now: Timestamp,
    /// Bytes of the machine.
    pub machine_memory: i64,
    /// Why pods cannot have a network on this node, if they cannot.
    pub network_problem: Option<&'a str>,
}

/// What a step decides.
pub struct Outcome {
    /// What to remember.
    pub state: State,
    /// What to do.
    pub actions: Vec<Action>,
    /// When to look again if nothing happens.
    pub wake_at: Option<Timestamp>,
}

/// Why a running container is to be stopped.
struct Failing {
    /// In upstream's words.
    message: String,
    /// The seconds that it gets.
    grace_s: i64,
    /// Whether it is started anew.
    restarts: bool,
}

struct Step<'a> {
    input: &'a Input<'a>,
    state: State,
    actions: Vec<Action>,
    wake_at: Option<Timestamp>,
}

/// Decides.
pub fn step(state: State, input: &Input<'_>) -> Outcome {
    let mut step = Step { input, state, actions: Vec::new(), wake_at: None };
    step.advance();
    Outcome { state: step.state, actions: step.actions, wake_at: step.wake_at }
}

impl Step<'_> {
    /// An arm that moves on returns true: the next one is looked at at once.
    fn advance(&mut self) {
        loop {
            let moved = match self.state.phase {
                Phase::Running => self.running(),
                Phase::Terminating { grace_s } => self.terminating(grace_s),
                Phase::Terminated => self.terminated(),
                Phase::Removing => self.removing(),
                Phase::Gone => false,
            };
            if !moved {
                return;
            }
        }
    }

    fn busy(&self, job: &Job) -> bool {
        self.state.jobs.contains(job)
    }

    fn act(&mut self, job: Job, action: Action) {
        self.state.jobs.push(job);
        self.actions.push(action);
    }

    fn event(&mut self, container: Option<&str>, warning: bool, reason: &'static str, message: String) {
        self.actions.push(Action::Event {
            container: container.map(str::to_owned),
            warning,
            reason,
            message,
        });
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    /// Whether `retry_at` has come; else the step is taken again then.
    fn due(&mut self, retry_at: Option<Timestamp>) -> bool {
        match retry_at {
            Some(at) if self.input.now < at => {
                self.wake(at);
                false
            }
            _ => true,
        }
    }

    fn terminate(&mut self, grace_s: i64) -> bool {
        self.state.phase = Phase::Terminating { grace_s };
        if !self.state.jobs.is_empty() {
            self.actions.push(Action::Interrupt);
        }
        true
    }

    fn running(&mut self) -> bool {
        let pod = self.input.pod;
        if self.input.removed || facts::deleting(pod) || self.state.verdict.is_some() {
            let most = self.state.verdict.as_ref().and_then(|verdict| verdict.grace_s);
            let own = facts::grace_s(pod);
            return self.terminate(most.map_or(own, |most| most.min(own)));
        }
        if self.past_deadline() {
            let message = "Pod was active on the node longer than the specified deadline".to_owned();
            self.event(None, false, "DeadlineExceeded", message.clone());
            self.state.verdict = Some(Verdict::new("DeadlineExceeded", message));
            return self.terminate(facts::grace_s(pod));
        }
        if facts::ended(pod) || self.finished() {
            return self.terminate(facts::grace_s(pod));
        }
        let containers = &self.input.observed.containers;
        self.state.anew.retain(|id| containers.iter().any(|view| view.id == *id));
        self.settle_failures();
        self.kill_failing();
        self.resize();
        if self.has_network() && self.prepare() {
            self.bring_up();
        }
        self.finish_resize();
        false
    }

    fn past_deadline(&mut self) -> bool {
        let status = self.input.pod.status.as_ref();
        let start = status.and_then(|status| status.start_time.as_ref());
        let limit = facts::spec(self.input.pod).active_deadline_seconds;
        let (Some(start), Some(limit)) = (start, limit) else { return false };
        match start.0.checked_add(Duration::from_secs(limit.max(0).cast_unsigned())) {
            Ok(end) if end <= self.input.now => true,
            Ok(end) => {
                self.wake(end);
                false
            }
            Err(_) => false, // Beyond the calendar's end.
        }
    }

    /// Whether every main container has ended for good, or an init container has failed for good.
    fn finished(&self) -> bool {
        let (pod, observed) = (self.input.pod, self.input.observed);
        let over = |container: &Container, role| {
            observed.newest(&container.name).is_some_and(|view| {
                view.state == ContainerState::Exited && !self.state.restarts(pod, container, role, view)
            })
        };
        let failed_init =
            facts::init_containers(pod).iter().filter(|c| !facts::is_sidecar(c)).any(|container| {
                over(container, Role::Init)
                    && observed.current(&container.name).is_some_and(|view| view.exit_code != 0)
            });
        let main = &facts::spec(pod).containers;
        failed_init || (!main.is_empty() && main.iter().all(|container| over(container, Role::Main)))
    }

    /// A failure reads as itself first. Then a failed pull reads as back-off until it is tried again, and a container that was made and
    /// did not come up has crashed like any other.
    fn settle_failures(&mut self) {
        let now = self.input.now;
        let due: Vec<String> = self
            .state
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.settles_at.is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let image = facts::any_container(self.input.pod, &name)
                .and_then(|(c, _)| c.image.clone())
                .unwrap_or_default();
            let newest = self.input.observed.newest(&name);
            let Some(waiting) = self.state.waiting.get_mut(&name) else { continue };
            waiting.settles_at = None;
            if is_failed_start(&waiting.reason) {
                if newest.is_some_and(|view| view.state == ContainerState::Exited) {
                    waiting.retry_at = waiting.retry_at.min(now);
                }
                continue;
            }
            let text = format!("Back-off pulling image {image:?}");
            waiting.message = format!("{text}: {}: {}", waiting.reason, waiting.message);
            waiting.reason = "ImagePullBackOff".to_owned();
            self.event(Some(&name), false, "BackOff", text);
            self.event(Some(&name), true, "Failed", "Error: ImagePullBackOff".to_owned());
        }
        let soon: Vec<Timestamp> =
            self.state.waiting.values().filter_map(|waiting| waiting.settles_at).collect();
        for at in soon {
            self.wake(at);
        }
    }

    /// Containers whose definition changed or whose probes failed are stopped; that they ended starts them anew.
    fn kill_failing(&mut self) {
        let (pod, observed) = (self.input.pod, self.input.observed);
        let running = observed.containers.iter().filter(|view| view.state == ContainerState::Running);
        for view in running {
            let Some((container, role)) = facts::container(pod, &view.name) else { continue };
            let Some(failing) = self.failing(view, container, role) else { continue };
            if self.busy(&Job::Kill(view.id.clone())) {
                continue;
            }
            if failing.restarts {
                self.state.anew.insert(view.id.clone());
            }
            let Failing { grace_s, message, .. } = failing;
            let action = Action::Kill { id: view.id.clone(), name: view.name.clone(), grace_s, message };
            self.act(Job::Kill(view.id.clone()), action);
        }
    }

    /// Whether and why a running container is to be stopped.
    fn failing(&self, view: &ContainerView, container: &Container, role: Role) -> Option<Failing> {
        let pod = self.input.pod;
        let changed = !view.hash.is_empty()
            && view.hash != names::container_hash(container)
            && matches!(role, Role::Main | Role::Sidecar);
        let failed = self.state.probes.failed(&view.id).filter(|_| !changed);
        let why = match failed {
            Some(probe) => format!("failed {probe} probe"),
            None if changed => "definition changed".to_owned(),
            None => return None,
        };
        let probe = match failed {
            Some("startup") => container.startup_probe.as_ref(),
            Some(_) => container.liveness_probe.as_ref(),
            None => None,
        };
        let grace_s = probe.and_then(|probe| probe.termination_grace_period_seconds);
        let restarts = changed || role == Role::Sidecar || facts::restarts_on_failure(pod, container);
        let message = match role {
            Role::Sidecar => format!("Init container {} {why}", view.name),
            _ if restarts => format!("Container {} {why}, will be restarted", view.name),
            _ => format!("Container {} {why}", view.name),
        };
        Some(Failing { message, grace_s: grace_s.unwrap_or(facts::grace_s(pod)), restarts })
    }

    /// Containers get what the pod is allotted, if need be by starting anew.
    fn resize(&mut self) {
        let (pod, memory) = (self.input.pod, self.input.machine_memory);
        let due = resize::due(pod, self.input.observed, memory);
        if due.is_empty() || self.busy(&Job::Resize) || !self.due(self.state.resize.retry_at) {
            return;
        }
        self.state.resize.in_progress = true;
        let mut in_place = Vec::new();
        for (container, view) in due {
            if self.busy(&Job::Kill(view.id.clone())) {
                continue;
            }
            if !resize::restarts(pod, container, view, memory) {
                in_place.push((view.id.clone(), view.name.clone()));
                continue;
            }
            self.state.anew.insert(view.id.clone());
            let message = format!("Container {} resize requires restart", view.name);
            let grace_s = facts::grace_s(pod);
            let action = Action::Kill { id: view.id.clone(), name: view.name.clone(), grace_s, message };
            self.act(Job::Kill(view.id.clone()), action);
        }
        if !in_place.is_empty() {
            self.act(Job::Resize, Action::Resize { containers: in_place });
        }
    }

    fn finish_resize(&mut self) {
        let under_way = |job: &Job| matches!(job, Job::Kill(_) | Job::Start(_) | Job::Resize);
        let (pod, memory) = (self.input.pod, self.input.machine_memory);
        if !self.state.resize.in_progress
            || self.state.jobs.iter().any(under_way)
            || !resize::due(pod, self.input.observed, memory).is_empty()
        {
            return;
        }
        let pending = self.state.resize.pending.take();
        self.state.resize = Resize { pending, ..Resize::default() };
        let message = format!("Pod resize completed: {}", resize::told(self.input.pod, None));
        self.event(None, false, "ResizeCompleted", message);
    }

    /// Whether the pod can have the network that it needs; it waits without one, and says so once for each reason.
    fn has_network(&mut self) -> bool {
        let problem = self.input.network_problem.filter(|_| !facts::host_network(self.input.pod));
        if let Some(problem) = problem.filter(|problem| self.state.network_told.as_deref() != Some(*problem))
        {
            self.event(None, true, "NetworkNotReady", format!("network is not ready: {problem}"));
        }
        self.state.network_told = problem.map(str::to_owned);
        problem.is_none()
    }

    /// Volumes and sandbox, side by side. True when containers may start.
    fn prepare(&mut self) -> bool {
        let needs_volumes = !self.state.volumes_ready || self.state.volumes_stale;
        if needs_volumes && !self.busy(&Job::Volumes) && self.due(self.state.volumes_retry_at) {
            self.state.volumes_stale = false;
            self.act(Job::Volumes, Action::Volumes);
        }
        let has_sandbox = self.input.observed.sandbox().is_some();
        if !has_sandbox && !self.busy(&Job::Sandbox) && self.due(self.state.sandbox_retry_at) {
            self.new_sandbox();
        }
        self.state.volumes_ready && has_sandbox && !self.busy(&Job::Sandbox)
    }

    fn new_sandbox(&mut self) {
        let last = self.input.observed.sandboxes.first();
        if last.is_some() {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            self.event(None, false, "SandboxChanged", message);
        }
        let attempt = last.map_or(0, |sandbox| sandbox.attempt + 1);
        self.act(Job::Sandbox, Action::Sandbox { attempt });
    }

    /// Starts the next container that can be; one at a time, as upstream does.
    fn bring_up(&mut self) {
        if self.state.jobs.iter().any(|job| matches!(job, Job::Start(_))) {
            return;
        }
        let (pod, observed) = (self.input.pod, self.input.observed);
        // First of all, so that a pod that does not come up can be looked at.
        for ephemeral in facts::ephemeral_containers(pod) {
            if self.keep_up(&facts::plain(ephemeral), Role::Ephemeral) {
                return;
            }
        }
        let main = &facts::spec(pod).containers;
        let initialized = main.iter().any(|container| observed.current(&container.name).is_some());
        if initialized {
            for sidecar in facts::init_containers(pod).iter().filter(|container| facts::is_sidecar(container))
            {
                if self.keep_up(sidecar, Role::Sidecar) {
                    return;
                }
            }
        } else if !self.initialize() {
            return;
        }
        for container in main {
            if self.keep_up(container, Role::Main) {
                return;
            }
        }
    }

    /// Init containers in order. True when the main ones may start. Those before the last that has begun were through once: their sidecars
    /// are kept up, and hold nobody up.
    fn initialize(&mut self) -> bool {
        let init = facts::init_containers(self.input.pod);
        let begun = init.iter().rposition(|container| self.input.observed.current(&container.name).is_some());
        let (before, next) = match begun {
            Some(last) if self.is_through(&init[last]) => (last + 1, last + 1),
            Some(last) => (last, last),
            None => (0, 0),
        };
        for sidecar in init[..before].iter().filter(|container| facts::is_sidecar(container)) {
            if self.keep_up(sidecar, Role::Sidecar) {
                return false;
            }
        }
        let Some(container) = init.get(next) else { return true };
        let role = if facts::is_sidecar(container) { Role::Sidecar } else { Role::Init };
        self.keep_up(container, role);
        false
    }

    /// Whether the next init container may follow this one.
    fn is_through(&self, container: &Container) -> bool {
        self.input.observed.current(&container.name).is_some_and(|view| {
            if facts::is_sidecar(container) {
                view.state == ContainerState::Running && self.state.probes.started(view, container)
            } else {
                view.state == ContainerState::Exited && view.exit_code == 0
            }
        })
    }

    /// Starts a container unless it runs, is done, or waits out a back-off. True when it was started.
    fn keep_up(&mut self, container: &Container, role: Role) -> bool {
        let (pod, now) = (self.input.pod, self.input.now);
        let newest = self.input.observed.newest(&container.name);
        let current = self.input.observed.current(&container.name);
        // In a new sandbox init containers run again; others that are done stay done.
        let judged = if role == Role::Init { current } else { newest };
        let done = judged.is_some_and(|view| {
            view.state == ContainerState::Exited && !self.state.restarts(pod, container, role, view)
        });
        let running = current
            .filter(|view| view.state == ContainerState::Running || self.busy(&Job::Kill(view.id.clone())));
        if done || running.is_some() {
            return false;
        }
        let retry_at = self.state.waiting.get(&container.name).map(|waiting| waiting.retry_at);
        if !self.due(retry_at) || self.backs_off(container, newest) {
            return false;
        }
        if let Some(view) = newest.filter(|view| view.state == ContainerState::Exited) {
            let event = nanos(view.finished_at);
            self.state.crashes.next(&container.name, event, now);
        }
        // One that was made and never started was no start.
        let attempt =
            newest.map_or(0, |view| view.attempt + u32::from(view.state != ContainerState::Created));
        let name = container.name.clone();
        self.act(Job::Start(name.clone()), Action::Start { name, attempt });
        true
    }

    fn backs_off(&mut self, container: &Container, newest: Option<&ContainerView>) -> bool {
        // What was waited out is not waited for again, whatever the clock that stamped the crash shows.
        let known =
            self.state.waiting.get(&container.name).filter(|waiting| waiting.reason == "CrashLoopBackOff");
        if known.is_some_and(|waiting| waiting.retry_at <= self.input.now) {
            return false;
        }
        let known = known.is_some();
        let Some(view) = newest.filter(|view| view.state == ContainerState::Exited) else { return false };
        let event = nanos(view.finished_at);
        let Some((delay, until)) = self.state.crashes.waiting(&container.name, event, self.input.now) else {
            return false;
        };
        self.wake(until);
        let pod = names::describe(self.input.pod);
        let message = format!(
            "back-off {} restarting failed container={} pod={pod}",
            go_seconds(delay),
            container.name
        );
        let waiting =
            Waiting { reason: "CrashLoopBackOff".to_owned(), message, retry_at: until, settles_at: None };
        self.state.waiting.insert(container.name.clone(), waiting);
        if !known {
            let message = format!("Back-off restarting failed container {} in pod {pod}", container.name);
            self.event(Some(&container.name), true, "BackOff", message);
        }
        true
    }

    fn terminating(&mut self, grace_s: i64) -> bool {
        // A later deletion may shorten the grace, never lengthen it.
        let grace_s = grace_s.min(facts::grace_s(self.input.pod));
        self.state.phase = Phase::Terminating { grace_s };
        let making = |job: &Job| matches!(job, Job::Sandbox | Job::Start(_) | Job::Volumes);
        if self.state.jobs.iter().any(making) {
            return false; // Interrupted; it says when it is done.
        }
        let under_way = self
            .state
            .jobs
            .iter()
            .filter_map(|job| match job {
                Job::Terminate(grace_s) => Some(*grace_s),
                _ => None,
            })
            .min();
        if self.input.observed.live().next().is_some() {
            if under_way.is_none_or(|known| grace_s < known) && self.due(self.state.release_retry_at) {
                self.act(Job::Terminate(grace_s), Action::Terminate { grace_s });
            }
            return false;
        }
        if under_way.is_some() {
            return false;
        }
        self.state.phase = Phase::Terminated;
        true
    }

    fn terminated(&mut self) -> bool {
        if self.state.jobs.iter().any(|job| !matches!(job, Job::Kill(_)))
            || !self.due(self.state.release_retry_at)
        {
            return false;
        }
        let to_stop = self.input.observed.sandboxes.iter().any(|sandbox| sandbox.ready);
        if to_stop || !self.state.released {
            self.act(Job::Release, Action::Release);
            return false;
        }
        if !self.state.cleaned {
            self.act(Job::CleanUp, Action::CleanUp);
            return false;
        }
        if !self.input.removed {
            return false; // Its status stays, and its logs with it.
        }
        self.state.phase = Phase::Removing;
        true
    }

    fn removing(&mut self) -> bool {
        if self.busy(&Job::Forget) || !self.due(self.state.release_retry_at) {
            return false;
        }
        if self.state.forgotten {
            self.state.phase = Phase::Gone;
            return false;
        }
        self.act(Job::Forget, Action::Forget);
        false
    }
}

/// A time of the runtime's.
pub fn nanos(nanoseconds: i64) -> Timestamp {
    // Every i64 of nanoseconds is within the calendar.
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}
