//! When each probe of a pod is due, what its results add up to, and what they mean for the container. Pure bookkeeping: others
//! run the probes.

use super::facts;
use super::view::{ContainerState, ContainerView, Observed};
use nauplius_base::time::Timestamp;
use nauplius_kinds::api::core::{Container, Pod, Probe};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Has it come up?
    Startup,
    /// Must it be started anew?
    Liveness,
    /// May it be sent requests?
    Readiness,
}

impl Kind {
    /// As upstream's messages begin.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Startup => "startup",
            Kind::Liveness => "liveness",
            Kind::Readiness => "readiness",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// What one run of a probe said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Well.
    Success,
    /// Well, but there is something to say.
    Warning(String),
    /// Not well, in words.
    Failure(String),
    /// It could not be asked: counts for nothing.
    Unknown(String),
}

/// What the results so far mean, by container id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdicts {
    ready: BTreeMap<String, bool>,
    started: BTreeSet<String>,
    failed: BTreeMap<String, &'static str>,
}

impl Verdicts {
    /// The probe for which the container must be killed.
    pub fn failed(&self, id: &str) -> Option<&'static str> {
        self.failed.get(id).copied()
    }

    /// Whether a running container has come up.
    pub fn started(&self, view: &ContainerView, container: &Container) -> bool {
        container.startup_probe.is_none() || self.started.contains(&view.id)
    }

    /// Whether a running container may be sent requests.
    pub fn ready(&self, view: &ContainerView, container: &Container) -> bool {
        if container.readiness_probe.is_none() {
            return self.started(view, container);
        }
        self.ready.get(&view.id).copied().unwrap_or(false)
    }

    /// Takes over what the API knew of a container that was running before this kubelet was: it does not flap.
    pub fn adopt(&mut self, id: &str, ready: bool, started: bool) {
        self.ready.entry(id.to_owned()).or_insert(ready);
        if started {
            self.started.insert(id.to_owned());
        }
    }

    /// As if a probe had failed.
    #[cfg(test)]
    pub fn fail(&mut self, id: &str, probe: &'static str) {
        self.failed.insert(id.to_owned(), probe);
    }

    fn retain(&mut self, known: &dyn Fn(&str) -> bool) {
        self.ready.retain(|id, _| known(id));
        self.started.retain(|id| known(id));
        self.failed.retain(|id, _| known(id));
    }
}

#[derive(Debug, Clone)]
struct Entry {
    id: String,
    name: String,
    kind: Kind,
    next_at: Timestamp,
    running: bool,
    successes: i32,
    failures: i32,
}

/// A probe to run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The container's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Which probe.
    pub kind: Kind,
}

/// All probes of one pod.
#[derive(Debug, Default)]
pub struct Schedule(Vec<Entry>);

fn seconds(value: Option<i32>, default: i32) -> Duration {
    Duration::from_secs(u64::try_from(value.unwrap_or(default)).unwrap_or(0))
}

fn after(at: Timestamp, delay: Duration) -> Timestamp {
    at.checked_add(delay).unwrap_or(Timestamp::MAX)
}

/// The probe's definition.
pub fn definition<'a>(pod: &'a Pod, name: &str, kind: Kind) -> Option<&'a Probe> {
    kind.of(facts::container(pod, name)?.0)
}

impl Schedule {
    /// Follows what runs: new containers are probed from their initial delay on, gone ones no more.
    pub fn follow(&mut self, pod: &Pod, observed: &Observed, verdicts: &mut Verdicts, now: Timestamp) {
        let running: BTreeMap<&str, &ContainerView> = observed
            .containers
            .iter()
            .filter(|view| view.state == ContainerState::Running)
            .map(|view| (view.id.as_str(), view))
            .collect();
        self.0.retain(|entry| running.contains_key(entry.id.as_str()));
        verdicts.retain(&|id| running.contains_key(id));
        for view in running.values() {
            for kind in [Kind::Startup, Kind::Liveness, Kind::Readiness] {
                let Some(probe) = definition(pod, &view.name, kind) else { continue };
                if self.0.iter().any(|entry| entry.id == view.id && entry.kind == kind) {
                    continue;
                }
                if kind == Kind::Startup && verdicts.started.contains(&view.id) {
                    continue;
                }
                let delay = seconds(probe.initial_delay_seconds, 0);
                // The runtime's clock may have jumped: never later than from now on.
                let first = after(super::step::nanos(view.started_at), delay).min(after(now, delay));
                self.0.push(Entry {
                    id: view.id.clone(),
                    name: view.name.clone(),
                    kind,
                    next_at: first.max(now),
                    running: false,
                    successes: 0,
                    failures: 0,
                });
            }
        }
    }

