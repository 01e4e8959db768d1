//! One line of a CRI log: `<time> <stream> <tag> <text>`. Pure.

use nauplius_base::time::Timestamp;

/// A line, taken apart. Partial lines (tag `P`) carry no line feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// As it is written.
    pub time: &'a str,
    /// `stdout` or `stderr`.
    pub stream: &'a str,
    /// Whether the container's line goes on in the next one.
    pub partial: bool,
    /// The container's bytes.
    pub text: &'a [u8],
}

/// Takes a line (without its line feed) apart; none when it is no CRI log line.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
    let text = parts.next().unwrap_or_default();
    let word = |bytes| std::str::from_utf8(bytes).ok(); // Anything else is no log line.
    let stream = word(stream).filter(|stream| matches!(*stream, "stdout" | "stderr"))?;
    Some(Line {
        time: word(time)?,
        stream,
        partial: tags.split(|byte| *byte == b':').next() == Some(b"P"),
        text,
    })
}

impl Line<'_> {
    /// When it was written.
    pub fn at(&self) -> Option<Timestamp> {
        self.time.parse().ok() // A line without a time passes every filter by time.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_apart() {
        let line = parse(b"2026-01-02T03:04:05.000000006Z stdout F hello world").unwrap();
        assert_eq!((line.stream, line.partial, line.text), ("stdout", false, &b"hello world"[..]));
        assert!(parse(b"2026-01-02T03:04:05Z stderr P ").unwrap().partial);
        assert_eq!(parse(b"2026-01-02T03:04:05Z stdout F").unwrap().text, b"");
        assert_eq!(parse(b"rubbish"), None);
        assert_eq!(parse(b"a stdin F x"), None);
    }
}
