//! Traces of the step, readable: what a pod's life looks like, decision by decision.

use super::facts;
use super::step::{Action, Input, Job, Phase, State, Verdict, Waiting, step};
use super::testing::{exited, running, sandbox};
use super::view::{ContainerState, ContainerView, Limits, Observed};
use nauplius_base::time::Timestamp;
use nauplius_kinds::Object;
use nauplius_kinds::api::core::Pod;
use std::fmt::Write;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// A pod on a stage: what the runtime has is set by hand, and jobs end when the script says so.
struct Stage {
    pod: Pod,
    removed: bool,
    state: State,
    observed: Observed,
    network_problem: Option<String>,
    trace: String,
}

fn render(action: &Action) -> String {
    match action {
        Action::Volumes => "make volumes".to_owned(),
        Action::Sandbox { attempt } => format!("run sandbox {attempt}"),
        Action::Start { name, attempt } => format!("start {name}/{attempt}"),
        Action::Kill { id, grace_s, message, .. } => format!("kill {id} in {grace_s}s: {message}"),
        Action::Resize { containers } => {
            let names: Vec<&str> = containers.iter().map(|(_, name)| name.as_str()).collect();
            format!("resize {}", names.join(" "))
        }
        Action::Interrupt => "interrupt".to_owned(),
        Action::Terminate { grace_s } => format!("terminate in {grace_s}s"),
        Action::Release => "stop sandboxes".to_owned(),
        Action::CleanUp => "clean up".to_owned(),
        Action::Forget => "forget".to_owned(),
        Action::Event { reason, message, .. } => format!("event {reason}: {message}"),
    }
}

