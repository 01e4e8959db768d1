//! What the client wants to be answered with: `Accept` in, format and shape out. It knows media types, not objects.

use crate::error::ApiResult;
use crate::request::Query;
use http::HeaderMap;
use http::header::{ACCEPT, USER_AGENT};
use nauplius_meta::error::ApiError;

/// JSON.
pub const JSON: &str = "application/json";
/// YAML.
pub const YAML: &str = "application/yaml";
/// Kubernetes' protobuf envelope.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// CBOR.
pub const CBOR: &str = "application/cbor";
/// CBOR documents one after another: what a watch in CBOR is.
pub const CBOR_SEQUENCE: &str = "application/cbor-seq";

/// One clause of an `Accept` header.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaRange {
    /// `application/json`, `application/*` or `*/*`, in lower case.
    pub media_type: String,
    /// Parameters other than `q`, names in lower case.
    pub params: Vec<(String, String)>,
    q: f32,
}

impl MediaRange {
    /// The value of a parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Whether it covers `media_type`.
    pub fn accepts(&self, media_type: &str) -> bool {
        self.media_type == media_type
            || self.media_type == "*/*"
            || self
                .media_type
                .strip_suffix("/*")
                .is_some_and(|main| media_type.split_once('/').is_some_and(|(own, _)| own == main))
    }
}

/// The clauses of an `Accept` header, the preferred first.
pub fn parse_accept(header: &str) -> Vec<MediaRange> {
    let mut ranges: Vec<MediaRange> = header.split(',').filter_map(parse_range).collect();
    ranges.sort_by(|a, b| b.q.total_cmp(&a.q));
    ranges
}

fn parse_range(text: &str) -> Option<MediaRange> {
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next().filter(|media_type| !media_type.is_empty())?.to_ascii_lowercase();
    let mut range = MediaRange { media_type, params: Vec::new(), q: 1.0 };
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"'));
        if name == "q" {
            range.q = value.parse().unwrap_or(1.0);
        } else if !name.is_empty() {
            range.params.push((name, value.to_owned()));
        }
    }
    Some(range)
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `application/json`
    #[default]
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
    /// `application/cbor`
    Cbor,
}

impl Format {
    /// In the order in which they are told.
    pub const ALL: [Format; 4] = [Format::Json, Format::Yaml, Format::Protobuf, Format::Cbor];
    /// Those that objects without protobuf messages have.
    pub const OF_TREES: [Format; 3] = [Format::Json, Format::Yaml, Format::Cbor];

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Yaml => YAML,
            Self::Protobuf => PROTOBUF,
            Self::Cbor => CBOR,
        }
    }
}

/// What objects are turned into.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Shape {
    /// Themselves.
    #[default]
    Object,
    /// A `Table` of this `meta.k8s.io` version.
    Table(String),
    /// `PartialObjectMetadata` of this version.
    Metadata(String),
    /// `PartialObjectMetadataList` of this version.
    MetadataList(String),
}

/// What was agreed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// How bytes are written.
    pub format: Format,
    /// What objects are turned into.
    pub shape: Shape,
    /// Indented JSON.
    pub pretty: bool,
}

impl Output {
    /// Plain JSON, for answers before anything was negotiated.
    pub fn json() -> Self {
        Self::default()
    }
}

/// Which transformations a request may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Objects, their status or scale, a list or a watch: they may become a Table or metadata only.
    Objects,
    /// Only what it is: reviews and other subresources.
    Plain,
}

/// Chooses the first clause that can be served.
///
/// # Errors
/// 406 with what is served.
pub fn negotiate(headers: &HeaderMap, query: &Query, offer: Offer) -> ApiResult<Output> {
    negotiate_among(&Format::ALL, headers, query, offer)
}

/// The same without protobuf, which objects of custom resources have no form in.
///
/// # Errors
/// 406 with what is served.
pub fn negotiate_tree(headers: &HeaderMap, query: &Query, offer: Offer) -> ApiResult<Output> {
    negotiate_among(&Format::OF_TREES, headers, query, offer)
}

