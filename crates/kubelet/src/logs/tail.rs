//! The end of a file: its last bytes, the place where its last lines begin, and the last messages of a log. Reads backwards in
//! blocks, whatever the file's size.

use super::line;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

const BLOCK: u64 = 4096;

/// The last bytes of a file, `max` at most.
///
/// # Errors
/// The system's.
pub fn bytes(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(max as u64)))?;
    let mut bytes = Vec::new();
    file.take(max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where the last `lines` lines begin.
///
/// # Errors
/// The system's.
pub fn start_of(file: &mut File, lines: usize) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let (mut end, mut found) = (length, 0);
    let mut block = vec![0; BLOCK as usize];
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        let part = &mut block[..(end - begin) as usize];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(part)?;
        for (index, byte) in part.iter().enumerate().rev() {
            let at = begin + index as u64;
            // The feed at the very end closes the last line and opens none.
            if *byte == b'\n' && at + 1 != length {
                found += 1;
                if found == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = begin;
    }
    Ok(0)
}

/// The last messages of a log as one text, `lines` and `max` bytes at most.
///
/// # Errors
/// The system's.
pub fn messages(path: &Path, lines: usize, max: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = start_of(&mut file, lines)?;
    file.seek(SeekFrom::Start(start))?;
    // Stamps take less than a hundred bytes a line.
    let mut raw = Vec::new();
    file.take((max + lines * 100) as u64).read_to_end(&mut raw)?;
    let mut text = Vec::new();
    for line in raw.split(|byte| *byte == b'\n').filter_map(line::parse) {
        text.extend_from_slice(line.text);
        if !line.partial {
            text.push(b'\n');
        }
    }
    let from = text.len().saturating_sub(max);
    Ok(String::from_utf8_lossy(&text[from..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let text: String =
            (0..2000).map(|number| format!("2026-01-02T03:04:05Z stdout F line {number}\n")).collect();
        std::fs::write(&path, &text).unwrap();
        let mut file = File::open(&path).unwrap();
        for (lines, expected) in [(1, "line 1999\n"), (2, "line 1998\nline 1999\n")] {
            assert_eq!(messages(&path, lines, 2048).unwrap(), expected);
        }
        assert_eq!(start_of(&mut file, 0).unwrap(), text.len() as u64);
        assert_eq!(start_of(&mut file, 5000).unwrap(), 0);
        assert_eq!(bytes(&path, 5).unwrap(), b"1999\n");
    }
}
