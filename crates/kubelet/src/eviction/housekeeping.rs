//! Looks at the node every ten seconds, tells what it is short of, wins it back, and every five minutes removes images that nobody
//! uses from a disk that fills up.

use super::judge::{self, Short};
use super::local::{self, Written};
use super::observe::{self, Observations};
use super::rank::{self, Usage};
use super::{Pressure, Sentence, Shortage, is_critical};
use crate::context::Context;
use crate::image_gc::{self, Image, Known};
use crate::names;
use crate::node::report;
use crate::pod::facts;
use crate::spec::sandbox;
use crate::volumes::place;
use nauplius_base::task::CancellationToken;
use nauplius_base::time::{self, Instant, MissedTickBehavior};
use nauplius_cri::{CriError, v1};
use nauplius_kinds::Object;
use nauplius_kinds::api::core::Pod;
use nauplius_kinds::pod::is_active;
use nauplius_reconcile::EventKind;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const LOOK: Duration = Duration::from_secs(10);
const IMAGES: Duration = Duration::from_secs(300);
/// What is evicted for a hard threshold or its own limits gets so long.
const HARD_GRACE_S: i64 = 1;

struct Keeper {
    context: Arc<Context>,
    pressure: watch::Sender<Pressure>,
    shortages: watch::Sender<Option<Vec<Shortage>>>,
    sentences: mpsc::Sender<Sentence>,
    state: judge::State,
    images: Known,
    image_root: Option<PathBuf>,
    started: Instant,
    sentenced: BTreeSet<String>,
}

/// Keeps house until shutdown. There are no `shortages` before the first look.
///
/// # Errors
/// Never: what cannot be done now is tried at the next look.
pub async fn run(
    context: Arc<Context>,
    pressure: watch::Sender<Pressure>,
    shortages: watch::Sender<Option<Vec<Shortage>>>,
    sentences: mpsc::Sender<Sentence>,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let mut keeper = Keeper {
        context,
        pressure,
        shortages,
        sentences,
        state: judge::State::default(),
        images: Known::default(),
        image_root: None,
        started: time::monotonic(),
        sentenced: BTreeSet::new(),
    };
    shutdown.run_until_cancelled(keeper.keep()).await;
    Ok(())
}

