//! Requests that are meant to last: each has a seat until its stream has ended, be it the answer's body or a connection that was
//! upgraded. Streams of others end with the server; a watch ends by itself, in good order.

use crate::respond::Reply;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use nauplius_base::metrics::Gauge;
use nauplius_base::task::CancellationToken;
use nauplius_client::transport::{Body, BoxError};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;

/// Counts a request that lasts, in the limit and in the metrics, until the last clone of it is dropped.
pub(crate) struct Seat {
    _permit: Option<OwnedSemaphorePermit>,
    running: Arc<Gauge>,
}

impl Seat {
    pub(super) fn new(permit: Option<OwnedSemaphorePermit>, running: Arc<Gauge>) -> Arc<Self> {
        running.add(1.0);
        Arc::new(Self { _permit: permit, running })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.running.add(-1.0);
    }
}

struct Lasting {
    body: Body,
    _seat: Arc<Seat>,
    /// What others send may never end.
    stop: Option<BoxFuture<'static, ()>>,
}

impl http_body::Body for Lasting {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => {}
            ready => return ready,
        }
        match self.stop.as_mut().map(|stop| stop.as_mut().poll(context)) {
            Some(Poll::Ready(())) => {
                self.stop = None;
                Poll::Ready(Some(Err("the server ends".into())))
            }
            _ => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The reply with the seat in its body. An upgraded stream holds the seat by itself.
pub(super) fn held(reply: Reply, seat: Arc<Seat>, stop: Option<CancellationToken>) -> Reply {
    let stop = stop.map(|stop| Box::pin(stop.cancelled_owned()) as BoxFuture<'static, ()>);
    reply.map(|body| Lasting { body, _seat: seat, stop }.boxed_unsync())
}
