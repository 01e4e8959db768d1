//! Tables of statuses: phase, container states and conditions from what is observed.

use super::super::step::{Job, Resize, Verdict, Waiting};
use super::super::testing::{exited, running, sandbox};
use super::super::view::Limits;
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
    status(&Sources { pod, state, observed: &observed, node_ip, now: at(100), machine_memory: 4 << 30 })
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
fn what_never_ran_is_not_said_to_be_lost() {
    let over = State { phase: Phase::Terminated, ..State::default() };
    let init = r#"{"restartPolicy":"Never","initContainers":[{"name":"i"},{"name":"j"}],"containers":[{"name":"a"}]}"#;
    for (containers, expected) in [
        (
            vec![exited("i", 0, 1, 2, 1)],
            "Failed i=Error(false,0) j=PodInitializing(false,0) a=PodInitializing(false,0)",
        ),
        (
            vec![exited("j", 0, 1, 2, 0)],
            "Failed i=ContainerStatusUnknown(false,0) j=Completed(true,0) a=PodInitializing(false,0)",
        ),
        (
            vec![exited("i", 0, 1, 2, 0), exited("j", 0, 1, 2, 0)],
            "Failed i=Completed(true,0) j=Completed(true,0) a=ContainerStatusUnknown(false,0)",
        ),
    ] {
        assert_eq!(brief(&made(&pod_of(init), &over, containers)), expected);
    }
}

