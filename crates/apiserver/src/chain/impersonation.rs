//! Acting as someone else: the `Impersonate-*` headers, each part of which needs the `impersonate` verb.

use super::authorize;
use crate::request::{ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, Attributes, RequestInfo, UserInfo};
use crate::server::ApiServer;
use http::HeaderMap;
use http::request::Parts;
use nauplius_meta::error::ApiError;
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::sync::Arc;

const EXTRA: &str = "impersonate-extra-";

struct Wish {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// The user that the request acts as.
pub(super) async fn apply(
    server: &ApiServer,
    user: Arc<UserInfo>,
    parts: &Parts,
) -> Result<Arc<UserInfo>, ApiError> {
    let Some(wish) = wish(&parts.headers)? else { return Ok(user) };
    for (group, resource, subresource, namespace, name) in checks(&wish) {
        let info = RequestInfo {
            is_resource: true,
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            subresource,
            namespace,
            name,
            ..RequestInfo::default()
        };
        let attributes =
            Attributes { user: Arc::clone(&user), info, field_selector: None, label_selector: None };
        authorize(server, &attributes).await?;
    }
    Ok(Arc::new(become_user(wish)))
}

fn text(headers: &HeaderMap, name: &str) -> Result<String, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(String::new()) };
    let value = value.to_str().map_err(|_| ApiError::bad_request(format!("header {name} is not text")))?;
    Ok(value.to_owned())
}

fn wish(headers: &HeaderMap) -> Result<Option<Wish>, ApiError> {
    let name = text(headers, "impersonate-user")?;
    let uid = text(headers, "impersonate-uid")?;
    let mut groups = Vec::new();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        let read = || {
            let text = value.to_str().map(str::to_owned);
            text.map_err(|_| ApiError::bad_request(format!("header {header} is not text")))
        };
        if header.as_str() == "impersonate-group" {
            groups.push(read()?);
        } else if let Some(key) = header.as_str().strip_prefix(EXTRA) {
            let key = percent_decode_str(key).decode_utf8_lossy().to_ascii_lowercase();
            extra.entry(key).or_default().push(read()?);
        }
    }
    if name.is_empty() {
        let partial = !uid.is_empty() || !groups.is_empty() || !extra.is_empty();
        let message = "requested impersonation without impersonating a user";
        return if partial { Err(ApiError::internal(message)) } else { Ok(None) };
    }
    Ok(Some(Wish { name, uid, groups, extra }))
}

type Check = (&'static str, &'static str, String, String, String);

fn checks(wish: &Wish) -> Vec<Check> {
    let none = String::new;
    let mut checks = vec![match service_account(&wish.name) {
        Some((namespace, name)) => ("", "serviceaccounts", none(), namespace.to_owned(), name.to_owned()),
        None => ("", "users", none(), none(), wish.name.clone()),
    }];
    checks.extend(wish.groups.iter().map(|group| ("", "groups", none(), none(), group.clone())));
    for (key, values) in &wish.extra {
        checks.extend(
            values
                .iter()
                .map(|value| ("authentication.k8s.io", "userextras", key.clone(), none(), value.clone())),
        );
    }
    if !wish.uid.is_empty() {
        checks.push(("authentication.k8s.io", "uids", none(), none(), wish.uid.clone()));
    }
    checks
}

fn service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("system:serviceaccount:")?.split_once(':')
}

fn become_user(wish: Wish) -> UserInfo {
    let mut groups = wish.groups;
    if let Some((namespace, _)) = service_account(&wish.name)
        && groups.is_empty()
    {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let known = [ALL_AUTHENTICATED, ALL_UNAUTHENTICATED];
    if !groups.iter().any(|own| known.contains(&own.as_str())) {
        let group = if wish.name == ANONYMOUS { ALL_UNAUTHENTICATED } else { ALL_AUTHENTICATED };
        groups.push(group.to_owned());
    }
    UserInfo { name: wish.name, uid: wish.uid, groups, extra: wish.extra }
}