fn negotiate_among(
    formats: &[Format],
    headers: &HeaderMap,
    query: &Query,
    offer: Offer,
) -> ApiResult<Output> {
    let pretty = wants_pretty(headers, query);
    // An unreadable header is treated like an absent one.
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.trim().is_empty() {
        return Ok(Output { pretty, ..Output::default() });
    }
    for range in parse_accept(accept) {
        for format in formats.iter().copied().filter(|format| range.accepts(format.media_type())) {
            let Some(shape) = shape(&range, offer, format).filter(|_| allows(&range, offer, format)) else {
                continue;
            };
            let pretty = pretty || range.param("pretty") == Some("1");
            return Ok(Output { format, shape, pretty });
        }
    }
    Err(ApiError::NotAcceptable(formats.iter().map(|format| format.media_type().to_owned()).collect()))
}

/// Parameters other than those of [`shape`]: streams are of watches, and only some formats can be streamed.
fn allows(range: &MediaRange, offer: Offer, format: Format) -> bool {
    let stream = match range.param("stream") {
        None | Some("") => true,
        Some(stream) => stream == "watch" && format != Format::Yaml,
    };
    let version = match range.param("sv") {
        None | Some("") => true,
        Some(version) => version == "v1" && offer != Offer::Plain,
    };
    stream && version
}

fn shape(range: &MediaRange, offer: Offer, format: Format) -> Option<Shape> {
    if ["as", "g", "v"].iter().all(|name| range.param(name).is_none()) {
        return Some(Shape::Object);
    }
    let version = range.param("v").filter(|version| matches!(*version, "v1" | "v1beta1"))?.to_owned();
    let ours = range.param("g") == Some("meta.k8s.io") && offer != Offer::Plain;
    match range.param("as")? {
        // Upstream has no tables in protobuf.
        "Table" if ours && format != Format::Protobuf => Some(Shape::Table(version)),
        "PartialObjectMetadata" if ours => Some(Shape::Metadata(version)),
        "PartialObjectMetadataList" if ours => Some(Shape::MetadataList(version)),
        _ => None,
    }
}

/// Asked for with `pretty`, and given to browsers and curl unasked.
fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(pretty) = query.non_empty("pretty") {
        return matches!(pretty, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|known| agent.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, offer: Offer, expected: &str) {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        let shown = match negotiate(&headers, &Query::default(), offer) {
            Ok(output) => format!("{:?} {:?}", output.format, output.shape),
            Err(error) => error.code().to_string(),
        };
        assert_eq!(shown, expected, "{accept}");
    }

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        check("", Offer::Objects, "Json Object");
        check("*/*", Offer::Objects, "Json Object");
        check("application/yaml", Offer::Objects, "Yaml Object");
        check("application/vnd.kubernetes.protobuf, */*", Offer::Objects, "Protobuf Object");
        check("text/html,application/*;q=0.5", Offer::Objects, "Json Object");
        check("application/yaml;q=0.1, application/json", Offer::Objects, "Json Object");
        check(kubectl, Offer::Objects, "Json Table(\"v1\")");
        check(kubectl, Offer::Plain, "Json Object");
        check(
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Offer::Objects,
            "Json MetadataList(\"v1\")",
        );
        check("application/json;g=meta.k8s.io;v=v1", Offer::Objects, "406");
        check("application/json;stream=watch", Offer::Objects, "Json Object");
        check("application/json;stream=other, application/yaml", Offer::Objects, "Yaml Object");
        check("*/*;stream=watch", Offer::Objects, "Json Object");
        check("application/yaml;stream=watch", Offer::Objects, "406");
        check("application/json;sv=v1", Offer::Objects, "Json Object");
        check("application/json;sv=v2", Offer::Objects, "406");
        check("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", Offer::Objects, "406");
        check("application/cbor", Offer::Objects, "Cbor Object");
        check("application/cbor;as=Table;g=meta.k8s.io;v=v1", Offer::Objects, "Cbor Table(\"v1\")");
        check("application/cbor-seq", Offer::Objects, "406");
        check("application/json;as=Nonsense;g=meta.k8s.io;v=v1", Offer::Objects, "406");
        check("application/xml", Offer::Objects, "406");
    }
}
