//! Request bodies, read whole within a limit, and the media types they come in.

use crate::error::ApiResult;
use crate::negotiate::{CBOR, Format, JSON, PROTOBUF, YAML};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Body as _;
use http_body_util::BodyExt;
use nauplius_client::transport::Body;
use nauplius_meta::error::ApiError;

/// The largest body; upstream's limit.
pub const MAX_BODY_BYTES: usize = 3 << 20;

/// Reads a body whole.
///
/// # Errors
/// 413 beyond the limit, 400 when the client breaks off.
pub async fn read(mut body: Body) -> ApiResult<Bytes> {
    let too_large = || ApiError::RequestEntityTooLarge(format!("limit is {MAX_BODY_BYTES}"));
    let announced = body.size_hint().lower();
    if announced > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    // Who waits for a large body has room for it already; only what comes is touched.
    let expected = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
    let mut whole: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| ApiError::bad_request(format!("the request body could not be read: {error}")))?;
        // Trailers carry nothing we read.
        let Ok(data) = frame.into_data() else { continue };
        if joined.is_empty() && whole.is_none() {
            whole = Some(data);
        } else {
            if let Some(first) = whole.take() {
                joined.reserve(expected);
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&data);
        }
        if whole.as_ref().map_or(joined.len(), Bytes::len) > MAX_BODY_BYTES {
            return Err(too_large());
        }
    }
    Ok(whole.unwrap_or_else(|| joined.freeze()))
}

/// The media type without parameters, in lower case; `None` when the header is absent.
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    // A header that is no text is treated like an unknown type.
    let value = headers.get(CONTENT_TYPE)?.to_str().unwrap_or("invalid");
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// The format of a body that holds an object.
///
/// # Errors
/// 415 with what is understood.
pub fn format(headers: &HeaderMap) -> ApiResult<Format> {
    match media_type(headers).as_deref() {
        None | Some("" | JSON) => Ok(Format::Json),
        Some(YAML) => Ok(Format::Yaml),
        Some(PROTOBUF) => Ok(Format::Protobuf),
        Some(CBOR) => Ok(Format::Cbor),
        Some(_) => Err(ApiError::UnsupportedMediaType(
            Format::ALL.iter().map(|format| format.media_type().to_owned()).collect(),
        )),
    }
}
