//! A definition that is served: the cache of its objects and a resource for each served version. A definition that changed is
//! served anew, and what was served before ends.

use super::convert::{self, Converter};
use crate::cache::ResourceCache;
use crate::registry::form::{Convert, Form};
use crate::registry::{Custom, Resource};
use crate::server::ApiServer;
use nauplius_kinds::Kind;
use nauplius_kinds::apiextensions::custom::CustomResource;
use nauplius_kinds::apiextensions::storage_version;
use nauplius_meta::object;
use nauplius_store::StoreError;
use serde_json::Value;
use std::sync::Arc;

/// Why a definition is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotServed {
    #[error("it has no storage version")]
    NoStorageVersion,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Converter(#[from] convert::BadClient),
}

/// What is served of one definition.
pub(super) struct Serving {
    /// What it was made from.
    digest: [u8; 32],
    names: Value,
    pub cache: Arc<ResourceCache>,
    pub versions: Vec<Arc<Resource>>,
}

impl Serving {
    /// Loads the objects of a definition and makes its resources; nobody sees them yet.
    pub(super) async fn start(
        server: &Arc<ApiServer>,
        definition: &Value,
        names: &Value,
        digest: [u8; 32],
    ) -> Result<Self, NotServed> {
        let spec = &definition["spec"];
        let stored = storage_version(definition).ok_or(NotServed::NoStorageVersion)?;
        let kind = |version: &str| CustomResource::new(definition, names, version).map(Arc::new);
        let stored_kind = kind(stored).ok_or(NotServed::NoStorageVersion)?;
        let converter = Converter::of(server, definition)?;
        let cache = server.caches().follow_resource(Arc::clone(&stored_kind) as Arc<dyn Kind>).await?;
        let mut versions = Vec::new();
        for version in
            object::get_array(spec, &["versions"]).iter().filter(|version| version["served"] == true)
        {
            let name = object::get_str(version, &["name"]);
            let own = if name == stored { Some(Arc::clone(&stored_kind)) } else { kind(name) };
            let Some(own) = own else { continue };
            let group = object::get_str(spec, &["group"]);
            let api_version = |version: &str| format!("{group}/{version}");
            // A webhook may find objects of an older version below any version.
            let converts = name != stored || converter.is_webhook();
            let form = converts.then(|| {
                let converter = Arc::clone(&converter) as Arc<dyn Convert>;
                let kind = object::get_str(names, &["kind"]);
                Form::new(converter, kind, api_version(name), api_version(stored))
            });
            let own: Arc<dyn Kind> = own;
            versions.push(Arc::new(Resource::custom(&server.config, &own, Arc::clone(&cache), form)));
        }
        Ok(Self { digest, names: names.clone(), cache, versions })
    }

    /// Whether it is what the definition says now.
    pub(super) fn is_of(&self, digest: &[u8; 32], names: &Value) -> bool {
        self.digest == *digest && self.names == *names
    }

    /// Tells one serving from another.
    pub(super) fn identity(&self) -> usize {
        Arc::as_ptr(&self.cache) as usize
    }

    /// What the registry serves.
    pub(super) fn custom(&self, shown: bool) -> Custom {
        Custom { shown, versions: self.versions.clone() }
    }
}
