//! A pod's status: a pure function of its spec, its state, what is observed and the status before. Words and order are
//! upstream's.

use super::conditions;
use super::facts::{self, Role};
use super::resize;
use super::step::{Job, Phase, State, nanos};
use super::view::{ContainerState as Stage, ContainerView, Observed, SandboxView};
use crate::names::ID_SCHEME;
use crate::volumes::mounts;
use nauplius_base::time::Timestamp;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, EphemeralContainer, HostIP, LinuxContainerUser, Pod, PodIP, PodStatus,
    ResourceRequirements, VolumeMountStatus,
};
use nauplius_kinds::api::meta::Time;
use std::net::IpAddr;

/// What the status is made from.
pub struct Sources<'a> {
    /// The newest spec, with the status before.
    pub pod: &'a Pod,
    /// Phase, failures and probes.
    pub state: &'a State,
    /// What the runtime says.
    pub observed: &'a Observed,
    /// The node's address.
    pub node_ip: IpAddr,
    /// The time.
    pub now: Timestamp,
    /// Bytes of the machine.
    pub machine_memory: i64,
}

impl Sources<'_> {
    /// The newest sandbox, once the pod's volumes are there: upstream makes none before, and so tells of none.
    pub fn told_sandbox(&self) -> Option<&SandboxView> {
        let begun = self.state.volumes_ready || !self.observed.containers.is_empty();
        self.observed.sandboxes.first().filter(|_| begun)
    }

    /// Whether a container may run still. As long as it may, the pod's end is not told: whoever waits for it takes what the pod holds
    /// for free, as upstream's `mergePodStatus` has it.
    pub fn may_run(&self) -> bool {
        let uncertain = |job: &Job| matches!(job, Job::Start(_) | Job::Terminate(_));
        let runs = self.observed.live().next().is_some() || self.state.jobs.iter().any(uncertain);
        runs && !over(self)
    }
}

/// Go's MicroTime and Time have no fraction in a status.
pub fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// The status as it should be.
pub fn status(sources: &Sources<'_>) -> PodStatus {
    let before = sources.pod.status.clone().unwrap_or_default();
    let init: Vec<ContainerStatus> = facts::init_containers(sources.pod)
        .iter()
        .map(|container| container_status(sources, container))
        .collect();
    let main: Vec<ContainerStatus> = facts::spec(sources.pod)
        .containers
        .iter()
        .map(|container| container_status(sources, container))
        .collect();
    let phase = settled_phase(sources, &before, phase(sources, &init, &main));
    let is_early = matches!(phase, "Succeeded" | "Failed") && !facts::ended(sources.pod) && sources.may_run();
    let told = is_early.then(|| (before.phase.clone(), before.reason.clone(), before.message.clone()));
    let (reason, message) = match &sources.state.verdict {
        Some(verdict) => (Some(verdict.reason.clone()), Some(verdict.message.clone())),
        None if facts::ended(sources.pod) => (before.reason.clone(), before.message.clone()),
        None => (None, None),
    };
    let (pod_ip, pod_ips) = pod_ips(sources, &before);
    let host_ip = sources.node_ip.to_string();
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        reason,
        message,
        start_time: Some(before.start_time.clone().unwrap_or_else(|| time(sources.now))),
        host_ip: Some(host_ip.clone()),
        host_ips: Some(vec![HostIP { ip: host_ip }]),
        pod_ip,
        pod_ips,
        qos_class: Some(
            before
                .qos_class
                .clone()
                .unwrap_or_else(|| crate::spec::resources::qos_class(sources.pod).to_owned()),
        ),
        observed_generation: sources.pod.meta().generation,
        init_container_statuses: (!init.is_empty() && !untouched(sources)).then_some(init),
        container_statuses: (!untouched(sources)).then_some(main),
        ephemeral_container_statuses: ephemeral(sources).filter(|_| !untouched(sources)),
        ..before
    };
    // A pod that is about to end is not ready any more, whatever its phase says until then.
    status.conditions = Some(conditions::conditions(sources, &status));
    if let Some((phase, reason, message)) = told {
        status.phase = phase.or_else(|| Some("Pending".to_owned()));
        (status.reason, status.message) = (reason, message);
    }
    status
}

