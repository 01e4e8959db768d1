//! Transactions: compares of mod revisions, then puts and deletes; when a compare fails, the compared keys are read instead.

use super::members::Again;
use super::refusal::Refusal;
use super::{EtcdStore, kv, wire};
use crate::{Compare, KeyValue, LeaseId, Op, Revision, StoreError, StoreResult, Txn, TxnOutcome};
use bytes::Bytes;
use wire::request_op::Request;
use wire::response_op::Response;

pub(super) async fn run(store: &EtcdStore, txn: Txn) -> StoreResult<TxnOutcome> {
    // etcd itself says which size and how many operations it takes.
    crate::txn::check(&txn, usize::MAX)?;
    let request = wire::TxnRequest {
        compare: txn.compare.iter().map(|compare| unchanged(store, compare)).collect::<StoreResult<_>>()?,
        success: txn.ops.iter().map(|op| change(store, op)).collect::<StoreResult<_>>()?,
        failure: txn
            .compare
            .iter()
            .map(|compare| look_at(store, &compare.key))
            .collect::<StoreResult<_>>()?,
    };
    let call = |channel| {
        let request = request.clone();
        async move { kv(channel).txn(request).await }
    };
    match store.0.members.call(Again::Unsent, call).await {
        Ok(response) => Ok(outcome(store, response)),
        Err(Refusal::LeaseNotFound) => Err(StoreError::LeaseNotFound(lost_lease(&txn))),
        Err(refusal) => {
            let size = txn.ops.iter().map(Op::size).sum();
            Err(refusal.into_error("write", size, txn.ops.len()))
        }
    }
}

fn there(store: &EtcdStore, key: &Bytes) -> StoreResult<Bytes> {
    store.0.keys.there(key).ok_or_else(|| StoreError::Unavailable {
        reason: format!("the key {key:?} is outside of what is kept in etcd"),
    })
}

fn unchanged(store: &EtcdStore, compare: &Compare) -> StoreResult<wire::Compare> {
    let mod_revision = match compare.mod_revision {
        // The key must be absent.
        Revision::ZERO => 0,
        revision => store.0.keys.raw(revision),
    };
    Ok(wire::Compare {
        result: wire::compare::CompareResult::Equal.into(),
        target: wire::compare::CompareTarget::Mod.into(),
        key: there(store, &compare.key)?,
        target_union: Some(wire::compare::TargetUnion::ModRevision(mod_revision)),
    })
}

fn change(store: &EtcdStore, op: &Op) -> StoreResult<wire::RequestOp> {
    let key = there(store, op.key())?;
    let request = match op {
        Op::Put { value, lease, .. } => Request::RequestPut(wire::PutRequest {
            key,
            value: value.clone(),
            lease: lease.map_or(0, |lease| lease.0),
            prev_kv: true,
        }),
        Op::Delete { .. } => Request::RequestDeleteRange(wire::DeleteRangeRequest {
            key,
            range_end: Bytes::new(),
            prev_kv: true,
        }),
    };
    Ok(wire::RequestOp { request: Some(request) })
}

fn look_at(store: &EtcdStore, key: &Bytes) -> StoreResult<wire::RequestOp> {
    let request = wire::RangeRequest { key: there(store, key)?, ..Default::default() };
    Ok(wire::RequestOp { request: Some(Request::RequestRange(request)) })
}

fn outcome(store: &EtcdStore, response: wire::TxnResponse) -> TxnOutcome {
    let revision = store.0.keys.of_header(response.header.as_ref());
    let found = response.responses.into_iter().map(|response| of_one(store, response)).collect();
    if response.succeeded {
        TxnOutcome::Committed { revision, previous: found }
    } else {
        TxnOutcome::Conflict { revision, current: found }
    }
}

/// What a put or a delete replaced, or what a look found.
fn of_one(store: &EtcdStore, response: wire::ResponseOp) -> Option<KeyValue> {
    let found = match response.response? {
        Response::ResponseRange(response) => response.kvs.into_iter().next(),
        Response::ResponsePut(response) => response.prev_kv,
        Response::ResponseDeleteRange(response) => response.prev_kvs.into_iter().next(),
    };
    found.map(|kv| store.0.keys.key_value(kv))
}

/// etcd does not say which one; transactions of ours name one lease.
fn lost_lease(txn: &Txn) -> LeaseId {
    let lease = |op: &Op| if let Op::Put { lease, .. } = op { *lease } else { None };
    txn.ops.iter().find_map(lease).unwrap_or(LeaseId(0))
}
