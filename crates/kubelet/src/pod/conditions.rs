//! A pod's conditions, in upstream's order and words. Pure; conditions of others are kept as they are.

use super::facts;
use super::resize::{IN_PROGRESS, PENDING};
use super::status::{Sources, time};
use super::step::Phase;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{ContainerStatus, PodCondition, PodStatus};

/// The conditions that the kubelet writes.
pub const OWNED: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    PENDING,
    IN_PROGRESS,
];

/// Others write it too, for other reasons.
const DISRUPTED: &str = "DisruptionTarget";

/// Status, reason and message of a condition.
type Finding = (bool, &'static str, String);

const TRUE: fn() -> Finding = || (true, "", String::new());

/// All conditions of a pod whose other status fields are done.
pub fn conditions(sources: &Sources<'_>, status: &PodStatus) -> Vec<PodCondition> {
    let before = sources.pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or_default();
    let containers_ready = containers_ready(sources, status, phase);
    let ready = if containers_ready.0 { gates(sources, &before) } else { containers_ready.clone() };
    let findings = [
        (OWNED[0], (sources.told_sandbox().is_some_and(|sandbox| sandbox.ready), "", String::new())),
        (OWNED[1], initialized(sources, status, phase)),
        (OWNED[2], ready),
        (OWNED[3], containers_ready),
    ];
    let findings = resizing(sources).into_iter().chain(findings);
    let mut conditions: Vec<PodCondition> =
        findings.map(|(type_, finding)| condition(sources, &before, type_, finding)).collect();
    // Whoever put it here was the scheduler of this pod.
    conditions.push(condition(sources, &before, OWNED[4], TRUE()));
    // It comes with the pod's end, not before.
    let disrupted = sources.state.verdict.as_ref().filter(|verdict| verdict.disrupted && !sources.may_run());
    if let Some(verdict) = disrupted {
        let finding = (true, "TerminationByKubelet", verdict.message.clone());
        conditions.push(condition(sources, &before, DISRUPTED, finding));
    }
    let others = before.into_iter().filter(|condition| {
        !OWNED.contains(&condition.type_.as_str()) && (disrupted.is_none() || condition.type_ != DISRUPTED)
    });
    conditions.extend(others);
    conditions
}

/// A resize that is not done, while there is something to resize.
fn resizing(sources: &Sources<'_>) -> Vec<(&'static str, Finding)> {
    let resize = &sources.state.resize;
    if sources.state.phase != Phase::Running {
        return Vec::new();
    }
    let pending = resize.pending.clone().map(|(reason, words)| (PENDING, (true, reason, words)));
    let error = resize.error.clone().map(|words| ("Error", words));
    let (reason, words) = error.unwrap_or_default();
    let in_progress = resize.in_progress.then_some((IN_PROGRESS, (true, reason, words)));
    pending.into_iter().chain(in_progress).collect()
}

fn condition(sources: &Sources<'_>, before: &[PodCondition], type_: &str, finding: Finding) -> PodCondition {
    let (holds, reason, message) = finding;
    let status = if holds { "True" } else { "False" };
    let known = before.iter().find(|condition| condition.type_ == type_ && condition.status == status);
    let since = known.and_then(|condition| condition.last_transition_time.clone());
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        message: Some(message).filter(|message| !message.is_empty()),
        last_probe_time: None,
        last_transition_time: Some(since.unwrap_or_else(|| time(sources.now))),
        observed_generation: sources.pod.meta().generation,
    }
}

fn statuses(list: Option<&Vec<ContainerStatus>>) -> &[ContainerStatus] {
    list.map(Vec::as_slice).unwrap_or_default()
}

fn containers_ready(sources: &Sources<'_>, status: &PodStatus, phase: &str) -> Finding {
    match phase {
        "Succeeded" => return (false, "PodCompleted", String::new()),
        "Failed" => return (false, "PodFailed", String::new()),
        _ => {}
    }
    let sidecars = facts::init_containers(sources.pod)
        .iter()
        .zip(statuses(status.init_container_statuses.as_ref()))
        .filter(|(container, _)| facts::is_sidecar(container))
        .map(|(_, status)| status);
    let unready: Vec<&str> = sidecars
        .chain(statuses(status.container_statuses.as_ref()))
        .filter(|status| !status.ready)
        .map(|status| status.name.as_str())
        .collect();
    if unready.is_empty() {
        return TRUE();
    }
    (false, "ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
}

fn gates(sources: &Sources<'_>, before: &[PodCondition]) -> Finding {
    let gates = facts::spec(sources.pod).readiness_gates.iter().flatten();
    let problems: Vec<String> = gates
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match before.iter().find(|condition| condition.type_ == *name) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate {name:?} does not exist."))
                }
                Some(condition) if condition.status != "True" => Some(format!(
                    "the status of pod readiness gate {name:?} is not \"True\", but {}",
                    condition.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if problems.is_empty() { TRUE() } else { (false, "ReadinessGatesNotReady", problems.join(", ")) }
}

fn initialized(sources: &Sources<'_>, status: &PodStatus, phase: &str) -> Finding {
    let init = facts::init_containers(sources.pod);
    if phase == "Succeeded" {
        return (true, "PodCompleted", String::new());
    }
    let main = statuses(status.container_statuses.as_ref());
    let any_started = main.iter().any(|status| {
        let state = status.state.as_ref();
        status.started == Some(true)
            || state.is_some_and(|state| state.running.is_some())
            || (status.container_id.is_some() && state.is_some_and(|state| state.terminated.is_some()))
            || status.last_state.is_some()
    });
    if any_started {
        return TRUE();
    }
    let incomplete: Vec<&str> = init
        .iter()
        .zip(statuses(status.init_container_statuses.as_ref()))
        .filter(|(container, status)| {
            let done = if facts::is_sidecar(container) { status.started == Some(true) } else { status.ready };
            !done
        })
        .map(|(container, _)| container.name.as_str())
        .collect();
    if incomplete.is_empty() {
        return TRUE();
    }
    (
        false,
        "ContainersNotInitialized",
        format!("containers with incomplete status: [{}]", incomplete.join(" ")),
    )
}
