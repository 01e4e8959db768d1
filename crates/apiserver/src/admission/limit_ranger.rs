//! LimitRanger: what the containers of a namespace ask for where they do not say it, and the bounds of what pods and claims may ask
//! for. Every limit range of the namespace has its say, one after the other.

use super::lookup::objects;
use super::{Mutate, Operation, Review, Validate};
use crate::cache::Caches;
use crate::error::{ApiResult, stale};
use futures_util::future::BoxFuture;
use nauplius_base::time::monotonic;
use nauplius_kinds::{Resources, pod_totals, resource_list};
use nauplius_meta::quantity::Quantity;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// The lists of containers, and how the annotation calls each one.
const CONTAINERS: [(&str, &str); 2] = [("containers", "container"), ("initContainers", "init container")];

/// For how long a namespace that was surely without limits is believed to be so when the cache has none; upstream's time.
const BELIEF: Duration = Duration::from_secs(30);
/// How many namespaces are remembered.
const MAX_REMEMBERED: usize = 10_000;

/// The plugin.
pub struct LimitRanger {
    caches: Arc<Caches>,
    /// Namespaces that had none, and when.
    empty: Mutex<HashMap<String, Instant>>,
}

impl LimitRanger {
    /// Looks limit ranges up in `caches`.
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches, empty: Mutex::default() }
    }

    fn was_empty(&self, namespace: &str) -> bool {
        let empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        empty.get(namespace).is_some_and(|since| monotonic().saturating_duration_since(*since) < BELIEF)
    }

    fn remember(&self, namespace: &str) {
        let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        if empty.len() >= MAX_REMEMBERED {
            empty.clear();
        }
        empty.insert(namespace.to_owned(), monotonic());
    }

    /// The limits of the namespace, also those made a moment ago.
    async fn limits(&self, namespace: &str) -> ApiResult<Vec<Vec<Value>>> {
        let known = || objects(&self.caches, "", "limitranges", namespace);
        let mut ranges = known();
        if ranges.is_empty() && !self.was_empty(namespace) {
            self.caches.catch_up().await.map_err(stale)?;
            ranges = known();
            if ranges.is_empty() {
                self.remember(namespace);
            }
        }
        let items = |range: &Value| range["spec"]["limits"].as_array().cloned().unwrap_or_default();
        Ok(ranges.iter().map(items).collect())
    }

    async fn check(&self, review: &Review<'_>, object: &Value) -> ApiResult<()> {
        for limits in self.limits(review.namespace).await? {
            let problems = match review.resource.resource.as_str() {
                "pods" => pod_problems(&limits, object),
                _ => claim_problems(&limits, object),
            };
            match problems.as_slice() {
                [] => {}
                [problem] => return Err(review.forbidden(Some(object), problem)),
                problems => return Err(review.forbidden(Some(object), format!("[{}]", problems.join(", ")))),
            }
        }
        Ok(())
    }
}

/// Whether limits have a say: containers of a pod stay what they were, unless they are resized.
fn is_bounded(review: &Review<'_>) -> bool {
    let of_core = |resource: &str| review.resource.group.is_empty() && review.resource.resource == resource;
    match review.operation {
        Operation::Create => review.is_for("", "pods") || review.is_for("", "persistentvolumeclaims"),
        Operation::Update => {
            review.is_for("", "persistentvolumeclaims") || (of_core("pods") && review.subresource == "resize")
        }
        Operation::Delete | Operation::Connect => false,
    }
}

