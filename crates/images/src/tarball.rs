//! Writes tar archives as a stream that is the same for the same input: fixed times, no names of owners. Knows nothing of
//! images.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;

use bytes::Bytes;

use crate::layer::Kind;

const BLOCK: u64 = 512;
/// The end of an archive: two empty blocks.
const END_BYTES: usize = 1024;

/// One file of an archive.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Relative, cleaned.
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) link: String,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) content: Content,
}

/// Where a file's bytes are.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Bytes(Bytes),
    File {
        path: PathBuf,
        size: u64,
    },
    /// An archive in the archive, made as it is read.
    Tarball {
        items: Vec<Item>,
        size: u64,
    },
}

impl Content {
    pub(crate) fn empty() -> Self {
        Self::Bytes(Bytes::new())
    }

    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } | Self::Tarball { size, .. } => *size,
        }
    }
}

impl Item {
    /// A plain file as archives of images hold them.
    pub(crate) fn blob(path: String, content: Content) -> Self {
        Self { path, kind: Kind::File, link: String::new(), mode: 0o644, uid: 0, gid: 0, content }
    }

    fn header(&self) -> io::Result<Vec<u8>> {
        let mut header = tar::Header::new_ustar();
        let mut extended = Vec::new();
        header.set_entry_type(match self.kind {
            Kind::File => tar::EntryType::Regular,
            Kind::Directory => tar::EntryType::Directory,
            Kind::Symlink => tar::EntryType::Symlink,
            Kind::Hardlink => tar::EntryType::Link,
            Kind::Character => tar::EntryType::Char,
            Kind::Block => tar::EntryType::Block,
            Kind::Fifo => tar::EntryType::Fifo,
        });
        let slash = if self.kind == Kind::Directory { "/" } else { "" };
        let path = format!("{}{slash}", self.path);
        if header.set_path(&path).is_err() {
            pax_record(&mut extended, "path", &path);
            header.set_path("long-name")?;
        }
        if !self.link.is_empty() && header.set_link_name_literal(&self.link).is_err() {
            pax_record(&mut extended, "linkpath", &self.link);
        }
        header.set_mode(self.mode);
        header.set_uid(self.uid.into());
        header.set_gid(self.gid.into());
        header.set_mtime(0);
        header.set_size(self.content.size());
        header.set_cksum();
        let mut bytes = if extended.is_empty() { Vec::new() } else { pax_header(&extended)? };
        bytes.extend_from_slice(header.as_bytes());
        Ok(bytes)
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn pax_record(records: &mut Vec<u8>, key: &str, value: &str) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
}

fn pax_header(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_path("pax")?;
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(records.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(records);
    bytes.resize(bytes.len() + padding(records.len() as u64), 0);
    Ok(bytes)
}

fn padding(size: u64) -> usize {
    usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or(0)
}

/// The bytes of an archive, made as they are read.
pub(crate) struct Tarball {
    items: VecDeque<Item>,
    parts: VecDeque<Part>,
    ended: bool,
}

enum Part {
    Bytes(Cursor<Bytes>),
    File { file: File, remaining: u64, path: PathBuf },
    Tarball(Box<Tarball>),
}

impl Tarball {
    pub(crate) fn new(items: impl IntoIterator<Item = Item>) -> Self {
        Self { items: items.into_iter().collect(), parts: VecDeque::new(), ended: false }
    }

    /// The next file's header, content and padding; the archive's end once. False when there is nothing left.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(item) = self.items.pop_front() else {
            let first = !std::mem::replace(&mut self.ended, true);
            if first {
                self.parts.push_back(Part::Bytes(Cursor::new(vec![0; END_BYTES].into())));
            }
            return Ok(first);
        };
        self.parts.push_back(Part::Bytes(Cursor::new(item.header()?.into())));
        let size = item.content.size();
        self.parts.push_back(match item.content {
            Content::Bytes(bytes) => Part::Bytes(Cursor::new(bytes)),
            Content::File { path, size } => Part::File { file: File::open(&path)?, remaining: size, path },
            // Its files are as long as when they were measured, or reading fails: the sizes agree.
            Content::Tarball { items, .. } => Part::Tarball(Box::new(Tarball::new(items))),
        });
        self.parts.push_back(Part::Bytes(Cursor::new(vec![0; padding(size)].into())));
        Ok(true)
    }
}

impl Read for Tarball {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(part) = self.parts.front_mut() else {
                if self.advance()? { continue } else { return Ok(0) }
            };
            let count = part.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.parts.pop_front();
        }
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Bytes(bytes) => bytes.read(buffer),
            Self::Tarball(tarball) => tarball.read(buffer),
            Self::File { file, remaining, path } => {
                let limit = buffer.len().min(usize::try_from(*remaining).unwrap_or(usize::MAX));
                let count = file.read(&mut buffer[..limit])?;
                if count == 0 && limit > 0 {
                    let reason = format!("{} became shorter while it was read", path.display());
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
                }
                *remaining -= count as u64;
                Ok(count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_readers_understand_it() {
        let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
        let mut link = Item::blob("link".into(), Content::empty());
        link.kind = Kind::Symlink;
        link.link = "t".repeat(150);
        let items = [
            Item::blob("a".into(), Content::Bytes(Bytes::from_static(b"hello"))),
            Item::blob(long.clone(), Content::Bytes(vec![7; 1024].into())),
            link.clone(),
        ];
        let mut archive = tar::Archive::new(Tarball::new(items.clone()));
        let seen: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                let link = entry.link_name().unwrap().map(|link| link.to_string_lossy().into_owned());
                (entry.path().unwrap().to_string_lossy().into_owned(), content.len(), link)
            })
            .collect();
        assert_eq!(seen, [("a".into(), 5, None), (long, 1024, None), ("link".into(), 0, Some(link.link))]);
        let bytes = |items: &[Item]| {
            let mut bytes = Vec::new();
            Tarball::new(items.to_vec()).read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(bytes(&items), bytes(&items));
        assert_eq!(bytes(&items).len() % 512, 0);
    }
}
