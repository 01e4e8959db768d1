//! An object of any kind of which only ownership is read.

use super::{Owner, Thing};
use nauplius_kinds::api::meta::ObjectMeta;
use nauplius_kinds::{DecodeError, Object};
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireOwner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    block_owner_deletion: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireMeta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<String>,
    finalizers: Vec<String>,
    owner_references: Vec<WireOwner>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    metadata: WireMeta,
}

/// An object of any kind, decoded as far as its ownership goes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    wire: WireMeta,
    meta: ObjectMeta,
}

impl Seen {
    /// The thing it is, of the resource with that index.
    pub fn thing(self, resource: usize) -> Thing {
        let owner = |owner: WireOwner| Owner {
            uid: owner.uid.into(),
            api_version: owner.api_version.into(),
            kind: owner.kind.into(),
            name: owner.name.into(),
            blocks: owner.block_owner_deletion.unwrap_or(false),
        };
        let wire = self.wire;
        Thing {
            uid: wire.uid.into(),
            resource,
            namespace: wire.namespace.into(),
            name: wire.name.into(),
            owners: wire.owner_references.into_iter().map(owner).collect(),
            finalizers: wire.finalizers.into_iter().map(String::into_boxed_str).collect(),
            is_deleted: wire.deletion_timestamp.is_some(),
            resource_version: wire.resource_version.into(),
        }
    }
}

/// It is read through the typed client, whose requests name the resource themselves.
impl Object for Seen {
    const GROUP: &'static str = "meta.k8s.io";
    const VERSION: &'static str = "v1";
    const API_VERSION: &'static str = "meta.k8s.io/v1";
    const KIND: &'static str = "PartialObjectMetadata";
    const PLURAL: &'static str = "partialobjectmetadata";
    const NAMESPACED: bool = true;

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }

    fn decode(json: &[u8]) -> Result<Self, DecodeError> {
        let wire: Wire = serde_json::from_slice(json)
            .map_err(|error| DecodeError { kind: Self::KIND, message: error.to_string() })?;
        let wire = wire.metadata;
        let meta =
            ObjectMeta { resource_version: Some(wire.resource_version.clone()), ..ObjectMeta::default() };
        Ok(Self { wire, meta })
    }

    fn encode(&self) -> Vec<u8> {
        // Nobody writes what was read in part.
        Vec::new()
    }
}
