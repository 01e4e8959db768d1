//! Ranges, fetched in pages of bounded size at one revision: one answer of etcd's is one message, built and sent as a whole.

use super::keys::Place;
use super::refusal::Refusal;
use super::{EtcdStore, wire};
use crate::{KeyRange, KeyValue, RangeRequest, RangeResponse, Revision, StoreError, StoreResult};

/// Key values in the first page, when nothing is known of their size.
const FIRST_PAGE: usize = 500;
/// What later pages aim at.
const PAGE_BYTES: usize = 8 << 20;
const MAX_PAGE: usize = 10_000;
/// How often a read of the newest state starts over because its revision was compacted between two pages.
const ATTEMPTS: usize = 3;

pub(super) async fn read(store: &EtcdStore, request: RangeRequest) -> StoreResult<RangeResponse> {
    let mut attempt = 1;
    loop {
        match whole(store, &request).await {
            Err(StoreError::Compacted { .. }) if request.at.is_none() && attempt < ATTEMPTS => attempt += 1,
            read => return read,
        }
    }
}

async fn whole(store: &EtcdStore, request: &RangeRequest) -> StoreResult<RangeResponse> {
    let place = store.0.keys.place(&KeyRange::new(request.start.clone(), request.end.clone()));
    // Nothing is read where nothing of ours can be, but the revision must still be one that can be read.
    let count_only = request.count_only || place.is_none();
    let mut next = place.unwrap_or_else(|| Place { key: store.0.keys.nobody(), end: bytes::Bytes::new() });
    let mut at = request.at;
    let mut whole: Option<RangeResponse> = None;
    let mut kvs: Vec<KeyValue> = Vec::new();
    let mut page = FIRST_PAGE;
    loop {
        let wanted = if request.limit == 0 { page } else { page.min(request.limit - kvs.len()) };
        let rpc = wire::RangeRequest {
            key: next.key.clone(),
            range_end: next.end.clone(),
            limit: i64::try_from(wanted).unwrap_or(i64::MAX),
            revision: at.map_or(0, |at| store.0.keys.raw(at)),
            serializable: false,
            keys_only: request.keys_only,
            count_only,
        };
        let response = checked(store, store.range_rpc(rpc).await, at).await?;
        let revision = store.0.keys.of_header(response.header.as_ref());
        at = at.or(Some(revision));
        let head = whole.get_or_insert(RangeResponse {
            kvs: Vec::new(),
            count: response.count.max(0).cast_unsigned(),
            more: false,
            revision,
        });
        page = next_page(&response.kvs);
        let last = response.kvs.last().map(|kv| kv.key.clone());
        kvs.extend(response.kvs.into_iter().map(|kv| store.0.keys.key_value(kv)));
        let enough = count_only || (request.limit > 0 && kvs.len() >= request.limit);
        match last {
            Some(last) if response.more && !enough => next.key = [&last[..], b"\0"].concat().into(),
            _ => {
                let more = !count_only && (kvs.len() as u64) < head.count;
                return Ok(RangeResponse { kvs, count: head.count, more, revision: head.revision });
            }
        }
    }
}

async fn checked(
    store: &EtcdStore,
    result: Result<wire::RangeResponse, Refusal>,
    at: Option<Revision>,
) -> StoreResult<wire::RangeResponse> {
    match result {
        Ok(response) => Ok(response),
        Err(Refusal::Compacted) => Err(store.compacted().await),
        Err(Refusal::FutureRevision) => Err(store.future(at.unwrap_or_default()).await),
        Err(refusal) => Err(refusal.into_error("read a range", 0, 0)),
    }
}

fn next_page(seen: &[wire::KeyValue]) -> usize {
    let bytes: usize = seen.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
    match bytes.checked_div(seen.len()) {
        Some(each) => (PAGE_BYTES / each.max(1)).clamp(1, MAX_PAGE),
        None => FIRST_PAGE,
    }
}
