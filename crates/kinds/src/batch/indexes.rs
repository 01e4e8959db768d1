//! Lists of indexes as a Job writes them: `0,2-4,7`. It knows their form, not what they count.

use nauplius_meta::field::quote;

/// What is wrong with one of the parts.
type Problem = String;

/// One part, `3` or `3-5`, below `completions`.
fn interval(part: &str, completions: i64) -> Result<(i64, i64), Problem> {
    let limits: Vec<&str> = part.split('-').collect();
    if limits.len() > 2 {
        return Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            quote(part)
        ));
    }
    let first = index(limits[0], completions)?;
    let Some(last) = limits.get(1) else { return Ok((first, first)) };
    let last = index(last, completions)?;
    if first >= last {
        return Err(format!("non-increasing order, previous: {first}, current: {last}"));
    }
    Ok((first, last))
}

fn index(text: &str, completions: i64) -> Result<i64, Problem> {
    let number = text.parse::<i64>();
    let number =
        number.map_err(|_| format!("cannot convert string to integer for index: {}", quote(text)))?;
    if number >= completions { Err(format!("too large index: {}", quote(text))) } else { Ok(number) }
}

/// How many indexes a list has.
pub(super) fn count(list: &str, completions: i64) -> Result<i64, Problem> {
    let mut total = 0;
    let mut previous = None;
    for part in list.split(',').filter(|_| !list.is_empty()) {
        let (first, last) = interval(part, completions)?;
        if let Some(previous) = previous.filter(|previous| *previous >= first) {
            return Err(format!("non-increasing order, previous: {previous}, current: {first}"));
        }
        total += last - first + 1;
        previous = Some(last);
    }
    Ok(total)
}

/// The first index that is in both lists. Parts that are malformed are in neither: their own check names them.
pub(super) fn overlap(left: &str, right: &str, completions: i64) -> Option<i64> {
    let parts = |list: &str| -> Vec<(i64, i64)> {
        list.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let right = parts(right);
    let both = |(first, last): (i64, i64)| {
        let meets = right.iter().find(|(other, end)| first <= *end && *other <= last);
        meets.map(|(other, _)| first.max(*other))
    };
    parts(left).into_iter().find_map(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted() {
        let check = |list, expected: Result<i64, &str>| {
            assert_eq!(count(list, 10), expected.map_err(str::to_owned), "{list}");
        };
        check("", Ok(0));
        check("0,2-4,9", Ok(5));
        check("3,2", Err("non-increasing order, previous: 3, current: 2"));
        check("4-4", Err("non-increasing order, previous: 4, current: 4"));
        check("10", Err("too large index: \"10\""));
        check("x", Err("cannot convert string to integer for index: \"x\""));
    }

    #[test]
    fn lists_meet() {
        assert_eq!(overlap("0-3,7", "2,9", 10), Some(2));
        assert_eq!(overlap("0-1", "2-3", 10), None);
        assert_eq!(overlap("", "2-3", 10), None);
    }
}
