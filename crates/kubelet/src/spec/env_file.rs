//! Files of variables, as an init container writes them: `NAME='value'`, the value within single quotes and taken as it stands. What such a
//! file says is what a POSIX shell would make of it; what else a shell understands is refused, in upstream's words. Pure.

/// The value that `text` gives to `key`; none when it does not name it.
///
/// # Errors
/// The first line before the key that is not of this form.
pub fn value(text: &str, key: &str) -> Result<Option<String>, String> {
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let declared = first.trim_start_matches(BLANKS);
        if declared.is_empty() || declared.starts_with('#') {
            (rest, line) = (after, line + 1);
            continue;
        }
        let wrong = |what: &str| format!("invalid environment variable format at line {line}: {what}");
        let (name, _) = declared.split_once('=').ok_or_else(|| wrong("missing '='"))?;
        match name.trim_end_matches(BLANKS) {
            "" => return Err(wrong("empty variable name")),
            trimmed if trimmed != name => return Err(wrong("whitespace before '=' is not allowed")),
            _ => {}
        }
        // Up to the end of the text: a value may have several lines.
        let assigned = &rest[first.len() - declared.len() + name.len() + 1..];
        let (found, after) = match assigned.strip_prefix('\'') {
            Some(quoted) => quoted_value(quoted, line)?,
            // To a shell, a blank after the sign ends an empty value.
            None if assigned.starts_with(BLANKS) => (String::new(), after),
            None => return Err(wrong("value must be enclosed in single quotes")),
        };
        if name == key {
            return Ok(Some(found));
        }
        line += rest[..rest.len() - after.len()].matches('\n').count();
        rest = after;
    }
    Ok(None)
}

const BLANKS: [char; 2] = [' ', '\t'];

/// A value from behind its first quote on, and what follows its last line.
fn quoted_value(text: &str, line: usize) -> Result<(String, &str), String> {
    let (value, behind) = text.split_once('\'').ok_or_else(|| {
        format!("invalid environment variable format starting at line {line}: unclosed single quote")
    })?;
    let (trailing, after) = behind.split_once('\n').unwrap_or((behind, ""));
    let trailing = trailing.trim_start_matches(BLANKS);
    if trailing.is_empty() || trailing.starts_with('#') {
        return Ok((value.to_owned(), after));
    }
    let line = line + value.matches('\n').count();
    Err(format!("invalid environment variable format at line {line}: unexpected content after closing quote"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_a_shell_would_make_of_them() {
        let text = "# first\n\n  A='one'\nB='two\n# not a comment\n three' # said\nC=''\nD= 'x'\nE='$A \\n\"'\nA='later'\nF='end'";
        for (key, expected) in [
            ("A", Some("one")),
            ("B", Some("two\n# not a comment\n three")),
            ("C", Some("")),
            ("D", Some("")),
            ("E", Some("$A \\n\"")),
            ("F", Some("end")),
            ("G", None),
        ] {
            assert_eq!(value(text, key).unwrap().as_deref(), expected, "{key}");
        }
    }

    #[test]
    fn what_a_shell_alone_understands_is_refused() {
        for (text, expected) in [
            ("A", "at line 1: missing '='"),
            ("\n='x'", "at line 2: empty variable name"),
            ("A ='x'", "at line 1: whitespace before '=' is not allowed"),
            ("A=x", "at line 1: value must be enclosed in single quotes"),
            ("A=\"x\"", "at line 1: value must be enclosed in single quotes"),
            ("B='1\n2'\nA='x''y'", "at line 3: unexpected content after closing quote"),
            ("B='1\n2'$A", "at line 2: unexpected content after closing quote"),
            ("B=''\nA='x\n", "starting at line 2: unclosed single quote"),
        ] {
            let refused = value(text, "Z").unwrap_err();
            assert_eq!(refused, format!("invalid environment variable format {expected}"), "{text}");
        }
    }
}
