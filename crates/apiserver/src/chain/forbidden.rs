//! The words of a 403.

use crate::request::Attributes;
use nauplius_meta::error::ApiError;
use nauplius_meta::field::quote;
use nauplius_meta::gvk::GroupResource;

/// The refusal of what `attributes` ask for.
pub(super) fn error(attributes: &Attributes, reason: &str) -> ApiError {
    let info = &attributes.info;
    let mut message = message(attributes);
    if !reason.is_empty() {
        message = format!("{message}: {reason}");
    }
    if !info.is_resource {
        return ApiError::forbidden(&GroupResource::new("", ""), "", message);
    }
    ApiError::forbidden(
        &GroupResource::new(info.group.as_str(), info.resource.as_str()),
        info.name.as_str(),
        message,
    )
}

fn message(attributes: &Attributes) -> String {
    let info = &attributes.info;
    let user = quote(&attributes.user.name);
    let verb = &info.verb;
    if !info.is_resource {
        return format!("User {user} cannot {verb} path {}", quote(&info.path));
    }
    let resource = match info.subresource.as_str() {
        "" => info.resource.clone(),
        subresource => format!("{}/{subresource}", info.resource),
    };
    let (resource, group) = (quote(&resource), quote(&info.group));
    if info.namespace.is_empty() {
        format!("User {user} cannot {verb} resource {resource} in API group {group} at the cluster scope")
    } else {
        let namespace = quote(&info.namespace);
        format!(
            "User {user} cannot {verb} resource {resource} in API group {group} in the namespace {namespace}"
        )
    }
}
