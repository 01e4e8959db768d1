//! The typed form of an API object: what controllers, the scheduler, the kubelet and the network read and write. This crate
//! alone instantiates serde on the types; everyone else calls [`Object::decode`] and [`Object::encode`]. It knows the
//! shape of objects, never their rules.

use crate::api;
use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Bytes that are not an object of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// The kind that was wanted.
    pub kind: &'static str,
    /// What the decoder said.
    pub message: String,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "cannot decode {}: {}", self.kind, self.message)
    }
}

impl std::error::Error for DecodeError {}

impl DecodeError {
    fn new(kind: &'static str, error: &serde_json::Error) -> Self {
        DecodeError { kind, message: error.to_string() }
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The objects, in the server's order.
    pub items: Vec<T>,
    /// The revision that the list shows.
    pub resource_version: String,
    /// The token of the next page; empty on the last one.
    pub continue_token: String,
}

/// A typed API object in its preferred version.
pub trait Object: Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static {
    /// `""` for the core group.
    const GROUP: &'static str;
    /// `v1`
    const VERSION: &'static str;
    /// `v1` or `apps/v1`
    const API_VERSION: &'static str;
    /// `Pod`
    const KIND: &'static str;
    /// `pods`; for the body of a subresource the name of that subresource (`token`, `scale`, `eviction`).
    const PLURAL: &'static str;
    /// Whether objects live in namespaces.
    const NAMESPACED: bool;

    /// The object's metadata.
    fn meta(&self) -> &ObjectMeta;

    /// The object's metadata, to change it.
    fn meta_mut(&mut self) -> &mut ObjectMeta;

    /// Reads one object from JSON.
    ///
    /// # Errors
    /// When the bytes are not an object of this kind.
    fn decode(json: &[u8]) -> Result<Self, DecodeError>;

    /// Writes JSON with `kind` and `apiVersion`.
    fn encode(&self) -> Vec<u8>;

    /// Reads a list from JSON; its items need no `kind` and `apiVersion`.
    ///
    /// # Errors
    /// When the bytes are not a list of this kind.
    fn decode_list(json: &[u8]) -> Result<Page<Self>, DecodeError> {
        let raw = split_list(json).map_err(|error| DecodeError::new(Self::KIND, &error))?;
        let items = raw.items.iter().map(|item| Self::decode(item.get().as_bytes()));
        Ok(Page {
            items: items.collect::<Result<_, _>>()?,
            resource_version: raw.resource_version,
            continue_token: raw.continue_token,
        })
    }

    /// The name, empty if unset.
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }

    /// The namespace, empty if unset or cluster-scoped.
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }

    /// The uid, empty if unset.
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }

    /// The resourceVersion, empty if unset.
    fn resource_version(&self) -> &str {
        self.meta().resource_version.as_deref().unwrap_or_default()
    }
}

/// The parts of a list that do not depend on the kind of its items, which stay as they came.
pub struct RawList<'a> {
    /// The JSON of each item.
    pub items: Vec<&'a RawValue>,
    /// The revision that the list shows.
    pub resource_version: String,
    /// The token of the next page; empty on the last one.
    pub continue_token: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: String,
}

#[derive(Deserialize)]
struct ListEnvelope<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

/// Splits a list into its items without looking into them.
///
/// # Errors
/// When the bytes are not a list.
pub fn split_list(json: &[u8]) -> Result<RawList<'_>, serde_json::Error> {
    let list: ListEnvelope<'_> = serde_json::from_slice(json)?;
    Ok(RawList {
        // A Go server writes an empty list's items as null.
        items: list.items.unwrap_or_default(),
        resource_version: list.metadata.resource_version,
        continue_token: list.metadata.continue_token,
    })
}

/// One event of a watch stream whose object is still JSON: an object of the watched kind for `ADDED`, `MODIFIED`, `DELETED`
/// and `BOOKMARK`, a Status for `ERROR`.
#[derive(Deserialize)]
pub struct RawWatchEvent<'a> {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    #[serde(rename = "type")]
    pub type_: &'a str,
    /// The JSON of the object, for [`Object::decode`].
    #[serde(borrow)]
    pub object: &'a RawValue,
}

/// Splits one watch event from its object.
///
/// # Errors
/// When the bytes are not a watch event.
pub fn split_watch_event(json: &[u8]) -> Result<RawWatchEvent<'_>, DecodeError> {
    serde_json::from_slice(json).map_err(|error| DecodeError::new("WatchEvent", &error))
}

