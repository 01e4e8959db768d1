//! What the scheduler follows of storage: claims, volumes and classes, and what a pod's claims come to in these caches. It decides
//! nothing.

use crate::volumes::{Wanted, claim_names, class_name, volume_name};
use nauplius_base::task::Group;
use nauplius_client::{Client, ListOptions};
use nauplius_kinds::Object;
use nauplius_kinds::api::core::{PersistentVolume, PersistentVolumeClaim, Pod};
use nauplius_kinds::api::storage::StorageClass;
use nauplius_reconcile::{Informer, Key};

/// The caches.
pub struct Storage {
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
}

impl Storage {
    /// Caches that are not followed yet.
    pub fn new(client: &Client) -> Self {
        Self {
            claims: Informer::new(client.all::<PersistentVolumeClaim>(), ListOptions::default()),
            volumes: Informer::new(client.all::<PersistentVolume>(), ListOptions::default()),
            classes: Informer::new(client.all::<StorageClass>(), ListOptions::default()),
        }
    }

    /// Calls `changed` with each claim that changes.
    pub fn on_claim(&self, changed: impl Fn(Key) + Send + 'static) {
        self.claims.on_change(move |change| changed(Key::of(&**change.object())));
    }

    /// Calls `changed` when a volume or a class changes.
    pub fn on_volume(&self, changed: impl Fn() + Clone + Send + 'static) {
        let class_changed = changed.clone();
        self.volumes.on_change(move |_| changed());
        self.classes.on_change(move |_| class_changed());
    }

    /// Follows them.
    pub fn start(&self, group: &Group) {
        group.spawn("scheduler: claims", self.claims.clone().run(group.token()));
        group.spawn("scheduler: volumes", self.volumes.clone().run(group.token()));
        group.spawn("scheduler: storage classes", self.classes.clone().run(group.token()));
    }

    /// Waits until all are filled.
    pub async fn synced(&self) {
        tokio::join!(self.claims.synced(), self.volumes.synced(), self.classes.synced());
    }

    /// The claims that a pod names, with what is known of them.
    pub fn wanted(&self, pod: &Pod) -> Vec<Wanted> {
        claim_names(pod).map(|(name, is_ephemeral)| self.look_up(pod, &name, is_ephemeral)).collect()
    }

    fn look_up(&self, pod: &Pod, name: &str, is_ephemeral: bool) -> Wanted {
        let claim = self.claims.snapshot().find(pod.namespace(), name).cloned();
        let by_name = |of: fn(&PersistentVolumeClaim) -> &str| claim.as_deref().map_or("", of);
        let volume = self.volumes.snapshot().find("", by_name(volume_name)).cloned();
        let class = self.classes.snapshot().find("", by_name(class_name)).cloned();
        Wanted { name: name.to_owned(), is_ephemeral, claim, volume, class }
    }
}
