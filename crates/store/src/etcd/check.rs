//! What can be said from outside about the health of a store in etcd: every member answers and belongs to one cluster, no alarm is
//! raised, and every key of ours can be read and fits the store's revision.

use super::members::Again;
use super::refusal::{Refusal, plain};
use super::{EtcdStore, wire};
use crate::embedded::CheckReport;
use crate::{ALL_KEYS, KeyValue, RangeRequest, Revision, Store, StoreResult};
use nauplius_base::time::timeout;
use std::collections::BTreeSet;
use std::time::Duration;
use wire::maintenance_client::MaintenanceClient;

const MEMBER_TIMEOUT: Duration = Duration::from_secs(5);
const PAGE: usize = 1000;

pub(super) async fn check(store: &EtcdStore) -> StoreResult<CheckReport> {
    let mut report = CheckReport::default();
    let mut clusters = BTreeSet::new();
    for index in 0..store.0.members.count() {
        match cluster_of(store, index).await {
            Ok(cluster) => drop(clusters.insert(cluster)),
            Err(reason) => report.problems.push(format!("member {index} does not answer: {reason}")),
        }
    }
    if clusters.len() > 1 {
        report.problems.push("the servers belong to different etcd clusters".to_owned());
    }
    report.problems.extend(alarms(store).await?);
    keys(store, &mut report).await?;
    Ok(report)
}

async fn cluster_of(store: &EtcdStore, index: usize) -> Result<u64, String> {
    let member = store.0.members.member(index).map_err(|error| error.to_string())?;
    let mut client = MaintenanceClient::new(member);
    match timeout(MEMBER_TIMEOUT, client.status(wire::StatusRequest {})).await {
        Ok(Ok(status)) => Ok(status.into_inner().header.map_or(0, |header| header.cluster_id)),
        Ok(Err(status)) => Err(Refusal::of(&status).into_error("check", 0, 0).to_string()),
        Err(_) => Err("not in time".to_owned()),
    }
}

async fn alarms(store: &EtcdStore) -> StoreResult<Vec<String>> {
    let request = wire::AlarmRequest::default();
    let call = |channel| async move { MaintenanceClient::new(channel).alarm(request).await };
    let raised = plain(store.0.members.call(Again::Harmless, call).await, "check")?.alarms;
    let text = |alarm: wire::AlarmMember| {
        let what = match alarm.alarm() {
            wire::AlarmType::Nospace => "is out of space",
            wire::AlarmType::Corrupt => "is corrupt",
            wire::AlarmType::None => "raised an alarm that we do not know",
        };
        format!("member {:x} {what}", alarm.member_id)
    };
    Ok(raised.into_iter().map(text).collect())
}

async fn keys(store: &EtcdStore, report: &mut CheckReport) -> StoreResult<()> {
    let at = store.revision().await?;
    let mut request =
        RangeRequest { end: Some(ALL_KEYS), at: Some(at), limit: PAGE, ..RangeRequest::default() };
    loop {
        let page = store.range(request.clone()).await?;
        report.keys += page.kvs.len() as u64;
        report.problems.extend(page.kvs.iter().filter_map(|kv| problem(kv, at)));
        match page.kvs.last() {
            Some(last) if page.more => request.start = [&last.key[..], b"\0"].concat().into(),
            _ => return Ok(()),
        }
    }
}

fn problem(kv: &KeyValue, at: Revision) -> Option<String> {
    let fits = kv.create_revision <= kv.mod_revision && kv.mod_revision <= at && kv.version >= 1;
    (!fits).then(|| format!("a key whose revisions do not fit: {:?} at {}", kv.key, kv.mod_revision))
}