impl Stage {
    fn new(spec: &str) -> Self {
        let json = format!(r#"{{"metadata":{{"name":"p","namespace":"n","uid":"u"}},"spec":{spec}}}"#);
        let pod = Pod::decode(json.as_bytes()).unwrap();
        Self {
            pod,
            removed: false,
            state: State::default(),
            observed: Observed::default(),
            network_problem: None,
            trace: String::new(),
        }
    }

    fn step(&mut self, now: i64) {
        self.observed.sort();
        let input = Input {
            pod: &self.pod,
            removed: self.removed,
            observed: &self.observed,
            now: at(now),
            machine_memory: 4 << 30,
            network_problem: self.network_problem.as_deref(),
        };
        let outcome = step(std::mem::take(&mut self.state), &input);
        self.state = outcome.state;
        let phase = match self.state.phase {
            Phase::Terminating { grace_s } => format!("Terminating({grace_s}s)"),
            other => format!("{other:?}"),
        };
        write!(self.trace, "{now:>4} {phase}").unwrap();
        for action in &outcome.actions {
            write!(self.trace, " | {}", render(action)).unwrap();
        }
        if let Some(wake) = outcome.wake_at {
            write!(self.trace, " | wake {}", wake.as_second()).unwrap();
        }
        self.trace.push('\n');
    }

    /// Every job ends well.
    fn settle(&mut self) {
        for job in std::mem::take(&mut self.state.jobs) {
            match job {
                Job::Volumes => self.state.volumes_ready = true,
                Job::Sandbox => self.observed.sandboxes = vec![sandbox(true)],
                Job::Release => {
                    self.state.released = true;
                    self.observed.sandboxes.iter_mut().for_each(|sandbox| sandbox.ready = false);
                }
                Job::CleanUp => self.state.cleaned = true,
                Job::Forget => self.state.forgotten = true,
                Job::Start(name) => drop(self.state.waiting.remove(&name)),
                Job::Kill(_) | Job::Terminate(_) | Job::Resize => {}
            }
        }
    }

    fn has(&mut self, view: ContainerView) {
        self.observed.containers.retain(|known| known.id != view.id);
        self.observed.containers.push(view);
    }

    fn delete(&mut self, now: i64, grace_s: i64) {
        self.pod.meta_mut().deletion_timestamp = Some(nauplius_kinds::api::meta::Time(at(now)));
        self.pod.meta_mut().deletion_grace_period_seconds = Some(grace_s);
    }

    #[track_caller]
    fn check(&self, expected: &str) {
        let lines = |text: &str| {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(lines(&self.trace), lines(expected));
    }
}

#[test]
fn a_pod_comes_up_and_is_deleted() {
    let mut stage =
        Stage::new(r#"{"containers":[{"name":"a"},{"name":"b"}],"terminationGracePeriodSeconds":5}"#);
    stage.step(0);
    stage.settle();
    stage.step(1);
    stage.settle();
    stage.has(running("a", 0, 1));
    stage.step(2);
    stage.settle();
    stage.has(running("b", 0, 2));
    stage.step(3);
    stage.delete(4, 5);
    stage.step(4);
    stage.step(5);
    stage.delete(4, 1);
    stage.step(6);
    stage.has(exited("a", 0, 1, 7, 0));
    stage.has(exited("b", 0, 2, 7, 143));
    stage.settle();
    stage.step(7);
    stage.settle();
    stage.step(8);
    stage.settle();
    stage.step(9);
    stage.removed = true;
    stage.step(10);
    stage.settle();
    stage.step(11);
    stage.check(
        "0 Running | make volumes | run sandbox 0
         1 Running | start a/0
         2 Running | start b/0
         3 Running
         4 Terminating(5s) | terminate in 5s
         5 Terminating(5s)
         6 Terminating(1s) | terminate in 1s
         7 Terminated | stop sandboxes
         8 Terminated | clean up
         9 Terminated
        10 Removing | forget
        11 Gone",
    );
}

#[test]
fn a_pod_waits_for_the_network_and_says_so_once() {
    let mut stage = Stage::new(r#"{"containers":[{"name":"a"}]}"#);
    stage.network_problem = Some("no plugin".to_owned());
    stage.step(0);
    stage.step(1);
    stage.network_problem = None;
    stage.step(2);
    stage.check(
        "0 Running | event NetworkNotReady: network is not ready: no plugin
         1 Running
         2 Running | make volumes | run sandbox 0",
    );
    let mut stage = Stage::new(r#"{"hostNetwork":true,"containers":[{"name":"a"}]}"#);
    stage.network_problem = Some("no plugin".to_owned());
    stage.step(0);
    stage.check("0 Running | make volumes | run sandbox 0");
}

#[test]
fn crashes_are_backed_off() {
    let mut stage = Stage::new(r#"{"containers":[{"name":"a"}]}"#);
    stage.step(0);
    stage.settle();
    stage.has(exited("a", 0, 1, 2, 1));
    stage.step(2);
    stage.settle();
    stage.has(exited("a", 1, 2, 3, 1));
    stage.step(3);
    stage.step(4);
    stage.step(13);
    stage.settle();
    stage.has(exited("a", 2, 13, 14, 1));
    stage.step(14);
    assert_eq!(
        stage.state.waiting["a"],
        Waiting {
            reason: "CrashLoopBackOff".to_owned(),
            message: "back-off 20s restarting failed container=a pod=p_n(u)".to_owned(),
            retry_at: at(34),
            settles_at: None
        }
    );
    stage.check(
        "0 Running | make volumes | run sandbox 0
         2 Running | start a/1
         3 Running | event BackOff: Back-off restarting failed container a in pod p_n(u) | wake 13
         4 Running | wake 13
        13 Running | start a/2
        14 Running | event BackOff: Back-off restarting failed container a in pod p_n(u) | wake 34",
    );
}

#[test]
fn init_containers_run_in_order_and_sidecars_stay() {
    let mut stage = Stage::new(
        r#"{"restartPolicy":"OnFailure","initContainers":[{"name":"i"},{"name":"s","restartPolicy":"Always"}],"containers":[{"name":"a"}]}"#,
    );
    stage.step(0);
    stage.settle();
    stage.step(1);
    stage.settle();
    stage.has(running("i", 0, 1));
    stage.step(2);
    stage.has(exited("i", 0, 1, 3, 0));
    stage.step(3);
    stage.settle();
    stage.has(running("s", 0, 3));
    stage.step(4);
    stage.settle();
    stage.has(running("a", 0, 4));
    stage.step(5);
    stage.has(exited("s", 0, 3, 6, 1));
    stage.step(6);
    stage.settle();
    stage.has(running("s", 1, 6));
    stage.has(exited("a", 0, 4, 8, 0));
    stage.step(8);
    stage.check(
        "0 Running | make volumes | run sandbox 0
         1 Running | start i/0
         2 Running
         3 Running | start s/0
         4 Running | start a/0
         5 Running
         6 Running | start s/1
         8 Terminating(30s) | terminate in 30s",
    );
}

#[test]
fn a_sidecar_that_crashes_holds_no_init_container_up() {
    let mut stage = Stage::new(
        r#"{"initContainers":[{"name":"s","restartPolicy":"Always"},{"name":"i"},{"name":"j"}],"containers":[{"name":"a"}]}"#,
    );
    stage.state.volumes_ready = true;
    stage.observed.sandboxes = vec![sandbox(true)];
    stage.has(exited("s", 1, 1, 2, 1));
    stage.has(exited("i", 0, 1, 4, 0));
    let message = String::new();
    let waiting =
        Waiting { reason: "CrashLoopBackOff".to_owned(), message, retry_at: at(30), settles_at: None };
    stage.state.waiting.insert("s".to_owned(), waiting);
    stage.step(5);
    stage.settle();
    stage.has(exited("j", 0, 5, 6, 0));
    stage.step(30);
    stage.settle();
    stage.has(running("s", 2, 30));
    stage.step(31);
    stage.check(
        "5 Running | start j/0 | wake 30
         30 Running | start s/2
         31 Running | start a/0",
    );
}

#[test]
fn what_fails_is_told_with_what_becomes_of_it() {
    let probe = r#""livenessProbe":{"exec":{"command":["a"]},"terminationGracePeriodSeconds":3}"#;
    for (policy, message) in [
        (r#""restartPolicy":"Always""#, "Container a failed liveness probe, will be restarted"),
        (r#""restartPolicy":"Never""#, "Container a failed liveness probe"),
    ] {
        let mut stage = Stage::new(&format!(
            r#"{{{policy},"initContainers":[{{"name":"s","restartPolicy":"Always",{probe}}}],"containers":[{{"name":"a",{probe}}}]}}"#
        ));
        stage.state.volumes_ready = true;
        stage.observed.sandboxes = vec![sandbox(true)];
        for name in ["a", "s"] {
            let view = running(name, 0, 1);
            stage.state.probes.fail(&view.id, "liveness");
            stage.has(view);
        }
        stage.step(2);
        stage.check(&format!(
            "2 Running | kill a0 in 3s: {message} | kill s0 in 3s: Init container s failed liveness probe"
        ));
    }
}

#[test]
fn ephemeral_containers_start_first_and_once() {
    let mut stage = Stage::new(
        r#"{"initContainers":[{"name":"i"}],"containers":[{"name":"a"}],"ephemeralContainers":[{"name":"e"}]}"#,
    );
    stage.state.volumes_ready = true;
    stage.observed.sandboxes = vec![sandbox(true)];
    stage.step(1);
    stage.settle();
    stage.has(running("e", 0, 1));
    stage.step(2);
    stage.settle();
    stage.has(running("i", 0, 2));
    stage.has(exited("e", 0, 1, 3, 1));
    stage.step(3);
    stage.check(
        "1 Running | start e/0
         2 Running | start i/0
         3 Running",
    );
}

#[test]
fn containers_are_resized_in_place_or_by_starting_anew() {
    let limits = |cpu_quota, memory| Some(Limits { cpu_shares: 512, cpu_quota, memory });
    let mut stage = Stage::new(
        r#"{"terminationGracePeriodSeconds":3,"containers":[
        {"name":"a","resources":{"limits":{"cpu":"500m","memory":"64Mi"}}},
        {"name":"b","resources":{"limits":{"cpu":"500m","memory":"64Mi"}},
         "resizePolicy":[{"resourceName":"memory","restartPolicy":"RestartContainer"}]}]}"#,
    );
    stage.state.volumes_ready = true;
    stage.observed.sandboxes = vec![sandbox(true)];
    stage.has(ContainerView { limits: limits(25_000, 64 << 20), ..running("a", 0, 1) });
    stage.has(ContainerView { limits: limits(50_000, 32 << 20), ..running("b", 0, 1) });
    stage.step(2);
    assert!(stage.state.resize.in_progress);
    stage.settle();
    stage.has(ContainerView { limits: limits(50_000, 64 << 20), ..running("a", 0, 1) });
    stage.has(exited("b", 0, 1, 3, 0));
    stage.step(3);
    stage.settle();
    stage.has(ContainerView { limits: limits(50_000, 64 << 20), ..running("b", 1, 3) });
    stage.step(4);
    assert!(!stage.state.resize.in_progress);
    let trace = std::mem::take(&mut stage.trace);
    let lines: Vec<&str> = trace.lines().map(str::trim).collect();
    assert_eq!(
        lines[..2],
        [
            "2 Running | kill b0 in 3s: Container b resize requires restart | resize a",
            "3 Running | start b/1",
        ]
    );
    assert!(
        lines[2].starts_with("4 Running | event ResizeCompleted: Pod resize completed: {"),
        "{}",
        lines[2]
    );
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let mut stage = Stage::new(
        r#"{"restartPolicy":"Never","initContainers":[{"name":"i"}],"containers":[{"name":"a"}]}"#,
    );
    stage.state.volumes_ready = true;
    stage.observed.sandboxes = vec![sandbox(true)];
    stage.has(exited("i", 0, 1, 2, 3));
    stage.step(2);
    stage.check("2 Terminated | stop sandboxes");
}

#[test]
fn deletion_interrupts_what_is_under_way_and_never_goes_back() {
    let mut stage = Stage::new(r#"{"containers":[{"name":"a"}]}"#);
    stage.step(0);
    stage.settle();
    stage.step(1);
    stage.delete(2, 30);
    stage.step(2);
    stage.settle();
    stage.has(running("a", 0, 2));
    stage.step(3);
    stage.pod.meta_mut().deletion_timestamp = None;
    stage.step(4);
    stage.has(exited("a", 0, 2, 5, 137));
    stage.settle();
    stage.step(5);
    stage.check(
        "0 Running | make volumes | run sandbox 0
         1 Running | start a/0
         2 Terminating(30s) | interrupt
         3 Terminating(30s) | terminate in 30s
         4 Terminating(30s)
         5 Terminated | stop sandboxes",
    );
}

#[test]
fn what_is_stopped_to_be_started_anew_starts_whatever_the_policy() {
    for (policy, hash) in [("Never", "other"), ("OnFailure", "")] {
        let spec = format!(r#"{{"restartPolicy":"{policy}","containers":[{{"name":"a"}}]}}"#);
        let mut stage = Stage::new(&spec);
        stage.state.volumes_ready = true;
        stage.observed.sandboxes = vec![sandbox(true)];
        let view = ContainerView { hash: hash.to_owned(), ..running("a", 0, 1) };
        if hash.is_empty() {
            stage.state.probes.fail(&view.id, "liveness");
        }
        stage.has(view);
        stage.step(2);
        stage.settle();
        // It takes the signal well.
        stage.has(exited("a", 0, 1, 3, 0));
        stage.step(3);
        let told = stage.trace.lines().last().unwrap().trim();
        assert_eq!(told, "3 Running | start a/1", "{policy}");
    }
}

#[test]
fn failing_probes_and_changed_definitions_restart_containers() {
    let mut stage =
        Stage::new(r#"{"containers":[{"name":"a","image":"x"}],"terminationGracePeriodSeconds":7}"#);
    stage.state.volumes_ready = true;
    stage.observed.sandboxes = vec![sandbox(true)];
    let container = facts::container(&stage.pod, "a").unwrap().0.clone();
    stage.has(ContainerView { hash: crate::names::container_hash(&container), ..running("a", 0, 1) });
    stage.step(2);
    stage.has(ContainerView { hash: "other".to_owned(), ..running("a", 0, 1) });
    stage.step(3);
    stage.step(4);
    stage.settle();
    stage.has(exited("a", 0, 1, 5, 0));
    stage.step(5);
    stage.check(
        "2 Running
         3 Running | kill a0 in 7s: Container a definition changed, will be restarted
         4 Running
         5 Running | start a/1",
    );
}

#[test]
fn a_lost_sandbox_is_made_anew_but_ended_containers_stay_so() {
    let mut stage = Stage::new(r#"{"restartPolicy":"Never","containers":[{"name":"a"},{"name":"b"}]}"#);
    stage.state.volumes_ready = true;
    stage.observed.sandboxes = vec![sandbox(false)];
    stage.has(exited("a", 0, 1, 2, 0));
    stage.step(3);
    stage.settle();
    stage.observed.sandboxes[0].id = "s1".to_owned();
    stage.step(4);
    stage.check(
        "3 Running | event SandboxChanged: Pod sandbox changed, it will be killed and re-created. | run sandbox 1
         4 Running | start b/0",
    );
}

#[test]
fn deadlines_and_verdicts_end_pods() {
    let mut stage = Stage::new(r#"{"activeDeadlineSeconds":10,"containers":[{"name":"a"}]}"#);
    stage.pod.status = Some(nauplius_kinds::api::core::PodStatus {
        start_time: Some(nauplius_kinds::api::meta::Time(at(0))),
        ..Default::default()
    });
    stage.state.volumes_ready = true;
    stage.observed.sandboxes = vec![sandbox(true)];
    stage.has(running("a", 0, 1));
    stage.step(2);
    stage.step(10);
    assert_eq!(stage.state.verdict.as_ref().map(|verdict| verdict.reason.as_str()), Some("DeadlineExceeded"));
    let mut rejected = Stage::new(r#"{"containers":[{"name":"a"}]}"#);
    rejected.state.verdict = Some(Verdict::new("OutOfpods", String::new()));
    rejected.step(1);
    rejected.check("1 Terminated | stop sandboxes");
    stage.check(
        "2 Running | wake 10
        10 Terminating(30s) | event DeadlineExceeded: Pod was active on the node longer than the specified deadline | terminate in 30s",
    );
}

#[test]
fn an_evicted_pod_gets_what_the_node_can_spare() {
    let mut stage = Stage::new(r#"{"terminationGracePeriodSeconds":60,"containers":[{"name":"a"}]}"#);
    stage.state.volumes_ready = true;
    stage.observed.sandboxes = vec![sandbox(true)];
    stage.has(running("a", 0, 1));
    stage.state.verdict = Some(Verdict { grace_s: Some(1), ..Verdict::new("Evicted", String::new()) });
    stage.step(2);
    stage.check("2 Terminating(1s) | terminate in 1s");
}

#[test]
fn a_failed_pull_settles_into_back_off() {
    let mut stage = Stage::new(r#"{"containers":[{"name":"a","image":"x"},{"name":"b"}]}"#);
    stage.state.volumes_ready = true;
    stage.observed.sandboxes = vec![sandbox(true)];
    let waiting = Waiting {
        reason: "ErrImagePull".to_owned(),
        message: "no such host".to_owned(),
        retry_at: at(11),
        settles_at: Some(at(3)),
    };
    stage.state.waiting.insert("a".to_owned(), waiting);
    stage.step(1);
    stage.settle();
    stage.has(running("b", 0, 1));
    stage.step(3);
    stage.step(11);
    assert_eq!(stage.state.waiting["a"].message, "Back-off pulling image \"x\": ErrImagePull: no such host");
    stage.check(
        "1 Running | start b/0 | wake 3
         3 Running | event BackOff: Back-off pulling image \"x\" | event Failed: Error: ImagePullBackOff | wake 11
        11 Running | start a/0",
    );
}

#[test]
fn a_failed_start_is_a_crash_like_any_other() {
    let mut stage = Stage::new(r#"{"containers":[{"name":"a"}]}"#);
    stage.state.volumes_ready = true;
    stage.observed.sandboxes = vec![sandbox(true)];
    let waiting = |now: i64| Waiting {
        reason: "PostStartHookError".to_owned(),
        message: "why".to_owned(),
        retry_at: at(now + 10),
        settles_at: Some(at(now + 2)),
    };
    stage.has(exited("a", 0, 1, 1, 137));
    stage.state.waiting.insert("a".to_owned(), waiting(1));
    stage.step(1);
    stage.step(3);
    stage.settle();
    stage.has(exited("a", 1, 4, 4, 137));
    stage.state.waiting.insert("a".to_owned(), waiting(4));
    stage.step(4);
    stage.step(6);
    assert_eq!(stage.state.waiting["a"].reason, "CrashLoopBackOff");
    stage.check(
        "1 Running | wake 3
         3 Running | start a/1
         4 Running | wake 6
         6 Running | event BackOff: Back-off restarting failed container a in pod p_n(u) | wake 14",
    );
}

#[test]
fn an_unstarted_container_is_no_running_one() {
    let mut stage = Stage::new(r#"{"containers":[{"name":"a"}]}"#);
    stage.state.volumes_ready = true;
    stage.observed.sandboxes = vec![sandbox(true)];
    stage.has(ContainerView { state: ContainerState::Created, ..running("a", 0, 1) });
    stage.step(2);
    stage.check("2 Running | start a/0");
}
