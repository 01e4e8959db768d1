//! What stands in a request before its body: path, query, options, wishes; and pages that are proxied.

use http::Method;
use nauplius_apiserver::negotiate::parse_accept;
use nauplius_apiserver::proxy::fuzz_page;
use nauplius_apiserver::registry::fuzz_options;
use nauplius_apiserver::request::{Query, RequestInfo};

pub(crate) fn request(bytes: &[u8]) {
    let target = String::from_utf8_lossy(bytes);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = Query::parse(query);
    for method in [Method::GET, Method::POST, Method::DELETE] {
        // Odd paths are refused.
        let _info = RequestInfo::parse(&method, path, &query);
    }
}

pub(crate) fn options(bytes: &[u8]) {
    fuzz_options(&Query::parse(&String::from_utf8_lossy(bytes)));
}

pub(crate) fn accept(bytes: &[u8]) {
    for range in parse_accept(&String::from_utf8_lossy(bytes)) {
        assert!(range.accepts(&range.media_type));
    }
}

pub(crate) fn page(bytes: &[u8]) {
    assert!(fuzz_page(bytes) >= bytes.len(), "links only grow");
}
