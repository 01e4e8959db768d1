//! The words of the store: revisions, key values, transactions, ranges and watches. Plain data, no engine.

use bytes::Bytes;
use std::fmt;

/// How many operations one transaction may hold; also how many keys one revision can change.
pub const MAX_TXN_OPS: usize = 1 << 16;

/// How long a key may be.
pub const MAX_KEY_BYTES: usize = 4096;

/// A point in the store's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub i64);

impl Revision {
    /// Before everything; in a [`Compare`] it stands for an absent key.
    pub const ZERO: Self = Self(0);

    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A key with its value as of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Its value; empty when only keys were asked for.
    pub value: Bytes,
    /// The revision that made the key, since it was last absent.
    pub create_revision: Revision,
    /// The revision that wrote this value.
    pub mod_revision: Revision,
    /// 1 when it was made, one more with each write.
    pub version: i64,
    /// The lease that deletes it when it ends.
    pub lease: Option<LeaseId>,
}

impl KeyValue {
    /// Bytes of key and value.
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// Holds when the key's mod revision is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// Its expected mod revision; [`Revision::ZERO`] when it must be absent.
    pub mod_revision: Revision,
}

/// One change in a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes a value; the lease replaces whichever the key had.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// The lease to attach it to.
        lease: Option<LeaseId>,
    },
    /// Removes a key; nothing happens when it is absent.
    Delete {
        /// The key.
        key: Bytes,
    },
}

impl Op {
    /// The key that it changes.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
        }
    }
}

/// Operations that run together, under one revision, if every compare holds. No key may be changed twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// What must hold.
    pub compare: Vec<Compare>,
    /// What is then done, in order.
    pub ops: Vec<Op>,
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnOutcome {
    /// The operations ran. Without effect (only absent keys were deleted) `revision` is the store's current one.
    Committed {
        /// The revision it took.
        revision: Revision,
        /// What each operation replaced, one per operation.
        previous: Vec<Option<KeyValue>>,
    },
    /// A compare did not hold and nothing was done.
    Conflict {
        /// The store's revision when it was looked at.
        revision: Revision,
        /// The compared keys as they are, one per compare.
        current: Vec<Option<KeyValue>>,
    },
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeRequest {
    /// The single key, or where the range starts.
    pub start: Bytes,
    /// Where the range ends, exclusive; `None` reads the single key, [`crate::ALL_KEYS`] has no end.
    pub end: Option<Bytes>,
    /// How many key values to return; 0 for all.
    pub limit: usize,
    /// The revision to read at; `None` for the newest.
    pub at: Option<Revision>,
    /// Leaves the values out.
    pub keys_only: bool,
    /// Only counts.
    pub count_only: bool,
    /// Does not count what the limit leaves out: `count` is then one more than was returned, if there is more. Reading a page in
    /// the past costs no more than the page.
    pub uncounted: bool,
}

impl RangeRequest {
    /// Reads a single key.
    #[must_use]
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self { start: key.into(), ..Self::default() }
    }

    /// Reads every key with this prefix.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        Self { end: crate::prefix_end(&start), start, ..Self::default() }
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeResponse {
    /// In key order.
    pub kvs: Vec<KeyValue>,
    /// All keys of the range at that revision, whatever the limit.
    pub count: u64,
    /// Whether the limit left some out.
    pub more: bool,
    /// The store's current revision, not the one that was asked for.
    pub revision: Revision,
}

/// What to follow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchRequest {
    /// The single key, or where the range starts.
    pub start: Bytes,
    /// Where the range ends, exclusive; as in [`RangeRequest`].
    pub end: Option<Bytes>,
    /// The first revision wanted, inclusive, possibly a future one; `None` for what comes from now on.
    pub from: Option<Revision>,
    /// Whether events carry what they replaced.
    pub previous: bool,
}

impl WatchRequest {
    /// Follows every key with this prefix from a revision on, with previous values.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>, from: Option<Revision>) -> Self {
        let start = prefix.into();
        Self { end: crate::prefix_end(&start), start, from, previous: true }
    }
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The key has a new value.
    Put {
        /// The key with that value.
        kv: KeyValue,
        /// What it replaced, when asked for and there was one.
        previous: Option<KeyValue>,
    },
    /// The key is gone.
    Delete {
        /// The key.
        key: Bytes,
        /// The revision that removed it.
        revision: Revision,
        /// What it was, when asked for.
        previous: Option<KeyValue>,
    },
}

impl Event {
    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { kv, .. } => &kv.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision that changed it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { kv, .. } => kv.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    /// What the change replaced.
    #[must_use]
    pub fn previous(&self) -> Option<&KeyValue> {
        match self {
            Self::Put { previous, .. } | Self::Delete { previous, .. } => previous.as_ref(),
        }
    }

    pub(crate) fn without_previous(&self) -> Self {
        match self {
            Self::Put { kv, .. } => Self::Put { kv: kv.clone(), previous: None },
            Self::Delete { key, revision, .. } => {
                Self::Delete { key: key.clone(), revision: *revision, previous: None }
            }
        }
    }

    /// What it holds in memory, near enough for a bound.
    pub(crate) fn footprint(&self) -> usize {
        let changed = match self {
            Self::Put { kv, .. } => kv.size(),
            Self::Delete { key, .. } => key.len(),
        };
        size_of::<Self>() + changed + self.previous().map_or(0, KeyValue::size)
    }
}

/// What a watch delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchMessage {
    /// Changes of whole revisions, in order; never empty.
    Events {
        /// The changes.
        events: Vec<Event>,
        /// Everything up to here was delivered.
        revision: Revision,
    },
    /// The answer to [`crate::ProgressHandle::request`]: everything up to here was delivered.
    Progress {
        /// The store's revision at that moment.
        revision: Revision,
    },
}
