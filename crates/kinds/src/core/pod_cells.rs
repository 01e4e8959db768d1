//! The row of a pod: how many containers are ready, what it is doing in one word, and how often it restarted.

use crate::duration;
use crate::kind::Column;
use crate::table::{self, or_none, string, wide};
use crate::tree::{at, count, flag, get, list, text};
use serde_json::Value;

/// The reason that the node lifecycle controller gives pods of a node it cannot reach.
const NODE_LOST: &str = "NodeLost";

pub(super) fn columns() -> Vec<Column> {
    vec![
        table::name(),
        string("Ready", "How many of the pod's containers are ready."),
        string("Status", "What the pod is doing."),
        string("Restarts", "How often its containers were restarted, and when last."),
        table::age(),
        wide(string("IP", "The address of the pod.")),
        wide(string("Node", "The node that the pod runs on.")),
        wide(string("Nominated Node", "The node on which pods make room for this one.")),
        wide(string("Readiness Gates", "How many of the pod's extra conditions hold.")),
    ]
}

pub(super) fn cells(pod: &Value, now_s: i64) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, duration::since(last, now_s))
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        table::name_cell(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        table::age_cell(pod, now_s),
        or_none(ip(pod)),
        or_none(text(&pod["spec"], "nodeName")),
        or_none(text(&pod["status"], "nominatedNodeName")),
        readiness_gates(pod),
    ]
}

/// The first address of a pod.
pub(super) fn ip(pod: &Value) -> &str {
    let status = &pod["status"];
    list(status, "podIPs").first().map_or_else(|| text(status, "podIP"), |first| text(first, "ip"))
}

fn has_condition(pod: &Value, type_: &str) -> bool {
    let conditions = list(&pod["status"], "conditions");
    conditions
        .iter()
        .find(|condition| text(condition, "type") == type_)
        .is_some_and(|c| text(c, "status") == "True")
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = list(&pod["spec"], "readinessGates");
    if gates.is_empty() {
        return table::NONE.into();
    }
    let holding = gates.iter().filter(|gate| has_condition(pod, text(gate, "conditionType"))).count();
    format!("{holding}/{}", gates.len()).into()
}

#[derive(Default)]
struct Restarts<'a> {
    count: i64,
    last: Option<&'a str>,
}

impl<'a> Restarts<'a> {
    fn add(&mut self, status: &'a Value) {
        self.count += count(status, "restartCount");
        // Times of one format and zone sort as text.
        let finished = at(status, &["lastState", "terminated", "finishedAt"]).as_str();
        self.last = self.last.max(finished);
    }
}

struct Summary<'a> {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<&'a str>,
}