/// Ephemeral containers are looked at and never waited for: they are neither ready nor started.
fn ephemeral(sources: &Sources<'_>) -> Option<Vec<ContainerStatus>> {
    let all = facts::spec(sources.pod).ephemeral_containers.as_ref()?;
    let told = |container: &EphemeralContainer| ContainerStatus {
        ready: false,
        started: None,
        ..container_status(sources, &facts::plain(container))
    };
    Some(all.iter().map(told).collect())
}

/// Of a pod that was rejected nothing is told but that: nothing was ever made of it.
fn untouched(sources: &Sources<'_>) -> bool {
    let told = sources.pod.status.as_ref().is_some_and(|status| status.container_statuses.is_some());
    let over = sources.state.verdict.is_some() || facts::ended(sources.pod);
    over && !told && sources.observed.sandboxes.is_empty() && sources.observed.containers.is_empty()
}

/// A phase that the API has as final stays.
fn settled_phase<'a>(sources: &Sources<'_>, before: &PodStatus, computed: &'a str) -> &'a str {
    if sources.state.verdict.is_some() {
        return "Failed";
    }
    match before.phase.as_deref() {
        Some("Succeeded") => "Succeeded",
        Some("Failed") => "Failed",
        _ => computed,
    }
}

/// Addresses stay in the status when the sandbox is gone.
fn pod_ips(sources: &Sources<'_>, before: &PodStatus) -> (Option<String>, Option<Vec<PodIP>>) {
    let seen = match sources.told_sandbox() {
        Some(_) if facts::host_network(sources.pod) => vec![sources.node_ip.to_string()],
        Some(sandbox) => sandbox.ips.clone(),
        None => Vec::new(),
    };
    match seen.first() {
        None => (before.pod_ip.clone(), before.pod_ips.clone()),
        Some(first) => (Some(first.clone()), Some(seen.into_iter().map(|ip| PodIP { ip }).collect())),
    }
}

fn has_terminated(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref().and_then(|state| state.terminated.as_ref())
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// How an ended container ended, or one that waits to be started again.
fn last_end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    has_terminated(status).or_else(|| status.last_state.as_ref().and_then(|state| state.terminated.as_ref()))
}

fn initialized(pod: &Pod, init: &[ContainerStatus], main: &[ContainerStatus]) -> (usize, usize) {
    let any_started = main.iter().any(|status| is_running(status) || last_end(status).is_some());
    let (mut pending, mut failed) = (0, 0);
    for (container, status) in facts::init_containers(pod).iter().zip(init) {
        if facts::is_sidecar(container) {
            pending += usize::from(!any_started && status.started != Some(true));
        } else {
            match last_end(status) {
                Some(end) if end.exit_code == 0 => {}
                Some(_) => failed += 1,
                None => pending += usize::from(!any_started),
            }
        }
    }
    (pending, failed)
}

