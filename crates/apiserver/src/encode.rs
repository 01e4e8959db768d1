//! The bytes of an object. Stored objects begin with `{"kind":…,"apiVersion":…,"metadata":{` in this order and carry no
//! resourceVersion, so that the revision can be spliced in, the version renamed and the head dropped (for list items) without
//! decoding. Only this file knows that.

use nauplius_meta::json;
use serde_json::{Map, Value};

const METADATA: &[u8] = b"\"metadata\":{";
/// Kind and apiVersion are short; further back there is no head.
const MAX_HEAD_BYTES: usize = 1 << 10;
/// What an object without fields takes besides its kind and apiVersion.
const MIN_STORED_BYTES: usize = 48;

/// Where the parts of stored bytes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The position of `"metadata":{`.
    metadata_at: u32,
}

impl Layout {
    /// Finds the head of stored bytes. A string inside the head cannot look like the mark, for its quotes would be escaped.
    pub fn of(stored: &[u8]) -> Option<Self> {
        let head = &stored[..stored.len().min(MAX_HEAD_BYTES)];
        let at = head.windows(METADATA.len()).position(|window| window == METADATA)?;
        let not_empty = stored.get(at + METADATA.len()) == Some(&b'"');
        let metadata_at = u32::try_from(at).ok().filter(|_| not_empty)?;
        Some(Self { metadata_at })
    }

    fn metadata(self) -> usize {
        self.metadata_at as usize
    }

    /// Where the bytes begin that stay as they are stored.
    pub fn rest(self) -> usize {
        self.metadata() + METADATA.len()
    }
}

/// Encodes a hub object for the store. Its resourceVersion is left out.
///
/// # Errors
/// When it is no object with metadata.
pub fn encode_stored(object: &Value, kind: &str, api_version: &str) -> Result<Vec<u8>, serde_json::Error> {
    let empty = Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    let metadata = fields.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    // What it is too large by would be held for as long as the object is.
    let mut out = Vec::with_capacity(length(object) + kind.len() + api_version.len() + MIN_STORED_BYTES);
    out.extend_from_slice(b"{\"kind\":");
    serde_json::to_writer(&mut out, kind)?;
    out.extend_from_slice(b",\"apiVersion\":");
    serde_json::to_writer(&mut out, api_version)?;
    out.extend_from_slice(b",\"metadata\":{");
    write_fields(&mut out, metadata, &["resourceVersion"])?;
    out.push(b'}');
    let before = out.len();
    out.push(b',');
    write_fields(&mut out, fields, &["kind", "apiVersion", "metadata"])?;
    if out.len() == before + 1 {
        out.pop();
    }
    out.push(b'}');
    Ok(out)
}

/// How many bytes a tree takes as JSON: a few more, or fewer where texts hold control characters that have no short escape.
fn length(value: &Value) -> usize {
    match value {
        Value::Null => 4,
        Value::Bool(_) => 5,
        Value::Number(number) => {
            number.as_u64().map_or(24, |number| number.checked_ilog10().unwrap_or(0) as usize + 1)
        }
        Value::String(text) => text_length(text),
        Value::Array(items) => 2 + items.iter().map(|item| length(item) + 1).sum::<usize>(),
        Value::Object(fields) => {
            2 + fields.iter().map(|(name, value)| text_length(name) + length(value) + 2).sum::<usize>()
        }
    }
}

fn text_length(text: &str) -> usize {
    let escaped = text.bytes().filter(|byte| *byte < b' ' || *byte == b'"' || *byte == b'\\').count();
    text.len() + escaped + 2
}

fn write_fields(
    out: &mut Vec<u8>,
    fields: &Map<String, Value>,
    without: &[&str],
) -> Result<(), serde_json::Error> {
    let mut first = true;
    for (name, value) in fields.iter().filter(|(name, _)| !without.contains(&name.as_str())) {
        if !first {
            out.push(b',');
        }
        first = false;
        serde_json::to_writer(&mut *out, name)?;
        out.push(b':');
        json::write(&mut *out, value)?;
    }
    Ok(())
}

/// Decodes stored bytes and puts the resourceVersion in.
///
/// # Errors
/// What the decoder says.
pub fn decode_stored(stored: &[u8], revision: i64) -> Result<Value, String> {
    let mut object: Value = serde_json::from_slice(stored).map_err(|error| error.to_string())?;
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut).ok_or("it has no metadata")?;
    if revision > 0 {
        metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
    }
    Ok(object)
}

