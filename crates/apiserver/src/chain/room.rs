//! Room for large request bodies. To receive one takes as much memory as it has bytes; to decode it, store it and answer takes several times
//! that, so fewer are worked on at once than are received.

use super::limits::InFlight;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use nauplius_client::transport::{Body, BoxError};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::sync::OwnedSemaphorePermit;

/// What one request has of it; it ends with this.
pub(super) struct Room {
    _received: OwnedSemaphorePermit,
    _worked_on: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

/// Waits until there is room to receive a body; a small one needs none. The body's end comes when there is room to work on it.
pub(super) async fn make(in_flight: &InFlight, body: Body) -> (Body, Option<Room>) {
    let size = body.size_hint();
    let Some(received) = in_flight.body(&size).await else { return (body, None) };
    let worked_on = Arc::default();
    let waiting = Waiting { body, slot: Arc::clone(&worked_on), turn: Box::pin(in_flight.turn(&size)) };
    (waiting.boxed_unsync(), Some(Room { _received: received, _worked_on: worked_on }))
}

/// A body that does not end before its turn.
struct Waiting {
    body: Body,
    slot: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    turn: BoxFuture<'static, OwnedSemaphorePermit>,
}

impl http_body::Body for Waiting {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) {
            return Poll::Ready(Some(frame));
        }
        let has_turn = self.slot.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if !has_turn {
            let permit = ready!(self.turn.as_mut().poll(context));
            *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        }
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::{Limits, WORKED_ON_BYTES};
    use super::*;
    use http_body_util::Full;

    fn large() -> Body {
        Full::new(Bytes::from(vec![b'x'; 1 << 20])).map_err(|never| match never {}).boxed_unsync()
    }

    async fn received(in_flight: &InFlight) -> (Body, Option<Room>) {
        let (mut body, room) = make(in_flight, large()).await;
        assert!(room.is_some());
        assert_eq!(body.size_hint().exact(), Some(1 << 20));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), 1 << 20);
        (body, room)
    }

    #[tokio::test]
    async fn so_many_large_bodies_are_worked_on_and_the_next_one_has_its_turn_when_one_is_done() {
        let in_flight = InFlight::new(Limits::default());
        let mut first = Vec::new();
        for _ in 0..WORKED_ON_BYTES >> 20 {
            let (mut body, room) = received(&in_flight).await;
            assert!(body.frame().await.is_none());
            first.push(room);
        }
        let (mut next, _room) = received(&in_flight).await;
        assert!(futures_util::poll!(next.frame()).is_pending());
        first.pop();
        assert!(next.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_small_body_waits_for_nobody() {
        let in_flight = InFlight::new(Limits::default());
        let small: Body = Full::new(Bytes::from_static(b"{}")).map_err(|never| match never {}).boxed_unsync();
        assert!(make(&in_flight, small).await.1.is_none());
    }
}
