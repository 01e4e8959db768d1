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
            let (paths, resources): (Vec<&Rule>, Vec<&Rule>) =
                list.rules.iter().partition(|rule| !rule.non_resource_urls.is_empty());
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

fn render_resource_rule(rule: &Rule) -> Value {
    let mut rendered =
        json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
    if !rule.resource_names.is_empty() {
        rendered["resourceNames"] = json!(rule.resource_names);
    }
    rendered
}
