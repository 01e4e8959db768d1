//! Connections to members by name or number: the C library's resolver, which tonic's own connector asks, is not in a static program.

use futures_core::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use hyper_util::rt::TokioIo;
use nauplius_base::dial::dial;
use std::error::Error;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tower_service::Service;

/// How long one address of a member may take.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// Gives connections to whatever address a member has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialer;

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let default = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
            let stream = dial(host, uri.port_u16().unwrap_or(default), ADDRESS_TIMEOUT).await?;
            // Small requests must not wait for each other.
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}
