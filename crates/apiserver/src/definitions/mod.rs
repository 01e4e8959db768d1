//! Custom resources: one task watches their definitions, gives them names, serves what they define and stops when they go. It is
//! the only owner of what is served beyond the built-in kinds. Its own writes go through the API like any client's.

pub(crate) mod conditions;
mod convert;
mod ending;
mod plan;
mod serving;

use crate::cache::{ResourceCache, Subscription};
use crate::request::UserInfo;
use crate::server::ApiServer;
use http::Method;
use nauplius_base::backoff::Backoff;
use nauplius_base::task::CancellationToken;
use nauplius_base::time::{self, timeout};
use nauplius_client::{Client, ClientError};
use nauplius_kinds::apiextensions::is_condition_true;
use nauplius_meta::gvk::GroupResource;
use nauplius_meta::object;
use plan::Taken;
use serde_json::Value;
use serving::Serving;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Keeps a definition until the objects of its resource are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// The group of definitions.
pub(crate) const GROUP: &str = "apiextensions.k8s.io";
/// Who writes their status.
pub(crate) const USER: &str = "system:apiserver";
const PLURAL: &str = "customresourcedefinitions";
/// How long an answer waits for definitions that were made a moment before.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// After a failure, definitions are looked at again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How far the watcher of definitions is, for those who must not answer from an older picture.
pub(crate) struct Seen(watch::Sender<i64>);

impl Default for Seen {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

/// Waits until every definition that the cache has by now is acted on: discovery and a path that is not found ask.
pub(crate) async fn settle(server: &ApiServer) {
    let Some(cache) = server.caches().resource(GROUP, PLURAL) else { return };
    let wanted = cache.snapshot().1;
    if *server.definitions.0.borrow() >= wanted {
        return;
    }
    let mut seen = server.definitions.0.subscribe();
    // Who waits in vain gets the older picture.
    let _ = timeout(MAX_WAIT, seen.wait_for(|seen| *seen >= wanted)).await;
}

/// The owner of all definitions.
pub(crate) struct Definitions {
    server: Arc<ApiServer>,
    client: Client,
    cache: Arc<ResourceCache>,
    subscription: Subscription,
    known: BTreeMap<String, Definition>,
    /// Definitions to look at again though they did not change: after a while, or still in this pass.
    open: BTreeSet<String>,
    again: BTreeSet<String>,
}

/// One definition, as it was seen last or written since.
struct Definition {
    revision: i64,
    /// Without its schemas, which are large: what was made of them is in `facts`.
    object: Value,
    facts: Facts,
    serving: Option<Serving>,
}

/// What is kept of the schemas of a definition.
#[derive(Clone, PartialEq, Eq)]
struct Facts {
    /// Tells one spec from another.
    digest: [u8; 32],
    /// What keeps its schemas from being structural.
    violations: Option<String>,
}

impl Facts {
    /// Takes the schemas out of a definition.
    fn take(definition: &mut Value) -> Self {
        let digest = Sha256::digest(definition["spec"].to_string()).into();
        let violations = plan::violations(definition);
        let versions = definition["spec"]["versions"].as_array_mut();
        for version in versions.into_iter().flatten().filter_map(Value::as_object_mut) {
            version.remove("schema");
        }
        Self { digest, violations }
    }
}

impl Definition {
    fn group(&self) -> &str {
        object::get_str(&self.object, &["spec", "group"])
    }

    fn name(&self) -> GroupResource {
        GroupResource::new(self.group(), object::get_str(&self.object, &["spec", "names", "plural"]))
    }

    fn is_ending(&self) -> bool {
        object::deletion_timestamp(&self.object).is_some()
    }
}

impl Definitions {
    /// The owner, having served what was established before. `None` when definitions are no built-in kind of this server.
    pub(crate) async fn start(server: &Arc<ApiServer>) -> Option<Self> {
        let cache = server.caches().resource(GROUP, PLURAL)?;
        let user = match &server.config.bootstrap {
            Some(settings) => settings.loopback.user(),
            // Without a proof of its own the server acts as an administrator.
            None => UserInfo::authenticated(USER, &["system:masters"]),
        };
        let agent = concat!("nauplius/", env!("CARGO_PKG_VERSION"), " (definitions)");
        let client = Client::new(server.transport(user), agent);
        let subscription = cache.subscribe();
        let server = Arc::clone(server);
        let mut owner = Self {
            server,
            client,
            cache,
            subscription,
            known: BTreeMap::new(),
            open: BTreeSet::new(),
            again: BTreeSet::new(),
        };
        owner.pass().await;
        Some(owner)
    }