    fn waits_for_startup(&self, entry: &Entry) -> bool {
        entry.kind != Kind::Startup
            && self.0.iter().any(|other| other.id == entry.id && other.kind == Kind::Startup)
    }

    fn may_run(&self, entry: &Entry, verdicts: &Verdicts) -> bool {
        !entry.running && !self.waits_for_startup(entry) && verdicts.failed(&entry.id).is_none()
    }

    /// When the next probe is due.
    pub fn next_at(&self, verdicts: &Verdicts) -> Option<Timestamp> {
        self.0.iter().filter(|entry| self.may_run(entry, verdicts)).map(|entry| entry.next_at).min()
    }

    /// Takes out what is due. Each is to be reported.
    pub fn due(&mut self, verdicts: &Verdicts, now: Timestamp) -> Vec<Due> {
        let due: Vec<usize> = (0..self.0.len())
            .filter(|&index| self.0[index].next_at <= now && self.may_run(&self.0[index], verdicts))
            .collect();
        due.into_iter()
            .map(|index| {
                let entry = &mut self.0[index];
                entry.running = true;
                Due { id: entry.id.clone(), name: entry.name.clone(), kind: entry.kind }
            })
            .collect()
    }

    /// Counts an answer.
    pub fn report(&mut self, due: &Due, answer: &Answer, pod: &Pod, verdicts: &mut Verdicts, now: Timestamp) {
        let Some(probe) = definition(pod, &due.name, due.kind) else { return };
        let Some(index) = self.0.iter().position(|entry| entry.id == due.id && entry.kind == due.kind) else {
            return;
        };
        let entry = &mut self.0[index];
        entry.running = false;
        entry.next_at = after(now, seconds(probe.period_seconds, 10).max(Duration::from_secs(1)));
        match answer {
            Answer::Success | Answer::Warning(_) => {
                (entry.successes, entry.failures) = (entry.successes + 1, 0);
            }
            Answer::Failure(_) => (entry.successes, entry.failures) = (0, entry.failures + 1),
            Answer::Unknown(_) => return,
        }
        let passed = entry.successes >= probe.success_threshold.unwrap_or(1);
        let failed = entry.failures >= probe.failure_threshold.unwrap_or(3);
        match due.kind {
            Kind::Readiness if passed || failed => {
                verdicts.ready.insert(due.id.clone(), passed);
            }
            Kind::Startup if passed => {
                verdicts.started.insert(due.id.clone());
                self.0.remove(index);
            }
            Kind::Startup | Kind::Liveness if failed => {
                verdicts.failed.insert(due.id.clone(), due.kind.word());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_kinds::Object;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn startup_gates_and_thresholds_count() {
        let pod = Pod::decode(
            br#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c",
            "startupProbe":{"periodSeconds":1,"failureThreshold":2,"exec":{"command":["a"]}},
            "readinessProbe":{"periodSeconds":5,"failureThreshold":2,"exec":{"command":["b"]}}}]}}"#,
        )
        .unwrap();
        let view = crate::pod::testing::running("c", 0, 100);
        let observed = Observed { sandboxes: Vec::new(), containers: vec![view.clone()] };
        let (mut schedule, mut verdicts) = (Schedule::default(), Verdicts::default());
        schedule.follow(&pod, &observed, &mut verdicts, at(100));
        let due = schedule.due(&verdicts, at(100));
        assert_eq!(due.iter().map(|due| due.kind).collect::<Vec<_>>(), [Kind::Startup]);
        schedule.report(&due[0], &Answer::Failure("no".to_owned()), &pod, &mut verdicts, at(100));
        assert_eq!(schedule.next_at(&verdicts), Some(at(101)));
        let due = schedule.due(&verdicts, at(101));
        schedule.report(&due[0], &Answer::Success, &pod, &mut verdicts, at(101));
        let container = &facts::spec(&pod).containers[0];
        assert!(verdicts.started(&view, container) && !verdicts.ready(&view, container));
        let due = schedule.due(&verdicts, at(101));
        assert_eq!(due[0].kind, Kind::Readiness);
        schedule.report(&due[0], &Answer::Success, &pod, &mut verdicts, at(101));
        assert!(verdicts.ready(&view, container));
        for (time, ready) in [(106, true), (111, false)] {
            let due = schedule.due(&verdicts, at(time));
            schedule.report(&due[0], &Answer::Failure("x".to_owned()), &pod, &mut verdicts, at(time));
            assert_eq!(verdicts.ready(&view, container), ready);
        }
        schedule.follow(&pod, &observed, &mut verdicts, at(112));
        assert!(schedule.due(&verdicts, at(112)).is_empty());
    }
}