impl<'a> Summary<'a> {
    fn of(pod: &'a Value) -> Self {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let sidecars: Vec<_> = list(spec, "initContainers")
            .iter()
            .filter(|container| text(container, "restartPolicy") == "Always")
            .map(|container| text(container, "name"))
            .collect();
        let mut summary = Self {
            ready: 0,
            total: list(spec, "containers").len() + sidecars.len(),
            reason: phase_reason(pod).to_owned(),
            restarts: 0,
            last_restart: None,
        };
        let initializing = summary.init_containers(pod, &sidecars);
        if !initializing || has_condition(pod, "Initialized") {
            summary.containers(pod, &sidecars);
        }
        if get(&pod["metadata"], "deletionTimestamp").is_some() {
            if text(status, "reason") == NODE_LOST {
                summary.reason = "Unknown".to_owned();
            } else if !["Failed", "Succeeded"].contains(&text(status, "phase")) {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Looks at init containers up to the one that is at work; says whether there is such a one.
    fn init_containers(&mut self, pod: &'a Value, sidecars: &[&str]) -> bool {
        let mut restarts = Restarts::default();
        let mut initializing = false;
        for (index, status) in list(&pod["status"], "initContainerStatuses").iter().enumerate() {
            restarts.add(status);
            let state = &status["state"];
            let terminated = get(state, "terminated");
            if terminated.is_some_and(|terminated| count(terminated, "exitCode") == 0) {
                continue;
            }
            if sidecars.contains(&text(status, "name")) && flag(status, "started") {
                self.ready += usize::from(flag(status, "ready"));
                continue;
            }
            let waiting = text(&state["waiting"], "reason");
            self.reason = match terminated {
                Some(terminated) => format!("Init:{}", end(terminated)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", list(&pod["spec"], "initContainers").len()),
            };
            initializing = true;
            break;
        }
        (self.restarts, self.last_restart) = (restarts.count, restarts.last);
        initializing
    }

    fn containers(&mut self, pod: &'a Value, sidecars: &[&str]) {
        let mut restarts = Restarts::default();
        let sidecar_statuses = list(&pod["status"], "initContainerStatuses").iter();
        sidecar_statuses
            .filter(|status| sidecars.contains(&text(status, "name")))
            .for_each(|s| restarts.add(s));
        let mut has_running = false;
        for status in list(&pod["status"], "containerStatuses").iter().rev() {
            restarts.add(status);
            let state = &status["state"];
            let waiting = text(&state["waiting"], "reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(terminated) = get(state, "terminated") {
                self.reason = end(terminated);
            } else if flag(status, "ready") && get(state, "running").is_some() {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && has_running {
            self.reason = if has_condition(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
        (self.restarts, self.last_restart) = (restarts.count, restarts.last);
    }
}

fn phase_reason(pod: &Value) -> &str {
    let status = &pod["status"];
    let gated = |condition: &Value| {
        text(condition, "type") == "PodScheduled" && text(condition, "reason") == "SchedulingGated"
    };
    if list(status, "conditions").iter().any(gated) {
        return "SchedulingGated";
    }
    let reason = text(status, "reason");
    if reason.is_empty() { text(status, "phase") } else { reason }
}

/// How a container ended.
fn end(terminated: &Value) -> String {
    let (reason, signal) = (text(terminated, "reason"), count(terminated, "signal"));
    if !reason.is_empty() {
        reason.to_owned()
    } else if signal != 0 {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", count(terminated, "exitCode"))
    }
}

#[cfg(test)]
mod tests {
    use crate::core::pod::kind;
    use crate::testing::row;
    use serde_json::{Value, json};

    fn check(pod: Value, ready: &str, status: &str, restarts: &str) {
        row(
            &kind(),
            pod,
            json!(["x", ready, status, restarts, "75s", "<none>", "<none>", "<none>", "<none>"]),
        );
    }

    fn with(statuses: Value) -> Value {
        json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}, "status": statuses})
    }

    #[test]
    fn the_status_is_what_matters_most() {
        check(with(json!({"phase": "Pending"})), "0/2", "Pending", "0");
        check(with(json!({"phase": "Failed", "reason": "Evicted"})), "0/2", "Evicted", "0");
        let waiting = json!([{"name": "a", "state": {"waiting": {"reason": "ContainerCreating"}}}, {"name": "b", "state": {"running": {}}, "ready": true}]);
        check(
            with(json!({"phase": "Pending", "containerStatuses": waiting})),
            "1/2",
            "ContainerCreating",
            "0",
        );
        let crashed = json!([{"name": "a", "restartCount": 3, "lastState": {"terminated": {"finishedAt": "1970-01-12T13:46:50Z"}},
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]);
        check(
            with(json!({"phase": "Running", "containerStatuses": crashed})),
            "0/2",
            "CrashLoopBackOff",
            "3 (65s ago)",
        );
        let done = json!([{"name": "a", "state": {"terminated": {"reason": "Completed"}}}, {"name": "b", "ready": true, "state": {"running": {}}}]);
        check(with(json!({"phase": "Running", "containerStatuses": done})), "1/2", "NotReady", "0");
        let ready = json!([{"type": "Ready", "status": "True"}]);
        check(
            with(json!({"phase": "Running", "containerStatuses": done, "conditions": ready})),
            "1/2",
            "Running",
            "0",
        );
        let killed = json!([{"name": "a", "state": {"terminated": {"signal": 9, "exitCode": 137}}}]);
        check(with(json!({"phase": "Failed", "containerStatuses": killed})), "0/2", "Signal:9", "0");
        let gated = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]);
        check(with(json!({"phase": "Pending", "conditions": gated})), "0/2", "SchedulingGated", "0");
    }

    #[test]
    fn init_containers_and_sidecars_have_their_turn() {
        let pod = |init: Value| {
            json!({"spec": {"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
            "containers": [{"name": "a"}]}, "status": {"phase": "Pending", "initContainerStatuses": init}})
        };
        check(pod(json!([{"name": "i", "state": {"running": {}}}])), "0/2", "Init:0/2", "0");
        check(
            pod(
                json!([{"name": "i", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]),
            ),
            "0/2",
            "Init:CrashLoopBackOff",
            "2",
        );
        check(
            pod(json!([{"name": "i", "state": {"terminated": {"exitCode": 1}}}])),
            "0/2",
            "Init:ExitCode:1",
            "0",
        );
        let done = json!({"name": "i", "restartCount": 2, "state": {"terminated": {"exitCode": 0}}});
        check(
            pod(json!([done, {"name": "s", "state": {"waiting": {"reason": "PodInitializing"}}}])),
            "0/2",
            "Init:1/2",
            "2",
        );
        let started =
            json!({"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}});
        check(pod(json!([done, started])), "1/2", "Pending", "1");
    }

    #[test]
    fn a_deletion_shows_until_the_end() {
        let mut pod = with(json!({"phase": "Running"}));
        pod["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        check(pod.clone(), "0/2", "Terminating", "0");
        pod["status"] = json!({"phase": "Succeeded"});
        check(pod.clone(), "0/2", "Succeeded", "0");
        pod["status"] = json!({"phase": "Running", "reason": "NodeLost"});
        check(pod, "0/2", "Unknown", "0");
    }

    #[test]
    fn wide_columns_show_where_it_is() {
        let pod = json!({"spec": {"containers": [{}], "nodeName": "n", "readinessGates": [{"conditionType": "g"}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "nominatedNodeName": "m"}});
        row(&kind(), pod, json!(["x", "0/1", "Running", "0", "75s", "10.0.0.1", "n", "m", "0/1"]));
    }
}
