//! `serviceaccounts/token`: finds the account and the object that the token is to be bound to; who signs is a seam.

use crate::error::{ApiResult, unreadable};
use crate::registry::options::FieldValidation;
use crate::registry::{Scope, decode_body, get, read_body};
use crate::respond::{self, Reply};
use futures_util::future::BoxFuture;
use http::StatusCode;
use nauplius_client::transport::Body;
use nauplius_kinds::{default_body, validate_body};
use nauplius_meta::error::ApiError;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::gvk::{GroupKind, GroupResource, GroupVersionKind};
use nauplius_meta::object;
use serde_json::Value;

/// Signs tokens of service accounts.
pub trait TokenIssuer: Send + Sync + 'static {
    /// Answers a TokenRequest for `account` (a ServiceAccount) and returns it with its status. `bound` is the object that
    /// `spec.boundObjectRef` names.
    fn issue<'a>(
        &'a self,
        account: &'a Value,
        bound: Option<&'a Value>,
        request: Value,
    ) -> BoxFuture<'a, ApiResult<Value>>;
}

pub(super) async fn create(scope: &Scope, body: Body) -> ApiResult<Reply> {
    let Some(issuer) = &scope.server.config.token_issuer else {
        return Err(ApiError::NotImplemented(
            "this server has no key to sign service account tokens with".to_owned(),
        ));
    };
    let (bytes, format) = read_body(scope, body).await?;
    let expected = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let mut request = decode_body(scope, &bytes, format, &expected, FieldValidation::Warn)?;
    get::wait(scope, None).await?;
    let account =
        scope.resource.cache.get(scope.namespace(), scope.name()).ok_or_else(|| scope.not_found())?;
    let account = account.object().map_err(unreadable)?;
    check_names(scope, &request)?;
    let review = scope.review(crate::admission::Operation::Create, scope.name(), false, &Value::Null);
    let admission = &scope.server.config.admission;
    admission.mutate(&review, &mut request, None).await?;
    object::set_name(&mut request, scope.name());
    object::set_namespace(&mut request, scope.namespace());
    object::set_gvk(&mut request, &expected);
    default_body("TokenRequest", &mut request);
    let errors = validate_body("TokenRequest", &request);
    if !errors.is_empty() {
        return Err(ApiError::invalid(&token_request(), "", errors));
    }
    admission.validate(&review, Some(&request), None).await?;
    let bound = bound_object(scope, &request)?;
    let answer = issuer.issue(&account, bound.as_ref(), request).await?;
    Ok(respond::value(StatusCode::CREATED, &answer, &scope.output))
}

fn token_request() -> GroupKind {
    GroupKind::new("authentication.k8s.io", "TokenRequest")
}

/// A body that names itself must name the account of the path.
fn check_names(scope: &Scope, request: &Value) -> ApiResult<()> {
    let fields = [
        ("name", object::name(request), scope.name(), "must match the service account name if specified"),
        (
            "namespace",
            object::namespace(request),
            scope.namespace(),
            "must match the service account namespace if specified",
        ),
    ];
    for (field, own, wanted, message) in fields {
        if !own.is_empty() && own != wanted {
            let path = Path::new("metadata").child(field);
            let errors = vec![FieldError::invalid(&path, own, message)];
            return Err(ApiError::invalid(&token_request(), scope.name(), errors));
        }
    }
    Ok(())
}

/// The object of `spec.boundObjectRef`, which must be there and have the uid that is asked for.
fn bound_object(scope: &Scope, request: &Value) -> ApiResult<Option<Value>> {
    let Some(reference) = object::get(request, &["spec", "boundObjectRef"]) else { return Ok(None) };
    let text = |name: &str| object::get_str(reference, &[name]);
    let (plural, namespace) = match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => ("pods", scope.namespace()),
        ("v1", "Secret") => ("secrets", scope.namespace()),
        ("v1", "Node") => ("nodes", ""),
        (version, kind) => {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            let message = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(ApiError::bad_request(message));
        }
    };
    let name = text("name");
    let resource = GroupResource::new("", plural);
    let entry = scope.resource.caches.get("", plural, namespace, name);
    let found = entry.ok_or_else(|| ApiError::not_found(&resource, name))?.object().map_err(unreadable)?;
    if plural == "pods" && object::get_str(&found, &["spec", "serviceAccountName"]) != scope.name() {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            scope.name()
        )));
    }
    let (uid, wanted) = (object::uid(&found), text("uid"));
    if !wanted.is_empty() && uid != wanted {
        let message = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        );
        // Upstream names the kind here, not the resource.
        return Err(ApiError::conflict(&GroupResource::new("", text("kind")), name, message));
    }
    Ok(Some(found))
}
