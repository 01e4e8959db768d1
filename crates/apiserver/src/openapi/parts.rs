//! The parts of the API, each of which is a document of its own in OpenAPI v3: one a group and version, and the paths around them. It knows
//! what is served, not how it is written.

use super::definitions::{Definition, Special};
use super::model::{Content, Operation, PathItem};
use super::paths::{self, OBJECTS, OK, capital, group_word, responses};
use crate::negotiate::{JSON, PROTOBUF, YAML};
use nauplius_kinds::Kind;
use nauplius_meta::schema::lookup_type;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const DOCUMENTS: &[&str] = &[JSON, YAML, PROTOBUF];

/// A part of the API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/{group}`
    Group(String),
    /// A group and a version.
    Resources(String, String),
    /// `/version`
    Version,
    /// `/.well-known/openid-configuration`
    OpenIdConfiguration,
    /// `/openid/v1/jwks`
    OpenIdKeys,
}

/// The parts that are there whatever is served.
const FIXED: [Part; 5] =
    [Part::CoreVersions, Part::Groups, Part::Version, Part::OpenIdConfiguration, Part::OpenIdKeys];

/// The groups and versions of these kinds.
pub(super) fn served(kinds: &[Arc<dyn Kind>]) -> Vec<(String, String)> {
    let versions = kinds.iter().map(|kind| kind.descriptor()).flat_map(|descriptor| {
        descriptor.versions.iter().map(|version| (descriptor.group.to_string(), version.name.to_string()))
    });
    versions.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The part of that name, if these kinds make it.
pub(super) fn named(name: &str, kinds: &[Arc<dyn Kind>]) -> Option<Part> {
    with_kinds(kinds).into_keys().find(|part| part.name() == name)
}

/// The part of that name, as far as it is one of a group and version.
pub(super) fn of_resources(name: &str) -> Option<Part> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        ["api", version] => Some(Part::Resources(String::new(), version.to_owned())),
        ["apis", group, version] => Some(Part::Resources(group.to_owned(), version.to_owned())),
        _ => None,
    }
}

/// Every part that these kinds make, and the kinds of each.
pub(super) fn with_kinds(kinds: &[Arc<dyn Kind>]) -> BTreeMap<Part, Vec<Arc<dyn Kind>>> {
    let mut parts: BTreeMap<Part, Vec<Arc<dyn Kind>>> =
        FIXED.into_iter().map(|part| (part, Vec::new())).collect();
    for kind in kinds {
        let descriptor = kind.descriptor();
        let group = descriptor.group.to_string();
        if !group.is_empty() {
            parts.entry(Part::Group(group.clone())).or_default();
        }
        for version in &descriptor.versions {
            let part = Part::Resources(group.clone(), version.name.to_string());
            parts.entry(part).or_default().push(Arc::clone(kind));
        }
    }
    parts
}

/// Those of the built-in kinds among them: requests such as DeleteOptions say that they belong to each of these.
pub(super) fn built_in(kinds: &[Arc<dyn Kind>]) -> Vec<(String, String)> {
    let built_in: Vec<_> = kinds.iter().filter(|kind| kind.schema().is_none()).cloned().collect();
    served(&built_in)
}

impl Part {
    /// Its name in the index, which is its path.
    pub(super) fn name(&self) -> String {
        match self {
            Self::CoreVersions => "api".to_owned(),
            Self::Groups => "apis".to_owned(),
            Self::Group(group) => format!("apis/{group}"),
            Self::Resources(group, version) if group.is_empty() => format!("api/{version}"),
            Self::Resources(group, version) => format!("apis/{group}/{version}"),
            Self::Version => "version".to_owned(),
            Self::OpenIdConfiguration => ".well-known/openid-configuration".to_owned(),
            Self::OpenIdKeys => "openid/v1/jwks".to_owned(),
        }
    }

    /// The path that it is named after, with which all of its paths begin.
    pub(super) fn path(&self) -> String {
        format!("/{}/", self.name())
    }