/// Gives containers what they do not say themselves, and notes that on the pod.
fn set_defaults(limits: &[Value], pod: &mut Value) {
    let (mut requests, mut most) = (Map::new(), Map::new());
    for limit in limits.iter().filter(|limit| limit["type"] == "Container") {
        requests.extend(limit["defaultRequest"].as_object().cloned().unwrap_or_default());
        most.extend(limit["default"].as_object().cloned().unwrap_or_default());
    }
    let mut notes = Vec::new();
    for (list, called) in CONTAINERS {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (key, word, amounts) in [("requests", "request", &requests), ("limits", "limit", &most)] {
                let set = add_missing(&mut container["resources"], key, amounts);
                if !set.is_empty() {
                    notes.push(format!("{} {word} for {called} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod["metadata"]["annotations"][ANNOTATION] = note.into();
    }
}

/// Adds the amounts that are not there; their names, in order.
fn add_missing(resources: &mut Value, key: &str, amounts: &Map<String, Value>) -> Vec<String> {
    let missing: Vec<_> = amounts.iter().filter(|(name, _)| resources[key].get(name).is_none()).collect();
    let mut names: Vec<String> = missing.iter().map(|(name, _)| (*name).clone()).collect();
    names.sort();
    if missing.is_empty() {
        return names;
    }
    if !resources.is_object() {
        *resources = json!({});
    }
    for (name, amount) in missing {
        resources[key][name] = amount.clone();
    }
    names
}

fn pod_problems(limits: &[Value], pod: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for limit in limits {
        match limit["type"].as_str() {
            Some("Container") => {
                let lists = CONTAINERS.iter().filter_map(|(list, _)| pod["spec"][*list].as_array());
                for container in lists.flatten() {
                    let resources = &container["resources"];
                    let [requests, most] = ["requests", "limits"].map(|key| resource_list(&resources[key]));
                    bounds(limit, &requests, &most, &mut problems);
                }
            }
            Some("Pod") => {
                let (requests, most) = pod_totals(&pod["spec"]);
                bounds(limit, &requests, &most, &mut problems);
            }
            _ => {}
        }
    }
    problems
}

/// A claim has only requests.
fn claim_problems(limits: &[Value], claim: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let requests = resource_list(&claim["spec"]["resources"]["requests"]);
    for limit in limits.iter().filter(|limit| limit["type"] == "PersistentVolumeClaim") {
        let bound = Bound { type_: "PersistentVolumeClaim", requests: &requests, limits: &Resources::new() };
        let each = |key: &str| resource_list(&limit[key]);
        problems.extend(each("min").iter().filter_map(|(name, least)| bound.least(name, least)));
        problems.extend(each("max").iter().filter_map(|(name, most)| bound.most_requested(name, most)));
    }
    problems
}

fn bounds(limit: &Value, requests: &Resources, limits: &Resources, problems: &mut Vec<String>) {
    let bound = Bound { type_: limit["type"].as_str().unwrap_or_default(), requests, limits };
    let each = |key: &str| resource_list(&limit[key]);
    problems.extend(each("min").iter().filter_map(|(name, least)| bound.least(name, least)));
    problems.extend(each("max").iter().filter_map(|(name, most)| bound.most(name, most)));
    let ratios = each("maxLimitRequestRatio");
    problems.extend(ratios.iter().filter_map(|(name, ratio)| bound.ratio(name, ratio)));
}

/// What is asked for, and as what.
struct Bound<'a> {
    type_: &'a str,
    requests: &'a Resources,
    limits: &'a Resources,
}

impl Bound<'_> {
    fn least(&self, name: &str, least: &Quantity) -> Option<String> {
        let rule = format!("minimum {name} usage per {} is {}", self.type_, least.canonical());
        let Some(request) = self.requests.get(name) else {
            return Some(format!("{rule}.  No request is specified"));
        };
        if request < least {
            return Some(format!("{rule}, but request is {}", request.canonical()));
        }
        let limit = self.limits.get(name).filter(|limit| *limit < least)?;
        Some(format!("{rule}, but limit is {}", limit.canonical()))
    }

    fn most(&self, name: &str, most: &Quantity) -> Option<String> {
        let rule = format!("maximum {name} usage per {} is {}", self.type_, most.canonical());
        let Some(limit) = self.limits.get(name) else {
            return Some(format!("{rule}.  No limit is specified"));
        };
        if limit > most {
            return Some(format!("{rule}, but limit is {}", limit.canonical()));
        }
        let request = self.requests.get(name).filter(|request| *request > most)?;
        Some(format!("{rule}, but request is {}", request.canonical()))
    }

    fn most_requested(&self, name: &str, most: &Quantity) -> Option<String> {
        let rule = format!("maximum {name} usage per {} is {}", self.type_, most.canonical());
        let Some(request) = self.requests.get(name) else {
            return Some(format!("{rule}.  No request is specified"));
        };
        (request > most).then(|| format!("{rule}, but request is {}", request.canonical()))
    }

    fn ratio(&self, name: &str, most: &Quantity) -> Option<String> {
        let rule = format!("{name} max limit to request ratio per {} is {}", self.type_, most.canonical());
        let amount = |list: &Resources| list.get(name).map(Quantity::as_f64).filter(|amount| *amount != 0.0);
        let Some(request) = amount(self.requests) else {
            return Some(format!("{rule}, but no request is specified or request is 0"));
        };
        let Some(limit) = amount(self.limits) else {
            return Some(format!("{rule}, but no limit is specified or limit is 0"));
        };
        let ratio = limit / request;
        (ratio > most.as_f64()).then(|| format!("{rule}, but provided ratio is {ratio:.6}"))
    }
}

impl Mutate for LimitRanger {
    fn mutate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: &'a mut Value,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            if is_bounded(review) && review.resource.resource == "pods" {
                for limits in self.limits(review.namespace).await? {
                    set_defaults(&limits, object);
                }
            }
            Ok(())
        })
    }
}

impl Validate for LimitRanger {
    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: Option<&'a Value>,
        old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            let is_going = old.is_some_and(|old| !old["metadata"]["deletionTimestamp"].is_null());
            match object.filter(|_| is_bounded(review) && !is_going) {
                Some(object) => self.check(review, object).await,
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"metadata": {}, "spec": {"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "100m"}}},
            {"name": "b"},
        ]}})
    }

    #[test]
    fn what_containers_do_not_say_is_set() {
        let limits = [json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"},
            "defaultRequest": {"cpu": "500m"}})];
        let mut pod = pod();
        set_defaults(&limits, &mut pod);
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu, memory limit for container a; cpu request for container b; cpu, memory limit for container b"
        );
        let resources = &pod["spec"]["containers"][1]["resources"];
        assert_eq!(*resources, json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "memory": "1Gi"}}));
        assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"], json!({"cpu": "100m"}));
    }

    #[test]
    fn bounds_speak_as_upstreams() {
        let check = |limit: Value, expected: &[&str]| {
            assert_eq!(pod_problems(std::slice::from_ref(&limit), &pod()), expected, "{limit}");
        };
        check(
            json!({"type": "Container", "min": {"cpu": "200m"}}),
            &[
                "minimum cpu usage per Container is 200m, but request is 100m",
                "minimum cpu usage per Container is 200m.  No request is specified",
            ],
        );
        check(
            json!({"type": "Pod", "max": {"cpu": "50m"}}),
            &["maximum cpu usage per Pod is 50m.  No limit is specified"],
        );
        check(
            json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "2"}}),
            &["cpu max limit to request ratio per Pod is 2, but no limit is specified or limit is 0"],
        );
        let claim = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
        let limits =
            [json!({"type": "PersistentVolumeClaim", "min": {"storage": "3Gi"}, "max": {"storage": "1Gi"}})];
        assert_eq!(
            claim_problems(&limits, &claim),
            [
                "minimum storage usage per PersistentVolumeClaim is 3Gi, but request is 2Gi",
                "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi",
            ]
        );
    }
}
