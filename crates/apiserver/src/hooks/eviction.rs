//! `pods/eviction`: a deletion that asks the pod's disruption budget first, and tells in the pod's status what it is.

use super::budget;
use crate::admission::Operation;
use crate::error::{ApiResult, unreadable};
use crate::registry::delete::{check_preconditions, delete_object};
use crate::registry::options::{DeleteOptions, WriteOptions};
use crate::registry::write::{Also, Existing, Step, Transform};
use crate::registry::{Scope, decode_body, read_body};
use crate::request::Query;
use crate::respond::{self, Reply};
use futures_util::future::BoxFuture;
use http::StatusCode;
use nauplius_base::time;
use nauplius_client::transport::Body;
use nauplius_meta::error::{ApiError, Reason, Status};
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::object;
use serde_json::{Value, json};
use std::time::Duration;

/// How often a pod that changes is looked at again, and after which time; upstream's.
const TRIES: usize = 20;
const RETRY: Duration = Duration::from_millis(500);

pub(super) async fn evict(scope: &Scope, body: Body) -> ApiResult<Reply> {
    let write = WriteOptions::of(&scope.call.query, "CreateOptions")?;
    let (bytes, format) = read_body(scope, body).await?;
    let expected = GroupVersionKind::new("policy", "v1", "Eviction");
    let mut eviction = decode_body(scope, &bytes, format, &expected, write.field_validation)?;
    if object::name(&eviction) != scope.name() {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = options(&scope.call.query, &eviction)?;
    let review = scope.review(Operation::Create, scope.name(), options.dry_run, &options.object);
    let admission = &scope.server.config.admission;
    admission.mutate(&review, &mut eviction, None).await?;
    admission.validate(&review, Some(&eviction), None).await?;
    if let Guarded::Yes(pod) = evict_freely(scope, &options).await? {
        evict_guarded(scope, &pod, options).await?;
    }
    let mut status = Status::success(None);
    status.code = StatusCode::CREATED.as_u16();
    Ok(respond::status(&status, &scope.output))
}

/// How the pod is to be deleted: as the body says it, and only tried when the body or the query says so.
fn options(query: &Query, eviction: &Value) -> ApiResult<DeleteOptions> {
    let mut options =
        eviction.get("deleteOptions").filter(|own| own.is_object()).cloned().unwrap_or(json!({}));
    let asked: Vec<&str> = query.all("dryRun").collect();
    let own: Vec<&str> = object::get_strings(&options, &["dryRun"]);
    if own.is_empty() {
        options["dryRun"] = json!(asked);
    } else if !asked.is_empty() && asked != own {
        let message = format!(
            "Non-matching dry-run options in request and content: [{}] and [{}]",
            asked.join(" "),
            own.join(" ")
        );
        return Err(ApiError::Status(Box::new(Status::failure(500, Reason::Unknown, message))));
    }
    DeleteOptions::of(&Query::default(), Some(options))
}

/// Whether budgets have a say.
enum Guarded {
    /// The pod is evicted already.
    No,
    /// About this pod.
    Yes(Value),
}

/// Evicts a pod that is over, that never ran or that is going already: it disrupts nothing.
async fn evict_freely(scope: &Scope, options: &DeleteOptions) -> ApiResult<Guarded> {
    let mut tries = 1;
    loop {
        let pod = newest(scope).await?;
        if !ignores_budgets(&pod) {
            return Ok(Guarded::Yes(pod));
        }
        let mut own = options.clone();
        if own.resource_version.is_none() && may_become_ready(&pod) {
            own.resource_version = Some(object::resource_version(&pod).to_owned());
        }
        match mark_and_delete(scope, own).await {
            Err(error) if error.is_conflict() && options.resource_version.is_none() && tries < TRIES => {
                tries += 1;
                time::sleep(RETRY).await;
            }
            evicted => return evicted.map(|()| Guarded::No),
        }
    }
}

async fn newest(scope: &Scope) -> ApiResult<Value> {
    crate::registry::get::wait(scope, None).await?;
    let pod = scope.resource.cache.get(scope.namespace(), scope.name()).ok_or_else(|| scope.not_found())?;
    pod.object().map_err(unreadable)
}

fn phase(pod: &Value) -> &str {
    object::get_str(pod, &["status", "phase"])
}

fn ignores_budgets(pod: &Value) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed" | "Pending") || object::deletion_timestamp(pod).is_some()
}

