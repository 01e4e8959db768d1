//! Leases. etcd counts in whole seconds and raises what is shorter than its election takes, so a lease may live longer than asked,
//! never shorter.

use super::members::Again;
use super::refusal::{Refusal, plain};
use super::{EtcdStore, wire};
use crate::{LeaseId, StoreError, StoreResult};
use tonic::Response;
use wire::lease_client::LeaseClient;

pub(super) async fn grant(store: &EtcdStore, ttl_ms: u64) -> StoreResult<LeaseId> {
    let seconds = i64::try_from(ttl_ms.div_ceil(1000)).unwrap_or(i64::MAX).max(1);
    let request = wire::LeaseGrantRequest { ttl: seconds, id: 0 };
    let call = |channel| async move { LeaseClient::new(channel).lease_grant(request).await };
    let granted = plain(store.0.members.call(Again::Unsent, call).await, "grant a lease")?;
    if granted.error.is_empty() {
        Ok(LeaseId(granted.id))
    } else {
        Err(StoreError::Unavailable { reason: format!("etcd, grant a lease: {}", granted.error) })
    }
}

pub(super) async fn keep_alive(store: &EtcdStore, lease: LeaseId) -> StoreResult<()> {
    let call = |channel| async move {
        let request = futures_util::stream::iter([wire::LeaseKeepAliveRequest { id: lease.0 }]);
        let mut answers = LeaseClient::new(channel).lease_keep_alive(request).await?.into_inner();
        Ok(Response::new(answers.message().await?))
    };
    let answer = plain(store.0.members.call(Again::Harmless, call).await, "keep a lease alive")?;
    match answer {
        Some(answer) if answer.ttl > 0 => Ok(()),
        Some(_) => Err(StoreError::LeaseNotFound(lease)),
        None => Err(StoreError::Unavailable { reason: "etcd gave no answer about a lease".to_owned() }),
    }
}

pub(super) async fn revoke(store: &EtcdStore, lease: LeaseId) -> StoreResult<()> {
    let request = wire::LeaseRevokeRequest { id: lease.0 };
    let call = |channel| async move { LeaseClient::new(channel).lease_revoke(request).await };
    match store.0.members.call(Again::Unsent, call).await {
        Ok(_) => Ok(()),
        Err(Refusal::LeaseNotFound) => Err(StoreError::LeaseNotFound(lease)),
        Err(refusal) => Err(refusal.into_error("revoke a lease", 0, 0)),
    }
}