#[test]
fn of_a_rejected_pod_no_containers_are_told() {
    let verdict = Some(Verdict::new("SysctlForbidden", "Pod was rejected: forbidden sysctl".to_owned()));
    let state = State { phase: Phase::Terminated, verdict, ..State::default() };
    let mut pod = pod_of(r#"{"initContainers":[{"name":"i"}],"containers":[{"name":"a"}]}"#);
    let observed = Observed::default();
    let node_ip = "10.0.0.1".parse().unwrap();
    for state in [&state, &State { phase: Phase::Terminated, ..State::default() }] {
        let sources =
            Sources { pod: &pod, state, observed: &observed, node_ip, now: at(100), machine_memory: 4 << 30 };
        let told = status(&sources);
        assert_eq!(
            (told.phase.as_deref(), told.reason.as_deref()),
            (Some("Failed"), Some("SysctlForbidden"))
        );
        assert_eq!((&told.container_statuses, &told.init_container_statuses), (&None, &None));
        // The next kubelet knows only what the API does.
        pod.status = Some(told);
    }
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
fn no_end_is_told_while_a_sidecar_runs() {
    let pod = pod_of(
        r#"{"restartPolicy":"Never","initContainers":[{"name":"s","restartPolicy":"Always"}],"containers":[{"name":"a"}]}"#,
    );
    let phase = |sidecar| {
        made(&pod, &State::default(), vec![sidecar, exited("a", 0, 1, 2, 0)]).phase.unwrap_or_default()
    };
    assert_eq!(phase(running("s", 0, 1)), "Running");
    assert_eq!(phase(exited("s", 0, 1, 3, 0)), "Succeeded");
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
fn a_resize_is_told_until_it_is_done() {
    let of = |cpu: &str| {
        pod_of(&format!(
            r#"{{"containers":[{{"name":"a","resources":{{"requests":{{"cpu":"{cpu}"}},"limits":{{"cpu":"{cpu}","memory":"64Mi"}}}}}}]}}"#
        ))
    };
    let has = |cpu_m: i64| ContainerView {
        limits: Some(Limits { cpu_shares: cpu_m * 1024 / 1000, cpu_quota: cpu_m * 100, memory: 64 << 20 }),
        ..running("a", 0, 1)
    };
    let cpu = |status: &PodStatus| {
        let told = status.container_statuses.as_ref().unwrap()[0].resources.clone().unwrap();
        told.limits.unwrap()["cpu"].0.clone()
    };
    let brief = |status: &PodStatus| {
        let all = status.conditions.iter().flatten();
        let resizing = all.filter(|condition| condition.type_.starts_with("PodResize"));
        let one = |condition: &nauplius_kinds::api::core::PodCondition| {
            format!(
                "{} {} {}",
                condition.type_,
                condition.status,
                condition.reason.clone().unwrap_or_default()
            )
        };
        resizing.map(one).collect::<Vec<_>>().join(", ")
    };
    let before = made(&of("500m"), &State::default(), vec![has(500)]);
    assert_eq!((cpu(&before).as_str(), brief(&before).as_str()), ("500m", ""));
    let resizing = Pod { status: Some(before), ..of("1") };
    let resize = Resize { in_progress: true, ..Resize::default() };
    let status = made(&resizing, &State { resize, ..State::default() }, vec![has(500)]);
    assert_eq!((cpu(&status).as_str(), brief(&status).as_str()), ("500m", "PodResizeInProgress True "));
    let resize = Resize { pending: Some(("Deferred", "no room".to_owned())), ..Resize::default() };
    let later = Pod { status: Some(status), ..of("1") };
    let status = made(&later, &State { resize, ..State::default() }, vec![has(1000)]);
    assert_eq!((cpu(&status).as_str(), brief(&status).as_str()), ("1", "PodResizePending True Deferred"));
}

#[test]
fn an_evicted_pod_was_disrupted_by_its_node() {
    let pod = pod_of(r#"{"containers":[{"name":"a"}]}"#);
    let verdict = Verdict { disrupted: true, ..Verdict::new("Evicted", "The node was low. ".to_owned()) };
    let state = State { phase: Phase::Terminated, verdict: Some(verdict), ..State::default() };
    let status = made(&pod, &state, vec![exited("a", 0, 1, 2, 137)]);
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
    let all = status.conditions.clone().unwrap();
    let told = all.iter().find(|condition| condition.type_ == "DisruptionTarget").unwrap();
    assert_eq!((told.status.as_str(), told.reason.as_deref()), ("True", Some("TerminationByKubelet")));
    assert_eq!(told.message.as_deref(), Some("The node was low. "));
    // It stays, though nobody remembers why.
    let again = Pod { status: Some(status.clone()), ..pod };
    let status = made(&again, &State { verdict: None, ..state }, vec![exited("a", 0, 1, 2, 137)]);
    assert_eq!(status.conditions.unwrap().iter().filter(|one| one.type_ == "DisruptionTarget").count(), 1);
}

#[test]
fn a_deleted_pod_has_no_loose_ends() {
    let pod = pod_of(r#"{"containers":[{"name":"a"},{"name":"b"}]}"#);
    let state = State { phase: Phase::Terminated, ..State::default() };
    let status = made(&pod, &state, vec![exited("a", 0, 1, 2, 0)]);
    assert_eq!(brief(&status), "Failed a=Completed(false,0) b=ContainerStatusUnknown(false,0)");
    let verdict = Some(Verdict::new("DeadlineExceeded", "late".to_owned()));
    let state = State { verdict, ..state };
    let status = made(&pod, &state, vec![exited("a", 0, 1, 2, 0), exited("b", 0, 1, 2, 0)]);
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
}

#[test]
fn an_end_keeps_its_user_and_says_when_it_began() {
    let pod = pod_of(r#"{"restartPolicy":"Never","containers":[{"name":"a"}]}"#);
    let end = ContainerView { user: Some((1, 2, vec![3])), ..exited("a", 0, 1, 2, 0) };
    // It could not be started: upstream then tells the beginning of time.
    let failed =
        ContainerView { started_at: 0, reason: "StartError".to_owned(), ..exited("a", 0, 0, 2, 128) };
    let state = State { phase: Phase::Terminated, ..State::default() };
    let of = |view: ContainerView| made(&pod, &state, vec![view]).container_statuses.unwrap().remove(0);
    let user = of(end).user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (1, 2, Some(vec![3])));
    let terminated = of(failed).state.unwrap().terminated.unwrap();
    assert_eq!(terminated.started_at.unwrap().0, at(0));
    assert_eq!(terminated.finished_at.unwrap().0, at(2));
}

#[test]
fn an_end_is_told_when_no_container_runs() {
    let verdict = Verdict { disrupted: true, ..Verdict::new("Evicted", "The node was low. ".to_owned()) };
    let ending = State {
        phase: Phase::Terminating { grace_s: 30 },
        verdict: Some(verdict),
        jobs: vec![Job::Terminate(30)],
        ..State::default()
    };
    let before = PodStatus { phase: Some("Running".to_owned()), ..PodStatus::default() };
    let begun = Pod { status: Some(before), ..pod_of(r#"{"containers":[{"name":"a"}]}"#) };
    let condition = |status: &PodStatus, type_: &str| {
        let all = status.conditions.clone().unwrap_or_default();
        let found = all.into_iter().find(|condition| condition.type_ == type_);
        found.map(|found| format!("{} {}", found.status, found.reason.unwrap_or_default()))
    };
    // Neither while one runs, nor before the stop has been seen through.
    for containers in [vec![running("a", 0, 1)], vec![exited("a", 0, 1, 2, 0)]] {
        let status = made(&begun, &ending, containers);
        assert_eq!(
            (status.phase.as_deref(), &status.reason, &status.message),
            (Some("Running"), &None, &None)
        );
        assert_eq!(condition(&status, "Ready").as_deref(), Some("False PodFailed"));
        assert_eq!(condition(&status, "DisruptionTarget"), None);
    }
    let over = State { phase: Phase::Terminated, jobs: Vec::new(), ..ending.clone() };
    let status = made(&begun, &over, vec![exited("a", 0, 1, 2, 0)]);
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
    assert_eq!(condition(&status, "DisruptionTarget").as_deref(), Some("True TerminationByKubelet"));
    // One that never began goes at once.
    let idle = State { jobs: Vec::new(), ..ending };
    let status = made(&pod_of(r#"{"containers":[{"name":"a"}]}"#), &idle, vec![]);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    // A debugger that looks on is ended, too, before the end is told.
    let pod = pod_of(
        r#"{"restartPolicy":"Never","containers":[{"name":"a"}],"ephemeralContainers":[{"name":"e"}]}"#,
    );
    let status = made(&pod, &State::default(), vec![exited("a", 0, 1, 2, 0), running("e", 0, 1)]);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
}
