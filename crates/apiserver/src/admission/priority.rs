//! Priority: a pod's priority comes from its class, and nobody sets the number by hand.

use super::{Mutate, Operation, Review, Validate};
use crate::cache::{Caches, Entry};
use crate::error::ApiResult;
use futures_util::future::BoxFuture;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::GroupResource;
use serde_json::Value;
use std::sync::Arc;

const GROUP: &str = "scheduling.k8s.io";
const CLASSES: &str = "priorityclasses";

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
    fn class_for(&self, name: &str, review: &Review<'_>) -> ApiResult<Option<Value>> {
        if name.is_empty() {
            let defaults = self.classes().into_iter().filter(|class| class["globalDefault"] == true);
            return Ok(defaults.min_by_key(|class| class["value"].as_i64().unwrap_or(0)));
        }
        match self.caches.get(GROUP, CLASSES, "", name) {
            Some(entry) => entry.object().map(Some).map_err(crate::error::unreadable),
            None => Err(refuse(review, &format!("no PriorityClass with name {name} was found"))),
        }
    }

    fn set(&self, review: &Review<'_>, pod: &mut Value, old: Option<&Value>) -> ApiResult<()> {
        let spec = &mut pod["spec"];
        if review.operation == Operation::Update {
            if let Some(priority) = old.and_then(|old| old["spec"].get("priority"))
                && spec["priority"].is_null()
            {
                spec["priority"] = priority.clone();
            }
            return Ok(());
        }
        let name = spec["priorityClassName"].as_str().unwrap_or_default().to_owned();
        let class = self.class_for(&name, review)?;
        let value = class.as_ref().and_then(|class| class["value"].as_i64()).unwrap_or(0);
        if spec["priority"].as_i64().is_some_and(|wanted| wanted != value) {
            let message = format!(
                "the integer value of priority ({}) must not be provided in pod spec; priority admission controller \
                 computed {value} from the given PriorityClass name",
                spec["priority"]
            );
            return Err(refuse(review, &message));
        }
        spec["priority"] = Value::from(value);
        let policy = class.as_ref().and_then(|class| class["preemptionPolicy"].as_str());
        let policy = policy.unwrap_or("PreemptLowerPriority");
        match spec["preemptionPolicy"].as_str() {
            Some(wanted) if wanted != policy => Err(refuse(
                review,
                &format!(
                    "the string value of PreemptionPolicy ({wanted}) must not be provided in pod spec; priority admission \
                     controller computed {policy} from the given PriorityClass name"
                ),
            )),
            _ => {
                spec["preemptionPolicy"] = Value::from(policy);
                if let (true, Some(class)) = (name.is_empty(), &class) {
                    spec["priorityClassName"] = class["metadata"]["name"].clone();
                }
                Ok(())
            }
        }
    }
}

fn refuse(review: &Review<'_>, message: &str) -> ApiError {
    ApiError::Forbidden {
        resource: GroupResource::new(review.resource.group.as_str(), review.resource.resource.as_str()),
        name: review.name.to_owned(),
        message: message.to_owned(),
    }
}

impl Mutate for Priority {
    fn mutate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: &'a mut Value,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        let applies =
            review.is_for("", "pods") && matches!(review.operation, Operation::Create | Operation::Update);
        let outcome = if applies { self.set(review, object, old) } else { Ok(()) };
        Box::pin(std::future::ready(outcome))
    }
}

impl Validate for Priority {
    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: Option<&'a Value>,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(std::future::ready(self.check_default(review, object)))
    }
}

impl Priority {
    /// There is one global default at most.
    fn check_default(&self, review: &Review<'_>, class: Option<&Value>) -> ApiResult<()> {
        let Some(class) = class.filter(|_| review.is_for(GROUP, CLASSES)) else { return Ok(()) };
        if class["globalDefault"] != true {
            return Ok(());
        }
        let own = &class["metadata"]["name"];
        let other = self
            .classes()
            .into_iter()
            .find(|other| other["globalDefault"] == true && other["metadata"]["name"] != *own);
        match other {
            Some(other) => Err(refuse(
                review,
                &format!(
                    "PriorityClass {} is already marked as default. Only one default can exist",
                    other["metadata"]["name"].as_str().unwrap_or_default()
                ),
            )),
            None => Ok(()),
        }
    }
}