fn phase(sources: &Sources<'_>, init: &[ContainerStatus], main: &[ContainerStatus]) -> &'static str {
    let policy = facts::restart_policy(sources.pod);
    let (pending_init, failed_init) = initialized(sources.pod, init, main);
    let over = matches!(sources.state.phase, Phase::Terminated | Phase::Removing | Phase::Gone);
    // As upstream, no end is told while a container runs.
    let sidecars_run = !over && init.iter().any(is_running);
    if failed_init > 0 && (policy == "Never" || over) {
        return if sidecars_run { "Pending" } else { "Failed" };
    }
    let running = main.iter().filter(|status| is_running(status)).count();
    let ends: Vec<i32> = main
        .iter()
        .filter(|status| !is_running(status))
        .filter_map(last_end)
        .map(|end| end.exit_code)
        .collect();
    let waiting = main.len() - running - ends.len();
    if failed_init > 0 || pending_init > 0 || waiting > 0 {
        return if over { "Failed" } else { "Pending" };
    }
    if running > 0 {
        return "Running";
    }
    let succeeded = ends.iter().all(|code| *code == 0);
    if over {
        return if succeeded { "Succeeded" } else { "Failed" };
    }
    let anew =
        |name: &str| sources.observed.newest(name).is_some_and(|view| sources.state.anew.contains(&view.id));
    let restarting = facts::spec(sources.pod).containers.iter().zip(main).any(|(container, status)| {
        anew(&container.name)
            || last_end(status)
                .is_some_and(|end| facts::restarts(sources.pod, container, Role::Main, end.exit_code))
    });
    match (restarting || sidecars_run, succeeded) {
        (true, _) => "Running",
        (false, true) => "Succeeded",
        (false, false) => "Failed",
    }
}

fn container_status(sources: &Sources<'_>, container: &Container) -> ContainerStatus {
    let role = facts::any_container(sources.pod, &container.name).map_or(Role::Main, |(_, role)| role);
    let newest = sources.observed.newest(&container.name);
    let state = container_state(sources, container, role, newest);
    let before_newest = sources
        .observed
        .containers
        .iter()
        .filter(|view| view.name == container.name)
        .skip_while(|view| newest.is_some_and(|newest| view.id != newest.id))
        .skip(usize::from(newest.is_some()))
        .find(|view| view.state == Stage::Exited);
    let waits = state.waiting.is_some();
    let last = newest.filter(|view| waits && view.state == Stage::Exited).or(before_newest);
    let running = newest.filter(|_| state.running.is_some());
    let verdicts = &sources.state.probes;
    let ending = !matches!(sources.state.phase, Phase::Running);
    let ready = match role {
        Role::Init => state.terminated.as_ref().is_some_and(|end| end.exit_code == 0),
        _ => running.is_some_and(|view| {
            verdicts.ready(view, container) && !(ending && container.readiness_probe.is_some())
        }),
    };
    ContainerStatus {
        name: container.name.clone(),
        ready,
        started: Some(running.is_some_and(|view| verdicts.started(view, container))),
        restart_count: newest.map_or(0, |view| i32::try_from(view.attempt).unwrap_or(i32::MAX)),
        container_id: newest.map(|view| format!("{ID_SCHEME}{}", view.id)),
        image: newest.map_or_else(|| container.image.clone().unwrap_or_default(), |view| view.image.clone()),
        image_id: newest.map(|view| view.image_ref.clone()).unwrap_or_default(),
        last_state: last
            .map(|view| ContainerState { terminated: Some(terminated(view)), ..ContainerState::default() }),
        state: Some(state),
        allocated_resources: container.resources.as_ref().and_then(|resources| resources.requests.clone()),
        resources: newest.map(|view| actual_resources(sources, container, role, view)),
        user: newest.and_then(|view| view.user.clone()).map(|(uid, gid, groups)| ContainerUser {
            linux: Some(LinuxContainerUser { uid, gid, supplemental_groups: Some(groups) }),
        }),
        volume_mounts: volume_mounts(container),
        ..ContainerStatus::default()
    }
}

/// What it has: what it is allotted, or until then what it was told to have.
fn actual_resources(
    sources: &Sources<'_>,
    container: &Container,
    role: Role,
    view: &ContainerView,
) -> ResourceRequirements {
    let has =
        view.limits.filter(|_| view.state == Stage::Running && matches!(role, Role::Main | Role::Sidecar));
    let late = has.is_some_and(|has| has != resize::limits(sources.pod, container, sources.machine_memory));
    let before = sources.pod.status.as_ref().filter(|_| late);
    let known = before.and_then(|status| resize::known(status, &container.name));
    let own = known.or(container.resources.as_ref()).cloned().unwrap_or_default();
    ResourceRequirements { requests: own.requests, limits: own.limits, ..ResourceRequirements::default() }
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?;
    let of = |mount: &nauplius_kinds::api::core::VolumeMount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        // One that cannot be is told by the container, which does not start.
        recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| {
            let recursive = mounts::recursive_read_only(mount).unwrap_or(false);
            if recursive { "Enabled" } else { "Disabled" }.to_owned()
        }),
        ..VolumeMountStatus::default()
    };
    Some(mounts.iter().map(of).collect())
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn container_state(
    sources: &Sources<'_>,
    container: &Container,
    role: Role,
    newest: Option<&ContainerView>,
) -> ContainerState {
    if let Some(view) = newest {
        match view.state {
            Stage::Running => {
                let running = ContainerStateRunning { started_at: Some(time(nanos(view.started_at))) };
                return ContainerState { running: Some(running), ..ContainerState::default() };
            }
            Stage::Exited if !starts_again(sources, container, role, view) => {
                return ContainerState { terminated: Some(terminated(view)), ..ContainerState::default() };
            }
            Stage::Unknown => return lost("ContainerStatusUnknown"),
            Stage::Exited | Stage::Created => {}
        }
    }
    if over(sources) && expected(sources, container, role) {
        return lost("ContainerStatusUnknown");
    }
    match sources.state.waiting.get(&container.name) {
        Some(known) => {
            waiting(&known.reason, Some(known.message.clone()).filter(|message| !message.is_empty()))
        }
        None => waiting(default_reason(sources, role), None),
    }
}

