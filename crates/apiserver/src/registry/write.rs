//! The write loop: read the newest form, let a transformation decide, commit it if nothing changed meanwhile, else start over.
//! What the transformation does is not known here.

use super::Resource;
use crate::cache::Entry;
use crate::encode::{Layout, decode_stored};
use crate::error::{ApiResult, from_read, from_store, too_large, unreadable};
use crate::metrics::storage;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use nauplius_meta::error::ApiError;
use nauplius_store::{Compare, KeyValue, Op, RangeRequest, Revision, StoreResult, Txn, TxnOutcome};
use serde_json::Value;
use std::sync::Arc;

/// How often a write starts over because others were faster.
const MAX_ATTEMPTS: usize = 64;
/// Objects from this size on are kept while they are written, in case that the store finds them too large.
const LARGE_BYTES: usize = 256 * 1024;

/// An object as it is stored.
pub(crate) struct Existing {
    /// The hub form, with its resourceVersion.
    pub object: Value,
    /// What it is compared by when it is replaced.
    pub revision: i64,
    stored: Bytes,
}

impl Existing {
    async fn from_kv(resource: &Resource, kv: &KeyValue) -> ApiResult<Self> {
        let revision = kv.mod_revision.0;
        let object = decode_stored(&kv.value, revision).map_err(|reason| {
            unreadable(crate::cache::UnreadableObject {
                key: String::from_utf8_lossy(&kv.key).into_owned(),
                reason,
            })
        })?;
        if !resource.is_custom() {
            return Ok(Self { object, revision, stored: kv.value.clone() });
        }
        let object = resource.read(object).await?;
        let stored = resource.encode_shown(&object)?;
        Ok(Self { object, revision, stored })
    }

    async fn from_entry(resource: &Resource, entry: Arc<Entry>) -> ApiResult<Self> {
        let entry = resource.shown_one(entry).await?;
        let object = entry.object().map_err(unreadable)?;
        Ok(Self { object, revision: entry.revision(), stored: entry.stored().clone() })
    }
}

/// What else goes into the same transaction: keys of allocations, other objects.
#[derive(Default, Debug)]
pub struct Also {
    /// Must hold, too.
    pub compare: Vec<Compare>,
    /// Is done, too.
    pub ops: Vec<Op>,
}

/// What a transformation wants.
pub(crate) enum Step {
    /// Store this form.
    Write(Value, Also),
    /// Remove the object; this is its last form.
    Remove(Value, Also),
    /// Leave it as it is.
    Keep,
}

/// What becomes of an object that is too large for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oversize {
    /// It is stored without its managed fields, if that helps.
    Lean,
    Refuse,
}

/// Decides what becomes of an object. Called again with a newer form when others were faster.
pub(crate) trait Transform: Send {
    /// What becomes of a form that is too large.
    fn oversize(&self) -> Oversize {
        Oversize::Lean
    }

    fn step<'a>(&'a mut self, existing: &'a Existing) -> BoxFuture<'a, ApiResult<Step>>;
}

/// How a write ended: the bytes to answer with.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub stored: Bytes,
    pub layout: Layout,
    /// 0 for an object that was only tried.
    pub revision: i64,
    pub removed: bool,
}

impl Written {
    fn new(stored: Bytes, revision: i64, removed: bool) -> ApiResult<Self> {
        let layout = Layout::of(&stored).ok_or_else(|| ApiError::internal("an object lost its metadata"))?;
        Ok(Self { stored, layout, revision, removed })
    }

    /// The hub form with its resourceVersion.
    pub fn object(&self) -> ApiResult<Value> {
        decode_stored(&self.stored, self.revision).map_err(ApiError::internal)
    }
}

impl Resource {
    /// Stores a new object; `None` when its key is taken by the returned form.
    pub(crate) async fn insert(
        &self,
        key: &str,
        object: &Value,
        also: Also,
        oversize: Oversize,
        dry_run: bool,
    ) -> ApiResult<Result<Written, Taken>> {
        let (stored, shown) = self.encode(object).await?;
        if dry_run {
            self.caches.catch_up().await.map_err(crate::error::stale)?;
            return match self.cache.get_key(key) {
                Some(entry) => Ok(Err(Taken::Key(entry.object().map_err(unreadable)?))),
                None => Ok(Ok(Written::new(shown, 0, false)?)),
            };
        }
        let lease = self.lease().await?;
        let mut txn = Txn { compare: vec![absent(key)], ops: vec![put(key, stored, lease)] };
        txn.compare.extend(also.compare);
        txn.ops.extend(also.ops);
        let (outcome, lean) = self.write("create", txn, object, oversize).await?;
        match outcome {
            TxnOutcome::Committed { revision, .. } => {
                Ok(Ok(Written::new(lean.unwrap_or(shown), revision.0, false)?))
            }
            TxnOutcome::Conflict { revision, current } => match current.first().and_then(Option::as_ref) {
                Some(kv) => Ok(Err(Taken::Key(Existing::from_kv(self, kv).await?.object))),
                None => {
                    self.caches.reach(revision.0).await.map_err(too_large)?;
                    Ok(Err(Taken::Allocation))
                }
            },
        }
    }

