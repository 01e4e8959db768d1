//! CRI's log format: `2016-10-06T00:17:09.669794202Z stdout F text`. A line is written when it ends; what is longer than
//! 16 KiB or never ended is marked `P` (partial). It must not know where the bytes come from.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Longest text in one record; upstream's runtimes cut there too.
pub(crate) const LINE_LIMIT: usize = 16 * 1024;

/// Which stream of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Stdout => b"stdout",
            Self::Stderr => b"stderr",
        }
    }
}

/// Cuts one stream into records.
#[derive(Default)]
pub(crate) struct Lines {
    /// The beginning of a line that has not ended yet; never longer than the limit.
    pending: Vec<u8>,
}

impl Lines {
    /// Appends to `records` what `bytes` completes.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], stream: Stream, now_ns: i64, records: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = LINE_LIMIT - self.pending.len();
            let window = &bytes[..bytes.len().min(room + 1)];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                record(records, now_ns, stream, true, &[&self.pending, &bytes[..end]]);
                self.pending = Vec::new();
                bytes = &bytes[end + 1..];
            } else if bytes.len() > room {
                record(records, now_ns, stream, false, &[&self.pending, &bytes[..room]]);
                self.pending = Vec::new();
                bytes = &bytes[room..];
            } else {
                self.pending.extend_from_slice(bytes);
                bytes = &[];
            }
        }
    }

    /// Appends what is left at the end of the stream.
    pub(crate) fn finish(&mut self, stream: Stream, now_ns: i64, records: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            record(records, now_ns, stream, false, &[&self.pending]);
            self.pending = Vec::new();
        }
    }
}

fn record(records: &mut Vec<u8>, now_ns: i64, stream: Stream, full: bool, text: &[&[u8]]) {
    timestamp(records, now_ns);
    records.push(b' ');
    records.extend_from_slice(stream.name());
    records.extend_from_slice(if full { b" F " } else { b" P " });
    for part in text {
        records.extend_from_slice(part);
    }
    records.push(b'\n');
}

/// RFC 3339 with nine decimals, by arithmetic: a date library would be the largest thing in a shim's memory.
fn timestamp(records: &mut Vec<u8>, now_ns: i64) {
    let seconds = now_ns.div_euclid(1_000_000_000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let (of_day, nanos) = (seconds.rem_euclid(86_400), now_ns.rem_euclid(1_000_000_000));
    let mut digits = |value: i64, width: u32, after: u8| {
        for place in (0..width).rev() {
            records.push(b'0' + (value / 10_i64.pow(place) % 10) as u8); // One decimal digit.
        }
        records.push(after);
    };
    digits(year, 4, b'-');
    digits(month, 2, b'-');
    digits(day, 2, b'T');
    digits(of_day / 3600, 2, b':');
    digits(of_day / 60 % 60, 2, b':');
    digits(of_day % 60, 2, b'.');
    digits(nanos, 9, b'Z');
}

/// Year, month and day of a day counted from 1970-01-01, in the calendar that starts its year in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The file that a container's records go to.
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    complained: bool,
}

impl LogFile {
    /// Opens the log for appending, with its directory.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(Self { path: path.to_owned(), file: append_to(path)?, complained: false })
    }

    /// Continues in a new file at the same path, after the old one was renamed.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.file = append_to(&self.path)?;
        Ok(())
    }

    /// Writes whole records. A full disk loses them, said once: the container must not stop because of its log.
    pub(crate) fn write(&mut self, records: &[u8]) {
        match self.file.write_all(records) {
            Ok(()) => self.complained = false,
            Err(error) if !self.complained => {
                self.complained = true;
                eprintln!("log {}: {error}; records are lost until there is room", self.path.display());
            }
            Err(_) => {} // Said above.
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&[u8]], expected: &str) {
        let (mut lines, mut records) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.feed(chunk, Stream::Stdout, 1_475_713_029_669_794_202, &mut records);
        }
        lines.finish(Stream::Stdout, 1_475_713_029_669_794_202, &mut records);
        let text = String::from_utf8(records).unwrap();
        assert_eq!(text.replace("2016-10-06T00:17:09.669794202Z stdout ", ""), expected);
    }

    #[test]
    fn lines_become_records() {
        check(&[b"hello\nworld\n"], "F hello\nF world\n");
        check(&[b"hel", b"lo\n\n"], "F hello\nF \n");
        check(&[b"no end"], "P no end\n");
        check(&[], "");
    }

    #[test]
    fn long_lines_are_cut_where_the_limit_is() {
        let exact = vec![b'x'; LINE_LIMIT];
        let text = String::from_utf8(exact.clone()).unwrap();
        check(&[&exact, b"\n"], &format!("F {text}\n"));
        check(&[&exact, b"y\n"], &format!("P {text}\nF y\n"));
        check(&[&[exact.as_slice(), b"\n"].concat()], &format!("F {text}\n"));
        check(&[&[exact.as_slice(), exact.as_slice()].concat()], &format!("P {text}\nP {text}\n"));
    }

    #[test]
    fn dates_are_gregorian() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (20_777, (2026, 11, 20)),
            (-1, (1969, 12, 31)),
        ] {
            assert_eq!(civil(days), expected);
        }
    }
}
