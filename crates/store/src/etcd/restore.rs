//! Replacing what is in etcd by a backup. Revisions go on above all that clients may have seen: by how much they are ahead of etcd's
//! own is written down first, so that a restore that breaks off leaves nothing that looks older than it is.

use super::keys::Keys;
use super::members::{Again, Members};
use super::refusal::{Refusal, plain};
use super::{EtcdStore, kv, wire};
use crate::backup::{Backup, Batch, REVISION_MARGIN, Summary};
use crate::{ALL_KEYS, KeyRange, LeaseId, Op, RangeRequest, Store, StoreError, StoreResult, Txn};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};

/// Within what etcd takes by default.
const BATCH_OPS: usize = 100;
const BATCH_BYTES: usize = 1 << 20;
const PAGE: usize = 5000;

/// By how much our revisions are ahead of etcd's.
pub(super) async fn ahead(members: &Members, keys: &Keys) -> StoreResult<i64> {
    let request = wire::RangeRequest { key: keys.note(), ..Default::default() };
    let call = |channel| {
        let request = request.clone();
        async move { kv(channel).range(request).await }
    };
    let found = match members.call(Again::Harmless, call).await {
        // It is the first that is asked of them: what cannot be done without them needs not be said.
        Err(Refusal::NotSent(reason) | Refusal::Unavailable(reason)) => {
            return Err(StoreError::Unavailable { reason });
        }
        answer => plain(answer, "connect")?.kvs,
    };
    let Some(note) = found.first() else { return Ok(0) };
    let number = std::str::from_utf8(&note.value).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| StoreError::Corrupt {
        detail: "etcd's note of how far revisions are ahead is no number".to_owned(),
    })
}

pub(super) async fn run(store: &EtcdStore, backup: &Backup) -> StoreResult<Summary> {
    let now = store.revision().await?;
    let above = now.max(backup.revision()).0 + REVISION_MARGIN;
    let raw = store.0.keys.raw(now);
    write_note(store, above - raw).await?;
    let mut there = present(store).await?;
    let mut leases = HashMap::new();
    for batch in backup.batches(BATCH_OPS, BATCH_BYTES) {
        let ops = leased(store, batch?, &mut leases).await?;
        ops.iter().for_each(|op| {
            there.remove(op.key());
        });
        put_all(store, ops).await?;
    }
    let surplus: Vec<Op> = there.into_iter().map(|key| Op::Delete { key }).collect();
    for ops in surplus.chunks(BATCH_OPS) {
        put_all(store, ops.to_vec()).await?;
    }
    let newest = store.revision().await?;
    // Nobody can go on from before.
    store.compact(newest).await?;
    let shown = crate::Revision(above - raw + store.0.keys.raw(newest));
    Ok(Summary { revision: shown, keys: backup.keys() })
}

async fn write_note(store: &EtcdStore, ahead: i64) -> StoreResult<()> {
    let put =
        wire::PutRequest { key: store.0.keys.note(), value: ahead.to_string().into(), ..Default::default() };
    let call = |channel| {
        let put = put.clone();
        async move { kv(channel).put(put).await }
    };
    plain(store.0.members.call(Again::Harmless, call).await, "restore").map(drop)
}

async fn present(store: &EtcdStore) -> StoreResult<BTreeSet<Bytes>> {
    let mut keys = BTreeSet::new();
    let mut request =
        RangeRequest { end: Some(ALL_KEYS), keys_only: true, limit: PAGE, ..RangeRequest::default() };
    loop {
        let page = store.range(request.clone()).await?;
        keys.extend(page.kvs.into_iter().map(|kv| kv.key));
        match keys.last() {
            Some(last) if page.more => request.start = [&last[..], b"\0"].concat().into(),
            _ => return Ok(keys),
        }
    }
}

async fn leased(store: &EtcdStore, batch: Batch, known: &mut HashMap<i64, LeaseId>) -> StoreResult<Vec<Op>> {
    let mut ops = Vec::with_capacity(batch.entries.len());
    for entry in batch.entries {
        // Ranges cannot reach it, so it could never be deleted again.
        if store.0.keys.place(&KeyRange::Single(entry.key.clone())).is_none() {
            continue;
        }
        let lease = match entry.lease {
            None => None,
            Some(old) => Some(match known.get(&old.0) {
                Some(lease) => *lease,
                None => *known.entry(old.0).or_insert(store.lease_grant(crate::backup::LEASE_MS).await?),
            }),
        };
        ops.push(Op::Put { key: entry.key, value: entry.value, lease });
    }
    Ok(ops)
}

async fn put_all(store: &EtcdStore, ops: Vec<Op>) -> StoreResult<()> {
    if !ops.is_empty() {
        store.txn(Txn { compare: Vec::new(), ops }).await?;
    }
    Ok(())
}