    /// The kinds that it is about.
    pub(super) fn kinds<'k>(&self, kinds: &'k [Arc<dyn Kind>]) -> impl Iterator<Item = &'k Arc<dyn Kind>> {
        let own = match self {
            Self::Resources(group, version) => Some((group.clone(), version.clone())),
            _ => None,
        };
        kinds.iter().filter(move |kind| {
            let descriptor = kind.descriptor();
            let is_own = |(group, version): &(String, String)| {
                descriptor.group == *group && descriptor.version(version).is_some()
            };
            own.as_ref().is_some_and(is_own)
        })
    }

    /// Its paths, in order.
    pub(super) fn paths(&self, kinds: &[Arc<dyn Kind>]) -> Vec<PathItem> {
        let mut paths = vec![self.front()];
        if let Self::Resources(group, version) = self {
            paths.extend(self.kinds(kinds).flat_map(|kind| paths::of_kind(kind, version)));
            paths.extend(group.is_empty().then(paths::bindings).flatten());
        }
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        paths
    }

    /// The paths of one of its kinds, in order.
    pub(super) fn paths_of(&self, kind: &Arc<dyn Kind>) -> Vec<PathItem> {
        let Self::Resources(_, version) = self else { return Vec::new() };
        let mut paths: Vec<PathItem> = paths::of_kind(kind, version).into_iter().collect();
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        paths
    }

    /// What is at the path that the part is named after.
    fn front(&self) -> PathItem {
        let (id, tag, description) = self.words();
        let operation = Operation {
            method: "get",
            action: "",
            id,
            description: description.to_owned(),
            tag,
            gvk: None,
            parameters: Vec::new(),
            body: None,
            consumes: if self.is_for_verifiers() { &[] } else { self.media_types() },
            produces: self.media_types(),
            responses: responses(OK, self.answer()),
        };
        PathItem::new(self.path(), vec![operation], Vec::new())
    }

    fn words(&self) -> (String, String, &'static str) {
        let (id, tag, description) = match self {
            Self::CoreVersions => ("getCoreAPIVersions", "core", "get available API versions"),
            Self::Groups => ("getAPIVersions", "apis", "get available API versions"),
            Self::Version => ("getCodeVersion", "version", "get the version information for this server"),
            Self::OpenIdConfiguration => (
                "getServiceAccountIssuerOpenIDConfiguration",
                "WellKnown",
                "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            ),
            Self::OpenIdKeys => (
                "getServiceAccountIssuerOpenIDKeyset",
                "openid",
                "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            ),
            Self::Group(group) => {
                let word = group_word(group);
                return (format!("get{}APIGroup", capital(&word)), word, "get information of a group");
            }
            Self::Resources(group, version) => {
                let (word, tag) = (capital(&group_word(group)), format!("{}_{version}", group_word(group)));
                return (
                    format!("get{word}{}APIResources", capital(version)),
                    tag,
                    "get available resources",
                );
            }
        };
        (id.to_owned(), tag.to_owned(), description)
    }

    fn answer(&self) -> Content {
        let name = match self {
            Self::CoreVersions => "APIVersions",
            Self::Groups => "APIGroupList",
            Self::Group(_) => "APIGroup",
            Self::Resources(..) => "APIResourceList",
            Self::Version => return Content::Object(Definition::Special(Special::VersionInfo)),
            Self::OpenIdConfiguration | Self::OpenIdKeys => return Content::Text,
        };
        lookup_type("meta/v1", name).map_or(Content::None, |ty| Content::Object(Definition::Type(ty)))
    }

    /// The documents about tokens are no part of Kubernetes' own API, which takes what it gives.
    fn is_for_verifiers(&self) -> bool {
        matches!(self, Self::OpenIdConfiguration | Self::OpenIdKeys)
    }

    fn media_types(&self) -> &'static [&'static str] {
        match self {
            Self::CoreVersions | Self::Groups | Self::Group(_) => DOCUMENTS,
            Self::Resources(..) => OBJECTS,
            Self::Version | Self::OpenIdConfiguration => &[JSON],
            Self::OpenIdKeys => &["application/jwk-set+json"],
        }
    }
}
