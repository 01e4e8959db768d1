//! Reads tar archives (ustar, PAX, GNU long names) entry by entry with a bound on everything an archive could make us
//! hold in memory. Knows nothing of files on disk.

use std::io::{self, Read};

use super::LayerError;

const BLOCK: usize = 512;
/// Names and attributes of one entry: far above any real file, far below what would hurt.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    Character,
    Block,
    Fifo,
}

/// One entry without its content.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the content starts in the archive.
    pub(crate) offset: u64,
}

/// The entries of an archive in order; as a reader, the content of the entry that came last.
pub(crate) struct Entries<R> {
    reader: R,
    position: u64,
    remaining: u64,
    padding: u64,
}

/// What extension headers say about the entry that follows.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> Entries<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, position: 0, remaining: 0, padding: 0 }
    }

    /// Gives the reader back, to drain what follows the archive's end.
    pub(crate) fn into_inner(self) -> R {
        self.reader
    }

    /// The next entry; none at the archive's end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip(self.remaining + self.padding)?;
            let Some(block) = self.header_block()? else { return Ok(None) };
            let header = tar::Header::from_byte_slice(&block);
            let size = unsigned(&header.as_old().size)?;
            self.expect_content(size);
            match header.entry_type() {
                tar::EntryType::XHeader => extensions.read_pax(&self.extension()?)?,
                // Global headers carry comments (git archive) and nothing that any image tool relies on.
                tar::EntryType::XGlobalHeader => drop(self.extension()?),
                tar::EntryType::GNULongName => extensions.path = Some(until_nul(self.extension()?)),
                tar::EntryType::GNULongLink => extensions.link = Some(until_nul(self.extension()?)),
                kind => {
                    let kind = entry_kind(kind, header)?;
                    return self.entry(header, kind, extensions).map(Some);
                }
            }
        }
    }

    fn entry(
        &mut self,
        header: &tar::Header,
        kind: Kind,
        extensions: Extensions,
    ) -> Result<Entry, LayerError> {
        let size = extensions.size.unwrap_or(self.remaining);
        // Only files carry content; some writers leave the target's size on links.
        self.expect_content(if kind == Kind::File { size } else { 0 });
        let raw = header.as_old();
        let link = || header.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default();
        Ok(Entry {
            path: extensions.path.unwrap_or_else(|| header.path_bytes().into_owned()),
            link: extensions.link.unwrap_or_else(link),
            kind,
            size: self.remaining,
            mode: u32::try_from(numeric(&raw.mode)? & 0o7777).unwrap_or(0),
            uid: extensions.uid.map_or_else(|| unsigned(&raw.uid), Ok)?,
            gid: extensions.gid.map_or_else(|| unsigned(&raw.gid), Ok)?,
            mtime: extensions.mtime.map_or_else(|| Ok((numeric(&raw.mtime)?, 0)), Ok::<_, LayerError>)?,
            device: device(header)?,
            xattrs: extensions.xattrs,
            offset: self.position,
        })
    }

    /// An archive ends with two empty blocks, or, from careless writers, just ends.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(LayerError::bad("the archive ends inside a header")),
                count => filled += count,
            }
        }
        self.position += BLOCK as u64;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        check_sum(&block)?;
        Ok(Some(block))
    }

    fn expect_content(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK as u64).saturating_sub(size);
    }

    fn extension(&mut self) -> Result<Vec<u8>, LayerError> {
        if self.remaining > MAX_EXTENSION_BYTES {
            return Err(LayerError::bad("an extension header is longer than 1 MiB"));
        }
        let mut bytes = vec![0; usize::try_from(self.remaining).unwrap_or(0)];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, count: u64) -> Result<(), LayerError> {
        let skipped = io::copy(&mut (&mut self.reader).take(count), &mut io::sink())?;
        self.position += skipped;
        if skipped == count { Ok(()) } else { Err(LayerError::bad("the archive ends inside a file")) }
    }
}

