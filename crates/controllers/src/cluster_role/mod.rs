//! Cluster roles that aggregate others hold the rules of all that their selectors find.

use crate::context::Context;
use nauplius_base::time::Timestamp;
use nauplius_kinds::api::rbac::PolicyRule;
use nauplius_kinds::{ClusterRole, Object, labels};
use nauplius_reconcile::{Action, Controller, Informer, Key, Plan, Queue};
use std::sync::Arc;

const WORKERS: usize = 1;

struct ClusterRoles(Informer<ClusterRole>);

struct View {
    role: Arc<ClusterRole>,
    /// The roles that its selectors find, by name.
    parts: Vec<Arc<ClusterRole>>,
}

pub(crate) fn start(context: &Context) {
    let queue = Queue::new();
    let (roles, keys) = (context.cluster_roles.clone(), queue.clone());
    context.cluster_roles.on_change(move |_| {
        let roles = roles.snapshot();
        let aggregating = roles.iter().filter(|role| role.aggregation_rule.is_some());
        aggregating.for_each(|role| keys.add(Key::of(&**role)));
    });
    let controller = ClusterRoles(context.cluster_roles.clone());
    context.control(controller, &queue, WORKERS, |driver| driver.sees(&context.cluster_roles));
}

impl Controller for ClusterRoles {
    type View = View;
    const NAME: &'static str = "clusterrole-aggregation-controller";
    const QUEUE: &'static str = "ClusterRoleAggregator";

    fn view(&self, key: &Key) -> Option<View> {
        let roles = self.0.snapshot();
        let role = Arc::clone(roles.get(key)?);
        let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.clone().unwrap_or_default();
        let selected = |part: &&Arc<ClusterRole>| {
            let labels = part.metadata.labels.clone().unwrap_or_default();
            part.name() != role.name() && selectors.iter().any(|selector| labels::selects(selector, &labels))
        };
        let parts = roles.iter().filter(selected).cloned().collect();
        Some(View { role, parts })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        plan(view)
    }
}

fn plan(view: &View) -> Plan {
    let mut plan = Plan::nothing();
    let rules = rules(&view.parts);
    if rules != view.role.rules.clone().unwrap_or_default() {
        let mut role = ClusterRole::clone(&view.role);
        role.rules = Some(rules);
        plan.act(Action::update(&role));
    }
    plan
}

/// In the order of the roles' names, each rule once.
fn rules(parts: &[Arc<ClusterRole>]) -> Vec<PolicyRule> {
    let mut sorted: Vec<_> = parts.iter().collect();
    sorted.sort_by(|one, other| one.name().cmp(other.name()));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in sorted.iter().flat_map(|part| part.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, trace};
    use serde_json::json;

    #[test]
    fn rules_are_gathered_once_each_and_in_order() {
        let part = |name: &str, verb: &str| {
            let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": [verb]});
            object::<ClusterRole>(json!({"metadata": {"name": name}, "rules": [rule]}))
        };
        let role = object(json!({"metadata": {"name": "admin"}, "aggregationRule": {}}));
        let mut view = View { role, parts: vec![part("b", "get"), part("a", "list"), part("c", "get")] };
        assert_eq!(trace(&plan(&view)).len(), 1);
        let gathered = rules(&view.parts);
        assert_eq!(gathered.iter().map(|rule| rule.verbs[0].as_str()).collect::<Vec<_>>(), ["list", "get"]);
        let mut role = ClusterRole::clone(&view.role);
        role.rules = Some(gathered);
        view.role = Arc::new(role);
        view.parts.reverse();
        assert_eq!(plan(&view), Plan::nothing());
    }
}
