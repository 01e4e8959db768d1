//! Who is making which layer: at most one task makes a layer, others wait for it. Knows only names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::digest::Digest;

/// The layers in the making.
#[derive(Default, Clone)]
pub(super) struct Claims(Arc<Mutex<BTreeMap<Digest, Arc<Notify>>>>);

/// Ends, and wakes who waits, when dropped.
pub(super) struct Claim {
    claims: Claims,
    digest: Digest,
}

impl Claims {
    /// Claims `digest` as soon as nobody else does. Whoever claims several goes from the bottom of a stack to its top: stacks
    /// share only their bottoms, so claims cannot wait for each other in a circle.
    pub(super) async fn claim(&self, digest: &Digest) -> Claim {
        loop {
            let taken = {
                let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                match claims.get(digest) {
                    // Registered under the lock, so that an end right after it is not missed.
                    Some(notify) => Arc::clone(notify).notified_owned(),
                    None => {
                        claims.insert(digest.clone(), Arc::new(Notify::new()));
                        return Claim { claims: self.clone(), digest: digest.clone() };
                    }
                }
            };
            taken.await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = self.claims.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = claims.remove(&self.digest) {
            notify.notify_waiters();
        }
    }
}
