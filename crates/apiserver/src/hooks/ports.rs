//! Ports of the nodes: which are valid, and which free one to take. As with addresses, the lower band is left to people.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

const MIN_BAND: u32 = 16;
const MAX_BAND: u32 = 128;
/// The band is this part of the range, within the bounds above.
const BAND_PART: u32 = 32;

fn band(range: &RangeInclusive<u16>) -> u16 {
    let size = u32::from(*range.end()).saturating_sub((*range.start()).into()) + 1;
    let band = if size <= MIN_BAND { 0 } else { (size / BAND_PART).clamp(MIN_BAND, MAX_BAND) };
    u16::try_from(band).unwrap_or(0)
}

/// A free port: from a random place above the band on, then from the band.
pub(super) fn pick(range: &RangeInclusive<u16>, random: u64, taken: &BTreeSet<u16>) -> Option<u16> {
    let (first, last) = (*range.start(), *range.end());
    let low = first.saturating_add(band(range));
    let free = |port: &u16| !taken.contains(port);
    let mut found = None;
    if low <= last {
        let offset = random % (u64::from(last - low) + 1);
        let start = low + u16::try_from(offset).unwrap_or(0);
        found = (start..=last).chain(low..start).find(free);
    }
    found.or_else(|| (first..low).find(free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_is_given_once_and_the_band_last() {
        let range = 30_000..=30_099;
        let mut taken = BTreeSet::new();
        let mut order = Vec::new();
        while let Some(port) = pick(&range, order.len() as u64 * 31, &taken) {
            assert!(taken.insert(port) && range.contains(&port));
            order.push(port);
        }
        assert_eq!(order.len(), 100);
        assert!(order[..84].iter().all(|port| *port >= 30_016));
    }
}
