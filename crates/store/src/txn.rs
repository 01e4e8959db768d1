//! What every store refuses before it looks at a transaction.

use crate::{MAX_KEY_BYTES, MAX_TXN_OPS, Op, StoreError, StoreResult, Txn};
use std::collections::HashSet;

/// Checks sizes and that no key is changed twice.
pub(crate) fn check(txn: &Txn, limit: usize) -> StoreResult<()> {
    let size = txn.ops.iter().map(Op::size).sum();
    if size > limit {
        return Err(StoreError::TooLarge { size, limit });
    }
    let longest = txn.ops.iter().map(|op| op.key().len()).max().unwrap_or_default();
    if longest > MAX_KEY_BYTES {
        return Err(StoreError::TooLarge { size: longest, limit: MAX_KEY_BYTES });
    }
    if txn.ops.len() > MAX_TXN_OPS {
        return Err(StoreError::TooManyOps { count: txn.ops.len(), limit: MAX_TXN_OPS });
    }
    let mut keys = HashSet::new();
    match txn.ops.iter().find(|op| txn.ops.len() > 1 && !keys.insert(op.key())) {
        Some(op) => Err(StoreError::DuplicateKey { key: op.key().clone() }),
        None => Ok(()),
    }
}
