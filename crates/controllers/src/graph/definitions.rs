//! The definitions of custom resources, as far as the graph needs them: each resource that is served is followed from its
//! definition's word on, until that goes.

use super::resources::Resource;
use super::{Follower, Graph};
use nauplius_base::task::{CancellationToken, Group};
use nauplius_client::{Client, ClientError, ListOptions};
use nauplius_kinds::api::meta::ObjectMeta;
use nauplius_kinds::{DecodeError, Object};
use nauplius_reconcile::{Change, Informer};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
struct Spec {
    group: String,
    scope: String,
    versions: Vec<Version>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
struct Version {
    name: String,
    served: bool,
    storage: bool,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    accepted_names: Names,
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
struct Names {
    plural: String,
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(rename = "type")]
    ty: String,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireMeta {
    name: String,
    resource_version: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Wire {
    metadata: WireMeta,
    spec: Spec,
    status: Status,
}

/// A definition, decoded as far as it says what is served.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Definition {
    meta: ObjectMeta,
    spec: Spec,
    status: Status,
}

impl Definition {
    /// What it defines, once that is served: in the stored version if that is served, so that nothing is converted.
    pub(crate) fn resource(&self) -> Option<Resource> {
        let conditions = self.status.conditions.iter().flatten();
        let is_established =
            |condition: &Condition| condition.ty == "Established" && condition.status == "True";
        if !conditions.into_iter().any(is_established) {
            return None;
        }
        let served = || self.spec.versions.iter().filter(|version| version.served);
        let version = served().find(|version| version.storage).or_else(|| served().next())?;
        Some(Resource {
            group: self.spec.group.clone(),
            version: version.name.clone(),
            kind: self.status.accepted_names.kind.clone(),
            plural: self.status.accepted_names.plural.clone(),
            namespaced: self.spec.scope == "Namespaced",
        })
    }
}

impl Object for Definition {
    const GROUP: &'static str = "apiextensions.k8s.io";
    const VERSION: &'static str = "v1";
    const API_VERSION: &'static str = "apiextensions.k8s.io/v1";
    const KIND: &'static str = "CustomResourceDefinition";
    const PLURAL: &'static str = "customresourcedefinitions";
    const NAMESPACED: bool = false;

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }

    fn decode(json: &[u8]) -> Result<Self, DecodeError> {
        let wire: Wire = serde_json::from_slice(json)
            .map_err(|error| DecodeError { kind: Self::KIND, message: error.to_string() })?;
        let WireMeta { name, resource_version } = wire.metadata;
        let meta = ObjectMeta {
            name: Some(name),
            resource_version: Some(resource_version),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, spec: wire.spec, status: wire.status })
    }

    fn encode(&self) -> Vec<u8> {
        // Nobody writes what was read in part.
        Vec::new()
    }
}

/// What is served by definition right now, from the server's mouth.
pub(crate) async fn listed(client: &Client) -> Result<Vec<Resource>, ClientError> {
    match client.all::<Definition>().list(&ListOptions::default()).await {
        Ok(page) => Ok(page.items.iter().filter_map(Definition::resource).collect()),
        // A server without custom resources has none.
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

struct Followed {
    index: usize,
    resource: Resource,
    end: CancellationToken,
}

struct Following {
    graph: Arc<Graph>,
    client: Client,
    group: Group,
    followed: Mutex<HashMap<String, Followed>>,
}

/// Follows definitions, and what they define, from now on.
pub(super) fn follow(graph: &Arc<Graph>, client: &Client, group: &Group) {
    let informer: Informer<Definition> = Informer::new(client.all(), ListOptions::default());
    let following = Following {
        graph: Arc::clone(graph),
        client: client.clone(),
        group: group.clone(),
        followed: Mutex::default(),
    };
    informer.on_change(move |change| match change {
        Change::Deleted(definition) => following.set(definition.name(), None),
        Change::Added(definition) | Change::Updated { new: definition, .. } => {
            following.set(definition.name(), definition.resource());
        }
    });
    group.spawn("garbage collector: definitions", informer.run(group.token()));
}

impl Following {
    fn set(&self, name: &str, resource: Option<Resource>) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if followed.get(name).map(|known| &known.resource) == resource.as_ref() {
            return;
        }
        if let Some(old) = followed.remove(name) {
            old.end.cancel();
            self.graph.resources.remove(old.index);
        }
        let Some(resource) = resource else { return };
        let index = self.graph.resources.add(resource.clone());
        let end = self.group.token().child_token();
        let follower = Follower::new(Arc::clone(&self.graph), self.client.clone(), index).unawaited();
        let task = format!("garbage collector: {}", resource.plural);
        self.group.spawn_until(task, end.clone(), follower.run_until(self.group.token(), end.clone()));
        followed.insert(name.to_owned(), Followed { index, resource, end });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(json: &str) -> Option<Resource> {
        Definition::decode(json.as_bytes()).unwrap().resource()
    }

    #[test]
    fn a_definition_says_what_is_served() {
        let text = r#"{"metadata": {"name": "tabs.example.com", "resourceVersion": "7"}, "spec": {"group": "example.com",
            "scope": "Namespaced", "versions": [{"name": "v2", "served": true}, {"name": "v1", "served": true, "storage": true}]},
            "status": {"acceptedNames": {"plural": "tabs", "kind": "Tab"}, "conditions": [{"type": "Established", "status": "True"}]}}"#;
        let resource = definition(text).unwrap();
        assert_eq!(resource.path("n", Some("a")), "/apis/example.com/v1/namespaces/n/tabs/a");
        assert_eq!(definition(&text.replace("\"True\"", "\"False\"")), None);
        assert_eq!(definition(r#"{"metadata": {"name": "x"}, "status": {"conditions": null}}"#), None);
    }

    #[test]
    fn an_index_means_the_same_resource_for_ever() {
        let resources = super::super::resources::Resources::builtin();
        let resource = |plural: &str| Resource {
            group: "example.com".to_owned(),
            version: "v1".to_owned(),
            kind: "Tab".to_owned(),
            plural: plural.to_owned(),
            namespaced: true,
        };
        let first = resources.add(resource("tabs"));
        assert_eq!(resources.find("example.com/v9", "Tab"), Some(first));
        resources.remove(first);
        assert_eq!(resources.find("example.com/v1", "Tab"), None);
        let second = resources.add(resource("others"));
        assert_ne!(first, second);
        assert_eq!(resources.add(resource("tabs")), first);
        assert_eq!(resources.get(first).plural, "tabs");
    }
}
