//! The end of a definition: nothing is created any more, its objects are deleted, and when the last is gone the definition goes.

use super::conditions::{Condition, NEVER_ESTABLISHED, TERMINATION_COMPLETED, TERMINATION_IN_PROGRESS, set};
use super::{CLEANUP, Definitions, plan};
use crate::cache::ResourceCache;
use futures_util::future::select_all;
use http::Method;
use nauplius_base::time;
use nauplius_client::ClientError;
use nauplius_client::api::escape;
use nauplius_kinds::apiextensions::is_condition_true;
use nauplius_meta::object;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Waits until an object of one of these resources has changed.
pub(super) async fn some_object_went(caches: &[Arc<ResourceCache>]) {
    let mut subscriptions: Vec<_> = caches.iter().map(|cache| cache.subscribe()).collect();
    let changes = subscriptions.iter_mut().map(|subscription| Box::pin(subscription.changed()));
    select_all(changes).await;
}

impl Definitions {
    /// One step towards the end; it is taken again whenever an object goes.
    pub(super) async fn end(&mut self, name: &str) -> Result<(), ClientError> {
        let Some(definition) = self.known.get(name) else { return Ok(()) };
        if !object::finalizers(&definition.object).contains(&CLEANUP) {
            return Ok(());
        }
        if definition.serving.is_none() && is_condition_true(&definition.object, "Established") {
            self.serve(name).await;
        }
        let Some(definition) = self.known.get(name) else { return Ok(()) };
        if let Some(serving) = &definition.serving {
            serving.versions.iter().for_each(|resource| resource.end());
        }
        if !is_condition_true(&definition.object, "Established") {
            let released = plan::released(&definition.object, &NEVER_ESTABLISHED, time::now());
            return self.write_status(name, released).await;
        }
        if !TERMINATION_IN_PROGRESS.is_in(&definition.object) {
            let mut new = definition.object.clone();
            set(&mut new, &TERMINATION_IN_PROGRESS, time::now());
            self.write_status(name, new).await?;
        }
        self.delete_objects(name).await
    }

    async fn delete_objects(&mut self, name: &str) -> Result<(), ClientError> {
        let Some(definition) = self.known.get(name) else { return Ok(()) };
        let Some(serving) = &definition.serving else {
            self.open.insert(name.to_owned());
            return Ok(());
        };
        if let Err(error) = self.server.caches().catch_up().await {
            tracing::debug!(%error, "the objects of a definition are counted later");
            self.open.insert(name.to_owned());
            return Ok(());
        }
        let (snapshot, _) = serving.cache.snapshot();
        if snapshot.is_empty() {
            let released = plan::released(&definition.object, &TERMINATION_COMPLETED, time::now());
            return self.write_status(name, released).await;
        }
        let mut namespaces = BTreeSet::new();
        let mut position = snapshot.seek(b"");
        while let Some(entry) = snapshot.at(position) {
            position = snapshot.after(position);
            let is_going = entry.object().is_ok_and(|object| object::deletion_timestamp(&object).is_some());
            if !is_going {
                namespaces.insert(entry.namespace().to_owned());
            }
        }
        self.open.insert(name.to_owned());
        let Some(path) = self.collection(&definition.object) else { return Ok(()) };
        for namespace in namespaces {
            let deleted = self.delete_collection(&path, &namespace).await;
            if let Err(error) = deleted {
                let message = format!("could not issue all deletes: {error}").into();
                let failed = Condition {
                    ty: "Terminating",
                    status: "True",
                    reason: "InstanceDeletionFailed",
                    message,
                };
                self.tell(name, &failed).await?;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn tell(&mut self, name: &str, condition: &Condition) -> Result<(), ClientError> {
        let Some(definition) = self.known.get(name) else { return Ok(()) };
        if condition.is_in(&definition.object) {
            return Ok(());
        }
        let mut new = definition.object.clone();
        set(&mut new, condition, time::now());
        self.write_status(name, new).await
    }

    /// Group, version and plural under which the objects can be deleted.
    fn collection(&self, definition: &Value) -> Option<(String, String)> {
        let serving = self.known.get(object::name(definition))?.serving.as_ref()?;
        let descriptor = serving.versions.first()?.kind.descriptor();
        let root = format!("/apis/{}/{}", descriptor.group, descriptor.versions.first()?.name);
        Some((root, descriptor.plural.to_string()))
    }

    async fn delete_collection(&self, path: &(String, String), namespace: &str) -> Result<(), ClientError> {
        let (root, plural) = path;
        let path = match namespace {
            "" => format!("{root}/{plural}"),
            namespace => format!("{root}/namespaces/{}/{plural}", escape(namespace)),
        };
        self.client.request(Method::DELETE, &path, None, None).await.map(|_| ())
    }
}
