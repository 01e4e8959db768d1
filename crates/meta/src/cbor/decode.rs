//! CBOR to trees. What JSON cannot say is refused.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ciborium_ll::{Decoder, Error, Header, simple};
use serde_json::{Map, Number, Value};

use super::{BASE64, CborError};

/// Lists and maps may stand in one another so deeply; upstream's limit.
pub const MAX_DEPTH: usize = 64;

/// The tags of numbers of any size.
const BIG_NUMBERS: [u64; 2] = [2, 3];
/// The tag of seconds since 1970.
const EPOCH: u64 = 1;
/// Room that is made for elements before they have come.
const MAX_ROOM: usize = 256;

/// Reads one document.
///
/// # Errors
/// When the bytes are no CBOR, or say what has no form in JSON.
pub fn decode(bytes: &[u8]) -> Result<Value, CborError> {
    let mut reader = Reader { decoder: Decoder::from(bytes) };
    let value = reader.value(0)?;
    let index = reader.decoder.offset();
    match bytes.len() - index {
        0 => Ok(value),
        bytes => Err(CborError::Extraneous { bytes, index }),
    }
}

/// Where the documents of a sequence end.
///
/// # Errors
/// As [`decode`].
pub fn documents(bytes: &[u8]) -> Result<Vec<usize>, CborError> {
    let mut reader = Reader { decoder: Decoder::from(bytes) };
    let mut ends = Vec::new();
    while reader.decoder.offset() < bytes.len() {
        reader.value(0)?;
        ends.push(reader.decoder.offset());
    }
    Ok(ends)
}

struct Reader<'a> {
    decoder: Decoder<&'a [u8]>,
}

fn explain<E>(failure: Error<E>) -> CborError {
    match failure {
        Error::Io(_) => CborError::End,
        Error::Syntax(index) => CborError::Syntax(index),
    }
}