/// Writes a stored object with its revision; `head` replaces kind and apiVersion when they differ from the stored ones.
pub fn write_object(out: &mut Vec<u8>, stored: &[u8], layout: Layout, revision: i64, head: Option<&[u8]>) {
    open_object(out, stored, layout, revision, head);
    out.extend_from_slice(&stored[layout.rest()..]);
}

/// Writes the beginning of a stored object, its revision included; the rest of it is [`Layout::rest`].
pub fn open_object(out: &mut Vec<u8>, stored: &[u8], layout: Layout, revision: i64, head: Option<&[u8]>) {
    match head {
        Some(head) => out.extend_from_slice(head),
        None => out.extend_from_slice(&stored[..layout.metadata()]),
    }
    open_metadata(out, revision);
}

/// Writes the beginning of a stored object without kind and apiVersion, as items of typed lists are.
pub fn open_item(out: &mut Vec<u8>, revision: i64) {
    out.push(b'{');
    open_metadata(out, revision);
}

/// An object that was only tried (a dry run) has revision 0 and shows none.
fn open_metadata(out: &mut Vec<u8>, revision: i64) {
    out.extend_from_slice(METADATA);
    if revision > 0 {
        out.extend_from_slice(b"\"resourceVersion\":\"");
        write_number(out, revision);
        out.extend_from_slice(b"\",");
    }
}

/// The head `{"kind":…,"apiVersion":…,` for [`write_object`].
pub fn head(kind: &str, api_version: &str) -> Vec<u8> {
    format!("{{\"kind\":{},\"apiVersion\":{},", Value::from(kind), Value::from(api_version)).into_bytes()
}

/// Revisions are not negative.
fn write_number(out: &mut Vec<u8>, number: i64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_stored_object_gets_its_revision_back() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"metadata\":{": "x"},
            "metadata": {"name": "a", "resourceVersion": "3"}});
        let stored = encode_stored(&object, "ConfigMap", "v1").unwrap();
        let layout = Layout::of(&stored).unwrap();
        let mut out = Vec::new();
        write_object(&mut out, &stored, layout, 77, None);
        let back: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(back["metadata"], json!({"name": "a", "resourceVersion": "77"}));
        assert_eq!(back["data"], object["data"]);
        assert_eq!(decode_stored(&stored, 77).unwrap(), back);

        out.clear();
        open_item(&mut out, 78);
        out.extend_from_slice(&stored[layout.rest()..]);
        let item: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(item.get("kind"), None);
        assert_eq!(item["metadata"]["resourceVersion"], "78");

        out.clear();
        write_object(&mut out, &stored, layout, 79, Some(&head("Other", "g/v2")));
        let renamed: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(renamed["apiVersion"], "g/v2");
    }

    #[test]
    fn an_object_of_metadata_only_is_well_formed() {
        let stored = encode_stored(&json!({"metadata": {"name": "a"}}), "Namespace", "v1").unwrap();
        assert_eq!(
            String::from_utf8(stored).unwrap(),
            r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"a"}}"#
        );
    }

    #[test]
    fn stored_bytes_take_about_as_much_as_they_need() {
        for object in [
            json!({"metadata": {"name": "a"}}),
            json!({"metadata": {"name": "a", "managedFields": [{"k:{\"a\":\"b\"}": {".": {}}}]}, "data": {"x": "a\nb\tc\\".repeat(500)}}),
            json!({"kind": "K", "apiVersion": "g/v1", "metadata": {"name": "a"},
                "spec": {"a": [1, 20, -300, 1.5, true, null], "b": {"c": "d".repeat(5_000)}}}),
        ] {
            let stored = encode_stored(&object, "K", "g/v1").unwrap();
            assert!(stored.capacity() - stored.len() < 160, "{} for {}", stored.capacity(), stored.len());
        }
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 1_234_567_890, i64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn bytes_without_a_head_have_no_layout() {
        assert_eq!(Layout::of(b"{}"), None);
        assert_eq!(Layout::of(br#"{"kind":"A","apiVersion":"v1","metadata":{}}"#), None);
    }
}
