//! How a pod's actor is told that there is something new to look at, and of which sort. It carries no data: the actor looks itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::Notify;

const RUNTIME: u8 = 1;
const CONTENT: u8 = 2;
const ROOM: u8 = 4;

#[derive(Debug, Default)]
struct Inner {
    flags: AtomicU8,
    notify: Notify,
}

/// Wakes one actor. Clones wake the same.
#[derive(Debug, Clone, Default)]
pub struct Waker(Arc<Inner>);

/// What there is to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// Containers or sandboxes.
    pub runtime: bool,
    /// Config maps or secrets.
    pub content: bool,
}

impl Waker {
    fn wake(&self, flag: u8) {
        self.0.flags.fetch_or(flag, Ordering::AcqRel);
        self.0.notify.notify_one();
    }

    /// Something happened in the runtime.
    pub fn wake_runtime(&self) {
        self.wake(RUNTIME);
    }

    /// Something that volumes are made from has changed.
    pub fn wake_content(&self) {
        self.wake(CONTENT);
    }

    /// There may be room on the node that there was not.
    pub fn wake_room(&self) {
        self.wake(ROOM);
    }

    /// Everything may have changed.
    pub fn wake_all(&self) {
        self.wake(RUNTIME | CONTENT | ROOM);
    }

    /// Waits for news. Safe to cancel.
    pub async fn news(&self) -> News {
        loop {
            let flags = self.0.flags.swap(0, Ordering::AcqRel);
            if flags != 0 {
                return News { runtime: flags & RUNTIME != 0, content: flags & CONTENT != 0 };
            }
            self.0.notify.notified().await;
        }
    }
}
