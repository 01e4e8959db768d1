//! Times as tables show them. It never asks for the time.

use crate::api::jiff::Timestamp;

/// Seconds since the epoch of an RFC 3339 time.
pub fn seconds(time: &str) -> Option<i64> {
    // What is not a time is shown like no time at all.
    time.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// Seconds since the epoch as an RFC 3339 time.
pub(crate) fn moment(seconds: i64) -> String {
    // What no calendar has is shown as the epoch.
    nauplius_meta::time::format(Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// How long ago `time` was, as the AGE column shows it; `<unknown>` without a time.
pub fn since(time: &str, now_s: i64) -> String {
    seconds(time).map_or_else(|| "<unknown>".to_owned(), |then_s| human(now_s - then_s))
}

/// A duration in the two most telling units: `75s`, `9m3s`, `26h`, `3d4h`, `2y120d`.
pub fn human(duration_s: i64) -> String {
    let minutes = duration_s / 60;
    let hours = minutes / 60;
    let days = hours / 24;
    match duration_s {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{duration_s}s"),
        120..600 => two(minutes, "m", duration_s % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

fn two(big: i64, big_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_upstreams() {
        let check = |duration_s, expected: &str| assert_eq!(human(duration_s), expected, "{duration_s}");
        let (minute, hour, day) = (60, 3600, 86_400);
        check(-2, "<invalid>");
        check(-1, "0s");
        check(0, "0s");
        check(119, "119s");
        check(120, "2m");
        check(599, "9m59s");
        check(10 * minute, "10m");
        check(3 * hour - 1, "179m");
        check(3 * hour, "3h");
        check(7 * hour + 59 * minute, "7h59m");
        check(8 * hour + 59 * minute, "8h");
        check(47 * hour, "47h");
        check(2 * day, "2d");
        check(2 * day + hour, "2d1h");
        check(8 * day + hour, "8d");
        check(2 * 365 * day - 1, "729d");
        check(2 * 365 * day, "2y");
        check(2 * 365 * day + day, "2y1d");
        check(8 * 365 * day + day, "8y");
    }

    #[test]
    fn ages_need_a_time() {
        assert_eq!(since("", 5), "<unknown>");
        assert_eq!(since("1970-01-01T00:00:02Z", 5), "3s");
        assert_eq!(since("1970-01-01T00:00:02.123456Z", 5), "3s");
    }
}