macro_rules! objects {
    ($($type:ty: $namespaced:literal;)*) => { $(
        impl Object for $type {
            const GROUP: &'static str = <$type as Resource>::GROUP;
            const VERSION: &'static str = <$type as Resource>::VERSION;
            const API_VERSION: &'static str = <$type as Resource>::API_VERSION;
            const KIND: &'static str = <$type as Resource>::KIND;
            const PLURAL: &'static str = <$type as Resource>::URL_PATH_SEGMENT;
            const NAMESPACED: bool = $namespaced;

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }

            fn decode(json: &[u8]) -> Result<Self, DecodeError> {
                serde_json::from_slice(json).map_err(|error| DecodeError::new(<Self as Object>::KIND, &error))
            }

            fn encode(&self) -> Vec<u8> {
                serde_json::to_vec(self).expect("API types have string keys and finite numbers, so JSON holds them")
            }
        }
    )* };
}

objects! {
    api::core::Binding: true;
    api::core::ConfigMap: true;
    api::core::Endpoints: true;
    api::core::Event: true;
    api::core::LimitRange: true;
    api::core::Namespace: false;
    api::core::Node: false;
    api::core::PersistentVolume: false;
    api::core::PersistentVolumeClaim: true;
    api::core::Pod: true;
    api::core::PodTemplate: true;
    api::core::ReplicationController: true;
    api::core::ResourceQuota: true;
    api::core::Secret: true;
    api::core::Service: true;
    api::core::ServiceAccount: true;
    api::apps::ControllerRevision: true;
    api::apps::DaemonSet: true;
    api::apps::Deployment: true;
    api::apps::ReplicaSet: true;
    api::apps::StatefulSet: true;
    api::authentication::SelfSubjectReview: false;
    api::authentication::TokenRequest: true;
    api::authentication::TokenReview: false;
    api::authorization::LocalSubjectAccessReview: true;
    api::authorization::SelfSubjectAccessReview: false;
    api::authorization::SelfSubjectRulesReview: false;
    api::authorization::SubjectAccessReview: false;
    api::autoscaling::Scale: true;
    api::certificates::CertificateSigningRequest: false;
    api::coordination::Lease: true;
    api::discovery::EndpointSlice: true;
    api::networking::IPAddress: false;
    api::networking::ServiceCIDR: false;
    api::policy::Eviction: true;
    api::policy::PodDisruptionBudget: true;
    api::rbac::ClusterRole: false;
    api::rbac::ClusterRoleBinding: false;
    api::rbac::Role: true;
    api::rbac::RoleBinding: true;
    api::scheduling::PriorityClass: false;
    api::storage::StorageClass: false;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_order_revision_and_token() {
        let json = br#"{"kind":"ConfigMapList","metadata":{"resourceVersion":"7","continue":"abc","remainingItemCount":3},
            "items":[{"metadata":{"name":"b","namespace":"n","uid":"u","resourceVersion":"3"}},{"metadata":{"name":"a"}}]}"#;
        let page = api::core::ConfigMap::decode_list(json).expect("a list");
        assert_eq!((page.resource_version.as_str(), page.continue_token.as_str()), ("7", "abc"));
        let names: Vec<_> = page.items.iter().map(Object::name).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(page.items[0].uid(), "u");
    }

    #[test]
    fn an_empty_list_may_be_null() {
        let page = api::core::Pod::decode_list(br#"{"metadata":{"resourceVersion":"1"},"items":null}"#);
        assert!(page.expect("a list").items.is_empty());
    }

    #[test]
    fn a_watch_event_splits_from_its_object() {
        let event = split_watch_event(
            br#"{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p"}}}"#,
        );
        let event = event.expect("an event");
        let pod = api::core::Pod::decode(event.object.get().as_bytes()).expect("a pod");
        assert_eq!((event.type_, pod.name()), ("ADDED", "p"));
    }

    #[test]
    fn another_kind_is_an_error_that_names_the_wanted_one() {
        let error = api::core::Pod::decode(br#"{"kind":"Node","apiVersion":"v1"}"#).expect_err("not a pod");
        assert_eq!(error.kind, "Pod");
    }

    #[test]
    fn encoding_carries_kind_and_api_version() {
        let lease = api::coordination::Lease::default();
        let json = String::from_utf8(lease.encode()).expect("JSON is UTF-8");
        assert_eq!(json, r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{}}"#);
    }
}
