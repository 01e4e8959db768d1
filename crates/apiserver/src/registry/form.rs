//! A version of a custom resource that is not the one its objects are stored in: entries of the cache are shown, and objects read and
//! written, in the resource's own version. How objects are converted is the converter's business; for every other resource nothing
//! here happens.

use super::Resource;
use crate::cache::{Entry, UnreadableObject};
use crate::encode::encode_stored;
use crate::error::{ApiResult, unreadable};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use nauplius_kinds::Kind;
use nauplius_meta::error::ApiError;
use nauplius_meta::{object, structural};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Entries that are kept in their converted form, so that every watcher gets the same one: their number and their bytes.
const MAX_KEPT: usize = 2_048;
const MAX_KEPT_BYTES: usize = 4 << 20;
/// So few entries may be wanted by several at the same time: watchers that were woken by the same change.
const MAX_SHARED: usize = 64;

/// Turns objects of a kind into another version.
pub(crate) trait Convert: Send + Sync + 'static {
    /// Each object in the version of `api_version`, in the same order.
    fn convert<'a>(
        &'a self,
        objects: Vec<Value>,
        api_version: &'a str,
    ) -> BoxFuture<'a, ApiResult<Vec<Value>>>;
}

/// The resource's own version, in contrast to the stored one.
pub(crate) struct Form {
    converter: Arc<dyn Convert>,
    /// `stable.example.com/v2`
    own: String,
    stored: String,
    /// What bytes in the own version begin with.
    head: Vec<u8>,
    kept: Mutex<Kept>,
    /// Conversions under way.
    under_way: Mutex<HashMap<Vec<Version>, WeakShared<Conversion>>>,
}

/// A form of an object: its key and its revision.
type Version = (Bytes, i64);
type Conversion = BoxFuture<'static, ApiResult<Vec<Arc<Entry>>>>;

fn version_of(entry: &Entry) -> Version {
    (entry.key().clone(), entry.revision())
}

/// Converted entries of late.
#[derive(Default)]
struct Kept {
    entries: HashMap<Version, Arc<Entry>>,
    bytes: usize,
}

impl Kept {
    fn add(&mut self, entry: &Arc<Entry>) {
        let bytes = entry.footprint();
        if bytes > MAX_KEPT_BYTES {
            return;
        }
        if self.entries.len() == MAX_KEPT || self.bytes + bytes > MAX_KEPT_BYTES {
            *self = Self::default();
        }
        if self.entries.insert(version_of(entry), Arc::clone(entry)).is_none() {
            self.bytes += bytes;
        }
    }
}

impl Form {
    /// For a version of `kind`; both versions are `group/version`.
    pub fn new(converter: Arc<dyn Convert>, kind: &str, own: String, stored: String) -> Self {
        let head = crate::encode::head(kind, &own);
        Self { converter, own, stored, head, kept: Mutex::default(), under_way: Mutex::default() }
    }

    fn is_own(&self, entry: &Entry) -> bool {
        entry.stored().starts_with(&self.head)
    }

    fn kept(&self, entry: &Entry) -> Option<Arc<Entry>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entries.get(&version_of(entry)).cloned()
    }

    fn keep(&self, entries: &[Arc<Entry>]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().for_each(|entry| kept.add(entry));
    }

    /// Entries in the own version. Those who want the same at the same time wait for the same conversion.
    async fn made(&self, kind: &Arc<dyn Kind>, entries: Vec<Arc<Entry>>) -> ApiResult<Vec<Arc<Entry>>> {
        let versions: Vec<Version> = entries.iter().map(|entry| version_of(entry)).collect();
        let work = converted(Arc::clone(&self.converter), Arc::clone(kind), self.own.clone(), entries);
        if versions.len() > MAX_SHARED {
            return work.await;
        }
        self.shared(versions, work.boxed()).await
    }

    fn shared(&self, versions: Vec<Version>, work: Conversion) -> Shared<Conversion> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = under_way.get(&versions).and_then(WeakShared::upgrade) {
            return same;
        }
        let work = work.shared();
        // What nobody waits for any more has ended.
        under_way.retain(|_, work| work.upgrade().is_some());
        under_way.extend(work.downgrade().map(|weak| (versions, weak)));
        work
    }

    async fn one(&self, object: Value, api_version: &str) -> ApiResult<Value> {
        let mut converted = self.converter.convert(vec![object], api_version).await?;
        converted.pop().ok_or_else(|| ApiError::internal("a conversion gave nothing"))
    }
}

