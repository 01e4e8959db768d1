//! A mailbox of one where the latest message wins: what an actor needs that only cares for the newest state.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

struct Slot<T> {
    message: Mutex<(Option<T>, bool)>,
    ready: Notify,
}

/// The sending half; clones share the slot.
pub struct Sender<T>(Arc<Slot<T>>);

/// The receiving half.
pub struct Receiver<T>(Arc<Slot<T>>);

/// A connected pair.
pub fn mailbox<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Arc::new(Slot { message: Mutex::new((None, false)), ready: Notify::new() });
    (Sender(Arc::clone(&slot)), Receiver(slot))
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Sender<T> {
    /// Replaces whatever was not read yet and returns it.
    pub fn send(&self, message: T) -> Option<T> {
        let replaced = self.0.message.lock().unwrap_or_else(PoisonError::into_inner).0.replace(message);
        self.0.ready.notify_one();
        replaced
    }

    /// Ends the mailbox: the receiver gets what is left, then `None`.
    pub fn close(&self) {
        self.0.message.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.0.ready.notify_one();
    }
}

impl<T> Receiver<T> {
    /// The newest message once there is one; `None` once the mailbox is closed and empty. Safe to cancel.
    pub async fn recv(&mut self) -> Option<T> {
        loop {
            {
                let mut slot = self.0.message.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(message) = slot.0.take() {
                    return Some(message);
                }
                if slot.1 {
                    return None;
                }
            }
            self.0.ready.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn latest_wins_and_close_drains() {
        let (sender, mut receiver) = mailbox();
        assert_eq!(sender.send(1), None);
        assert_eq!(sender.send(2), Some(1));
        assert_eq!(receiver.recv().await, Some(2));
        sender.send(3);
        sender.close();
        assert_eq!(receiver.recv().await, Some(3));
        assert_eq!(receiver.recv().await, None);
    }
}
