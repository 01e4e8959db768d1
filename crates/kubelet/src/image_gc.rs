//! Which images go when their disk fills up: those that nobody uses, the longest unused first, down to a level from which it does not
//! have to begin anew at once. Pure bookkeeping; others list and remove.

use std::collections::BTreeMap;
use std::time::Duration;

/// An image may be about to be used.
const AGE_MIN: Duration = Duration::from_secs(120);

/// An image of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: String,
    /// Bytes.
    pub size: i64,
    /// Whether it must stay.
    pub pinned: bool,
    /// Whether a container was made from it.
    pub in_use: bool,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    seen: Duration,
    used: Duration,
}

/// What is known of images since the start.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<String, Times>);

/// Bytes to win back, when the disk is too full: from `high` percent on, down to `low`. `available` and `capacity` are bytes.
pub fn to_free(available: i64, capacity: i64, (high, low): (i64, i64)) -> Option<i64> {
    let percent = |part: i64| i128::from(part) * 100 / i128::from(capacity.max(1));
    let used = 100 - percent(available);
    let level = i128::from(capacity) * i128::from(100 - low) / 100;
    (high < 100 && used >= i128::from(high)).then(|| i64::try_from(level).unwrap_or(i64::MAX) - available)
}

impl Known {
    /// Takes in what is there.
    pub fn detect(&mut self, images: &[Image], now: Duration) {
        self.0.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let times = self.0.entry(image.id.clone()).or_insert(Times { seen: now, used: Duration::ZERO });
            if image.in_use {
                times.used = now;
            }
        }
    }

    /// What may go, in order, until `bytes` are won.
    pub fn plan<'a>(&self, images: &'a [Image], bytes: i64, now: Duration) -> Vec<&'a Image> {
        let mut free: Vec<(Times, &Image)> = images
            .iter()
            .filter(|image| !image.in_use && !image.pinned)
            .filter_map(|image| Some((*self.0.get(&image.id)?, image)))
            .filter(|(times, _)| now.saturating_sub(times.seen) >= AGE_MIN)
            .collect();
        free.sort_by_key(|(times, image)| (times.used, times.seen, image.id.clone()));
        let mut won = 0;
        let enough = |(_, image): &(Times, &Image)| {
            let more = won < bytes;
            won = image.size.saturating_add(won);
            more
        };
        free.into_iter().take_while(enough).map(|(_, image)| image).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, size: i64, in_use: bool) -> Image {
        Image { id: id.to_owned(), size, pinned: id == "pinned", in_use }
    }

    #[test]
    fn the_level_is_what_upstream_keeps() {
        for (available, expected) in [(100, None), (16, None), (15, Some(5)), (0, Some(20))] {
            assert_eq!(to_free(available, 100, (85, 80)), expected, "{available}");
            assert_eq!(to_free(available, 100, (100, 80)), None, "images stay for ever");
        }
    }

    #[test]
    fn the_longest_unused_go_first_and_new_ones_stay() {
        let at = Duration::from_secs;
        let mut known = Known::default();
        let first =
            [image("a", 10, true), image("b", 10, true), image("c", 10, false), image("pinned", 10, false)];
        known.detect(&first, at(1));
        known.detect(
            &[image("a", 10, true), image("b", 10, false), image("c", 10, false), image("pinned", 10, false)],
            at(100),
        );
        let now = [
            image("a", 10, false),
            image("b", 10, false),
            image("c", 10, false),
            image("new", 10, false),
            image("pinned", 10, false),
        ];
        known.detect(&now, at(200));
        let ids = |bytes: i64, now_s: u64| {
            known.plan(&now, bytes, at(now_s)).iter().map(|image| image.id.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(ids(i64::MAX, 200), ["c", "b", "a"]);
        assert_eq!(ids(11, 200), ["c", "b"]);
        assert_eq!(ids(i64::MAX, 320), ["c", "new", "b", "a"]);
        assert_eq!(ids(0, 320), Vec::<&str>::new());
    }
}
