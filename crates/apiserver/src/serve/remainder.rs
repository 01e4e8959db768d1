//! The rest of a body that nobody read. A client may still be sending what was refused: over HTTP/2 the stream would be reset while
//! it does, and some clients would then lose the answer. So what comes soon, and is not much, is read and thrown away.

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use nauplius_base::task::spawn;
use nauplius_base::time::timeout;
use nauplius_client::transport::BoxError;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;

/// More than this is not waited for: a body that is a little too large is read to its end.
const MAX_BYTES: usize = 4 << 20;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body as it comes in over HTTP/2.
pub(super) struct Unhurried(Option<Incoming>);

impl Unhurried {
    /// Whoever drops it need not have read it.
    pub(super) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl HttpBody for Unhurried {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Some(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for Unhurried {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        // Where nothing runs any more, there is nobody to wait for.
        if Handle::try_current().is_ok() {
            // It ends by itself within its patience.
            spawn("the rest of a body", async move {
                // A client that takes longer is one that loses its answer.
                let _ = timeout(PATIENCE, discard(body)).await;
            });
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > MAX_BYTES {
            return;
        }
    }
}
