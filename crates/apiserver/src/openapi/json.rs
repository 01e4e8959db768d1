//! Writes a JSON object entry by entry, so that a document is never whole in memory.

use serde_json::Value;
use std::io::{self, Write};

/// An object that is being written.
pub(super) struct Pieces<'a> {
    out: &'a mut dyn Write,
    separator: &'static str,
}

impl<'a> Pieces<'a> {
    pub(super) fn begin(out: &'a mut dyn Write) -> io::Result<Self> {
        out.write_all(b"{")?;
        Ok(Self { out, separator: "" })
    }

    pub(super) fn add(&mut self, name: &str, value: &Value) -> io::Result<()> {
        self.out.write_all(self.separator.as_bytes())?;
        self.separator = ",";
        serde_json::to_writer(&mut *self.out, name)?;
        self.out.write_all(b":")?;
        Ok(serde_json::to_writer(&mut *self.out, value)?)
    }

    pub(super) fn end(self) -> io::Result<()> {
        self.out.write_all(b"}")
    }
}