impl Keeper {
    async fn keep(&mut self) {
        self.image_root = self.find_images().await;
        let mut looks = time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut images = time::interval(IMAGES);
        images.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => self.look().await,
                _ = images.tick() => self.collect().await,
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn find_images(&self) -> Option<PathBuf> {
        let info = self.context.images.image_fs_info(v1::ImageFsInfoRequest {}).await;
        // A runtime that does not tell keeps them on the node's disk, as far as we know.
        let info = info
            .map_err(|error| tracing::debug!(%error, "the runtime does not tell where images are"))
            .ok()?;
        let mountpoint = info.image_filesystems.first()?.fs_id.as_ref()?.mountpoint.clone();
        Some(PathBuf::from(mountpoint))
    }

    fn observe(&self) -> Observations {
        observe::observe(&self.context.config.root_dir, self.image_root.as_deref())
    }

    async fn look(&mut self) {
        let (observations, now) = (self.observe(), self.now());
        let (pressure, short) =
            judge::judge(&mut self.state, &self.context.config.eviction, &observations, now);
        self.pressure.send_if_modified(|known| std::mem::replace(known, pressure) != pressure);
        self.shortages.send_replace(Some(judge::shortages(&self.state, &self.context.config.eviction)));
        let pods = self.active();
        self.sentenced.retain(|uid| pods.iter().any(|pod| pod.uid() == uid));
        if self.punish_writers(&pods).await {
            return;
        }
        if let Some(short) = short {
            self.win_back(short, &pods).await;
        }
    }

    fn active(&self) -> Vec<Arc<Pod>> {
        let pods = self.context.pods.snapshot();
        pods.iter().filter(|pod| is_active(pod) && !facts::deleting(pod)).cloned().collect()
    }

    /// True when a pod wrote more than it may.
    async fn punish_writers(&mut self, pods: &[Arc<Pod>]) -> bool {
        let limited: Vec<Arc<Pod>> = pods
            .iter()
            .filter(|pod| local::has_limits(pod) && !is_critical(pod) && !self.sentenced.contains(pod.uid()))
            .cloned()
            .collect();
        if limited.is_empty() {
            return false;
        }
        let stats = self.stats().await;
        let mut punished = false;
        for pod in limited {
            let written = self.written(&pod, &stats).await;
            if let Some(message) = local::exceeded(&pod, &written) {
                self.sentence(&pod, message, HARD_GRACE_S).await;
                punished = true;
            }
        }
        punished
    }

    async fn win_back(&mut self, short: Short, pods: &[Arc<Pod>]) {
        let resource = short.signal.resource();
        tracing::warn!(resource, available = %short.available, threshold = %short.threshold, "the node runs short");
        let message = format!("Attempting to reclaim {resource}");
        report::record(&self.context, EventKind::Warning, "EvictionThresholdMet", message);
        if short.signal.is_disk() {
            self.free(i64::MAX).await;
            let mut state = self.state.clone();
            let again =
                judge::judge(&mut state, &self.context.config.eviction, &self.observe(), self.now()).1;
            if again.is_none_or(|again| again.signal != short.signal) {
                return;
            }
        }
        let mut usages = self.usages(pods).await;
        rank::rank(&mut usages, resource);
        let first =
            usages.iter().find(|usage| !is_critical(&usage.pod) && !self.sentenced.contains(usage.pod.uid()));
        let Some(usage) = first else {
            tracing::warn!(resource, "no pod is left that could be evicted");
            return;
        };
        let grace_s = if short.is_hard { HARD_GRACE_S } else { self.context.config.eviction.max_grace_s };
        let (pod, message) = (Arc::clone(&usage.pod), rank::message(&short, usage));
        self.sentence(&pod, message, grace_s).await;
    }

    async fn sentence(&mut self, pod: &Pod, message: String, grace_s: i64) {
        tracing::warn!(pod = pod.name(), namespace = pod.namespace(), message, "a pod is evicted");
        self.sentenced.insert(pod.uid().to_owned());
        // The owner of the pods ends with the kubelet.
        let _ = self.sentences.send(Sentence { uid: pod.uid().to_owned(), message, grace_s }).await;
    }

    async fn stats(&self) -> Vec<v1::PodSandboxStats> {
        let request = v1::ListPodSandboxStatsRequest { filter: None };
        match self.context.runtime.list_pod_sandbox_stats(request).await {
            Ok(answer) => answer.stats,
            Err(error) => {
                tracing::warn!(%error, "the runtime does not tell what pods use");
                Vec::new()
            }
        }
    }

    async fn written(&self, pod: &Arc<Pod>, stats: &[v1::PodSandboxStats]) -> Written {
        let config = &self.context.config;
        let (root, logs) = (config.root_dir.clone(), sandbox::log_directory(&config.log_dir, pod));
        let layers: Vec<(String, i64)> =
            containers(pod, stats).map(|(name, stats)| (name, layer(stats).0)).collect();
        let pod = Arc::clone(pod);
        let measure = move || {
            let mut written = Written::default();
            for volume in facts::spec(&pod).volumes.iter().flatten() {
                let is_disk = volume
                    .empty_dir
                    .as_ref()
                    .is_some_and(|source| source.medium.as_deref().unwrap_or_default().is_empty());
                if let Some(directory) = place::volume(&root, &pod, volume).filter(|_| is_disk) {
                    written.volumes.insert(volume.name.clone(), observe::usage(&directory).0);
                }
            }
            for (name, layer) in layers {
                let logs = observe::usage(&logs.join(&name)).0;
                written.containers.insert(name, layer.saturating_add(logs));
            }
            written
        };
        // A task that panicked has measured nothing.
        tokio::task::spawn_blocking(measure).await.unwrap_or_default()
    }

    async fn usages(&self, pods: &[Arc<Pod>]) -> Vec<Usage> {
        let stats = self.stats().await;
        let mut usages = Vec::new();
        for pod in pods {
            let written = self.written(pod, &stats).await;
            usages.push(usage(pod, &written, &stats));
        }
        usages
    }

    async fn list_images(&self) -> Result<Vec<Image>, CriError> {
        let images = self.context.images.list_images(v1::ListImagesRequest { filter: None }).await?.images;
        let containers = self
            .context
            .runtime
            .list_containers(v1::ListContainersRequest { filter: None })
            .await?
            .containers;
        let used: BTreeSet<String> =
            containers.into_iter().flat_map(|container| [container.image_id, container.image_ref]).collect();
        let seen = |image: v1::Image| Image {
            in_use: used.contains(&image.id),
            size: i64::try_from(image.size).unwrap_or(i64::MAX),
            pinned: image.pinned,
            id: image.id,
        };
        Ok(images.into_iter().map(seen).collect())
    }

    async fn collect(&mut self) {
        let root = self.image_root.clone().unwrap_or_else(|| self.context.config.root_dir.clone());
        let wanted = observe::space(&root).and_then(|left| {
            image_gc::to_free(left.available, left.capacity, self.context.config.eviction.images)
        });
        let won = self.free(wanted.unwrap_or(0)).await;
        if let Some(wanted) = wanted.filter(|wanted| won < *wanted) {
            let message = format!(
                "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {won} bytes eligible to free."
            );
            tracing::warn!(message, "the disk of images stays full");
            report::record(&self.context, EventKind::Warning, "FreeDiskSpaceFailed", message);
        }
    }

    /// Removes unused images until so many bytes are won. The bytes that were.
    async fn free(&mut self, bytes: i64) -> i64 {
        let listed_at = time::monotonic();
        let images = match self.list_images().await {
            Ok(images) => images,
            Err(error) => {
                tracing::warn!(%error, "the runtime does not list its images");
                return 0;
            }
        };
        let now = self.now();
        self.images.detect(&images, now);
        let ids: Vec<String> = images.iter().map(|image| image.id.clone()).collect();
        let records = Arc::clone(&self.context.pull_records);
        let pruning = tokio::task::spawn_blocking(move || {
            records.prune(&ids.iter().map(String::as_str).collect(), listed_at);
        });
        if let Err(error) = pruning.await {
            tracing::warn!(%error, "records of images that are gone could not be removed");
        }
        let mut won = 0_i64;
        for image in self.images.plan(&images, bytes, now) {
            let spec = v1::ImageSpec { image: image.id.clone(), ..v1::ImageSpec::default() };
            match self.context.images.remove_image(v1::RemoveImageRequest { image: Some(spec) }).await {
                Ok(_) => {
                    tracing::info!(image = image.id, bytes = image.size, "an unused image was removed");
                    won = won.saturating_add(image.size);
                }
                Err(error) => {
                    tracing::warn!(image = image.id, %error, "an unused image could not be removed")
                }
            }
        }
        won
    }
}

fn of_pod<'a>(pod: &Pod, stats: &'a [v1::PodSandboxStats]) -> Option<&'a v1::PodSandboxStats> {
    stats.iter().find(|stats| {
        let labels = stats.attributes.as_ref().map(|attributes| &attributes.labels);
        labels.and_then(|labels| labels.get(names::POD_UID)).is_some_and(|uid| uid == pod.uid())
    })
}