impl Resource {
    /// Entries in the resource's own version.
    pub(crate) async fn shown(&self, entries: Vec<Arc<Entry>>) -> ApiResult<Vec<Arc<Entry>>> {
        let Some(form) = &self.form else { return Ok(entries) };
        let mut shown: Vec<Option<Arc<Entry>>> = entries
            .iter()
            .map(|entry| if form.is_own(entry) { Some(Arc::clone(entry)) } else { form.kept(entry) })
            .collect();
        let open: Vec<usize> = (0..entries.len()).filter(|index| shown[*index].is_none()).collect();
        if !open.is_empty() {
            let wanted = open.iter().map(|index| Arc::clone(&entries[*index])).collect();
            let made = form.made(&self.kind, wanted).await?;
            form.keep(&made);
            for (index, entry) in open.into_iter().zip(made) {
                shown[index] = Some(entry);
            }
        }
        let all: Option<Vec<Arc<Entry>>> = shown.into_iter().collect();
        all.ok_or_else(|| ApiError::internal("a conversion gave too few objects"))
    }

    /// One entry in the resource's own version.
    pub(crate) async fn shown_one(&self, entry: Arc<Entry>) -> ApiResult<Arc<Entry>> {
        if self.form.is_none() {
            return Ok(entry);
        }
        let mut shown = self.shown(vec![entry]).await?;
        shown.pop().ok_or_else(|| ApiError::internal("a conversion gave nothing"))
    }

    /// Whether entries must go through [`Self::shown`].
    pub(crate) fn has_form(&self) -> bool {
        self.form.is_some()
    }

    /// A stored object in the resource's own version, brought up to date with its definition.
    pub(super) async fn read(&self, mut object: Value) -> ApiResult<Value> {
        if !self.custom {
            return Ok(object);
        }
        self.cache.kind().refresh_stored(&mut object);
        match &self.form {
            Some(form) if object["apiVersion"] != form.own.as_str() => {
                let mut object = form.one(object, &form.own).await?;
                settle(&*self.kind, &mut object)?;
                Ok(object)
            }
            _ => Ok(object),
        }
    }

    /// An object of another version in this one.
    pub(super) async fn form_of(&self, object: Value) -> ApiResult<Value> {
        match &self.form {
            Some(form) => form.one(object, &form.own).await,
            None => Ok(object),
        }
    }

    /// The bytes to store of an object in the resource's own version, and those to show.
    pub(super) async fn encode(&self, object: &Value) -> ApiResult<(Bytes, Bytes)> {
        let shown = self.encode_shown(object)?;
        let Some(form) = self.form.as_ref().filter(|form| form.own != form.stored) else {
            return Ok((shown.clone(), shown));
        };
        let mut stored = form.one(object.clone(), &form.stored).await?;
        settle(&**self.cache.kind(), &mut stored)?;
        Ok((encode_as(&stored, &self.hub_kind, &form.stored)?, shown))
    }

    /// The bytes of an object in the resource's own version.
    pub(super) fn encode_shown(&self, object: &Value) -> ApiResult<Bytes> {
        let api_version = self.form.as_ref().map_or(&self.hub_api_version, |form| &form.own);
        encode_as(object, &self.hub_kind, api_version)
    }
}

/// Entries in a version of `kind`, as far as the converter gave them.
async fn converted(
    converter: Arc<dyn Convert>,
    kind: Arc<dyn Kind>,
    own: String,
    entries: Vec<Arc<Entry>>,
) -> ApiResult<Vec<Arc<Entry>>> {
    let objects: Result<Vec<Value>, UnreadableObject> = entries.iter().map(|entry| entry.object()).collect();
    let converted = converter.convert(objects.map_err(unreadable)?, &own).await?;
    let entry = |(entry, mut object): (&Arc<Entry>, Value)| -> ApiResult<Arc<Entry>> {
        settle(&*kind, &mut object)?;
        Ok(Arc::new(entry.with_object(&*kind, &object, &own).map_err(unreadable)?))
    };
    entries.iter().zip(converted).map(entry).collect()
}

/// What a conversion gave is brought into the form of its version: metadata that is none is refused, unknown fields go.
fn settle(kind: &dyn Kind, object: &mut Value) -> ApiResult<()> {
    let Some(schema) = kind.schema() else { return Ok(()) };
    let resource_version = object::resource_version(object).to_owned();
    structural::coerce(object, schema).map_err(|error| ApiError::internal(error.to_string()))?;
    structural::prune(object, schema);
    object::set_resource_version(object, &resource_version);
    Ok(())
}

fn encode_as(object: &Value, kind: &str, api_version: &str) -> ApiResult<Bytes> {
    let encoded = encode_stored(object, kind, api_version);
    encoded.map(Bytes::from).map_err(|error| ApiError::internal(error.to_string()))
}
