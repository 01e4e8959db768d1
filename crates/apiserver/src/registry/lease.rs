//! Leases for kinds whose objects disappear by themselves (events). Objects made close together share one, so that a storm of
//! events does not become a storm of leases.

use crate::error::{ApiResult, from_read};
use nauplius_base::time::{Instant, monotonic};
use nauplius_store::{LeaseId, Store};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long new objects go on the same lease; upstream's.
const REUSE: Duration = Duration::from_secs(60);
/// How many objects go on one lease; upstream's.
const MAX_OBJECTS: usize = 1_000;

struct Current {
    lease: LeaseId,
    until: Instant,
    objects: usize,
}

/// The lease that new objects of one resource go on.
pub(super) struct LeasePool {
    ttl_s: i64,
    current: Mutex<Option<Current>>,
}

impl LeasePool {
    pub(super) fn new(ttl_s: i64) -> Self {
        Self { ttl_s, current: Mutex::new(None) }
    }

    /// A lease that lives at least the kind's time to live, and at most a minute longer; none for kinds that stay.
    pub(super) async fn get(&self, store: &dyn Store) -> ApiResult<Option<LeaseId>> {
        if self.ttl_s <= 0 {
            return Ok(None);
        }
        if let Some(lease) = self.reuse() {
            return Ok(Some(lease));
        }
        let ttl_ms = u64::try_from(self.ttl_s).unwrap_or_default() * 1_000 + 60_000;
        let lease = store.lease_grant(ttl_ms).await.map_err(from_read)?;
        let current = Current { lease, until: monotonic() + REUSE, objects: 1 };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(current);
        Ok(Some(lease))
    }

    fn reuse(&self) -> Option<LeaseId> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let current = current.as_mut().filter(|c| c.objects < MAX_OBJECTS && monotonic() < c.until)?;
        current.objects += 1;
        Some(current.lease)
    }
}
