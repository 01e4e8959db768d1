//! CRI's containers' events: every transition, in order, to whoever listens. The queue is bounded; a listener that falls behind is told
//! so by the end of its stream, and lists. It must not know what caused an event.

use super::{Inner, status};
use futures_util::StreamExt as _;
use nauplius_base::time;
use nauplius_cri::v1::{ContainerEventResponse, ContainerEventType};
use nauplius_cri::{Code, ContainerEvents, CriError};
use tokio::sync::broadcast;

/// Events that a listener may be behind. A node runs 110 pods; this is ten transitions for each.
pub(crate) const QUEUE: usize = 1024;

impl Inner {
    /// Announces a transition of a container, or of a sandbox under its own id.
    pub(crate) fn emit(&self, kind: ContainerEventType, container: &str, sandbox: &str) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let (pod_sandbox_status, containers_statuses) = self.read(|registry| {
            let pod = registry.sandboxes.get(sandbox).map(status::sandbox);
            (pod, registry.containers_of(sandbox).map(|container| self.container_status(container)).collect())
        });
        let event = ContainerEventResponse {
            container_id: container.to_owned(),
            container_event_type: kind.into(),
            created_at: time::unix_nanos(),
            pod_sandbox_status,
            containers_statuses,
        };
        // Nobody listens any more.
        let _ = self.events.send(event);
    }

    /// The events from now on.
    pub(crate) fn subscribe(&self) -> ContainerEvents {
        let receiver = self.events.subscribe();
        futures_util::stream::unfold(Some(receiver), |receiver| async {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Ok(event) => Some((Ok(event), Some(receiver))),
                Err(broadcast::error::RecvError::Closed) => None,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    let message = format!("{missed} container events were dropped: list again");
                    Some((Err(CriError::new(Code::DataLoss, message)), None))
                }
            }
        })
        .boxed()
    }
}
