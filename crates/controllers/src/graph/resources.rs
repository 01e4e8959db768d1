//! The resources of the API: which there are, and where they are found.

use nauplius_client::api::escape;
use nauplius_kinds::{Kind, builtin};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Objects that live an hour and own nothing: nobody follows them.
const EVENTS: &str = "events";

/// One resource in its preferred version.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// All resources. Custom ones come and go; an index once given means the same resource for ever.
#[derive(Debug)]
pub(crate) struct Resources(RwLock<Vec<Known>>);

#[derive(Debug, Clone)]
struct Known {
    resource: Arc<Resource>,
    is_gone: bool,
}

impl Resources {
    /// The built-in ones.
    pub fn builtin() -> Self {
        let known = |resource| Known { resource: Arc::new(resource), is_gone: false };
        Self(RwLock::new(builtin().iter().filter_map(Resource::of).map(known).collect()))
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Known>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The resource of an index.
    pub fn get(&self, index: usize) -> Arc<Resource> {
        Arc::clone(&self.read()[index].resource)
    }

    /// Those that are served.
    pub fn all(&self) -> Vec<(usize, Arc<Resource>)> {
        let known = self.read();
        let served = known.iter().enumerate().filter(|(_, known)| !known.is_gone);
        served.map(|(index, known)| (index, Arc::clone(&known.resource))).collect()
    }

    /// Those that the graph follows.
    pub fn watched(&self) -> Vec<(usize, Arc<Resource>)> {
        let mut all = self.all();
        all.retain(|(_, resource)| !resource.is_events());
        all
    }

    /// The resource that an owner reference means, whatever version it names.
    pub fn find(&self, api_version: &str, kind: &str) -> Option<usize> {
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let known = self.read();
        known
            .iter()
            .position(|known| !known.is_gone && known.resource.group == group && known.resource.kind == kind)
    }

    /// Whether it is still served.
    pub fn is_served(&self, index: usize) -> bool {
        self.read().get(index).is_some_and(|known| !known.is_gone)
    }

    /// Adds a resource, or finds the index that it had before.
    pub fn add(&self, resource: Resource) -> usize {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = known.iter().position(|known| *known.resource == resource) {
            known[index].is_gone = false;
            return index;
        }
        known.push(Known { resource: Arc::new(resource), is_gone: false });
        known.len() - 1
    }

    /// The resource is no longer served.
    pub fn remove(&self, index: usize) {
        self.0.write().unwrap_or_else(PoisonError::into_inner)[index].is_gone = true;
    }
}
