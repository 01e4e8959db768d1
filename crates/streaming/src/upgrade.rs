//! The HTTP side of an upgrade: reading what a client asks for, choosing a protocol, and the answers, as upstream's servers
//! give them. Nothing of the streams themselves.

use crate::Refusal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

pub(crate) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
pub(crate) const SPDY_31: &str = "SPDY/3.1";
/// RFC 6455: what a server appends to a client's key.
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a request asks for any upgrade.
pub fn is_upgrade_request(headers: &HeaderMap) -> bool {
    words(headers, &header::CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade"))
}

/// Whether a request asks for a WebSocket.
pub fn is_websocket_request(headers: &HeaderMap) -> bool {
    is_upgrade_request(headers)
        && words(headers, &header::UPGRADE).any(|word| word.eq_ignore_ascii_case("websocket"))
}

/// The comma-separated words of every header of that name. Headers that are no text have none.
pub(crate) fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

/// Chooses the first of the client's SPDY stream protocols that we speak.
pub(crate) fn negotiate_spdy(
    headers: &HeaderMap,
    supported: &'static [&'static str],
) -> Result<&'static str, Refusal> {
    let upgrade = words(headers, &header::UPGRADE).any(|word| word.eq_ignore_ascii_case(SPDY_31));
    if !is_upgrade_request(headers) || !upgrade {
        return Err(Refusal::bad_request("unable to upgrade: missing upgrade headers in request"));
    }
    let wanted: Vec<&str> = words(headers, &PROTOCOL_VERSION).collect();
    if wanted.is_empty() {
        return Err(Refusal::bad_request("unable to upgrade: X-Stream-Protocol-Version is required"));
    }
    choose(&wanted, supported).ok_or_else(|| {
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            wanted.join(" "),
            supported.join(" ")
        );
        Refusal { accepted_protocols: supported, ..Refusal::new(StatusCode::FORBIDDEN, message) }
    })
}

fn choose(wanted: &[&str], supported: &'static [&'static str]) -> Option<&'static str> {
    wanted.iter().find_map(|wanted| supported.iter().find(|ours| *ours == wanted).copied())
}

/// The answer that turns the connection into SPDY.
pub(crate) fn spdy_response(protocol: &'static str) -> Response<Full<Bytes>> {
    let mut response = switching(HeaderValue::from_static(SPDY_31));
    response.headers_mut().insert(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
    response
}

/// Chooses the first of the client's WebSocket subprotocols that we speak; a client that names none gets the empty one,
/// when it is among ours.
pub(crate) fn negotiate_websocket(
    headers: &HeaderMap,
    supported: &'static [&'static str],
) -> Result<&'static str, Refusal> {
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::bad_request("unable to upgrade: Sec-WebSocket-Version must be 13"));
    }
    if headers.get(header::SEC_WEBSOCKET_KEY).is_none() {
        return Err(Refusal::bad_request("unable to upgrade: Sec-WebSocket-Key is required"));
    }
    let mut wanted: Vec<&str> = words(headers, &header::SEC_WEBSOCKET_PROTOCOL).collect();
    if wanted.is_empty() {
        wanted.push("");
    }
    choose(&wanted, supported).ok_or_else(|| {
        let (wanted, ours) = (wanted.join(" "), supported.join(" "));
        let message = format!("requested protocol(s) are not supported: [{wanted}]; supports [{ours}]");
        Refusal::new(StatusCode::FORBIDDEN, message)
    })
}

/// The answer that turns the connection into a WebSocket. The request was negotiated before.
pub(crate) fn websocket_response(headers: &HeaderMap, protocol: &'static str) -> Response<Full<Bytes>> {
    let protocol = Some(protocol).filter(|protocol| !protocol.is_empty());
    websocket_answer(headers, protocol.map(HeaderValue::from_static))
}

/// The same with a subprotocol that is not one of ours.
pub(crate) fn websocket_answer(headers: &HeaderMap, protocol: Option<HeaderValue>) -> Response<Full<Bytes>> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let mut response = switching(HeaderValue::from_static("websocket"));
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept_key(key));
    if let Some(protocol) = protocol {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

/// What proves that a server understood a client's key.
pub(crate) fn accept_key(key: &[u8]) -> HeaderValue {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, WEBSOCKET_GUID.as_bytes()].concat());
    HeaderValue::from_str(&STANDARD.encode(hash)).expect("base64 is a valid header value")
}

fn switching(protocol: HeaderValue) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, protocol);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    #[test]
    fn upgrades_are_recognised() {
        for (connection, upgrade, any, websocket) in [
            ("Upgrade", "websocket", true, true),
            ("keep-alive, upgrade", "WebSocket", true, true),
            ("upgrade", "SPDY/3.1", true, false),
            ("close", "websocket", false, false),
        ] {
            let headers = headers(&[("connection", connection), ("upgrade", upgrade)]);
            assert_eq!((is_upgrade_request(&headers), is_websocket_request(&headers)), (any, websocket));
        }
    }

    #[test]
    fn the_clients_first_choice_wins() {
        let upgrade = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        let ask = |version| headers(&[upgrade[0], upgrade[1], ("x-stream-protocol-version", version)]);
        assert_eq!(negotiate_spdy(&ask("v9, v3,v4"), &["v4", "v3"]), Ok("v3"));
        let refusal = negotiate_spdy(&ask("v9"), &["v4", "v3"]).unwrap_err();
        assert_eq!(refusal.status, StatusCode::FORBIDDEN);
        assert_eq!(
            refusal.message,
            "unable to upgrade: unable to negotiate protocol: client supports [v9], server accepts [v4 v3]"
        );
        let answer = refusal.into_response();
        assert_eq!(answer.headers().get_all("x-accepted-stream-protocol-versions").iter().count(), 2);
        assert_eq!(negotiate_spdy(&headers(&upgrade), &["v4"]).unwrap_err().status, StatusCode::BAD_REQUEST);
        assert_eq!(negotiate_spdy(&headers(&[]), &["v4"]).unwrap_err().status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn websockets_without_a_protocol_get_the_empty_one() {
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let bare = headers(&[("sec-websocket-version", "13"), key]);
        assert_eq!(negotiate_websocket(&bare, &["", "v4"]), Ok(""));
        assert_eq!(negotiate_websocket(&bare, &["v4"]).unwrap_err().status, StatusCode::FORBIDDEN);
        assert_eq!(negotiate_websocket(&headers(&[key]), &[""]).unwrap_err().status, StatusCode::BAD_REQUEST);
        let response = websocket_response(&bare, "v4");
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()["sec-websocket-protocol"], "v4");
    }
}
