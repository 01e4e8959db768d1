//! TaintNodesByCondition: a new node takes no pods until the node lifecycle controller has seen that it is ready.

use super::{Mutate, Operation, Review};
use crate::error::ApiResult;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

const KEY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeTaint;

/// Adds the taint unless the node says it itself.
fn taint(node: &mut Value) {
    let taints = node["spec"]["taints"].as_array();
    let says_so =
        |taints: &Vec<Value>| taints.iter().any(|taint| taint["key"] == KEY && taint["effect"] == EFFECT);
    if taints.is_some_and(says_so) {
        return;
    }
    let mut taints = taints.cloned().unwrap_or_default();
    taints.push(json!({"key": KEY, "effect": EFFECT}));
    node["spec"]["taints"] = taints.into();
}

impl Mutate for NodeTaint {
    fn mutate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: &'a mut Value,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        if review.is_for("", "nodes") && review.operation == Operation::Create {
            taint(object);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_tainted_once() {
        let check = |spec: Value, expected: Value| {
            let mut node = json!({"spec": spec});
            taint(&mut node);
            assert_eq!(node["spec"]["taints"], expected);
        };
        let own = json!({"key": KEY, "effect": EFFECT});
        let other = json!({"key": KEY, "effect": "NoExecute"});
        check(json!({}), json!([own]));
        check(json!({"taints": [own]}), json!([own]));
        check(json!({"taints": [other]}), json!([other, own]));
    }
}
