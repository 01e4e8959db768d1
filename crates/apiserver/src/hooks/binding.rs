//! `pods/binding` (and `POST .../bindings`): gives a pod its node, once.

use crate::admission::Operation;
use crate::error::ApiResult;
use crate::registry::options::WriteOptions;
use crate::registry::write::{Also, Existing, Step, Transform};
use crate::registry::{Scope, decode_body, read_body};
use crate::respond::{self, Reply};
use futures_util::future::BoxFuture;
use http::StatusCode;
use nauplius_base::time;
use nauplius_client::transport::Body;
use nauplius_kinds::{bind_pod, validate_binding};
use nauplius_meta::error::{ApiError, Status};
use nauplius_meta::gvk::{GroupKind, GroupVersionKind};
use nauplius_meta::object;
use serde_json::Value;

/// Binds the pod that the path names, or for the collection `bindings` the one that the body names.
pub(crate) async fn bind(scope: &Scope, body: Body) -> ApiResult<Reply> {
    let options = WriteOptions::of(&scope.call.query, "CreateOptions")?;
    let (bytes, format) = read_body(scope, body).await?;
    let expected = GroupVersionKind::new("", "v1", "Binding");
    let mut binding = decode_body(scope, &bytes, format, &expected, options.field_validation)?;
    let name = match scope.name() {
        "" => object::name(&binding).to_owned(),
        name => name.to_owned(),
    };
    if name != object::name(&binding) {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    let review = scope.review(Operation::Create, &name, options.dry_run, &options.object);
    let admission = &scope.server.config.admission;
    admission.mutate(&review, &mut binding, None).await?;
    admission.validate(&review, Some(&binding), None).await?;
    let errors = validate_binding(&binding);
    if !errors.is_empty() {
        return Err(ApiError::invalid(&GroupKind::new("", "Binding"), name, errors));
    }
    let mut transform = Bind { scope, name: &name, binding: &binding };
    scope.resource.modify(scope.namespace(), &name, &mut transform, options.dry_run).await?;
    let mut status = Status::success(None);
    status.code = StatusCode::CREATED.as_u16();
    Ok(respond::status(&status, &scope.output))
}

struct Bind<'s> {
    scope: &'s Scope,
    name: &'s str,
    binding: &'s Value,
}

impl Transform for Bind<'_> {
    fn step<'a>(&'a mut self, existing: &'a Existing) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(async move {
            let conflict = |message: String| {
                let resource = nauplius_meta::gvk::GroupResource::new("", "pods/binding");
                ApiError::conflict(&resource, self.name, message)
            };
            let (uid, wanted) = (object::uid(&existing.object), object::uid(self.binding));
            if !wanted.is_empty() && uid != wanted {
                let message =
                    format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}");
                return Err(ApiError::conflict(&self.scope.resource.group_resource, self.name, message));
            }
            let mut pod = existing.object.clone();
            bind_pod(&mut pod, self.binding, &time::rfc3339_seconds(time::now()))
                .map_err(|error| conflict(error.to_string()))?;
            Ok(Step::Write(pod, Also::default()))
        })
    }
}
