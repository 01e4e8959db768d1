//! gzip for large answers, when the client takes it. Streams are compressed as they are read, a chunk at a time.

use crate::chain::InFlight;
use crate::respond::Reply;
use crate::serve::Follows;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, VARY};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use nauplius_client::transport::{Body, BoxError};
use std::io::Write as _;
use tokio::sync::OwnedSemaphorePermit;

/// Smaller answers go as they are; upstream's limit.
pub(crate) const MIN_BYTES: usize = 128 << 10;
/// Speed counts more than the last percent.
const LEVEL: u32 = 1;

/// Compresses an answer if that is wanted and worth it.
pub(crate) fn apply(request: &HeaderMap, reply: Reply, in_flight: &InFlight) -> Reply {
    let size = reply.body().size_hint().exact();
    // A body of unknown size is a list that did not fit into its first chunk.
    let large = size.is_none_or(|size| size >= MIN_BYTES as u64);
    if !large
        || !reply.status().is_success()
        || reply.headers().contains_key(CONTENT_ENCODING)
        || !wanted(request)
    {
        return reply;
    }
    let Some(permit) = in_flight.compression() else { return reply };
    let (mut parts, body) = reply.into_parts();
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    parts.headers.remove(CONTENT_LENGTH);
    // It takes long enough to do it beside what else its connection does.
    parts.extensions.remove::<Follows>();
    Reply::from_parts(parts, compressed(body, permit))
}

/// Whether the client takes gzip.
pub(crate) fn wanted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok()); // No text, no wish.
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = matches!(parts.next(), Some("gzip" | "*"));
        named && !parts.any(|part| matches!(part, "q=0" | "q=0.0"))
    })
}

fn compressed(body: Body, permit: OwnedSemaphorePermit) -> Body {
    let encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    let chunks = stream::unfold(Some((body, encoder)), move |state| {
        let _held = &permit;
        step(state)
    });
    StreamBody::new(chunks).boxed_unsync()
}

async fn step(state: State) -> Option<(Result<Frame<Bytes>, BoxError>, State)> {
    let (body, encoder) = state?;
    match next(body, encoder).await {
        Ok((chunk, state)) => Some((Ok(Frame::data(chunk)), state)),
        Err(error) => Some((Err(error), None)),
    }
}

type State = Option<(Body, GzEncoder<Vec<u8>>)>;

async fn next(mut body: Body, mut encoder: GzEncoder<Vec<u8>>) -> Result<(Bytes, State), BoxError> {
    loop {
        let Some(frame) = body.frame().await else {
            return Ok((encoder.finish()?.into(), None));
        };
        // Trailers are not used by our answers.
        let Ok(data) = frame?.into_data() else { continue };
        encoder.write_all(&data)?;
        if !encoder.get_ref().is_empty() {
            let chunk = std::mem::take(encoder.get_mut());
            return Ok((chunk.into(), Some((body, encoder))));
        }
    }
}
