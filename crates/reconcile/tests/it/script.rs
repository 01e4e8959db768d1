//! A transport that answers from a script and records what it was asked.

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use nauplius_client::transport::{Body, BoxError, Transport, TransportError, full};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// How the script answers one request.
pub enum Answer {
    /// A code and a whole body.
    Whole(u16, String),
    /// Lines as they come out of the channel; the answer ends with it.
    Lines(mpsc::Receiver<String>),
}

#[derive(Clone, Default)]
pub struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// The next request is answered with `answer`.
    pub fn answer(&self, answer: Answer) {
        self.answers.lock().unwrap().push_back(answer);
    }

    /// `METHOD path?query` of every request so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

struct Lines(mpsc::Receiver<String>);

impl futures_core::Stream for Lines {
    type Item = Result<hyper_frame::Frame, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(hyper_frame::data(line))))
    }
}

mod hyper_frame {
    pub type Frame = http_body::Frame<bytes::Bytes>;

    pub fn data(line: String) -> Frame {
        http_body::Frame::data(bytes::Bytes::from(line + "\n"))
    }
}

impl Transport for Script {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        self.seen.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
        let answer = self.answers.lock().unwrap().pop_front();
        Box::pin(async move {
            let (code, body) = match answer {
                Some(Answer::Whole(code, body)) => (code, full(Bytes::from(body))),
                Some(Answer::Lines(lines)) => (200, StreamBody::new(Lines(lines)).boxed_unsync()),
                None => std::future::pending().await,
            };
            Ok(Response::builder().status(code).body(body).unwrap())
        })
    }
}
