//! Frames, packets and archives.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Runs what never waits: the bytes are all there.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a parser waits for more than it was given"),
    }
}

pub(crate) fn spdy(bytes: &[u8]) {
    assert!(at_once(nauplius_streaming::fuzz_frames(bytes)) <= bytes.len());
}

pub(crate) fn websocket(bytes: &[u8]) {
    assert!(at_once(nauplius_streaming::fuzz_messages(bytes)) <= 2 * bytes.len());
}

pub(crate) fn dns(bytes: &[u8]) {
    nauplius_net::dns::fuzz_query(bytes);
}

pub(crate) fn manifest(bytes: &[u8]) {
    nauplius_images::fuzz_manifest(bytes);
}

pub(crate) fn layer(bytes: &[u8]) {
    nauplius_images::fuzz_layer(bytes);
}
