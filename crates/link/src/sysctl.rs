//! Kernel settings under `/proc/sys`, changed with a record of what was there, so that whoever changed the machine can put
//! it back. The records are data: keeping them is the caller's part. Settings under `net/` belong to the network
//! namespace of the calling thread.

use crate::error::{Context, Error, Result};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A setting as it was before we changed it. Its text form is `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Path below `/proc/sys`, such as `net/ipv4/ip_forward` (slashes, because interface names may hold dots).
    pub key: String,
    /// The value it had.
    pub value: String,
}

impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.key, self.value)
    }
}

impl FromStr for Record {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| Error::Name { name: text.to_owned(), reason: "a record is key=value" })?;
        path(key)?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

impl Record {
    /// Puts the old value back. A setting that is gone (its interface was deleted) needs no restoring.
    ///
    /// # Errors
    /// The kernel refuses the value.
    pub fn restore(&self) -> Result<()> {
        match write(&self.key, &self.value) {
            Err(error) if error.is_not_found() => Ok(()),
            outcome => outcome,
        }
    }
}

/// The value of `key`, without its line end.
///
/// # Errors
/// There is no such setting.
pub fn read(key: &str) -> Result<String> {
    let path = path(key)?;
    let value = std::fs::read_to_string(&path).at("read", &path)?;
    Ok(value.trim_end().to_owned())
}

/// Sets `key`.
///
/// # Errors
/// There is no such setting, or the kernel refuses the value.
pub fn write(key: &str, value: &str) -> Result<()> {
    let path = path(key)?;
    std::fs::write(&path, value).at("write", &path)
}

/// Sets `key` and returns what it was; None when it had that value already.
///
/// # Errors
/// As [`read`] and [`write`].
pub fn set(key: &str, value: &str) -> Result<Option<Record>> {
    let old = read(key)?;
    if old == value {
        return Ok(None);
    }
    write(key, value)?;
    Ok(Some(Record { key: key.to_owned(), value: old }))
}

fn path(key: &str) -> Result<PathBuf> {
    let plain = !key.is_empty() && key.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if !plain {
        return Err(Error::Name { name: key.to_owned(), reason: "a setting is a path below /proc/sys" });
    }
    Ok(PathBuf::from("/proc/sys").join(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_text() {
        let record: Record = "net/ipv4/ip_forward=0".parse().unwrap();
        assert_eq!(record.to_string(), "net/ipv4/ip_forward=0");
        assert!("../../etc/passwd=1".parse::<Record>().is_err());
        assert!("net/ipv4/ip_forward".parse::<Record>().is_err());
    }
}
