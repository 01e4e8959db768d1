//! Discovery: which groups, versions and resources are served, in the legacy form and aggregated. Everything derives from the kinds'
//! descriptors.

mod aggregated;
mod legacy;
mod openid;

pub use openid::OpenIdDocuments;

use crate::dispatch::{routed, unclaimed};
use crate::negotiate::{JSON, MediaRange, Offer, negotiate, parse_accept};
use crate::registry::Served;
use crate::request::Call;
use crate::respond::{self, Reply};
use crate::server::ApiServer;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, StatusCode};
use nauplius_kinds::{Descriptor, Kind};
use nauplius_meta::error::ApiError;
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// What a stored resource can do, in the order of discovery.
const STORED: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const CREATE_ONLY: &[&str] = &["create"];
const READ_ONLY: &[&str] = &["get", "list"];

/// Groups in upstream's order of preference; others follow by name.
const GROUP_ORDER: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "storagemigration.k8s.io",
];

/// One group with its kinds and versions, the preferred version first.
struct Group<'a> {
    name: &'a str,
    versions: Vec<&'a str>,
    kinds: Vec<&'a Arc<dyn Kind>>,
}

impl<'a> Group<'a> {
    /// The kinds that are served in a version, by plural.
    fn kinds_in(&self, version: &str) -> Vec<&'a Descriptor> {
        let mut kinds: Vec<_> = self.kinds.iter().map(|kind| kind.descriptor()).collect();
        kinds.retain(|descriptor| descriptor.version(version).is_some());
        kinds.sort_by(|a, b| a.plural.cmp(&b.plural));
        kinds
    }
}

fn groups(kinds: &[Arc<dyn Kind>]) -> Vec<Group<'_>> {
    let mut by_name: BTreeMap<&str, Group<'_>> = BTreeMap::new();
    for kind in kinds {
        let descriptor = kind.descriptor();
        let name = &*descriptor.group;
        let empty = || Group { name, versions: Vec::new(), kinds: Vec::new() };
        let group = by_name.entry(name).or_insert_with(empty);
        group.kinds.push(kind);
        for version in &descriptor.versions {
            if !group.versions.contains(&&*version.name) {
                group.versions.push(&version.name);
            }
        }
    }
    let mut groups: Vec<Group<'_>> = by_name.into_values().collect();
    groups.iter_mut().for_each(|group| group.versions.sort_by_key(|version| Reverse(preference(version))));
    let place = |name: &str| GROUP_ORDER.iter().position(|known| *known == name).unwrap_or(usize::MAX);
    groups.sort_by(|a, b| place(a.name).cmp(&place(b.name)).then(a.name.cmp(b.name)));
    groups
}

/// Stable before beta before alpha, newer before older: `v2` > `v1` > `v1beta1` > `v1alpha1`.
fn preference(version: &str) -> (u8, u32, u32) {
    let text = version.strip_prefix('v').unwrap_or(version);
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let major = digits(text);
    let rest = &text[major.len()..];
    let (stability, minor) = match rest {
        "" => (3, ""),
        _ if rest.starts_with("beta") => (2, &rest[4..]),
        _ if rest.starts_with("alpha") => (1, &rest[5..]),
        _ => (0, ""),
    };
    // Versions without a number come last.
    (stability, major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
}

fn verbs(descriptor: &Descriptor) -> Vec<&'static str> {
    if descriptor.verbs.create_only {
        return CREATE_ONLY.to_vec();
    }
    if !descriptor.verbs.stored {
        return READ_ONLY.to_vec();
    }
    let whole = descriptor.group.is_empty() && descriptor.plural == "namespaces";
    STORED.iter().copied().filter(|verb| !(whole && *verb == "deletecollection")).collect()
}

/// Answers `/api`, `/apis` and what is below them, and the OpenID documents, when the path is one of these.
pub(crate) fn serve(server: &ApiServer, call: &Call) -> Option<Reply> {
    let path = call.info.path.trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let openid = server.config.openid.as_ref();
    match parts[..] {
        [".well-known", "openid-configuration"] => {
            return openid.map(|openid| routed(call, || openid.configuration()));
        }
        ["openid", "v1", "jwks"] => return openid.map(|openid| routed(call, || openid.keys())),
        ["api" | "apis"] | ["api", _] | ["apis", _] | ["apis", _, _] => {}
        _ => return None,
    }
    if is_routed(server, &parts) {
        return Some(routed(call, || document(server, call, &parts)));
    }
    Some(document(server, call, &parts))
}