impl Reader<'_> {
    fn pull(&mut self) -> Result<Header, CborError> {
        self.decoder.pull().map_err(explain)
    }

    fn value(&mut self, depth: usize) -> Result<Value, CborError> {
        let header = self.pull()?;
        self.behind(header, depth)
    }

    /// The value that a header begins.
    fn behind(&mut self, header: Header, depth: usize) -> Result<Value, CborError> {
        match header {
            Header::Positive(value) => signed(i64::try_from(value).ok()),
            Header::Negative(value) => signed(i64::try_from(value).ok().map(|value| -1 - value)),
            Header::Float(value) => Number::from_f64(value)
                .map(Value::Number)
                .ok_or(CborError::NoJson("a float that is not finite")),
            Header::Simple(simple::TRUE) => Ok(Value::Bool(true)),
            Header::Simple(simple::FALSE) => Ok(Value::Bool(false)),
            Header::Simple(simple::NULL | simple::UNDEFINED) => Ok(Value::Null),
            Header::Simple(_) => Err(CborError::NoJson("a simple value")),
            Header::Bytes(length) => text(self.bytes(length)?).map(Value::String),
            Header::Text(length) => self.text(length).map(Value::String),
            Header::Array(length) => self.array(length, depth + 1),
            Header::Map(length) => self.map(length, depth + 1),
            Header::Tag(tag) => self.tagged(tag, depth + 1),
            Header::Break => Err(CborError::Syntax(self.decoder.offset())),
        }
    }

    fn tagged(&mut self, tag: u64, depth: usize) -> Result<Value, CborError> {
        check(depth)?;
        if BIG_NUMBERS.contains(&tag) {
            return Err(CborError::NoJson("a bignum"));
        }
        if tag == EPOCH {
            return Err(CborError::NoJson("a time in seconds"));
        }
        match self.pull()? {
            Header::Bytes(length) if tag == BASE64 => Ok(Value::String(STANDARD.encode(self.bytes(length)?))),
            header => self.behind(header, depth),
        }
    }

    fn array(&mut self, length: Option<usize>, depth: usize) -> Result<Value, CborError> {
        check(depth)?;
        let mut items = Vec::with_capacity(length.unwrap_or_default().min(MAX_ROOM));
        while length.is_none_or(|length| items.len() < length) {
            match self.pull()? {
                Header::Break if length.is_none() => break,
                header => items.push(self.behind(header, depth)?),
            }
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, length: Option<usize>, depth: usize) -> Result<Value, CborError> {
        check(depth)?;
        let mut fields = Map::new();
        while length.is_none_or(|length| fields.len() < length) {
            let key = match self.pull()? {
                Header::Break if length.is_none() => break,
                Header::Bytes(length) => text(self.bytes(length)?)?,
                Header::Text(length) => self.text(length)?,
                _ => return Err(CborError::NoJson("a map key that is no string")),
            };
            let value = self.value(depth)?;
            let index = fields.len();
            if fields.contains_key(&key) {
                return Err(CborError::Duplicate { key, index });
            }
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }

    fn bytes(&mut self, length: Option<usize>) -> Result<Vec<u8>, CborError> {
        let mut whole = Vec::new();
        let mut room = [0; 4096];
        let mut segments = self.decoder.bytes(length);
        while let Some(mut segment) = segments.pull().map_err(explain)? {
            while let Some(part) = segment.pull(&mut room).map_err(explain)? {
                whole.extend_from_slice(part);
            }
        }
        Ok(whole)
    }

    fn text(&mut self, length: Option<usize>) -> Result<String, CborError> {
        let mut whole = String::new();
        let mut room = [0; 4096];
        let mut segments = self.decoder.text(length);
        while let Some(mut segment) = segments.pull().map_err(explain)? {
            while let Some(part) = segment.pull(&mut room).map_err(|failure| in_text(&failure))? {
                whole.push_str(part);
            }
        }
        Ok(whole)
    }
}

/// In texts, broken UTF-8 is the only syntax error.
fn in_text<E>(failure: &Error<E>) -> CborError {
    match failure {
        Error::Io(_) => CborError::End,
        Error::Syntax(_) => CborError::Utf8,
    }
}

fn check(depth: usize) -> Result<(), CborError> {
    if depth > MAX_DEPTH { Err(CborError::Depth) } else { Ok(()) }
}

fn signed(value: Option<i64>) -> Result<Value, CborError> {
    value.map(Value::from).ok_or(CborError::NoJson("an integer that overflows Go's int64"))
}

fn text(bytes: Vec<u8>) -> Result<String, CborError> {
    String::from_utf8(bytes).map_err(|_| CborError::Utf8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::{MAGIC, encode, event_head};
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
    }

    fn check(bytes: &str, expected: &Value) {
        assert_eq!(decode(&read(bytes)).as_ref(), Ok(expected), "{bytes}");
    }

    fn refuse(bytes: &str, expected: &str) {
        assert_eq!(decode(&read(bytes)).unwrap_err().to_string(), expected, "{bytes}");
    }

    /// Mostly the examples of RFC 8949, appendix A.
    #[test]
    fn what_has_a_form_in_json_is_read() {
        check("00", &json!(0));
        check("1b000000e8d4a51000", &json!(1_000_000_000_000_i64));
        check("1b7fffffffffffffff", &json!(i64::MAX));
        check("3b7fffffffffffffff", &json!(i64::MIN));
        check("3903e7", &json!(-1000));
        check("f93e00", &json!(1.5));
        check("fb3ff199999999999a", &json!(1.1));
        check("f4", &json!(false));
        check("f6", &Value::Null);
        check("f7", &Value::Null);
        check("6449455446", &json!("IETF"));
        check("4449455446", &json!("IETF"));
        check("7f657374726561646d696e67ff", &json!("streaming"));
        check("9f018202039f0405ffff", &json!([1, [2, 3], [4, 5]]));
        check("bf61610161629f0203ffff", &json!({"a": 1, "b": [2, 3]}));
        check("a2416101416202", &json!({"a": 1, "b": 2}));
        check("c074323031332d30332d32315432303a30343a30305a", &json!("2013-03-21T20:04:00Z"));
        check("d64401020304", &json!("AQIDBA=="));
        check("d9d9f7a0", &json!({}));
    }

    #[test]
    fn what_has_none_is_refused() {
        refuse("", "unexpected EOF");
        refuse("8201", "unexpected EOF");
        refuse("5affffffff00", "unexpected EOF");
        refuse("9bffffffffffffffff", "unexpected EOF");
        refuse("0000", "cbor: 1 bytes of extraneous data starting at index 1");
        refuse("1b8000000000000000", "cbor: cannot unmarshal an integer that overflows Go's int64");
        refuse("f97e00", "cbor: cannot unmarshal a float that is not finite");
        refuse("c249010000000000000000", "cbor: cannot unmarshal a bignum");
        refuse("c11a514b67b0", "cbor: cannot unmarshal a time in seconds");
        refuse("a10102", "cbor: cannot unmarshal a map key that is no string");
        refuse("a2616101416102", "cbor: found duplicate map key \"a\" at map element index 1");
        refuse("62c328", "cbor: invalid UTF-8 string");
        refuse("42c328", "cbor: invalid UTF-8 string");
        refuse("f0", "cbor: cannot unmarshal a simple value");
        refuse(&"81".repeat(65), "cbor: exceeded max nested level 64");
        refuse(&"c7".repeat(70_000), "cbor: exceeded max nested level 64");
        assert!(matches!(decode(&read("ff")), Err(CborError::Syntax(_))));
        assert!(matches!(decode(&read("1c")), Err(CborError::Syntax(_))));
    }

    #[test]
    fn documents_are_as_upstream_writes_them() {
        let written = |value: &Value| {
            let bytes = encode(value);
            assert_eq!(decode(&bytes).as_ref(), Ok(value));
            assert_eq!(bytes[..3], MAGIC);
            bytes[3..].to_vec()
        };
        // Shorter keys come first; text is in byte strings; floats are as short as they can be.
        assert_eq!(
            written(&json!({"kind": 1, "a": "x", "ab": 1.5})),
            read("a3 4161 4178 426162 f93e00 446b696e64 01")
        );
        assert_eq!(written(&json!([null, true, -1, 24])), read("84 f6 f5 20 1818"));
        let secret =
            json!({"kind": "Secret", "apiVersion": "v1", "data": {"k": "AQI="}, "stringData": {"s": "AQI="}});
        let tail = read("4464617461 a1 416b d6420102");
        assert!(written(&secret).windows(tail.len()).any(|window| window == tail), "bytes carry their tag");
        // Also inside of others, and never where a kind has only text.
        let list = json!({"kind": "SecretList", "apiVersion": "v1", "items": [{"data": {"k": "AQI="}}]});
        assert!(written(&list).windows(tail.len()).any(|window| window == tail));
        let map = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"k": "AQI="}});
        assert!(!written(&map).windows(tail.len()).any(|window| window == tail));
    }

    #[test]
    fn a_sequence_is_cut_into_its_documents() {
        let mut stream = Vec::new();
        for number in 0..3 {
            event_head(&mut stream, "ADDED");
            stream.extend_from_slice(&encode(&json!({"number": number})));
        }
        let ends = documents(&stream).unwrap();
        assert_eq!(ends.len(), 3);
        assert_eq!(decode(&stream[ends[0]..ends[1]]), Ok(json!({"type": "ADDED", "object": {"number": 1}})));
    }

    fn trees() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(Value::from),
            "[a-zé\\PC]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,4}", inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_tree_comes_back(tree in trees()) {
            prop_assert_eq!(decode(&encode(&tree)), Ok(tree));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&value)), Ok(value));
            }
        }
    }
}
