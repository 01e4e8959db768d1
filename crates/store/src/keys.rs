//! Key ranges in etcd's notation. Knows bytes only.

use bytes::Bytes;

/// An `end` without end: the range goes on to the last key of the store, as in etcd.
pub const ALL_KEYS: Bytes = Bytes::from_static(b"\0");

/// The `end` of the range that holds every key with this prefix. A prefix without a successor (empty, or all
/// 0xff) gives [`ALL_KEYS`], so the result can go into a request as it is.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let Some(last) = prefix.iter().rposition(|byte| *byte != 0xff) else { return Some(ALL_KEYS) };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

/// The keys that a request speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRange {
    /// One key.
    Single(Bytes),
    /// From the first to before the second.
    Between(Bytes, Bytes),
    /// From here to the last key.
    From(Bytes),
}

impl KeyRange {
    /// Reads the `start` and `end` of a request.
    #[must_use]
    pub fn new(start: Bytes, end: Option<Bytes>) -> Self {
        match end {
            None => Self::Single(start),
            Some(end) if end == ALL_KEYS => Self::From(start),
            Some(end) => Self::Between(start, end),
        }
    }

    /// Whether the key lies in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Single(only) => only == key,
            Self::Between(start, end) => &start[..] <= key && key < &end[..],
            Self::From(start) => &start[..] <= key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix() {
        let check = |prefix: &[u8], end: &[u8]| assert_eq!(prefix_end(prefix).unwrap(), end);
        check(b"/registry/pods/", b"/registry/pods0");
        check(b"a\xff", b"b");
        check(b"\xff\xff", b"\0");
        check(b"", b"\0");
    }

    #[test]
    fn ranges_hold_their_keys() {
        let check = |start: &'static [u8], end: Option<&'static [u8]>, key: &[u8], held: bool| {
            let range = KeyRange::new(Bytes::from_static(start), end.map(Bytes::from_static));
            assert_eq!(range.contains(key), held, "{range:?} {key:?}");
        };
        check(b"a", None, b"a", true);
        check(b"a", None, b"ab", false);
        check(b"a", Some(b"c"), b"bzz", true);
        check(b"a", Some(b"c"), b"c", false);
        check(b"a", Some(b"\0"), b"\xff\xff", true);
        check(b"b", Some(b"\0"), b"a", false);
        check(b"b", Some(b"a"), b"b", false);
    }
}