/// Whether a pod that may be evicted now may soon be one that a budget guards.
fn may_become_ready(pod: &Value) -> bool {
    !matches!(phase(pod), "Succeeded" | "Failed") && object::deletion_timestamp(pod).is_none()
}

/// Evicts a running pod if its budget, where it has one, allows that.
async fn evict_guarded(scope: &Scope, pod: &Value, mut options: DeleteOptions) -> ApiResult<()> {
    let asked = budget::ask(scope, pod, options.dry_run).await?;
    let budget::Granted::Unhealthy { budget } = asked else { return mark_and_delete(scope, options).await };
    if options.resource_version.is_some() {
        return mark_and_delete(scope, options).await;
    }
    // As long as it is not ready.
    options.resource_version = Some(object::resource_version(pod).to_owned());
    match mark_and_delete(scope, options).await {
        Err(error) if error.is_conflict() => Err(budget::busy(&budget)),
        evicted => evicted,
    }
}

/// The pod is told why it goes before it goes.
async fn mark_and_delete(scope: &Scope, mut options: DeleteOptions) -> ApiResult<()> {
    if !options.dry_run {
        let mut mark = Mark { scope, options: &options };
        let marked = scope.resource.modify(scope.namespace(), scope.name(), &mut mark, false).await?;
        if options.resource_version.is_some() {
            options.resource_version = Some(marked.revision.to_string());
        }
    }
    delete_object(scope, scope.name(), &options).await.map(drop)
}

/// Writes the condition that says so.
struct Mark<'s> {
    scope: &'s Scope,
    options: &'s DeleteOptions,
}

impl Transform for Mark<'_> {
    fn step<'a>(&'a mut self, existing: &'a Existing) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(async move {
            check_preconditions(self.scope, self.scope.name(), self.options, &existing.object)?;
            let mut pod = existing.object.clone();
            mark(&mut pod, time::rfc3339_seconds(time::now()));
            Ok(if pod == existing.object { Step::Keep } else { Step::Write(pod, Also::default()) })
        })
    }
}

fn mark(pod: &mut Value, now: String) {
    let generation = object::generation(pod);
    let mut conditions = object::get_array(pod, &["status", "conditions"]).to_vec();
    let known = conditions.iter().position(|condition| condition["type"] == "DisruptionTarget");
    let since = known
        .map(|at| &conditions[at])
        .filter(|known| known["status"] == "True")
        .map_or_else(|| Value::from(now), |known| known["lastTransitionTime"].clone());
    let mut condition = json!({
        "type": "DisruptionTarget", "status": "True", "lastProbeTime": null, "lastTransitionTime": since,
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
    });
    if generation != 0 {
        condition["observedGeneration"] = generation.into();
    }
    match known {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    object::set(pod, &["status", "conditions"], conditions);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(query: &str, deletion: &Value) -> Result<bool, String> {
        let eviction = json!({"deleteOptions": deletion});
        options(&Query::parse(query), &eviction)
            .map(|options| options.dry_run)
            .map_err(|error| error.message())
    }

    #[test]
    fn an_eviction_is_tried_when_query_or_body_say_so() {
        let grace = json!({"gracePeriodSeconds": 0});
        assert_eq!(tried("", &Value::Null), Ok(false));
        assert_eq!(tried("dryRun=All", &Value::Null), Ok(true));
        assert_eq!(tried("dryRun=All", &grace), Ok(true));
        assert_eq!(tried("", &json!({"dryRun": ["All"]})), Ok(true));
        assert_eq!(tried("dryRun=All", &json!({"dryRun": ["All"]})), Ok(true));
        let other = "Non-matching dry-run options in request and content: [All All] and [All]";
        assert_eq!(tried("dryRun=All&dryRun=All", &json!({"dryRun": ["All"]})), Err(other.to_owned()));
    }

    #[test]
    fn a_pod_is_told_once_that_it_is_evicted() {
        let mut pod = json!({"metadata": {"generation": 2}, "status": {"conditions": [{"type": "Ready"}]}});
        mark(&mut pod, "2026-01-01T00:00:00Z".to_owned());
        let told = pod["status"]["conditions"][1].clone();
        assert_eq!(
            (&told["reason"], &told["observedGeneration"]),
            (&json!("EvictionByEvictionAPI"), &json!(2))
        );
        let before = pod.clone();
        mark(&mut pod, "2027-01-01T00:00:00Z".to_owned());
        assert_eq!(pod, before);
    }
}