fn over(sources: &Sources<'_>) -> bool {
    matches!(sources.state.phase, Phase::Terminated | Phase::Removing | Phase::Gone)
}

/// Whether a container without a trace must have run: an app container once the init containers are through, an init container
/// before another that has a trace. The first one always.
fn expected(sources: &Sources<'_>, container: &Container, role: Role) -> bool {
    let init = facts::init_containers(sources.pod);
    let trace = |name: &str| {
        let view = sources.observed.newest(name);
        view.is_some_and(|view| view.state != Stage::Created)
    };
    if role == Role::Main {
        let mains = &facts::spec(sources.pod).containers;
        return mains.iter().any(|main| trace(&main.name)) || !init_unfinished(sources);
    }
    let place = init.iter().position(|known| known.name == container.name);
    place.is_some_and(|place| place == 0 || init[place + 1..].iter().any(|later| trace(&later.name)))
}

/// Whether an ended container reads as waiting: it will be started, and there is something to say about why it is not yet.
fn starts_again(sources: &Sources<'_>, container: &Container, role: Role, view: &ContainerView) -> bool {
    sources.state.phase == Phase::Running
        && sources.state.restarts(sources.pod, container, role, view)
        && sources.state.waiting.contains_key(&container.name)
}

fn default_reason(sources: &Sources<'_>, role: Role) -> &'static str {
    let none = facts::init_containers(sources.pod).is_empty();
    if init_unfinished(sources) || (role != Role::Main && !none) {
        "PodInitializing"
    } else {
        "ContainerCreating"
    }
}

fn init_unfinished(sources: &Sources<'_>) -> bool {
    facts::init_containers(sources.pod).iter().any(|container| {
        let view = sources.observed.newest(&container.name);
        !view.is_some_and(|view| match view.state {
            Stage::Running => facts::is_sidecar(container) && sources.state.probes.started(view, container),
            Stage::Exited => !facts::is_sidecar(container) && view.exit_code == 0,
            _ => false,
        })
    })
}

fn lost(reason: &str) -> ContainerState {
    let end = ContainerStateTerminated {
        exit_code: 137,
        reason: Some(reason.to_owned()),
        message: Some("The container could not be located when the pod was terminated".to_owned()),
        ..ContainerStateTerminated::default()
    };
    ContainerState { terminated: Some(end), ..ContainerState::default() }
}

fn terminated(view: &ContainerView) -> ContainerStateTerminated {
    let at = |value: i64| (value > 0).then(|| time(nanos(value)));
    let reason = if view.reason.is_empty() { default_end(view.exit_code) } else { &view.reason };
    ContainerStateTerminated {
        container_id: Some(format!("{ID_SCHEME}{}", view.id)),
        exit_code: view.exit_code,
        reason: Some(reason.to_owned()),
        message: Some(view.message.clone()).filter(|message| !message.is_empty()),
        // One that could not be started was, as upstream tells it, at the beginning of time.
        started_at: Some(time(nanos(view.started_at))),
        finished_at: at(view.finished_at),
        signal: None,
    }
}

fn default_end(exit_code: i32) -> &'static str {
    if exit_code == 0 { "Completed" } else { "Error" }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
