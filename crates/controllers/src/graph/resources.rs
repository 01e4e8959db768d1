//! The resources of the API: which there are, and where they are found.

use nauplius_client::api::escape;
use nauplius_kinds::{Kind, builtin};
use std::ops::Index;
use std::sync::Arc;

/// Objects that live an hour and own nothing: nobody follows them.
const EVENTS: &str = "events";

/// One resource in its preferred version.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
}

impl Resource {
    fn of(kind: &Arc<dyn Kind>) -> Option<Self> {
        let descriptor = kind.descriptor();
        if !descriptor.verbs.stored || descriptor.stored_as.is_some() {
            return None;
        }
        Some(Self {
            group: descriptor.group.to_string(),
            version: descriptor.versions.first()?.name.to_string(),
            kind: descriptor.kind.to_string(),
            plural: descriptor.plural.to_string(),
            namespaced: descriptor.namespaced,
        })
    }

    pub fn is_events(&self) -> bool {
        self.group.is_empty() && self.plural == EVENTS
    }

    pub fn is_pods(&self) -> bool {
        self.group.is_empty() && self.plural == "pods"
    }

    /// `v1`, `apps/v1`
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The path of all objects, of a namespace's, or of one.
    pub fn path(&self, namespace: &str, name: Option<&str>) -> String {
        let mut path = if self.group.is_empty() { "/api/".to_owned() } else { "/apis/".to_owned() };
        path.push_str(&self.api_version());
        if self.namespaced && !namespace.is_empty() {
            path.push_str("/namespaces/");
            path.push_str(&escape(namespace));
        }
        path.push('/');
        path.push_str(&self.plural);
        if let Some(name) = name {
            path.push('/');
            path.push_str(&escape(name));
        }
        path
    }
}

/// All resources.
#[derive(Debug, Clone)]
pub(crate) struct Resources(Vec<Resource>);

impl Resources {
    /// The built-in ones.
    pub fn builtin() -> Self {
        Self(builtin().iter().filter_map(Resource::of).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &Resource)> {
        self.0.iter().enumerate()
    }

    /// Those that the graph follows.
    pub fn watched(&self) -> impl Iterator<Item = (usize, &Resource)> {
        self.iter().filter(|(_, resource)| !resource.is_events())
    }

    /// The resource that an owner reference means, whatever version it names.
    pub fn find(&self, api_version: &str, kind: &str) -> Option<usize> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        self.iter()
            .find(|(_, resource)| resource.group == group && resource.kind == kind)
            .map(|(index, _)| index)
    }
}

impl Index<usize> for Resources {
    type Output = Resource;

    fn index(&self, index: usize) -> &Resource {
        &self.0[index]
    }
}
