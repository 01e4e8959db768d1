//! Whether pods can have a network on this node, as the runtime last said. Pods that need one wait until it is there. It makes nothing.

use super::status;
use crate::context::Context;
use nauplius_cri::v1;
use tokio::sync::watch;

/// What the runtime last said; nothing, before it was asked.
#[derive(Debug)]
pub struct Readiness(watch::Sender<Option<String>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Readiness {
    /// Takes in the runtime's conditions.
    pub fn learn(&self, status: &v1::RuntimeStatus) {
        let problem = status::network_problem(status);
        self.0.send_if_modified(|known| {
            let is_news = *known != problem;
            *known = problem;
            is_news
        });
    }

    /// Why pods cannot have a network, in upstream's words; `None` when they can.
    pub fn follow(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}

/// Asks the runtime. One that does not answer says nothing new about the network.
pub async fn look(context: &Context) {
    match context.runtime.status(v1::StatusRequest { verbose: false }).await {
        Ok(answer) => context.network.learn(&answer.status.unwrap_or_default()),
        Err(error) => tracing::warn!(%error, "the runtime does not tell whether there is a network"),
    }
}
