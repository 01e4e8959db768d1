//! Building the descriptor of a built-in kind in a few words. It knows how upstream derives names, and no particular kind.

use crate::kind::{Descriptor, Scale, Subresource, Verbs, Version};
use crate::runtime_config::RuntimeConfig;
use serde_json::Value;

/// The verbs of a `status` subresource and of others that are read and written in place.
const READ_WRITE: &[&str] = &["get", "patch", "update"];
/// The verbs of a subresource that only takes a body.
pub(crate) const CREATE: &[&str] = &["create"];
/// The verbs of `proxy`, which takes every method.
pub(crate) const CONNECT: &[&str] = &["create", "delete", "get", "patch", "update"];

/// A descriptor in the making: a stored, namespaced kind with one version until told otherwise.
pub(crate) struct Describe(
    Descriptor,
    /// Whether the version named last is served.
    bool,
);

/// Starts a descriptor.
pub(crate) fn describe(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> Describe {
    Describe(
        Descriptor {
            group: group.into(),
            kind: kind.into(),
            list_kind: format!("{kind}List").into(),
            plural: plural.into(),
            singular: kind.to_lowercase().into(),
            namespaced: true,
            short_names: Vec::new(),
            categories: Vec::new(),
            versions: vec![plain_version(version)],
            hub: version.into(),
            verbs: Verbs::STORED,
            subresources: Vec::new(),
            scale: None,
            stored_as: None,
            ttl_s: 0,
        },
        true,
    )
}

/// A version without defaults and conversions.
pub(crate) fn plain_version(name: &'static str) -> Version {
    Version { name: name.into(), default: |_| (), to_hub: None, from_hub: None, deprecation_warning: None }
}

/// The minor releases (of 1) in which upstream introduced the beta versions that may be served: group, version, the kinds if not all.
const INTRODUCED: &[(&str, &str, &[&str], u32)] = &[
    ("admissionregistration.k8s.io", "v1beta1", &[], 34),
    ("certificates.k8s.io", "v1beta1", &["ClusterTrustBundle"], 33),
    ("coordination.k8s.io", "v1beta1", &[], 33),
    ("resource.k8s.io", "v1beta1", &[], 32),
    (
        "resource.k8s.io",
        "v1beta2",
        &["DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"],
        33,
    ),
];
/// The release that is served here.
const MINOR: u32 = 37;

/// The warning that a beta version earns: three releases after it came it is deprecated, after three more it goes.
fn beta_warning(group: &str, version: &str, kind: &str) -> Option<String> {
    let known = INTRODUCED.iter().find(|(known, of, kinds, _)| {
        *known == group && *of == version && (kinds.is_empty() || kinds.contains(&kind))
    });
    let deprecated = known?.3 + 3;
    let words = "is deprecated in";
    (deprecated <= MINOR).then(|| {
        format!("{group}/{version} {kind} {words} v1.{deprecated}+, unavailable in v1.{}+", deprecated + 3)
    })
}

impl Describe {
    fn last(&mut self) -> Option<&mut Version> {
        self.0.versions.last_mut().filter(|_| self.1)
    }

    pub(crate) fn cluster_scoped(mut self) -> Self {
        self.0.namespaced = false;
        self
    }

    pub(crate) fn short(mut self, names: &[&'static str]) -> Self {
        self.0.short_names = names.iter().map(|name| (*name).into()).collect();
        self
    }

    pub(crate) fn categories(mut self, names: &[&'static str]) -> Self {
        self.0.categories = names.iter().map(|name| (*name).into()).collect();
        self
    }

    pub(crate) fn in_all(mut self) -> Self {
        self.0.categories.push("all".into());
        self
    }

    /// A further version, served like the first.
    pub(crate) fn version(mut self, name: &'static str) -> Self {
        self.1 = true;
        self.0.versions.push(plain_version(name));
        self
    }

    /// A beta version, if it is to be served. What is said of the version named last is said of it, or else of nothing.
    pub(crate) fn also(mut self, config: &RuntimeConfig, name: &'static str) -> Self {
        self.1 = config.serves(&self.0.group, name, &self.0.plural);
        if self.1 { self.version(name).aged() } else { self }
    }

    /// The defaults of the version named last.
    pub(crate) fn defaults(mut self, default: fn(&mut Value)) -> Self {
        if let Some(version) = self.last() {
            version.default = default;
        }
        self
    }

    /// Says of the version named last, a beta, that it is deprecated, if it is.
    pub(crate) fn aged(mut self) -> Self {
        let (group, kind) = (self.0.group.clone(), self.0.kind.clone());
        if let Some(version) = self.last() {
            version.deprecation_warning = beta_warning(&group, &version.name, &kind).map(Into::into);
        }
        self
    }

    /// The warning that a use of the version named last earns.
    pub(crate) fn deprecated(mut self, warning: &'static str) -> Self {
        if let Some(version) = self.last() {
            version.deprecation_warning = Some(warning.into());
        }
        self
    }

    pub(crate) fn status(self) -> Self {
        self.written_in_place("status")
    }

    pub(crate) fn written_in_place(self, name: &'static str) -> Self {
        self.subresource(name, None, READ_WRITE)
    }

    pub(crate) fn subresource(
        mut self,
        name: &'static str,
        body: Option<(&'static str, &'static str, &'static str)>,
        verbs: &'static [&'static str],
    ) -> Self {
        let body = body.map(|(group, version, kind)| (group.into(), version.into(), kind.into()));
        self.0.subresources.push(Subresource { name: name.into(), body, verbs });
        self
    }

    /// The `scale` subresource of a kind that counts `spec.replicas` and `status.replicas`.
    pub(crate) fn scale(mut self) -> Self {
        let path = |keys: [&'static str; 2]| keys.into_iter().map(Into::into).collect();
        self.0.scale = Some(Scale {
            spec_replicas: path(["spec", "replicas"]),
            status_replicas: path(["status", "replicas"]),
            selector: Some(path(["spec", "selector"])),
        });
        self.subresource("scale", Some(("autoscaling", "v1", "Scale")), READ_WRITE)
    }

    pub(crate) fn create_only(mut self) -> Self {
        self.0.verbs = Verbs::CREATE_ONLY;
        self
    }

    /// Objects are worked out when they are asked for.
    pub(crate) fn read_only(mut self) -> Self {
        self.0.verbs = Verbs::READ_ONLY;
        self
    }

    /// Objects are stored as those of another group's kind.
    pub(crate) fn stored_as(mut self, group: &'static str, plural: &'static str) -> Self {
        self.0.stored_as = Some((group.into(), plural.into()));
        self
    }

    /// How the version named last becomes the hub and comes from it.
    pub(crate) fn converted(mut self, to_hub: fn(&mut Value), from_hub: fn(&mut Value)) -> Self {
        if let Some(version) = self.last() {
            (version.to_hub, version.from_hub) = (Some(to_hub), Some(from_hub));
        }
        self
    }

    pub(crate) fn ttl_s(mut self, ttl_s: i64) -> Self {
        self.0.ttl_s = ttl_s;
        self
    }

    pub(crate) fn done(self) -> Descriptor {
        self.0
    }
}
