//! What is served at a moment: an immutable snapshot of kinds and resources. Built-in kinds are always there, custom ones come and
//! go; one owner swaps the snapshot, and everyone else looks things up in the one that they got. It knows no request.

use super::Resource;
use nauplius_kinds::Kind;
use nauplius_meta::gvk::GroupResource;
use std::collections::HashMap;
use std::sync::Arc;

/// A snapshot.
#[derive(Default)]
pub struct Served {
    /// What discovery and OpenAPI show. A custom resource has a kind of its own for each version.
    kinds: Vec<Arc<dyn Kind>>,
    /// How many of them are built in; these come first.
    builtin: usize,
    resources: HashMap<GroupResource, Vec<Arc<Resource>>>,
    generation: u64,
}

impl Served {
    pub(super) fn new(kinds: Vec<Arc<dyn Kind>>, resources: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let mut served = Self { builtin: kinds.len(), kinds, ..Self::default() };
        resources.into_iter().for_each(|resource| served.insert(resource));
        served
    }

    /// The same built-in kinds with other custom ones.
    pub(super) fn with_custom<'a>(&self, custom: impl IntoIterator<Item = &'a Custom>) -> Self {
        let mut kinds = self.kinds.clone();
        kinds.truncate(self.builtin);
        let mut resources = self.resources.clone();
        resources.retain(|_, versions| versions.iter().any(|resource| !resource.is_custom()));
        let mut served = Self { kinds, resources, builtin: self.builtin, generation: self.generation + 1 };
        for custom in custom {
            if custom.shown {
                served.kinds.extend(custom.versions.iter().map(|resource| Arc::clone(&resource.kind)));
            }
            custom.versions.iter().for_each(|resource| served.insert(Arc::clone(resource)));
        }
        served
    }

    fn insert(&mut self, resource: Arc<Resource>) {
        self.resources.entry(resource.group_resource.clone()).or_default().push(resource);
    }

    /// The kinds that discovery shows.
    pub fn kinds(&self) -> &[Arc<dyn Kind>] {
        &self.kinds
    }

    /// Those of them that are built in.
    pub fn builtin_kinds(&self) -> &[Arc<dyn Kind>] {
        &self.kinds[..self.builtin]
    }

    /// How many versions of custom resources are served.
    pub(crate) fn custom_count(&self) -> usize {
        self.resources.values().flatten().filter(|resource| resource.is_custom()).count()
    }

    /// Moves with every change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A stored resource in any version.
    pub(crate) fn resource(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&GroupResource::new(group, plural))?.first()
    }

    /// A stored resource in a served version.
    pub(crate) fn version(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let versions = self.resources.get(&GroupResource::new(group, plural))?;
        versions.iter().find(|resource| resource.kind.descriptor().version(version).is_some())
    }
}

/// One custom resource in the versions that are served.
#[derive(Clone)]
pub(crate) struct Custom {
    /// Whether discovery shows it.
    pub shown: bool,
    pub versions: Vec<Arc<Resource>>,
}
