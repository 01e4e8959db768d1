//! RuntimeClass: a pod's class exists, says what running it costs beside its containers, and on which nodes it can run.

use super::lookup::object;
use super::{Mutate, Operation, Review, Validate};
use crate::cache::Caches;
use crate::error::ApiResult;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use std::sync::Arc;

const OTHER_OVERHEAD: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
const LONE_OVERHEAD: &str =
    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

/// The plugin.
pub struct RuntimeClass {
    caches: Arc<Caches>,
}

impl RuntimeClass {
    /// Looks classes up in `caches`.
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    /// The class of a pod that names one.
    async fn class(&self, review: &Review<'_>, pod: &Value) -> ApiResult<Option<Value>> {
        let Some(name) = pod["spec"]["runtimeClassName"].as_str() else { return Ok(None) };
        match object(&self.caches, ("node.k8s.io", "runtimeclasses"), "", name).await? {
            Some(class) => Ok(Some(class)),
            None => {
                let message = format!("pod rejected: RuntimeClass {name:?} not found");
                Err(review.forbidden(Some(pod), message))
            }
        }
    }

    async fn establish(&self, review: &Review<'_>, pod: &mut Value) -> ApiResult<()> {
        let Some(class) = self.class(review, pod).await? else { return Ok(()) };
        if let Some(overhead) = fixed(&class) {
            let own = &pod["spec"]["overhead"];
            if !own.is_null() && !same(own, overhead) {
                return Err(review.forbidden(Some(pod), OTHER_OVERHEAD));
            }
            pod["spec"]["overhead"] = overhead.clone();
        }
        let scheduling = &class["scheduling"];
        if let Some(conflict) = select_nodes(&mut pod["spec"], &scheduling["nodeSelector"]) {
            return Err(review.forbidden(Some(pod), conflict));
        }
        let added = scheduling["tolerations"].as_array();
        if let Some(added) = added.filter(|added| !added.is_empty()) {
            let own = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
            pod["spec"]["tolerations"] =
                merged(own.into_iter().chain(added.iter().cloned()).collect()).into();
        }
        Ok(())
    }

    async fn check(&self, review: &Review<'_>, pod: &Value) -> ApiResult<()> {
        let class = self.class(review, pod).await?.unwrap_or_default();
        let own = &pod["spec"]["overhead"];
        let has_own = own.as_object().is_some_and(|own| !own.is_empty());
        match fixed(&class) {
            Some(overhead) if !same(own, overhead) => Err(review.forbidden(Some(pod), OTHER_OVERHEAD)),
            None if has_own => Err(review.forbidden(Some(pod), LONE_OVERHEAD)),
            _ => Ok(()),
        }
    }
}

/// What a class says it costs.
fn fixed(class: &Value) -> Option<&Value> {
    class.get("overhead").filter(|overhead| !overhead.is_null()).map(|overhead| &overhead["podFixed"])
}

/// Whether two lists of amounts are one; an absent one is empty.
fn same(left: &Value, right: &Value) -> bool {
    let empty = Map::new();
    let [left, right] = [left, right].map(|list| list.as_object().unwrap_or(&empty));
    left.len() == right.len() && left.iter().all(|(name, amount)| right.get(name) == Some(amount))
}

/// Adds the class's labels of nodes to the pod's, unless they contradict.
fn select_nodes(spec: &mut Value, selector: &Value) -> Option<String> {
    for (key, wanted) in selector.as_object().into_iter().flatten() {
        let own = spec["nodeSelector"].get(key).and_then(Value::as_str);
        let wanted_text = wanted.as_str().unwrap_or_default();
        if let Some(own) = own.filter(|own| *own != wanted_text) {
            return Some(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted_text}; pod.spec.nodeSelector[{key}] = {own}"
            ));
        }
        spec["nodeSelector"][key] = wanted.clone();
    }
    None
}

/// Tolerations without those that others cover; of equal ones the first stays.
fn merged(all: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for (index, own) in all.iter().enumerate() {
        let later = || all[index + 1..].iter().any(|other| other != own && covers(other, own));
        if !kept.iter().any(|other| covers(other, own)) && !later() {
            kept.push(own.clone());
        }
    }
    kept
}

/// Whether one toleration tolerates all that the other does.
fn covers(wide: &Value, own: &Value) -> bool {
    let field = |toleration: &'_ Value, name: &str| toleration[name].as_str().unwrap_or_default().to_owned();
    let (key, operator, effect) = (field(wide, "key"), field(wide, "operator"), field(wide, "effect"));
    if wide == own {
        return true;
    }
    let every_key = key.is_empty() && operator == "Exists";
    if (key != field(own, "key") && !every_key) || (!effect.is_empty() && effect != field(own, "effect")) {
        return false;
    }
    if let (true, Some(seconds)) = (effect == "NoExecute", wide["tolerationSeconds"].as_i64())
        && own["tolerationSeconds"].as_i64().is_none_or(|own| own > seconds)
    {
        return false;
    }
    match operator.as_str() {
        "Exists" => true,
        _ => field(own, "operator") != "Exists" && field(own, "value") == field(wide, "value"),
    }
}

fn is_new_pod(review: &Review<'_>) -> bool {
    review.is_for("", "pods") && review.operation == Operation::Create
}

impl Mutate for RuntimeClass {
    fn mutate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: &'a mut Value,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(
            async move { if is_new_pod(review) { self.establish(review, object).await } else { Ok(()) } },
        )
    }
}

impl Validate for RuntimeClass {
    fn validate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: Option<&'a Value>,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        Box::pin(async move {
            match object.filter(|_| is_new_pod(review)) {
                Some(pod) => self.check(review, pod).await,
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tolerations_that_others_cover_are_dropped() {
        let narrow = json!({"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"});
        let wide = json!({"key": "a", "operator": "Exists"});
        let short = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let long = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 50});
        let check = |all: &[&Value], expected: &[&Value]| {
            let all = all.iter().map(|own| (*own).clone()).collect();
            assert_eq!(merged(all).iter().collect::<Vec<_>>(), expected);
        };
        check(&[&narrow, &wide], &[&wide]);
        check(&[&wide, &narrow], &[&wide]);
        check(&[&narrow, &narrow], &[&narrow]);
        check(&[&short, &long], &[&long]);
        check(&[&narrow, &short], &[&narrow, &short]);
    }
}
