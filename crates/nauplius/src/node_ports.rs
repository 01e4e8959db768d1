//! A range of ports for services of type NodePort, as upstream's `--service-node-port-range` writes it. Whose it is, is not known here.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A range that is not empty, its ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePorts {
    /// The lowest.
    first: u16,
    /// The highest.
    last: u16,
}

/// Upstream's.
impl Default for NodePorts {
    fn default() -> Self {
        Self { first: 30_000, last: 32_767 }
    }
}

/// Below are the ports that programs choose for themselves.
const LOWEST: u16 = 11_000;

impl NodePorts {
    /// All of them.
    pub fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// Whether they share a port.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether the port is one of them.
    pub fn contains(self, port: u16) -> bool {
        self.range().contains(&port)
    }

    /// Upstream's range, then those of its size below it: above it the kernel takes ports for outgoing connections.
    pub fn candidates() -> impl Iterator<Item = Self> {
        let size = Self::default().last - Self::default().first + 1;
        let below = move |range: &Self| {
            let first = range.first.checked_sub(size).filter(|first| *first >= LOWEST)?;
            Some(Self { first, last: range.first - 1 })
        };
        std::iter::successors(Some(Self::default()), below)
    }
}

impl fmt::Display for NodePorts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

/// `FIRST-LAST`, `FIRST+MORE`, or one port.
impl FromStr for NodePorts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| {
            let parsed = text.trim().parse::<u16>();
            parsed.map_err(|_| format!("{text:?} is no port from 1 to 65535"))
        };
        let (first, last) = if let Some((first, last)) = text.split_once('-') {
            (port(first)?, port(last)?)
        } else if let Some((first, more)) = text.split_once('+') {
            let (first, more) = (port(first)?, port(more)?);
            (first, first.checked_add(more).ok_or_else(|| format!("{text:?} goes beyond port 65535"))?)
        } else {
            (port(text)?, port(text)?)
        };
        if first == 0 || last < first {
            return Err(format!("{text:?} is no range of ports such as {}", Self::default()));
        }
        Ok(Self { first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_upstream_reads() {
        let read = |text: &str| text.parse::<NodePorts>().map(|ports| ports.to_string());
        assert_eq!(read("30000-32767").unwrap(), "30000-32767");
        assert_eq!(read("30000+10").unwrap(), "30000-30010");
        assert_eq!(read("30000").unwrap(), "30000-30000");
        for bad in ["", "0-10", "20-10", "1-70000", "65535+1", "a-b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn candidates_are_apart_and_of_one_size() {
        let all: Vec<NodePorts> = NodePorts::candidates().collect();
        assert_eq!(all[1].to_string(), "27232-29999");
        assert_eq!(all.len(), 7);
        for pair in all.windows(2) {
            assert!(!pair[0].overlaps(pair[1]) && pair[0].first == pair[1].last + 1);
        }
    }
}