impl<R: Read> Read for Entries<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.remaining == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let limit = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        let count = self.reader.read(&mut buffer[..limit])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends inside a file"));
        }
        self.remaining -= count as u64;
        self.position += count as u64;
        Ok(count)
    }
}

fn entry_kind(kind: tar::EntryType, header: &tar::Header) -> Result<Kind, LayerError> {
    Ok(match kind {
        // Before ustar a directory was a file whose name ends in a slash.
        tar::EntryType::Regular if header.path_bytes().ends_with(b"/") => Kind::Directory,
        tar::EntryType::Regular | tar::EntryType::Continuous => Kind::File,
        tar::EntryType::Directory => Kind::Directory,
        tar::EntryType::Symlink => Kind::Symlink,
        tar::EntryType::Link => Kind::Hardlink,
        tar::EntryType::Char => Kind::Character,
        tar::EntryType::Block => Kind::Block,
        tar::EntryType::Fifo => Kind::Fifo,
        tar::EntryType::GNUSparse => return Err(LayerError::bad("sparse tar entries are not supported")),
        other => {
            return Err(LayerError::bad(format!("unknown tar entry type {:?}", char::from(other.as_byte()))));
        }
    })
}

/// Octal digits between spaces and zero bytes, none meaning 0, or, marked by the first bit, a big-endian two's complement
/// number.
fn numeric(field: &[u8]) -> Result<i64, LayerError> {
    let invalid = || LayerError::bad("invalid number in a tar header");
    if let Some(first) = field.first().filter(|first| **first & 0x80 != 0) {
        let sign = if first & 0x40 == 0 { 0 } else { -1 };
        // The marker itself is not part of the number.
        let first = if sign == 0 { first & 0x7f } else { *first };
        let bytes = std::iter::once(first).chain(field[1..].iter().copied());
        return bytes
            .map(i64::from)
            .try_fold(sign, |number: i64, byte| number.checked_mul(256)?.checked_add(byte))
            .ok_or_else(invalid);
    }
    let text: Vec<u8> = field.iter().copied().skip_while(|byte| matches!(byte, b' ' | 0)).collect();
    let digits = text.split(|byte| matches!(byte, b' ' | 0)).next().unwrap_or_default();
    if digits.is_empty() {
        return Ok(0);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| invalid())?;
    i64::from_str_radix(digits, 8).map_err(|_| invalid())
}

fn unsigned(field: &[u8]) -> Result<u64, LayerError> {
    numeric(field)?.try_into().map_err(|_| LayerError::bad("negative number in a tar header"))
}

/// POSIX and GNU archives have it in the same place; older ones know no devices.
fn device(header: &tar::Header) -> Result<(u32, u32), LayerError> {
    let bytes = header.as_bytes();
    if !bytes[257..].starts_with(b"ustar") {
        return Ok((0, 0));
    }
    let part = |field: &[u8]| -> Result<u32, LayerError> {
        unsigned(field)?.try_into().map_err(|_| LayerError::bad("device number out of range"))
    };
    Ok((part(&bytes[329..337])?, part(&bytes[337..345])?))
}

