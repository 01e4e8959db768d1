//! Keeps the node alive when it runs short: what is short becomes a condition of the node, images that nobody uses go, and pods are
//! ended in upstream's order. What is decided is pure (`signal`, `judge`, `rank`, `local`); `housekeeping` looks and acts.

mod housekeeping;
mod judge;
mod local;
mod observe;
mod rank;
pub mod signal;

pub use housekeeping::run;
pub use signal::Settings;

use crate::pod::facts;
use nauplius_kinds::api::core::Pod;
use nauplius_kinds::pod::qos_class;

/// What the node is short of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Room or inodes on a disk.
    pub disk: bool,
    /// Process ids.
    pub pid: bool,
}

/// One thing that the node is short of, or was until a moment ago, for which it has a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// `DiskPressure`, ...
    pub condition: &'static str,
    /// `nodefs.available`, ...
    pub signal: &'static str,
    /// Less than this is too little, as the flags have it: `1Gi`, `5%`.
    pub limit: String,
    /// Whether it is so now; conditions stay a while after their cause has gone.
    pub lasts: bool,
    /// Whether the threshold is a hard one.
    pub is_hard: bool,
}

/// A pod that is to end for the node's sake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// The pod.
    pub uid: String,
    /// What its status says.
    pub message: String,
    /// The seconds it gets at most.
    pub grace_s: i64,
}

impl Pressure {
    /// The conditions, as upstream lists them.
    fn names(self) -> String {
        let all = [(self.memory, "MemoryPressure"), (self.disk, "DiskPressure"), (self.pid, "PIDPressure")];
        let holding = all.iter().filter(|(holds, _)| *holds).map(|(_, name)| *name);
        format!("[{}]", holding.collect::<Vec<_>>().join(" "))
    }

    /// Why a pod that has not begun may not begin now.
    pub fn refusal(self, pod: &Pod) -> Option<String> {
        if self == Self::default() || is_critical(pod) {
            return None;
        }
        let only_memory = self.memory && !self.disk && !self.pid;
        let tolerated = || {
            facts::spec(pod).tolerations.iter().flatten().any(|toleration| {
                let key = toleration.key.as_deref().unwrap_or_default();
                let any_effect = toleration.effect.as_deref().unwrap_or_default();
                (key == "node.kubernetes.io/memory-pressure"
                    || (key.is_empty() && toleration.operator.as_deref() == Some("Exists")))
                    && matches!(any_effect, "" | "NoSchedule")
            })
        };
        if only_memory && (qos_class(pod) != "BestEffort" || tolerated()) {
            return None;
        }
        Some(format!("The node had condition: {}. ", self.names()))
    }
}

/// Whether the node cannot do without it.
pub fn is_critical(pod: &Pod) -> bool {
    const CRITICAL: i32 = 2_000_000_000;
    nauplius_kinds::pod::is_mirror(pod)
        || facts::spec(pod).priority.is_some_and(|priority| priority >= CRITICAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_kinds::Object;

    #[test]
    fn who_may_begin_under_pressure() {
        let memory = Pressure { memory: true, ..Pressure::default() };
        let both = Pressure { disk: true, ..memory };
        let plain = r#"{"containers":[{"name":"c"}]}"#;
        let asking = r#"{"containers":[{"name":"c","resources":{"requests":{"memory":"1Mi"}}}]}"#;
        let tolerant = r#"{"containers":[{"name":"c"}],"tolerations":[
            {"key":"node.kubernetes.io/memory-pressure","operator":"Exists","effect":"NoSchedule"}]}"#;
        let critical = r#"{"containers":[{"name":"c"}],"priority":2000001000}"#;
        for (spec, pressure, refusal) in [
            (plain, Pressure::default(), None),
            (plain, memory, Some("The node had condition: [MemoryPressure]. ")),
            (asking, memory, None),
            (tolerant, memory, None),
            (critical, both, None),
            (asking, both, Some("The node had condition: [MemoryPressure DiskPressure]. ")),
        ] {
            let pod =
                Pod::decode(format!(r#"{{"metadata":{{"name":"p"}},"spec":{spec}}}"#).as_bytes()).unwrap();
            assert_eq!(pressure.refusal(&pod).as_deref(), refusal, "{spec}");
        }
    }
}
