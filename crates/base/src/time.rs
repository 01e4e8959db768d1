//! The clock. Wall time for what people and objects read, monotonic time for waiting.
//!
//! Both are read through here only; tests may shift the wall clock with [`set_wall_offset_ms`] and pause the monotonic one
//! with tokio's test clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use jiff::Timestamp;
pub use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval, sleep, sleep_until, timeout};

static WALL_OFFSET_MS: AtomicI64 = AtomicI64::new(0);

/// Shifts what [`now`] returns by `offset_ms` from now on: clock jumps for tests.
pub fn set_wall_offset_ms(offset_ms: i64) {
    WALL_OFFSET_MS.store(offset_ms, Ordering::Relaxed);
}

/// The wall clock.
pub fn now() -> Timestamp {
    Timestamp::from_nanosecond(i128::from(unix_nanos())).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Whole seconds since the epoch.
pub fn unix_seconds() -> i64 {
    unix_nanos().div_euclid(1_000_000_000)
}

/// Nanoseconds since the epoch; good until the year 2262.
#[allow(clippy::disallowed_methods)] // The one place that reads the system's clock.
pub fn unix_nanos() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let nanos = i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX);
    nanos.saturating_add(WALL_OFFSET_MS.load(Ordering::Relaxed).saturating_mul(1_000_000))
}

/// The monotonic clock (tokio's, so that a paused test runtime controls it).
pub fn monotonic() -> Instant {
    Instant::now()
}

/// RFC 3339 with whole seconds and `Z`, the form of `metav1.Time`.
pub fn rfc3339_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// RFC 3339 with six decimals and `Z`, the form of `metav1.MicroTime`.
pub fn rfc3339_micros(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// RFC 3339 with nine decimals and `Z`, the form that CRI logs carry.
pub fn rfc3339_nanos(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_kubernetes_does() {
        let at: Timestamp = "2026-02-03T04:05:06.789Z".parse().unwrap();
        assert_eq!(rfc3339_seconds(at), "2026-02-03T04:05:06Z");
        assert_eq!(rfc3339_micros(at), "2026-02-03T04:05:06.789000Z");
        assert_eq!(rfc3339_nanos(at), "2026-02-03T04:05:06.789000000Z");
    }
}
