//! A member whose space is used up refuses every write until somebody compacts, defragments and lifts its alarm. Nobody has to: what
//! has been compacted is given back and the alarm is lifted as soon as that made room. Until then reads and watches go on.

use super::members::Again;
use super::refusal::plain;
use super::{EtcdStore, wire};
use crate::StoreResult;
use nauplius_base::backoff::Backoff;
use nauplius_base::task;
use nauplius_base::time::{sleep, timeout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::Channel;
use wire::maintenance_client::MaintenanceClient;

/// How long a try in vain rests, so that a cluster that stays full is not kept busy; twice as long each time.
const REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(160);
/// Defragmentation rewrites the whole file.
const DEFRAGMENT_TIMEOUT: Duration = Duration::from_secs(300);
/// Room was made when at least this part of the file is gone.
const WORTHWHILE: i64 = 10;

pub(super) struct Space {
    busy: AtomicBool,
    rest: Mutex<Backoff>,
}

impl Default for Space {
    fn default() -> Self {
        Self { busy: AtomicBool::new(false), rest: Mutex::new(Backoff::new(REST, LONGEST_REST)) }
    }
}

impl Space {
    fn rest(&self, gained: bool) -> Duration {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        if gained {
            rest.reset();
        }
        rest.next_delay()
    }
}

/// Tries to make room, unless that is being tried.
pub(super) fn tend(store: &EtcdStore) {
    if store.0.space.busy.swap(true, Ordering::SeqCst) {
        return;
    }
    let store = store.clone();
    task::spawn("etcd space", async move {
        let gained = make_room(&store).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "etcd has no space left and it could not be given any");
            false
        });
        sleep(store.0.space.rest(gained)).await;
        store.0.space.busy.store(false, Ordering::SeqCst);
    });
}

async fn make_room(store: &EtcdStore) -> StoreResult<bool> {
    let mut gained = true;
    for index in 0..store.0.members.count() {
        // All must have room: one that is still full would raise the alarm again.
        gained &= defragment(&store.0.members.member(index)?).await?;
    }
    if gained {
        lift_alarms(store).await?;
        tracing::info!("etcd was out of space; what had been compacted was given back and writes go on");
    }
    Ok(gained)
}

/// Whether the member has room now. What it says of unused pages is stale as long as nothing can be written, so it is tried.
async fn defragment(member: &Channel) -> StoreResult<bool> {
    let mut client = MaintenanceClient::new(member.clone());
    let failed = |status: tonic::Status| super::Refusal::of(&status).into_error("give space back", 0, 0);
    let before = client.status(wire::StatusRequest {}).await.map_err(failed)?.into_inner().db_size;
    let done = timeout(DEFRAGMENT_TIMEOUT, client.defragment(wire::DefragmentRequest {})).await;
    done.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("defragmentation"))).map_err(failed)?;
    let after = client.status(wire::StatusRequest {}).await.map_err(failed)?.into_inner().db_size;
    Ok((before - after) * WORTHWHILE >= before)
}

async fn lift_alarms(store: &EtcdStore) -> StoreResult<()> {
    let request = |action: wire::alarm_request::AlarmAction, member_id| wire::AlarmRequest {
        action: action.into(),
        member_id,
        alarm: wire::AlarmType::Nospace.into(),
    };
    let ask = |request: wire::AlarmRequest| async move {
        let call = |channel| async move { MaintenanceClient::new(channel).alarm(request).await };
        plain(store.0.members.call(Again::Harmless, call).await, "lift an alarm")
    };
    let raised = ask(request(wire::alarm_request::AlarmAction::Get, 0)).await?.alarms;
    for alarm in raised.into_iter().filter(|alarm| alarm.alarm() == wire::AlarmType::Nospace) {
        ask(request(wire::alarm_request::AlarmAction::Deactivate, alarm.member_id)).await?;
    }
    Ok(())
}