/// Whether upstream serves a path of discovery through its router. The aggregator's documents of groups, and those about custom
/// resources, it serves without one.
fn is_routed(server: &ApiServer, parts: &[&str]) -> bool {
    match *parts {
        ["apis"] => false,
        ["apis", group] => group == "apiregistration.k8s.io",
        ["apis", group, _] => server.config.kinds.iter().any(|kind| kind.descriptor().group == group),
        _ => true,
    }
}

fn document(server: &ApiServer, call: &Call, parts: &[&str]) -> Reply {
    let served = server.served();
    if let ["api" | "apis"] = parts[..]
        && let Some(version) = aggregated_version(&call.parts.headers)
    {
        let document = server.discovery.aggregated(&served, parts[0] == "api", version);
        return aggregated_reply(&document, version, &call.parts.headers);
    }
    let groups = groups(served.kinds());
    let named = |name: &str| groups.iter().find(|group| !group.name.is_empty() && group.name == name);
    let document = match parts[..] {
        ["api"] => legacy::core_versions(&groups, server),
        ["apis"] => legacy::group_list(&groups),
        ["api", version] => legacy::resource_list(groups.iter().find(|group| group.name.is_empty()), version),
        ["apis", group] => named(group).map(legacy::group),
        ["apis", group, version] => legacy::resource_list(named(group), version),
        _ => None,
    };
    let output = match negotiate(&call.parts.headers, &call.query, Offer::Plain) {
        Ok(output) => output,
        Err(refusal) => return respond::error(&refusal, &Default::default()),
    };
    match document {
        Some(document) => respond::value(StatusCode::OK, &document, &output),
        None if is_routed(server, parts) => respond::error(&ApiError::PathNotFound, &output),
        None => respond::error(&unclaimed(), &output),
    }
}

/// The version of the aggregated form that the client prefers over the legacy one.
fn aggregated_version(headers: &HeaderMap) -> Option<&'static str> {
    // A header that is no text asks for nothing.
    let accept = headers.get(ACCEPT)?.to_str().ok()?;
    let wanted = |range: &MediaRange| {
        range.param("as") == Some("APIGroupDiscoveryList") && range.param("g") == Some("apidiscovery.k8s.io")
    };
    for range in parse_accept(accept) {
        match range.param("v") {
            Some("v2") if wanted(&range) && range.accepts(JSON) => return Some("v2"),
            _ if range.params.is_empty() && range.accepts(JSON) => return None,
            _ => {}
        }
    }
    None
}

/// An aggregated document with its hash.
struct Document {
    body: Bytes,
    tag: String,
}

/// Whether a document is that of the core group, and its version.
type Key = (bool, &'static str);

/// The aggregated documents of what is served now: clients ask for them far more often than that changes.
#[derive(Default)]
pub(crate) struct Documents {
    made: Mutex<HashMap<Key, (u64, Arc<Document>)>>,
}

impl Documents {
    fn aggregated(&self, served: &Served, core: bool, version: &'static str) -> Arc<Document> {
        let key = (core, version);
        let known = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((_, document)) = known.filter(|(generation, _)| *generation == served.generation()) {
            return document;
        }
        let body = aggregated::document(&groups(served.kinds()), core, version).to_string();
        let tag = format!("\"{}\"", hex(&Sha256::digest(&body)));
        let document = Arc::new(Document { body: body.into(), tag });
        let made = (served.generation(), Arc::clone(&document));
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(key, made);
        document
    }
}

fn aggregated_reply(document: &Document, version: &'static str, headers: &HeaderMap) -> Reply {
    let tag = document.tag.clone();
    let known = headers.get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let (code, body) = if known {
        (StatusCode::NOT_MODIFIED, Bytes::new())
    } else {
        (StatusCode::OK, document.body.clone())
    };
    let mut reply = respond::bytes(code, JSON, body);
    let content_type = format!("{JSON};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let text = |value: String| HeaderValue::try_from(value).expect("hex and constants are header characters");
    reply.headers_mut().insert(CONTENT_TYPE, text(content_type));
    reply.headers_mut().insert(ETAG, text(tag));
    reply.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
    reply
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::preference;

    #[test]
    fn versions_are_preferred_as_upstream_does() {
        let mut versions = ["v1alpha1", "v1beta2", "v2", "v1", "v1beta1", "v10"];
        versions.sort_by_key(|version| std::cmp::Reverse(preference(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1"]);
    }
}