    /// Changes or removes an object.
    pub(crate) async fn modify(
        &self,
        namespace: &str,
        name: &str,
        transform: &mut dyn Transform,
        dry_run: bool,
    ) -> ApiResult<Written> {
        let key = self.cache.key(namespace, name);
        let (mut existing, mut fresh) = match self.cache.get(namespace, name) {
            Some(entry) => (Existing::from_entry(self, entry).await?, false),
            None => (self.newest(&key, name).await?, true),
        };
        for _ in 0..MAX_ATTEMPTS {
            let step = transform.step(&existing).await;
            let decided = matches!(&step, Ok(Step::Write(..) | Step::Remove(..))) && !dry_run;
            if !fresh && !decided {
                // A refusal or a no-op must not rest on a form that others have replaced already.
                let newest = self.newest(&key, name).await?;
                fresh = true;
                if newest.revision != existing.revision {
                    existing = newest;
                    continue;
                }
            }
            let oversize = transform.oversize();
            match self.commit(&key, &existing, step?, oversize, dry_run, fresh).await? {
                Committed::Done(written) => return Ok(written),
                Committed::Changed(Some(newest)) => (existing, fresh) = (newest, true),
                Committed::Changed(None) => return Err(ApiError::not_found(&self.group_resource, name)),
                Committed::Unsure => (existing, fresh) = (self.newest(&key, name).await?, true),
            }
        }
        Err(ApiError::ServerTimeout {
            resource: self.group_resource.clone(),
            operation: "update".to_owned(),
            retry_after_s: 1,
        })
    }

    async fn measured<T>(
        &self,
        operation: &str,
        request: impl Future<Output = StoreResult<T>>,
    ) -> ApiResult<T> {
        storage::measured(operation, &self.group_resource, request).await.map_err(from_store)
    }

    /// Commits a transaction whose first operation writes `object`. If it was stored without its managed fields, the form to answer with is
    /// returned as well.
    async fn write(
        &self,
        operation: &str,
        txn: Txn,
        object: &Value,
        oversize: Oversize,
    ) -> ApiResult<(TxnOutcome, Option<Bytes>)> {
        let is_large = matches!(txn.ops.first(), Some(Op::Put { value, .. }) if value.len() >= LARGE_BYTES);
        let again = (is_large && oversize == Oversize::Lean).then(|| txn.clone());
        match (self.measured(operation, self.store.txn(txn)).await, again) {
            (Err(ApiError::RequestEntityTooLarge(_)), Some(txn)) => {
                let (txn, shown) = self.lean(txn, object).await?;
                Ok((self.measured(operation, self.store.txn(txn)).await?, Some(shown)))
            }
            (outcome, _) => Ok((outcome?, None)),
        }
    }

    /// The transaction with the object's form without managed fields, and the form to answer with.
    async fn lean(&self, mut txn: Txn, object: &Value) -> ApiResult<(Txn, Bytes)> {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let (stored, shown) = self.encode(&object).await?;
        if let Some(Op::Put { value, .. }) = txn.ops.first_mut() {
            *value = stored;
        }
        Ok((txn, shown))
    }

    async fn newest(&self, key: &str, name: &str) -> ApiResult<Existing> {
        let request = RangeRequest::key(key.as_bytes().to_vec());
        let read = self.store.range(request);
        let found = storage::measured("get", &self.group_resource, read).await.map_err(from_read)?;
        match found.kvs.first() {
            Some(kv) => Existing::from_kv(self, kv).await,
            None => Err(ApiError::not_found(&self.group_resource, name)),
        }
    }

