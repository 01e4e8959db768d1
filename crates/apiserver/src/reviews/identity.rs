//! TokenReview: whose token is this? SelfSubjectReview: who am I?

use super::{render_user, strings};
use crate::authn::service_account::ServiceAccountTokens;
use crate::error::ApiResult;
use crate::request::Call;
use crate::server::ApiServer;
use crate::virtual_resources::VirtualResource;
use futures_util::future::BoxFuture;
use nauplius_meta::error::ApiError;
use nauplius_meta::gvk::GroupResource;
use serde_json::{Value, json};
use std::sync::Arc;

const GROUP: &str = "authentication.k8s.io";

/// `tokenreviews`
pub struct TokenProof {
    tokens: Arc<ServiceAccountTokens>,
}

impl TokenProof {
    /// Proves tokens with `tokens`.
    pub fn new(tokens: Arc<ServiceAccountTokens>) -> Self {
        Self { tokens }
    }

    fn status(&self, spec: &Value) -> Value {
        let wanted = strings(&spec["audiences"]);
        let audiences = if wanted.is_empty() { self.tokens.audiences().to_vec() } else { wanted };
        match self.tokens.prove(spec["token"].as_str().unwrap_or_default(), &audiences) {
            Ok(Some((user, accepted))) => {
                json!({"authenticated": true, "user": render_user(&user), "audiences": accepted})
            }
            Ok(None) => json!({"user": {}}),
            Err(error) => json!({"user": {}, "error": format!("[invalid bearer token, {error}]")}),
        }
    }
}

impl VirtualResource for TokenProof {
    fn resource(&self) -> GroupResource {
        GroupResource::new(GROUP, "tokenreviews")
    }

    fn create<'a>(
        &'a self,
        _server: &'a Arc<ApiServer>,
        _call: &'a Call,
        mut object: Value,
    ) -> BoxFuture<'a, ApiResult<Value>> {
        Box::pin(async move {
            if object["spec"]["token"].as_str().is_none_or(str::is_empty) {
                return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
            }
            object["status"] = self.status(&object["spec"]);
            Ok(object)
        })
    }
}

/// `selfsubjectreviews`
#[derive(Debug, Clone, Copy)]
pub struct SelfSubject;

impl VirtualResource for SelfSubject {
    fn resource(&self) -> GroupResource {
        GroupResource::new(GROUP, "selfsubjectreviews")
    }

    fn create<'a>(
        &'a self,
        _server: &'a Arc<ApiServer>,
        call: &'a Call,
        mut object: Value,
    ) -> BoxFuture<'a, ApiResult<Value>> {
        object["status"] = json!({"userInfo": render_user(&call.user)});
        Box::pin(std::future::ready(Ok(object)))
    }
}
