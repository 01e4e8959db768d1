//! Tables of statuses: phase, container states and conditions from what is observed.

use super::super::step::{Verdict, Waiting};
use super::super::testing::{exited, running, sandbox};
use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn pod_of(spec: &str) -> Pod {
    let json =
        format!(r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u","generation":3}},"spec":{spec}}}"#);
    Pod::decode(json.as_bytes()).unwrap()
}

fn made(pod: &Pod, state: &State, containers: Vec<ContainerView>) -> PodStatus {
    let mut observed = Observed { sandboxes: vec![sandbox(true)], containers };
    observed.sort();
    let node_ip = "10.0.0.1".parse().unwrap();
    status(&Sources { pod, state, observed: &observed, node_ip, now: at(100) })
}

/// `name=state(ready,restarts)` of each container.
fn brief(status: &PodStatus) -> String {
    let all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let one = |status: &ContainerStatus| {
        let state = status.state.clone().unwrap_or_default();
        let word = match (state.waiting, state.running, state.terminated) {
            (Some(waiting), ..) => waiting.reason.unwrap_or_default(),
            (_, Some(_), _) => "Running".to_owned(),
            (.., Some(end)) => end.reason.unwrap_or_default(),
            _ => "nothing".to_owned(),
        };
        let last = if status.last_state.is_some() { "+last" } else { "" };
        format!("{}={word}{last}({},{})", status.name, status.ready, status.restart_count)
    };
    let words: Vec<String> = all.map(one).collect();
    format!("{} {}", status.phase.clone().unwrap_or_default(), words.join(" "))
}

fn true_conditions(status: &PodStatus) -> Vec<&str> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions
        .iter()
        .filter(|condition| condition.status == "True")
        .map(|condition| condition.type_.as_str())
        .collect()
}

#[test]
fn phases_and_states() {
    let always = r#"{"containers":[{"name":"a"},{"name":"b"}]}"#;
    let never = r#"{"restartPolicy":"Never","containers":[{"name":"a"}]}"#;
    let failure = r#"{"restartPolicy":"OnFailure","containers":[{"name":"a"}]}"#;
    let init = r#"{"restartPolicy":"Never","initContainers":[{"name":"i"}],"containers":[{"name":"a"}]}"#;
    for (spec, containers, expected) in [
        (always, vec![], "Pending a=ContainerCreating(false,0) b=ContainerCreating(false,0)"),
        (always, vec![running("a", 0, 1)], "Pending a=Running(true,0) b=ContainerCreating(false,0)"),
        (always, vec![running("a", 0, 1), running("b", 2, 1)], "Running a=Running(true,0) b=Running(true,2)"),
        (
            always,
            vec![running("a", 0, 1), exited("b", 0, 1, 2, 1)],
            "Running a=Running(true,0) b=Error(false,0)",
        ),
        (never, vec![exited("a", 0, 1, 2, 0)], "Succeeded a=Completed(false,0)"),
        (never, vec![exited("a", 0, 1, 2, 7)], "Failed a=Error(false,0)"),
        (failure, vec![exited("a", 0, 1, 2, 0)], "Succeeded a=Completed(false,0)"),
        (failure, vec![exited("a", 0, 1, 2, 7), running("a", 1, 3)], "Running a=Running+last(true,1)"),
        (init, vec![], "Pending i=PodInitializing(false,0) a=PodInitializing(false,0)"),
        (init, vec![running("i", 0, 1)], "Pending i=Running(false,0) a=PodInitializing(false,0)"),
        (init, vec![exited("i", 0, 1, 2, 0)], "Pending i=Completed(true,0) a=ContainerCreating(false,0)"),
        (init, vec![exited("i", 0, 1, 2, 1)], "Failed i=Error(false,0) a=PodInitializing(false,0)"),
    ] {
        assert_eq!(brief(&made(&pod_of(spec), &State::default(), containers)), expected, "{spec}");
    }
}