fn containers<'a>(
    pod: &Pod,
    stats: &'a [v1::PodSandboxStats],
) -> impl Iterator<Item = (String, &'a v1::ContainerStats)> {
    let linux = of_pod(pod, stats).and_then(|stats| stats.linux.as_ref());
    linux.into_iter().flat_map(|linux| &linux.containers).filter_map(|container| {
        let name = container.attributes.as_ref()?.labels.get(names::CONTAINER_NAME)?.clone();
        Some((name, container))
    })
}

fn number(value: Option<&v1::UInt64Value>) -> i64 {
    value.map_or(0, |value| i64::try_from(value.value).unwrap_or(i64::MAX))
}

/// Bytes and inodes of a container's writable layer.
fn layer(stats: &v1::ContainerStats) -> (i64, i64) {
    let layer = stats.writable_layer.as_ref();
    let part = |of: fn(&v1::FilesystemUsage) -> Option<&v1::UInt64Value>| number(layer.and_then(of));
    (part(|layer| layer.used_bytes.as_ref()), part(|layer| layer.inodes_used.as_ref()))
}

fn memory(usage: Option<&v1::MemoryUsage>) -> i64 {
    number(usage.and_then(|usage| usage.working_set_bytes.as_ref()))
}

fn usage(pod: &Arc<Pod>, written: &Written, stats: &[v1::PodSandboxStats]) -> Usage {
    let linux = of_pod(pod, stats).and_then(|stats| stats.linux.as_ref());
    let each = containers(pod, stats).map(|(name, stats)| {
        let disk = written.containers.get(&name).copied().unwrap_or(0);
        (name, memory(stats.memory.as_ref()), disk)
    });
    Usage {
        pod: Arc::clone(pod),
        memory: memory(linux.and_then(|linux| linux.memory.as_ref())),
        disk: written.volumes.values().chain(written.containers.values()).sum(),
        inodes: containers(pod, stats).map(|(_, stats)| layer(stats).1).sum(),
        pids: number(linux.and_then(|linux| linux.process.as_ref()?.process_count.as_ref())),
        containers: each.collect(),
    }
}
