//! OpenAPI: the shapes of everything that is served. A seam until it is built.

use crate::request::Call;
use crate::respond::Reply;
use crate::server::ApiServer;

/// Answers `/openapi/...`, when the path is one of these.
#[allow(clippy::unused_async)] // A seam.
pub(crate) async fn serve(_server: &ApiServer, _call: &Call) -> Option<Reply> {
    None
}
