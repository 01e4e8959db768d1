//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or not reachable, unless it says otherwise.

use super::{Mutate, Operation, Review};
use crate::error::ApiResult;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefaultTolerationSeconds;

impl Mutate for DefaultTolerationSeconds {
    fn mutate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: &'a mut Value,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        if review.is_for("", "pods") && matches!(review.operation, Operation::Create | Operation::Update) {
            add(&mut object["spec"]);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

fn add(spec: &mut Value) {
    let known = spec["tolerations"].as_array().cloned().unwrap_or_default();
    let missing = TAINTS.iter().filter(|taint| !known.iter().any(|toleration| covers(toleration, taint)));
    let added: Vec<Value> = missing
        .map(|taint| json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}))
        .collect();
    if !added.is_empty() {
        spec["tolerations"] = Value::from([known, added].concat());
    }
}

fn covers(toleration: &Value, taint: &str) -> bool {
    let text = |key: &str| toleration[key].as_str().unwrap_or_default();
    (text("key") == taint || text("key").is_empty())
        && (text("effect") == "NoExecute" || text("effect").is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_only_what_is_not_covered() {
        let mut spec = json!({});
        add(&mut spec);
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
        let whole = spec.clone();
        add(&mut spec);
        assert_eq!(spec, whole);
        let mut all = json!({"tolerations": [{"operator": "Exists"}]});
        add(&mut all);
        assert_eq!(all["tolerations"].as_array().unwrap().len(), 1);
    }
}
