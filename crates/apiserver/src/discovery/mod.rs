//! Discovery: which groups, versions and resources are served. A seam until it is built.

use crate::request::Call;
use crate::respond::Reply;
use crate::server::ApiServer;

/// Answers `/api`, `/apis` and what is below them, when the path is one of these.
#[allow(clippy::unused_async)] // A seam.
pub(crate) async fn serve(_server: &ApiServer, _call: &Call) -> Option<Reply> {
    None
}