    /// Follows definitions until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1).with_jitter(0.5);
        loop {
            if self.open.is_empty() {
                backoff.reset();
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    () = self.subscription.changed() => {}
                }
            } else {
                let again = self.looks_again_soon();
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    () = self.subscription.changed() => {}
                    () = ending::some_object_went(&again), if !again.is_empty() => {}
                    () = time::sleep(backoff.next_delay()) => {}
                }
            }
            if shutdown.run_until_cancelled(self.pass()).await.is_none() {
                return Ok(());
            }
        }
    }

    /// The caches of resources whose objects are being deleted.
    fn looks_again_soon(&self) -> Vec<Arc<ResourceCache>> {
        let ending = self.known.values().filter(|definition| definition.is_ending());
        ending.filter_map(|definition| Some(Arc::clone(&definition.serving.as_ref()?.cache))).collect()
    }

    /// Acts on everything that changed since the last pass.
    async fn pass(&mut self) {
        let (snapshot, revision) = self.cache.snapshot();
        let mut changed = std::mem::take(&mut self.open);
        let mut present = BTreeSet::new();
        let mut position = snapshot.seek(b"");
        while let Some(entry) = snapshot.at(position) {
            position = snapshot.after(position);
            present.insert(entry.name().to_owned());
            if self.known.get(entry.name()).is_some_and(|known| known.revision >= entry.revision()) {
                continue;
            }
            match entry.object() {
                Ok(object) => self.note(entry.name(), entry.revision(), object),
                Err(error) => tracing::error!(%error, "a definition is not served"),
            }
            changed.insert(entry.name().to_owned());
        }
        changed.extend(self.forget_missing(&present));
        let before = self.shown();
        let any = !changed.is_empty();
        while let Some(name) = changed.pop_first() {
            self.look_at(&name).await;
            changed.append(&mut self.again);
        }
        self.publish(&before, any);
        self.server.definitions.0.send_replace(revision);
    }

    fn note(&mut self, name: &str, revision: i64, mut object: Value) {
        let facts = Facts::take(&mut object);
        match self.known.get_mut(name) {
            Some(known) => (known.revision, known.object, known.facts) = (revision, object, facts),
            None => {
                let definition = Definition { revision, object, facts, serving: None };
                self.known.insert(name.to_owned(), definition);
            }
        }
    }

    /// Drops what is gone. The others of its group may get its names now.
    fn forget_missing(&mut self, present: &BTreeSet<String>) -> Vec<String> {
        let gone: Vec<String> = self.known.keys().filter(|name| !present.contains(*name)).cloned().collect();
        let mut again = Vec::new();
        for name in gone {
            let Some(definition) = self.known.remove(&name) else { continue };
            self.server.caches().forget_resource(&definition.name());
            again.extend(self.of_group(definition.group()));
            again.push(name);
        }
        again
    }

    fn of_group(&self, group: &str) -> Vec<String> {
        let own = self.known.iter().filter(|(_, definition)| definition.group() == group);
        own.map(|(name, _)| name.clone()).collect()
    }

    async fn look_at(&mut self, name: &str) {
        if let Err(error) = self.advance(name).await {
            // A conflict means that a newer form is on its way.
            if !error.is_conflict() && !error.is_not_found() {
                tracing::warn!(definition = name, %error, "a definition is tried again");
                self.open.insert(name.to_owned());
            }
        }
    }

    /// One definition, as far as it can go now.
    async fn advance(&mut self, name: &str) -> Result<(), ClientError> {
        let Some(definition) = self.known.get(name) else { return Ok(()) };
        if definition.is_ending() {
            return self.end(name).await;
        }
        let (taken, violations) = (self.taken(definition.group()), definition.facts.violations.as_deref());
        if let Some(new) = plan::status(&definition.object, &taken, violations, time::now()) {
            self.write_status(name, new).await?;
            let group = self.known.get(name).map(|own| own.group().to_owned()).unwrap_or_default();
            // They may have waited for a name that was given up.
            let mut others = self.of_group(&group);
            others.retain(|other| other != name && self.waits_for_names(other));
            self.again.extend(others);
        }
        self.serve(name).await;
        let served = self.known.get(name).filter(|definition| definition.serving.is_some());
        let new = served.and_then(|definition| plan::established(&definition.object, time::now()));
        if let Some(new) = new {
            // Whoever reads that it is established finds it served.
            self.publish_all();
            self.write_status(name, new).await?;
        }
        Ok(())
    }

    fn waits_for_names(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|own| !is_condition_true(&own.object, "NamesAccepted"))
    }

    fn taken(&self, group: &str) -> Taken {
        let mut taken = Taken::default();
        let own = self.known.values().filter(|definition| definition.group() == group);
        own.for_each(|definition| taken.add(&definition.object));
        taken
    }

    /// Serves a definition whose names were accepted, as its spec is now.
    async fn serve(&mut self, name: &str) {
        let Some(definition) = self.known.get_mut(name) else { return };
        let accepted = is_condition_true(&definition.object, "NamesAccepted")
            || is_condition_true(&definition.object, "Established");
        let names = &definition.object["status"]["acceptedNames"];
        let is_current =
            definition.serving.as_ref().is_some_and(|serving| serving.is_of(&definition.facts.digest, names));
        if !accepted || is_current {
            return;
        }
        // Its schemas are in the cache. A newer form than the one that was seen comes again.
        let Some(whole) = self.cache.get("", name).and_then(|entry| entry.object().ok()) else { return };
        if Sha256::digest(whole["spec"].to_string())[..] != definition.facts.digest {
            return;
        }
        match Serving::start(&self.server, &whole, names, definition.facts.digest).await {
            Ok(serving) => definition.serving = Some(serving),
            Err(error) => {
                tracing::warn!(definition = name, %error, "a resource cannot be served yet");
                self.open.insert(name.to_owned());
            }
        }
    }

    async fn write_status(&mut self, name: &str, new: Value) -> Result<(), ClientError> {
        let path = format!("/apis/{GROUP}/v1/{PLURAL}/{}/status", nauplius_client::api::escape(name));
        // A status is all that this changes; the rest of the stored object stays.
        let body = new.to_string().into_bytes();
        let answer = self.client.request(Method::PUT, &path, Some("application/json"), Some(body)).await?;
        let written: Value =
            serde_json::from_slice(&answer).map_err(|error| ClientError::Body(error.to_string()))?;
        let revision = object::resource_version(&written).parse().unwrap_or(0);
        // Removing the last finalizer removes the object: its next form is none.
        if let Some(known) = self.known.get_mut(name)
            && revision > known.revision
        {
            let mut written = written;
            let facts = Facts::take(&mut written);
            (known.revision, known.object, known.facts) = (revision, written, facts);
        }
        Ok(())
    }

    /// The resources that discovery shows, to see whether that changes.
    fn shown(&self) -> BTreeSet<(String, usize)> {
        let shown = self.known.iter().filter_map(|(name, definition)| {
            let serving = definition.serving.as_ref()?;
            is_condition_true(&definition.object, "Established").then(|| (name.clone(), serving.identity()))
        });
        shown.collect()
    }

    fn publish(&self, before: &BTreeSet<(String, usize)>, changed: bool) {
        if changed && (*before != self.shown() || self.serves_other_than_published()) {
            self.publish_all();
        }
    }

    fn serves_other_than_published(&self) -> bool {
        let served = self.server.served();
        let published = served.custom_count();
        let own = self.known.values().filter_map(|definition| definition.serving.as_ref());
        published != own.map(|serving| serving.versions.len()).sum::<usize>()
    }

    fn publish_all(&self) {
        let custom = self.known.values().filter_map(|definition| {
            let serving = definition.serving.as_ref()?;
            Some(serving.custom(is_condition_true(&definition.object, "Established")))
        });
        let custom: Vec<_> = custom.collect();
        self.server.registry.set_custom(&custom);
    }
}
