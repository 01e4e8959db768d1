//! What differs between two trees, for people: a unified difference of their JSON, as upstream prints that of its structs since it has done
//! without go-cmp. Fields have the API's names here, where upstream shows those of its own structs.

use serde_json::Value;

/// Lines that are shown around a change.
const CONTEXT: usize = 10;
/// Beyond so many pairs of lines to compare, all between the first and the last change is shown as changed.
const PAIRS_MAX: usize = 4_000_000;

/// One line of one side, or of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Both(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// The difference, without an end of line at its end.
pub(crate) fn diff(old: &Value, new: &Value) -> String {
    let [old, new] = [old, new].map(|value| format!("{value:#}"));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let lines = compare(&old, &new);
    let mut text = vec!["--- expected".to_owned(), "+++ got".to_owned()];
    for hunk in hunks(&lines) {
        text.push(head(&lines, &hunk));
        text.extend(lines[hunk].iter().map(|line| match line {
            Line::Both(line) => format!(" {line}"),
            Line::Old(line) => format!("-{line}"),
            Line::New(line) => format!("+{line}"),
        }));
    }
    text.join("\n")
}

fn compare<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old_rest, new_rest) = (&old[start..], &new[start..]);
    let end = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old_middle, new_middle) = (&old_rest[..old_rest.len() - end], &new_rest[..new_rest.len() - end]);
    let mut lines: Vec<Line<'a>> = old[..start].iter().map(|line| Line::Both(line)).collect();
    if old_middle.len().saturating_mul(new_middle.len()) > PAIRS_MAX {
        lines.extend(old_middle.iter().map(|line| Line::Old(line)));
        lines.extend(new_middle.iter().map(|line| Line::New(line)));
    } else {
        lines.extend(longest_common(old_middle, new_middle));
    }
    lines.extend(old_rest[old_rest.len() - end..].iter().map(|line| Line::Both(line)));
    lines
}

/// The comparison that keeps most lines; what was goes before what is.
fn longest_common<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let width = new.len() + 1;
    // How many lines the rests from (i, j) on have in common.
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Both(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len()
            && (j == new.len() || common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            lines.push(Line::Old(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
    lines
}

/// The changes with what stands around them; those that are near each other together.
fn hunks(lines: &[Line<'_>]) -> Vec<std::ops::Range<usize>> {
    let mut hunks: Vec<std::ops::Range<usize>> = Vec::new();
    for (index, _) in lines.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Both(_))) {
        let (start, end) = (index.saturating_sub(CONTEXT), (index + 1 + CONTEXT).min(lines.len()));
        match hunks.last_mut().filter(|last| start <= last.end) {
            Some(last) => last.end = end,
            None => hunks.push(start..end),
        }
    }
    hunks
}

/// `@@ -1,7 +1,8 @@`: where the lines stand on each side.
fn head(lines: &[Line<'_>], hunk: &std::ops::Range<usize>) -> String {
    let side = |not: fn(&Line<'_>) -> bool| {
        let count = |lines: &[Line<'_>]| lines.iter().filter(|line| !not(line)).count();
        let (before, length) = (count(&lines[..hunk.start]), count(&lines[hunk.clone()]));
        match length {
            0 => format!("{before},0"),
            1 => (before + 1).to_string(),
            _ => format!("{},{length}", before + 1),
        }
    };
    let (old, new) = (side(|line| matches!(line, Line::New(_))), side(|line| matches!(line, Line::Old(_))));
    format!("@@ -{old} +{new} @@")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_stand_among_their_lines() {
        let old = json!({"a": [{"b": 1}], "c": "x"});
        let new = json!({"a": [{"b": 2, "d": true}], "c": "x"});
        let expected = r#"--- expected
+++ got
@@ -1,8 +1,9 @@
 {
   "a": [
     {
-      "b": 1
+      "b": 2,
+      "d": true
     }
   ],
   "c": "x"
 }"#;
        assert_eq!(diff(&old, &new), expected);
        assert_eq!(diff(&json!(1), &json!(2)), "--- expected\n+++ got\n@@ -1 +1 @@\n-1\n+2");
    }

    #[test]
    fn what_is_far_apart_stands_apart() {
        let list = |first: u8, last: u8| {
            let middle = std::iter::repeat_n(0, 30);
            json!(std::iter::once(first).chain(middle).chain([last]).collect::<Vec<u8>>())
        };
        let text = diff(&list(1, 2), &list(3, 4));
        let heads: Vec<&str> = text.lines().filter(|line| line.starts_with("@@")).collect();
        assert_eq!(heads, ["@@ -1,12 +1,12 @@", "@@ -23,12 +23,12 @@"]);
    }
}
