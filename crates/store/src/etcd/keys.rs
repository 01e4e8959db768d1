//! Where a store's keys lie in etcd: those that begin with one prefix begin there with another. So several clusters can live in one
//! etcd, and none sees more than its own. Revisions are etcd's and a number more: a cluster that was restored goes on above the
//! revisions that its clients have seen, wherever etcd's own counter stands.

use super::wire;
use crate::{KeyRange, KeyValue, LeaseId, Revision, prefix_end};
use bytes::Bytes;

/// Above every key of ours, and where progress is written down (see `watch`).
const LAST: &[u8] = b"\xff";

/// The translation of keys.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    ours: Bytes,
    theirs: Bytes,
    ahead: i64,
}

/// A range in etcd's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: Bytes,
    /// Empty for a single key.
    pub(super) end: Bytes,
}

impl Keys {
    /// Keys that begin with `ours` begin with `theirs` in etcd.
    pub(super) fn new(ours: Bytes, theirs: Bytes) -> Self {
        Self { ours, theirs, ahead: 0 }
    }

    /// Our revisions are etcd's and so many more.
    pub(super) fn ahead(self, ahead: i64) -> Self {
        Self { ahead, ..self }
    }

    /// An etcd revision as our callers know it.
    pub(super) fn shown(&self, revision: i64) -> Revision {
        Revision(revision + self.ahead)
    }

    /// A revision of ours in etcd; those from before a restore are long compacted, as its first one is.
    pub(super) fn raw(&self, revision: Revision) -> i64 {
        (revision.0 - self.ahead).max(1)
    }

    /// The revision that an answer carries.
    pub(super) fn of_header(&self, header: Option<&wire::ResponseHeader>) -> Revision {
        self.shown(header.map_or(0, |header| header.revision))
    }

    /// A key value as our callers know it. Its bytes are its own: those of a message are parts of one buffer, and whoever keeps one small
    /// object would keep all that came with it.
    pub(super) fn key_value(&self, kv: wire::KeyValue) -> KeyValue {
        KeyValue {
            key: self.here(&kv.key),
            value: Bytes::copy_from_slice(&kv.value),
            create_revision: self.shown(kv.create_revision),
            mod_revision: self.shown(kv.mod_revision),
            version: kv.version,
            lease: (kv.lease != 0).then_some(LeaseId(kv.lease)),
        }
    }

    /// Where it is written down by how much our revisions are ahead: beyond what anybody reads or watches.
    pub(super) fn note(&self) -> Bytes {
        [&self.theirs[..], LAST, b"\x01"].concat().into()
    }

    /// All keys of ours, and what is written down beyond them.
    pub(super) fn everything(&self) -> Place {
        Place { key: self.theirs.clone(), end: self.nobody() }
    }

    /// A key that is never there.
    pub(super) fn nobody(&self) -> Bytes {
        [&self.theirs[..], LAST, LAST].concat().into()
    }

    /// The key after all of ours, which is only written to.
    pub(super) fn beyond(&self) -> Bytes {
        [&self.theirs[..], LAST].concat().into()
    }

    /// A key in etcd; `None` when it is not below our prefix.
    pub(super) fn there(&self, key: &[u8]) -> Option<Bytes> {
        let rest = key.strip_prefix(&self.ours[..])?;
        Some([&self.theirs[..], rest].concat().into())
    }

    /// A key of etcd's as our callers know it.
    pub(super) fn here(&self, key: &Bytes) -> Bytes {
        if self.ours == self.theirs {
            return Bytes::copy_from_slice(key);
        }
        // Ranges are clamped to our prefix, so no other key comes back.
        [&self.ours[..], key.get(self.theirs.len()..).unwrap_or_default()].concat().into()
    }

    /// The part of a range that can hold keys of ours; `None` when there is none.
    pub(super) fn place(&self, range: &KeyRange) -> Option<Place> {
        match range {
            KeyRange::Single(key) => Some(Place { key: self.there(key)?, end: Bytes::new() }),
            KeyRange::Between(start, end) => self.between(start, Some(end)),
            KeyRange::From(start) => self.between(start, None),
        }
    }

    fn between(&self, start: &Bytes, end: Option<&Bytes>) -> Option<Place> {
        let key = if *start < self.ours { self.theirs.clone() } else { self.there(start)? };
        let after_ours = prefix_end(&self.ours).filter(|_| !self.ours.is_empty());
        let bounded = end.filter(|end| after_ours.as_ref().is_none_or(|after| end < &after));
        let end = match bounded {
            Some(end) => self.there(end)?,
            None => self.beyond(),
        };
        (key < end).then_some(Place { key, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clamped_and_moved() {
        let keys = Keys::new(Bytes::from_static(b"/registry"), Bytes::from_static(b"/east/one"));
        let check = |start: &'static str, end: Option<&'static str>, expected: Option<(&str, &[u8])>| {
            let range = KeyRange::new(start.into(), end.map(Bytes::from));
            let found = keys.place(&range);
            let expected = expected.map(|(key, end)| Place {
                key: Bytes::copy_from_slice(key.as_bytes()),
                end: Bytes::copy_from_slice(end),
            });
            assert_eq!(found, expected, "{start:?} {end:?}");
        };
        check("/registry/pods/a", None, Some(("/east/one/pods/a", b"")));
        check("/elsewhere", None, None);
        check("/registry/pods/", Some("/registry/pods0"), Some(("/east/one/pods/", b"/east/one/pods0")));
        check("/registry/", Some("/registry0"), Some(("/east/one/", b"/east/one0")));
        check("", Some("\0"), Some(("/east/one", b"/east/one\xff")));
        check("/a", Some("/z"), Some(("/east/one", b"/east/one\xff")));
        check("/registry/b", Some("/registry/a"), None);
        check("/s", Some("/z"), None);
        check("/a", Some("/b"), None);
        assert_eq!(keys.here(&Bytes::from_static(b"/east/one/pods/a")), "/registry/pods/a");
    }

    #[test]
    fn what_is_kept_of_a_message_keeps_no_message() {
        let message = Bytes::from(b"/registry/a with its value, and much else".to_vec());
        for theirs in ["/registry", "/east"] {
            let keys = Keys::new(Bytes::from_static(b"/registry"), Bytes::from_static(theirs.as_bytes()));
            let kv = wire::KeyValue {
                key: message.slice(..11),
                value: message.slice(12..27),
                ..Default::default()
            };
            let kept = keys.key_value(kv);
            assert_eq!(kept.value, "with its value,");
            let within = |bytes: &Bytes| message.as_ptr_range().contains(&bytes.as_ptr());
            assert!(!within(&kept.key) && !within(&kept.value));
        }
    }
}
