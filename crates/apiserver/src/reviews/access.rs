//! SubjectAccessReview and its two narrower forms: may this user do that?

use super::{extra_of, strings, text};
use crate::authz::{Decision, Verdict};
use crate::error::ApiResult;
use crate::references::items;
use crate::request::{Attributes, Call, RequestInfo, UserInfo};
use crate::server::ApiServer;
use crate::virtual_resources::VirtualResource;
use futures_util::future::BoxFuture;
use nauplius_meta::error::ApiError;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::gvk::{GroupKind, GroupResource};
use serde_json::{Value, json};
use std::sync::Arc;

const GROUP: &str = "authorization.k8s.io";

/// `subjectaccessreviews`
#[derive(Debug, Clone, Copy)]
pub struct SubjectAccess;

/// `selfsubjectaccessreviews`
#[derive(Debug, Clone, Copy)]
pub struct SelfSubjectAccess;

/// `localsubjectaccessreviews`
#[derive(Debug, Clone, Copy)]
pub struct LocalSubjectAccess;

fn invalid(kind: &str, fields: Vec<FieldError>) -> ApiError {
    ApiError::invalid(&GroupKind::new(GROUP, kind), "", fields)
}

/// Exactly one of the two kinds of attributes.
fn check_attributes(spec: &Value) -> Vec<FieldError> {
    let path = Path::new("spec").child("resourceAttributes");
    let null = |key: &str| spec[key].is_null();
    match (null("resourceAttributes"), null("nonResourceAttributes")) {
        (true, true) => vec![FieldError::invalid(
            &path,
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )],
        (false, false) => vec![FieldError::invalid(
            &Path::new("spec").child("nonResourceAttributes"),
            spec["nonResourceAttributes"].clone(),
            "cannot be specified in combination with resourceAttributes",
        )],
        _ => Vec::new(),
    }
}

fn check_subject(spec: &Value) -> Vec<FieldError> {
    if text(spec, "user").is_empty() && strings(&spec["groups"]).is_empty() {
        let path = Path::new("spec").child("user");
        return vec![FieldError::invalid(
            &path,
            spec["user"].clone(),
            "at least one of user or group must be specified",
        )];
    }
    Vec::new()
}

fn subject(spec: &Value) -> UserInfo {
    UserInfo {
        name: text(spec, "user"),
        uid: text(spec, "uid"),
        groups: strings(&spec["groups"]),
        extra: extra_of(&spec["extra"]),
    }
}

fn attributes(user: UserInfo, spec: &Value) -> Attributes {
    let resource = &spec["resourceAttributes"];
    let path = &spec["nonResourceAttributes"];
    let info = if resource.is_null() {
        RequestInfo { verb: text(path, "verb"), path: text(path, "path"), ..RequestInfo::default() }
    } else {
        RequestInfo {
            is_resource: true,
            verb: text(resource, "verb"),
            api_prefix: if text(resource, "group").is_empty() { "api" } else { "apis" }.to_owned(),
            group: text(resource, "group"),
            version: Some(text(resource, "version"))
                .filter(|version| !version.is_empty())
                .unwrap_or("*".to_owned()),
            namespace: text(resource, "namespace"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            name: text(resource, "name"),
            ..RequestInfo::default()
        }
    };
    Attributes {
        user: Arc::new(user),
        info,
        field_selector: selector(&resource["fieldSelector"]),
        label_selector: selector(&resource["labelSelector"]),
    }
}

/// A selector as a query writes it.
fn selector(value: &Value) -> Option<String> {
    if let Some(raw) = value["rawSelector"].as_str() {
        return Some(raw.to_owned());
    }
    let terms: Vec<String> = items(&value["requirements"]).map(term).collect();
    (!terms.is_empty()).then(|| terms.join(","))
}

fn term(requirement: &Value) -> String {
    let (key, values) = (text(requirement, "key"), strings(&requirement["values"]));
    match (text(requirement, "operator").as_str(), values.as_slice()) {
        ("In", [one]) => format!("{key}={one}"),
        ("NotIn", [one]) => format!("{key}!={one}"),
        ("In", _) => format!("{key} in ({})", values.join(",")),
        ("NotIn", _) => format!("{key} notin ({})", values.join(",")),
        ("DoesNotExist", _) => format!("!{key}"),
        _ => key,
    }
}

async fn decide(server: &ApiServer, user: UserInfo, mut review: Value) -> Value {
    let verdict = server.authorizer().authorize(&attributes(user, &review["spec"])).await;
    review["status"] = render(&verdict);
    review
}

fn render(verdict: &Verdict) -> Value {
    let mut status = json!({"allowed": verdict.decision == Decision::Allow});
    if verdict.decision == Decision::Deny {
        status["denied"] = Value::from(true);
    }
    if !verdict.reason.is_empty() {
        status["reason"] = Value::from(verdict.reason.as_str());
    }
    status
}

impl VirtualResource for SubjectAccess {
    fn resource(&self) -> GroupResource {
        GroupResource::new(GROUP, "subjectaccessreviews")
    }

    fn create<'a>(
        &'a self,
        server: &'a Arc<ApiServer>,
        _call: &'a Call,
        object: Value,
    ) -> BoxFuture<'a, ApiResult<Value>> {
        Box::pin(async move {
            let spec = &object["spec"];
            let fields = [check_attributes(spec), check_subject(spec)].concat();
            if !fields.is_empty() {
                return Err(invalid("SubjectAccessReview", fields));
            }
            Ok(decide(server, subject(spec), object).await)
        })
    }
}

impl VirtualResource for SelfSubjectAccess {
    fn resource(&self) -> GroupResource {
        GroupResource::new(GROUP, "selfsubjectaccessreviews")
    }

    fn create<'a>(
        &'a self,
        server: &'a Arc<ApiServer>,
        call: &'a Call,
        object: Value,
    ) -> BoxFuture<'a, ApiResult<Value>> {
        Box::pin(async move {
            let fields = check_attributes(&object["spec"]);
            if !fields.is_empty() {
                return Err(invalid("SelfSubjectAccessReview", fields));
            }
            Ok(decide(server, UserInfo::clone(&call.user), object).await)
        })
    }
}

impl VirtualResource for LocalSubjectAccess {
    fn resource(&self) -> GroupResource {
        GroupResource::new(GROUP, "localsubjectaccessreviews")
    }

    fn create<'a>(
        &'a self,
        server: &'a Arc<ApiServer>,
        call: &'a Call,
        object: Value,
    ) -> BoxFuture<'a, ApiResult<Value>> {
        Box::pin(async move {
            let spec = &object["spec"];
            let mut fields = [check_attributes(spec), check_subject(spec)].concat();
            if !spec["nonResourceAttributes"].is_null() {
                fields.push(FieldError::invalid(
                    &Path::new("spec").child("nonResourceAttributes"),
                    spec["nonResourceAttributes"].clone(),
                    "disallowed on this kind of request",
                ));
            }
            let namespace = text(&spec["resourceAttributes"], "namespace");
            if !spec["resourceAttributes"].is_null() && namespace != call.info.namespace {
                let path = Path::new("spec").child("resourceAttributes").child("namespace");
                fields.push(FieldError::invalid(
                    &path,
                    Value::from(namespace),
                    "must match metadata.namespace",
                ));
            }
            if !fields.is_empty() {
                return Err(invalid("LocalSubjectAccessReview", fields));
            }
            Ok(decide(server, subject(spec), object).await)
        })
    }
}