/// The sum of all bytes with its own field taken as spaces.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), LayerError> {
    const FIELD: std::ops::Range<usize> = 148..156;
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(index, byte)| if FIELD.contains(&index) { u32::from(b' ') } else { u32::from(*byte) })
        .sum();
    let recorded = tar::Header::from_byte_slice(block).cksum();
    if recorded.is_ok_and(|recorded| recorded == sum) {
        Ok(())
    } else {
        Err(LayerError::bad("invalid tar header"))
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

impl Extensions {
    /// Records of the form `LENGTH KEY=VALUE\n`; a value may hold any byte.
    fn read_pax(&mut self, mut bytes: &[u8]) -> Result<(), LayerError> {
        let bad = || LayerError::bad("invalid PAX header");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
            let length: usize = number(&bytes[..space]).ok_or_else(bad)?;
            if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
                return Err(bad());
            }
            let record = &bytes[space + 1..length - 1];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
            self.set(&record[..equals], &record[equals + 1..])?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), LayerError> {
        let bad = || LayerError::bad("invalid PAX value");
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => {
                let size = number(value).filter(|size| i64::try_from(*size).is_ok());
                self.size = Some(size.ok_or_else(bad)?);
            }
            b"uid" => self.uid = Some(number(value).ok_or_else(bad)?),
            b"gid" => self.gid = Some(number(value).ok_or_else(bad)?),
            b"mtime" => self.mtime = Some(timestamp(value).ok_or_else(bad)?),
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(LayerError::bad("sparse tar entries are not supported"));
            }
            _ => {
                // Other keys (atime, comments, owners' names) have no place in an unpacked layer.
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok() // Not a number is `None`: the caller has the words.
}

/// `[-]SECONDS[.FRACTION]`
fn timestamp(bytes: &[u8]) -> Option<(i64, u32)> {
    let mut parts = bytes.splitn(2, |byte| *byte == b'.');
    let seconds: i64 = number(parts.next()?)?;
    let Some(fraction) = parts.next() else { return Some((seconds, 0)) };
    let mut digits = fraction.to_vec();
    digits.resize(9, b'0');
    let nanos: u32 = number(&digits)?;
    if bytes.starts_with(b"-") && nanos > 0 {
        Some((seconds.saturating_sub(1), 1_000_000_000 - nanos))
    } else {
        Some((seconds, nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(archive: &[u8]) -> Result<Vec<String>, LayerError> {
        let mut entries = Entries::new(archive);
        let mut names = Vec::new();
        while let Some(entry) = entries.next()? {
            let mut content = Vec::new();
            entries.read_to_end(&mut content)?;
            names.push(format!("{}={}", String::from_utf8_lossy(&entry.path), content.len()));
        }
        Ok(names)
    }

    #[test]
    fn reads_long_names_and_skips_nothing() {
        let mut builder = tar::Builder::new(Vec::new());
        let long = format!("{}/file", "d".repeat(180));
        for (name, size) in [("a", 0usize), (long.as_str(), 700), ("b", 512)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(size as u64);
            builder.append_data(&mut header, name, vec![1; size].as_slice()).unwrap();
        }
        let archive = builder.into_inner().unwrap();
        assert_eq!(names(&archive).unwrap(), ["a=0".to_owned(), format!("{long}=700"), "b=512".to_owned()]);
        for cut in [100, 600, 1100, archive.len() - 1536] {
            assert!(names(&archive[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn reads_every_kind_of_number() {
        let check =
            |field: &[u8], expected: Option<i64>| assert_eq!(numeric(field).ok(), expected, "{field:?}");
        check(b"0000644\0", Some(0o644));
        check(b"   644 \0", Some(0o644));
        check(b"\0\0\0\0", Some(0));
        check(b"8", None);
        check(b"-1", Some(-1));
        check(&[0x80, 0, 0, 1, 0], Some(256));
        check(&[0xff, 0xff, 0xff, 0xfe], Some(-2));
        check(&[0xbf; 12], None);
    }

    #[test]
    fn reads_pax_times() {
        assert_eq!(timestamp(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(timestamp(b"12"), Some((12, 0)));
        assert_eq!(timestamp(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(timestamp(b"x"), None);
    }

    proptest::proptest! {
        #[test]
        fn survives_any_bytes(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 512..2048), kind in proptest::num::u8::ANY) {
            // A valid sum lets the bytes through to what is behind it.
            bytes[156] = kind;
            let sum: u32 = bytes[..512].iter().enumerate()
                .map(|(index, byte)| if (148..156).contains(&index) { 32 } else { u32::from(*byte) }).sum();
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            let _ = names(&bytes);
        }

        #[test]
        fn survives_any_pax(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Extensions::default().read_pax(&bytes);
        }
    }
}
