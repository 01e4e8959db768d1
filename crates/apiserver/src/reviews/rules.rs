//! SelfSubjectRulesReview: what may I do in this namespace?

use crate::authz::Rule;
use crate::error::ApiResult;
use crate::request::Call;
use crate::server::ApiServer;
use crate::virtual_resources::VirtualResource;
use futures_util::future::BoxFuture;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::GroupResource;
use serde_json::{Value, json};
use std::sync::Arc;

/// `selfsubjectrulesreviews`
#[derive(Debug, Clone, Copy)]
pub struct SelfSubjectRules;

impl VirtualResource for SelfSubjectRules {
    fn resource(&self) -> GroupResource {
        GroupResource::new("authorization.k8s.io", "selfsubjectrulesreviews")
    }

    fn create<'a>(
        &'a self,
        server: &'a Arc<ApiServer>,
        call: &'a Call,
        mut object: Value,
    ) -> BoxFuture<'a, ApiResult<Value>> {
        Box::pin(async move {
            let namespace = object["spec"]["namespace"].as_str().unwrap_or_default().to_owned();
            if namespace.is_empty() {
                return Err(ApiError::bad_request("no namespace on request"));
            }
            let list = server.authorizer().rules(&call.user, &namespace).await;
            let (paths, resources) = parted(&list.rules);
            object["status"] = json!({
                "resourceRules": resources.into_iter().map(render_resource_rule).collect::<Vec<Value>>(),
                "nonResourceRules": paths
                    .into_iter()
                    .map(|rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}))
                    .collect::<Vec<Value>>(),
                "incomplete": list.incomplete,
            });
            if !list.evaluation_error.is_empty() {
                object["status"]["evaluationError"] = Value::from(list.evaluation_error);
            }
            Ok(object)
        })
    }
}

/// Rules of paths and rules of resources; one that several bindings give is said once.
fn parted(rules: &[Rule]) -> (Vec<&Rule>, Vec<&Rule>) {
    let mut once: Vec<&Rule> = Vec::new();
    for rule in rules {
        if !once.contains(&rule) {
            once.push(rule);
        }
    }
    once.into_iter().partition(|rule| !rule.non_resource_urls.is_empty())
}

fn render_resource_rule(rule: &Rule) -> Value {
    let mut rendered =
        json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
    if !rule.resource_names.is_empty() {
        rendered["resourceNames"] = json!(rule.resource_names);
    }
    rendered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_bindings_give_is_said_once() {
        let paths = Rule { verbs: vec!["*".into()], non_resource_urls: vec!["*".into()], ..Rule::default() };
        let pods = Rule { verbs: vec!["get".into()], resources: vec!["pods".into()], ..Rule::default() };
        let rules = [paths.clone(), pods.clone(), paths.clone(), pods.clone()];
        assert_eq!(parted(&rules), (vec![&paths], vec![&pods]));
    }
}
