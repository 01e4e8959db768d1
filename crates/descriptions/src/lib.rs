//! What the API says of its own types and fields: upstream's descriptions, as `k8s-openapi` carries them, compressed into the binary by the
//! build script. It knows names and prose, not what a type looks like.

use flate2::read::DeflateDecoder;
use std::collections::HashMap;
use std::io::Read as _;
use std::ops::Range;

static COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.deflate"));
const UNIT: char = '\u{1f}';
const RECORD: char = '\u{1e}';
/// The compressed bytes are part of the program, so a mistake in them is a mistake of the build, which the tests find.
const BROKEN: &str = "the compressed descriptions are well formed";

/// All descriptions, unpacked. They take about a megabyte, so whoever holds them should soon drop them.
pub struct Descriptions {
    text: String,
    types: HashMap<String, Range<usize>>,
}

impl Descriptions {
    /// Unpacks them.
    pub fn read() -> Self {
        let mut text = String::with_capacity(size());
        DeflateDecoder::new(COMPRESSED).read_to_string(&mut text).expect(BROKEN);
        let mut types = HashMap::new();
        let mut start = 0;
        for record in text.split_terminator(RECORD) {
            let name = record.split(UNIT).next().unwrap_or_default();
            let content = start + name.len() + UNIT.len_utf8()..start + record.len();
            types.insert(name.to_owned(), content);
            start += record.len() + RECORD.len_utf8();
        }
        Self { text, types }
    }

    /// What is said of a definition, such as `io.k8s.api.core.v1.Pod`, and of its fields.
    pub fn of(&self, definition: &str) -> Description<'_> {
        let parts = self.types.get(definition).map(|range| &self.text[range.clone()]);
        Description { parts: parts.unwrap_or_default() }
    }
}

/// What is said of one type.
#[derive(Clone, Copy)]
pub struct Description<'a> {
    parts: &'a str,
}

impl<'a> Description<'a> {
    /// Of the type itself.
    pub fn own(&self) -> Option<&'a str> {
        self.parts.split(UNIT).next().filter(|text| !text.is_empty())
    }

    /// Of the field with this JSON name.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        let mut parts = self.parts.split(UNIT).skip(1);
        while let (Some(field), Some(description)) = (parts.next(), parts.next()) {
            if field == name {
                return Some(description);
            }
        }
        None
    }
}

fn size() -> usize {
    // Only the capacity to start with; the text grows if this is wrong.
    env!("DESCRIPTIONS_SIZE").parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_fields_are_described() {
        let descriptions = Descriptions::read();
        assert!(descriptions.types.len() > 700, "{}", descriptions.types.len());
        let bare: Vec<_> =
            descriptions.types.keys().filter(|name| descriptions.of(name).own().is_none()).collect();
        assert!(bare.len() < 20, "{bare:?}");
        let port = descriptions.of("io.k8s.api.core.v1.ContainerPort");
        assert!(port.own().unwrap().contains("single container"));
        // Escapes are resolved, and references carry a description of their own.
        assert!(port.field("protocol").unwrap().contains("\"TCP\""));
        let meta = descriptions.of("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        assert!(meta.field("creationTimestamp").unwrap().contains("\n\n"));
        assert!(port.field("none").is_none() && descriptions.of("none").own().is_none());
    }
}
