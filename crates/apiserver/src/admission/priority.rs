//! Priority: the priority of a pod, or of a pod group, comes from its class, and nobody sets the number by hand.

use super::{Mutate, Operation, Review, Validate};
use crate::cache::{Caches, Entry};
use crate::error::{ApiResult, stale};
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::sync::Arc;

const GROUP: &str = "scheduling.k8s.io";
const CLASSES: &str = "priorityclasses";
/// These exist as long as the cluster does.
const SYSTEM: [&str; 2] = ["system-cluster-critical", "system-node-critical"];
const DEFAULT_POLICY: &str = "PreemptLowerPriority";

/// The plugin.
pub struct Priority {
    caches: Arc<Caches>,
}

impl Priority {
    /// Looks classes up in `caches`.
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    fn classes(&self) -> Vec<Value> {
        let cache = self.caches.resource(GROUP, CLASSES);
        let entries: Vec<Arc<Entry>> =
            cache.map(|cache| cache.snapshot().0.iter().cloned().collect()).unwrap_or_default();
        let readable = |entry: Arc<Entry>| match entry.object() {
            Ok(class) => Some(class),
            Err(error) => {
                tracing::error!(%error, "a priority class cannot be read");
                None
            }
        };
        entries.into_iter().filter_map(readable).collect()
    }

    /// The class by name, or the global default with the lowest value.
    async fn class_for(&self, name: &str, review: &Review<'_>, pod: &Value) -> ApiResult<Option<Value>> {
        if name.is_empty() {
            let defaults = self.classes().into_iter().filter(|class| class["globalDefault"] == true);
            return Ok(defaults.min_by_key(|class| class["value"].as_i64().unwrap_or(0)));
        }
        let known = || self.caches.get(GROUP, CLASSES, "", name);
        let entry = match known() {
            Some(entry) => Some(entry),
            // It may have been made a moment ago.
            None => {
                self.caches.catch_up().await.map_err(stale)?;
                known()
            }
        };
        match entry {
            Some(entry) => entry.object().map(Some).map_err(crate::error::unreadable),
            None => Err(review.forbidden(Some(pod), format!("no PriorityClass with name {name} was found"))),
        }
    }

    async fn establish(&self, review: &Review<'_>, pod: &mut Value) -> ApiResult<()> {
        let name = pod["spec"]["priorityClassName"].as_str().unwrap_or_default().to_owned();
        let class = self.class_for(&name, review, pod).await?.unwrap_or_default();
        let value = class["value"].as_i64().unwrap_or(0);
        let policy = class["preemptionPolicy"].as_str().unwrap_or(DEFAULT_POLICY);
        let is_pod = review.is_for("", "pods");
        if let Some(message) = contradiction(&pod["spec"], value, policy, is_pod) {
            return Err(review.forbidden(Some(pod), message));
        }
        let spec = &mut pod["spec"];
        spec["priority"] = Value::from(value);
        if is_pod {
            spec["preemptionPolicy"] = Value::from(policy);
        }
        if let Some(name) = class["metadata"]["name"].as_str() {
            spec["priorityClassName"] = Value::from(name);
        }
        Ok(())
    }
}

/// What the pod says of itself and its class says otherwise.
fn contradiction(spec: &Value, value: i64, policy: &str, is_pod: bool) -> Option<String> {
    let whose = if is_pod { "pod" } else { "pod group" };
    let rule = format!("must not be provided in {whose} spec; priority admission controller computed");
    let own = spec["priority"].as_i64().filter(|own| *own != value);
    if let Some(own) = own {
        let message = format!("the integer value of priority ({own}) {rule} {value}");
        return Some(format!("{message} from the given PriorityClass name"));
    }
    // The policy of a pod group is behind a gate of its own.
    let own = spec["preemptionPolicy"].as_str().filter(|own| is_pod && *own != policy)?;
    let message = format!("the string value of PreemptionPolicy ({own}) {rule} {policy}");
    Some(format!("{message} from the given PriorityClass name"))
}

/// A client that does not know these fields keeps them.
fn carry(pod: &mut Value, old: &Value) {
    for field in ["priority", "preemptionPolicy"] {
        if let (true, Some(value)) = (pod["spec"][field].is_null(), old["spec"].get(field)) {
            pod["spec"][field] = value.clone();
        }
    }
}

impl Mutate for Priority {
    fn mutate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: &'a mut Value,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            let is_pod = review.is_for("", "pods");
            match (review.operation, old) {
                (Operation::Create, _) if is_pod || review.is_for(GROUP, "podgroups") => {
                    self.establish(review, object).await
                }
                (Operation::Update, Some(old)) if is_pod => {
                    carry(object, old);
                    Ok(())
                }
                _ => Ok(()),
            }
        })
    }
}

impl Validate for Priority {
    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: Option<&'a Value>,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            match (review.is_for(GROUP, CLASSES), review.operation) {
                (true, Operation::Create | Operation::Update) => self.check_default(review, object).await,
                (true, Operation::Delete) if SYSTEM.contains(&review.name) => {
                    Err(review.forbidden(None, "this is a system priority class and cannot be deleted"))
                }
                _ => Ok(()),
            }
        })
    }
}

impl Priority {
    /// There is one global default at most.
    async fn check_default(&self, review: &Review<'_>, class: Option<&Value>) -> ApiResult<()> {
        let Some(class) = class.filter(|class| class["globalDefault"] == true) else { return Ok(()) };
        self.caches.catch_up().await.map_err(stale)?;
        let own = &class["metadata"]["name"];
        let other = self
            .classes()
            .into_iter()
            .find(|other| other["globalDefault"] == true && other["metadata"]["name"] != *own);
        let Some(other) = other else { return Ok(()) };
        let name = other["metadata"]["name"].as_str().unwrap_or_default();
        let message =
            format!("PriorityClass {name} is already marked as default. Only one default can exist");
        Err(review.forbidden(Some(class), message))
    }
}
