//! Errors of the system in the words that Go programs print, which Kubernetes users know: `no such file or directory`, without Rust's
//! capital and number. Only the wording is touched; nothing is decided here.

use std::io::{Error, ErrorKind};

const MARK: &str = " (os error ";

/// What an error says, in Go's words.
pub fn words(error: &Error) -> String {
    match (error.raw_os_error(), error.get_ref(), error.kind()) {
        // Made by the standard library, with words of its own.
        (None, None, ErrorKind::UnexpectedEof) => "unexpected EOF".to_owned(),
        (None, None, ErrorKind::TimedOut) => "i/o timeout".to_owned(),
        (None, None, ErrorKind::NotFound) => "no such file or directory".to_owned(),
        (None, None, ErrorKind::PermissionDenied) => "permission denied".to_owned(),
        (None, None, ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        (None, None, ErrorKind::HostUnreachable) => "no route to host".to_owned(),
        (None, None, ErrorKind::NetworkUnreachable) => "network is unreachable".to_owned(),
        _ => plain(&error.to_string()),
    }
}

/// A text with Go's words in place of the system's errors in it.
pub fn plain(text: &str) -> String {
    let mut plain = text.to_owned();
    let mut from = 0;
    while let Some((end, code)) = next(&plain, from) {
        from = end;
        let full = Error::from_raw_os_error(code).to_string();
        let Some(words) = full.split(MARK).next().filter(|_| plain[..end].ends_with(&full)) else { continue };
        let words = lowered(words);
        let begin = end - full.len();
        plain.replace_range(begin..end, &words);
        from = begin + words.len();
    }
    plain
}

/// Where the next error with a number ends, from `from` on, and the number.
fn next(text: &str, from: usize) -> Option<(usize, i32)> {
    let mut from = from;
    loop {
        let start = from + text.get(from..)?.find(MARK)?;
        let digits = &text[start + MARK.len()..];
        let length = digits.find(')')?;
        let end = start + MARK.len() + length + 1;
        match digits[..length].parse() {
            Ok(code) => return Some((end, code)),
            Err(_) => from = start + MARK.len(),
        }
    }
}

/// Only a word loses its capital, not a name in capitals.
fn lowered(words: &str) -> String {
    let mut rest = words.chars();
    match rest.next() {
        Some(first) if rest.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(rest).collect()
        }
        _ => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_as_go_tells_them() {
        let check = |code: i32, expected: &str| {
            assert_eq!(words(&Error::from_raw_os_error(code)), expected);
        };
        check(2, "no such file or directory");
        check(13, "permission denied");
        check(18, "invalid cross-device link");
        check(20, "not a directory");
        check(28, "no space left on device");
        check(81, ".lib section in a.out corrupted");
        check(104, "connection reset by peer");
        check(111, "connection refused");
        check(113, "no route to host");
        assert_eq!(words(&Error::from(ErrorKind::UnexpectedEof)), "unexpected EOF");
        assert_eq!(words(&Error::other("Our own words")), "Our own words");
    }

    #[test]
    fn errors_inside_texts_are_found() {
        let text = format!(
            "é: {}: then ({}) (os error x) (os error 9999999999) end",
            Error::from_raw_os_error(2),
            Error::from_raw_os_error(111)
        );
        assert_eq!(
            plain(&text),
            "é: no such file or directory: then (connection refused) (os error x) (os error 9999999999) end"
        );
        assert_eq!(plain("not that (os error 2)"), "not that (os error 2)");
        assert_eq!(plain("cut (os error 2"), "cut (os error 2");
    }
}