    async fn commit(
        &self,
        key: &str,
        existing: &Existing,
        step: Step,
        oversize: Oversize,
        dry_run: bool,
        fresh: bool,
    ) -> ApiResult<Committed> {
        let kept = || Written::new(existing.stored.clone(), existing.revision, false).map(Committed::Done);
        let (ops, also, answer, object) = match step {
            Step::Keep => return kept(),
            Step::Write(object, also) => {
                if also.ops.is_empty() && same(&object, &existing.object) {
                    return if fresh { kept() } else { Ok(Committed::Unsure) };
                }
                let (stored, shown) = self.encode(&object).await?;
                let lease = if dry_run { None } else { self.lease().await? };
                (put(key, stored, lease), also, shown, Some(object))
            }
            Step::Remove(object, also) => {
                let shown = self.encode_shown(&object)?;
                (Op::Delete { key: key.as_bytes().to_vec().into() }, also, shown, None)
            }
        };
        let removed = object.is_none();
        if dry_run {
            return Written::new(answer, existing.revision, removed).map(Committed::Done);
        }
        let mut txn = Txn { compare: vec![unchanged(key, existing.revision)], ops: vec![ops] };
        txn.compare.extend(also.compare);
        txn.ops.extend(also.ops);
        let (outcome, lean) = match object {
            Some(object) => self.write("update", txn, &object, oversize).await?,
            None => (self.measured("delete", self.store.txn(txn)).await?, None),
        };
        match outcome {
            TxnOutcome::Committed { revision, .. } => {
                Written::new(lean.unwrap_or(answer), revision.0, removed).map(Committed::Done)
            }
            TxnOutcome::Conflict { revision, current } => {
                let newest = match current.first().and_then(Option::as_ref) {
                    Some(kv) => Some(Existing::from_kv(self, kv).await?),
                    None => None,
                };
                if newest.as_ref().is_some_and(|newest| newest.revision == existing.revision) {
                    self.caches.reach(revision.0).await.map_err(too_large)?;
                }
                Ok(Committed::Changed(newest))
            }
        }
    }
}

/// Why a new object was not stored.
pub(crate) enum Taken {
    /// There is an object of this name, in this form.
    Key(Value),
    /// Something that was allocated for it was taken by another; try with something else.
    Allocation,
}

enum Committed {
    Done(Written),
    Changed(Option<Existing>),
    Unsure,
}

/// Equality but for the resourceVersion, which the commit assigns, and for the names of kind and version, which storing gives.
pub(super) fn same(new: &Value, old: &Value) -> bool {
    let fields = |object: &Value| object.as_object().map(|map| map.len());
    fields(new) == fields(old)
        && new.as_object().into_iter().flatten().all(|(name, value)| match name.as_str() {
            "kind" | "apiVersion" => old.get(name).is_some(),
            "metadata" => same_metadata(value, &old["metadata"]),
            name => old.get(name) == Some(value),
        })
}

fn same_metadata(new: &Value, old: &Value) -> bool {
    let without = |value: &Value| {
        value.as_object().map_or(0, |map| map.len() - usize::from(map.contains_key("resourceVersion")))
    };
    without(new) == without(old)
        && new
            .as_object()
            .into_iter()
            .flatten()
            .all(|(name, value)| name == "resourceVersion" || old.get(name) == Some(value))
}

fn absent(key: &str) -> Compare {
    unchanged(key, 0)
}

fn unchanged(key: &str, revision: i64) -> Compare {
    Compare { key: key.as_bytes().to_vec().into(), mod_revision: Revision(revision) }
}

fn put(key: &str, value: Bytes, lease: Option<nauplius_store::LeaseId>) -> Op {
    Op::Put { key: key.as_bytes().to_vec().into(), value, lease }
}

#[cfg(test)]
mod tests {
    use super::same;
    use serde_json::json;

    #[test]
    fn sameness_leaves_out_the_resource_version() {
        let old = json!({"metadata": {"name": "a", "resourceVersion": "7"}, "data": {"x": "1"}});
        assert!(same(&json!({"metadata": {"name": "a"}, "data": {"x": "1"}}), &old));
        assert!(same(&json!({"metadata": {"name": "a", "resourceVersion": "3"}, "data": {"x": "1"}}), &old));
        assert!(!same(&json!({"metadata": {"name": "a"}, "data": {"x": "2"}}), &old));
        assert!(!same(&json!({"metadata": {"name": "a"}}), &old));
        assert!(!same(&json!({"metadata": {"name": "a", "labels": {}}, "data": {"x": "1"}}), &old));
    }
}
