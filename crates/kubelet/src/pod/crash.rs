//! The crash loop back-off: 10 s after a crash, doubling to five minutes, forgotten after ten minutes without one. Times come
//! in as arguments.

use nauplius_base::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

const INITIAL: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    delay: Duration,
    updated: Timestamp,
}

/// Delays by key: a container or an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackOffs(BTreeMap<String, Entry>);

fn expired(event: Timestamp, updated: Timestamp) -> bool {
    event.duration_since(updated).as_secs() > (MAX * 2).as_secs().cast_signed()
}

impl BackOffs {
    /// While the event at `event` is still waited out at `now`: the whole delay, and when it ends.
    pub fn waiting(&self, key: &str, event: Timestamp, now: Timestamp) -> Option<(Duration, Timestamp)> {
        let entry = self.0.get(key).filter(|entry| !expired(event, entry.updated))?;
        // A clock that jumped back must not keep a container down for long.
        let event = event.min(now);
        let until = event.checked_add(entry.delay).ok()?; // Beyond the calendar's end nothing is waited for.
        (now < until).then_some((entry.delay, until))
    }

    /// Counts a failure at `event`: the next delay is twice as long.
    pub fn next(&mut self, key: &str, event: Timestamp, now: Timestamp) {
        let delay = match self.0.get(key) {
            Some(entry) if !expired(event, entry.updated) => (entry.delay * 2).min(MAX),
            _ => INITIAL,
        };
        self.0.insert(key.to_owned(), Entry { delay, updated: now });
    }

    /// Forgets what succeeded.
    pub fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`.
pub fn go_seconds(delay: Duration) -> String {
    let seconds = delay.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// A duration cut to milliseconds as Go prints it: `852ms`, `1.5s`, `1m2.004s`.
pub fn go_millis(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let fraction = format!("{:03}", millis % 1000);
    let fraction = fraction.trim_end_matches('0');
    let whole = go_seconds(Duration::from_secs(duration.as_secs()));
    if fraction.is_empty() { whole } else { format!("{}.{fraction}s", whole.trim_end_matches('s')) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn delays_double_and_are_forgotten() {
        let mut backoffs = BackOffs::default();
        let (mut now, mut delays) = (1000, Vec::new());
        for _ in 0..7 {
            assert_eq!(backoffs.waiting("c", at(now), at(now + 300)), None);
            let waiting = backoffs.waiting("c", at(now), at(now));
            delays.push(waiting.map_or(0, |(delay, _)| delay.as_secs()));
            now += 300;
            backoffs.next("c", at(now - 300), at(now));
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300]);
        assert_eq!(backoffs.waiting("c", at(now + 601), at(now + 601)), None);
    }

    #[test]
    fn durations_read_as_gos() {
        for (millis, seconds, precise) in [
            (10_000, "10s", "10s"),
            (80_000, "1m20s", "1m20s"),
            (300_000, "5m0s", "5m0s"),
            (1_500, "1s", "1.5s"),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!((go_seconds(duration).as_str(), go_millis(duration).as_str()), (seconds, precise));
        }
        assert_eq!(go_millis(Duration::from_millis(62_004)), "1m2.004s");
        assert_eq!(go_millis(Duration::from_millis(7)), "7ms");
    }
}
