//! Reviews: questions about identities and rights, asked with a `create` that stores nothing.

mod access;
mod identity;
mod rules;

pub use access::{LocalSubjectAccess, SelfSubjectAccess, SubjectAccess};
pub use identity::{SelfSubject, TokenProof};
pub use rules::SelfSubjectRules;

use crate::authn::service_account::ServiceAccountTokens;
use crate::request::UserInfo;
use crate::virtual_resources::VirtualResource;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every review that upstream serves.
pub fn all(tokens: &Arc<ServiceAccountTokens>) -> Vec<Arc<dyn VirtualResource>> {
    vec![
        Arc::new(TokenProof::new(Arc::clone(tokens))),
        Arc::new(SelfSubject),
        Arc::new(SubjectAccess),
        Arc::new(SelfSubjectAccess),
        Arc::new(LocalSubjectAccess),
        Arc::new(SelfSubjectRules),
    ]
}

/// A user as the API shows it.
fn render_user(user: &UserInfo) -> Value {
    let mut rendered = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        rendered["uid"] = Value::from(user.uid.as_str());
    }
    if !user.extra.is_empty() {
        rendered["extra"] = json!(user.extra);
    }
    rendered
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn text(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or_default().to_owned()
}

fn extra_of(map: &Value) -> BTreeMap<String, Vec<String>> {
    map.as_object()
        .into_iter()
        .flatten()
        .map(|(key, list)| (key.to_ascii_lowercase(), strings(list)))
        .collect()
}
