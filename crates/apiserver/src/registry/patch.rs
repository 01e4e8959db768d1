//! PATCH.

use super::Scope;
use crate::error::ApiResult;
use crate::respond::Reply;
use nauplius_client::transport::Body;

#[allow(clippy::unused_async)]
pub(crate) async fn patch(scope: &Scope, _body: Body) -> ApiResult<Reply> {
    Err(scope.not_allowed())
}
