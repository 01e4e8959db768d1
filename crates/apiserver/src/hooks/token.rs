//! `serviceaccounts/token`: what signs tokens, as a seam.

use crate::error::ApiResult;
use futures_util::future::BoxFuture;
use serde_json::Value;

/// Signs tokens of service accounts.
pub trait TokenIssuer: Send + Sync + 'static {
    /// Answers a TokenRequest for `account` (a ServiceAccount with its resourceVersion and uid) and returns the TokenRequest with its status.
    /// `bound` is the object that `spec.boundObjectRef` names, when it exists.
    fn issue<'a>(
        &'a self,
        account: &'a Value,
        bound: Option<&'a Value>,
        request: Value,
    ) -> BoxFuture<'a, ApiResult<Value>>;
}