#[test]
fn a_crash_loop_waits_and_remembers() {
    let pod = pod_of(r#"{"containers":[{"name":"a"}]}"#);
    let mut state = State::default();
    let waiting = Waiting {
        reason: "CrashLoopBackOff".to_owned(),
        message: "m".to_owned(),
        retry_at: at(200),
        settles_at: None,
    };
    state.waiting.insert("a".to_owned(), waiting);
    let status = made(&pod, &state, vec![exited("a", 0, 1, 2, 1), exited("a", 1, 3, 4, 5)]);
    assert_eq!(brief(&status), "Running a=CrashLoopBackOff+last(false,1)");
    let last = status.container_statuses.unwrap()[0].last_state.clone().unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.container_id.as_deref()), (5, Some("nauplius://a1")));
}

#[test]
fn conditions_follow_containers() {
    let pod = pod_of(r#"{"containers":[{"name":"a","readinessProbe":{"exec":{"command":["x"]}}}]}"#);
    let status = made(&pod, &State::default(), vec![running("a", 0, 1)]);
    assert_eq!(true_conditions(&status), ["PodReadyToStartContainers", "Initialized", "PodScheduled"]);
    let ready =
        status.conditions.as_ref().unwrap().iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [a]"));
    assert_eq!((ready.reason.as_deref(), ready.observed_generation), (Some("ContainersNotReady"), Some(3)));
    let mut state = State::default();
    state.probes.adopt("a0", true, true);
    let status = made(&pod, &state, vec![running("a", 0, 1)]);
    assert_eq!(true_conditions(&status).len(), 5);
    assert_eq!(status.pod_ip.as_deref(), Some("10.1.0.5"));
    // The same status again moves no time.
    let again = Pod { status: Some(status.clone()), ..pod };
    assert_eq!(made(&again, &state, vec![running("a", 0, 1)]), status);
}

#[test]
fn a_sandbox_is_told_once_the_volumes_are_there() {
    let pod = pod_of(r#"{"containers":[{"name":"a"}]}"#);
    let status = made(&pod, &State::default(), vec![]);
    assert_eq!(
        (status.pod_ip.as_deref(), true_conditions(&status)),
        (None, vec!["Initialized", "PodScheduled"])
    );
    let state = State { volumes_ready: true, ..State::default() };
    let status = made(&pod, &state, vec![]);
    assert_eq!(status.pod_ip.as_deref(), Some("10.1.0.5"));
    assert_eq!(true_conditions(&status), ["PodReadyToStartContainers", "Initialized", "PodScheduled"]);
}

#[test]
fn ephemeral_containers_count_for_nothing() {
    let pod = pod_of(r#"{"containers":[{"name":"a"}],"ephemeralContainers":[{"name":"e"},{"name":"f"}]}"#);
    let status = made(&pod, &State::default(), vec![running("a", 0, 1), exited("e", 0, 1, 2, 1)]);
    assert_eq!(brief(&status), "Running a=Running(true,0)");
    let ephemeral = status.ephemeral_container_statuses.unwrap();
    let reason = |status: &ContainerStatus| {
        let state = status.state.clone().unwrap();
        state.terminated.and_then(|end| end.reason).or(state.waiting.and_then(|waiting| waiting.reason))
    };
    assert_eq!(reason(&ephemeral[0]).as_deref(), Some("Error"));
    assert_eq!(reason(&ephemeral[1]).as_deref(), Some("ContainerCreating"));
    assert_eq!((ephemeral[0].ready, ephemeral[0].started), (false, None));
}

#[test]
fn a_deleted_pod_has_no_loose_ends() {
    let pod = pod_of(r#"{"containers":[{"name":"a"},{"name":"b"}]}"#);
    let state = State { phase: Phase::Terminated, ..State::default() };
    let status = made(&pod, &state, vec![exited("a", 0, 1, 2, 0)]);
    assert_eq!(brief(&status), "Failed a=Completed(false,0) b=ContainerStatusUnknown(false,0)");
    let verdict = Some(Verdict { reason: "DeadlineExceeded".to_owned(), message: "late".to_owned() });
    let state = State { verdict, ..state };
    let status = made(&pod, &state, vec![exited("a", 0, 1, 2, 0), exited("b", 0, 1, 2, 0)]);
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
}
