//! The body of a list in every format, written a piece at a time while the client reads: neither the list nor a large object in it
//! is ever whole in memory. Which objects are in the list is not decided here.

use super::list::Items;
use crate::buffers::{BUFFER_BYTES, Buffer, Share};
use crate::cache::Entry;
use crate::codec;
use crate::encode;
use crate::error::ApiResult;
use crate::negotiate::Format;
use crate::render::{self, View};
use bytes::Bytes;
use nauplius_meta::error::ApiError;
use nauplius_meta::{cbor, protobuf};
use serde_json::{Map, Value, json};

/// Bytes written to the client at once.
const PIECE_BYTES: usize = 128 << 10;
/// A list that fits into this needs no buffer that lists share.
const LITTLE_BYTES: usize = 16 << 10;
/// Elements beyond this may be cut; what is not cut fits into a piece's buffer behind all but the last byte of the piece.
const MAX_UNCUT_BYTES: usize = 7 << 10;
const _: () = assert!(PIECE_BYTES + MAX_UNCUT_BYTES < BUFFER_BYTES);
/// Elements that are measured before other requests get their turn.
const MEASURED_AT_ONCE: usize = 64;

/// Writes the elements of a list between what stands around them.
pub(super) struct ListBody {
    view: View,
    items: Items,
    form: Form,
    out: Buffer,
    buffers: Share,
    rest: Rest,
    tail: Vec<u8>,
    first: bool,
    done: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Indented,
    Yaml,
    Protobuf,
    Cbor,
}

impl ListBody {
    pub async fn new(view: View, items: Items, metadata: &Value, buffers: Share) -> ApiResult<Self> {
        let form = match view.output.format {
            Format::Json if view.output.pretty => Form::Indented,
            Format::Json => Form::Json,
            Format::Yaml => Form::Yaml,
            Format::Protobuf => Form::Protobuf,
            Format::Cbor => Form::Cbor,
        };
        let head = view.list_head(metadata)?;
        let (out, tail) = match form {
            Form::Json => (head, b"]}".to_vec()),
            Form::Indented | Form::Yaml => around(&view, form, head)?,
            Form::Protobuf => envelope(&view, &items, metadata).await?,
            Form::Cbor => (counted(&view, &items, head).await?, Vec::new()),
        };
        let out = out.into();
        Ok(Self { view, items, form, out, buffers, rest: None, tail, first: true, done: false })
    }

    /// Whether everything was written.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The next piece.
    pub async fn piece(&mut self) -> ApiResult<Bytes> {
        self.borrow();
        self.fill(PIECE_BYTES).await?;
        Ok(self.take())
    }

    /// What was written so far.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.out).freeze()
    }

    /// Writes until there are so many bytes or the list has ended.
    pub async fn fill(&mut self, bytes: usize) -> ApiResult<()> {
        if bytes > LITTLE_BYTES && !self.out.is_lent() {
            self.write(LITTLE_BYTES).await?;
            if self.done {
                return Ok(());
            }
            self.borrow();
        }
        self.write(bytes).await
    }

    /// Goes on in a buffer that lists share.
    fn borrow(&mut self) {
        if !self.out.is_lent() {
            let mut lent = self.buffers.lend();
            lent.extend_from_slice(&self.out);
            self.out = lent;
        }
    }

    async fn write(&mut self, bytes: usize) -> ApiResult<()> {
        loop {
            self.fill_to(bytes)?;
            if self.done || self.out.len() >= bytes {
                return Ok(());
            }
            self.items.load().await?;
        }
    }

    /// The same as far as entries need not be waited for.
    fn fill_to(&mut self, bytes: usize) -> ApiResult<()> {
        while self.out.len() < bytes && !self.done {
            if let Some((rest, sent)) = self.rest.take() {
                self.rest = append(&mut self.out, rest, sent, bytes);
            } else if self.items.is_dry() {
                return Ok(());
            } else if !self.elements(bytes)? && !self.items.is_dry() {
                self.finish();
            }
        }
        Ok(())
    }

    /// Writes elements that need not be waited for; says whether there may be more.
    fn elements(&mut self, bytes: usize) -> ApiResult<bool> {
        let Self { view, items, form, out, rest, first, .. } = self;
        items.show(|entry| {
            *rest = element(view, *form, out, entry, *first, bytes)?;
            *first = false;
            Ok(rest.is_some() || out.len() >= bytes)
        })
    }

    /// Whether elements are the bytes that the cache holds.
    pub fn only_copies(&self) -> bool {
        self.form == Form::Json && self.view.copies()
    }

    fn finish(&mut self) {
        match (self.form, self.first) {
            (Form::Indented, false) => self.out.extend_from_slice(b"\n  "),
            (Form::Yaml, true) => self.out.extend_from_slice(b" []\n"),
            _ => {}
        }
        self.out.append(&mut self.tail);
        self.done = true;
    }
}

/// What is left of a large element, and how much of it was written.
type Rest = Option<(Bytes, usize)>;

/// Writes an element, or the beginning of it.
fn element(
    view: &View,
    form: Form,
    out: &mut Vec<u8>,
    entry: &Entry,
    first: bool,
    bytes: usize,
) -> ApiResult<Rest> {
    let element: Bytes = match form {
        Form::Json => {
            if !first {
                out.push(b',');
            }
            if let Some(rest) = view.copied_item(entry).filter(|rest| rest.len() <= MAX_UNCUT_BYTES) {
                encode::open_item(out, entry.revision());
                out.extend_from_slice(rest);
                return Ok(None);
            }
            view.open_item(out, entry)?.bytes
        }
        Form::Protobuf => {
            let message = view.item_message(entry)?;
            protobuf::write_list_item_head(out, message.len());
            message
        }
        Form::Cbor => {
            let mut item = Vec::new();
            view.write_cbor_item(&mut item, entry)?;
            item.into()
        }
        Form::Indented => {
            let separator: &[u8] = if first { b"\n    " } else { b",\n    " };
            out.extend_from_slice(separator);
            format!("{:#}", view.item_value(entry)?).replace('\n', "\n    ").into()
        }
        Form::Yaml => {
            if first {
                out.push(b'\n');
            }
            as_item(&codec::to_yaml(&view.item_value(entry)?)).into()
        }
    };
    Ok(append(out, element, 0, bytes))
}

/// Adds as much of an element as there is room for.
fn append(out: &mut Vec<u8>, element: Bytes, sent: usize, bytes: usize) -> Rest {
    let left = element.len() - sent;
    let room = bytes.saturating_sub(out.len()).max(MAX_UNCUT_BYTES);
    let end = sent + left.min(room);
    out.extend_from_slice(&element[sent..end]);
    (end < element.len()).then_some((element, end))
}

/// What stands around the elements in formats for people: the text of an empty list, cut where its elements would be.
fn around(view: &View, form: Form, mut head: Vec<u8>) -> ApiResult<(Vec<u8>, Vec<u8>)> {
    head.extend_from_slice(b"]}");
    let empty: Value =
        serde_json::from_slice(&head).map_err(|error| ApiError::internal(error.to_string()))?;
    let text = render::encode_value(&empty, &view.output)?;
    let text = String::from_utf8(text).map_err(|error| ApiError::internal(error.to_string()))?;
    let name = view.list_type().2;
    let (mark, kept) = match form {
        Form::Yaml => (format!("{name}: []\n"), name.len() + 1),
        _ => (format!("\"{name}\": []"), name.len() + 5),
    };
    let at = text.find(&mark).ok_or_else(|| ApiError::internal("a list without its elements"))?;
    let tail = match form {
        Form::Yaml => &text[at + mark.len()..],
        _ => &text[at + kept..],
    };
    Ok((text[..at + kept].into(), tail.into()))
}

/// The beginning of a list in CBOR, where lists and maps begin with their lengths.
async fn counted(view: &View, items: &Items, mut head: Vec<u8>) -> ApiResult<Vec<u8>> {
    let (mut items, mut count) = (items.clone(), 0);
    while items.next().await?.is_some() {
        count += 1;
    }
    head.extend_from_slice(b"]}");
    let empty: Map<String, Value> =
        serde_json::from_slice(&head).map_err(|error| ApiError::internal(error.to_string()))?;
    let (mut out, name) = (Vec::new(), view.list_type().2);
    cbor::list_head(&mut out, empty.len());
    for (key, value) in empty.iter().filter(|(key, _)| *key != name) {
        cbor::entry(&mut out, key, value);
    }
    cbor::array_head(&mut out, name, count);
    Ok(out)
}

/// One element of a list in YAML.
fn as_item(document: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(document.len() + document.len() / 8);
    for (index, line) in document.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let indent: &[u8] = match (index, line) {
            (0, _) => b"- ",
            (_, b"\n") => b"",
            _ => b"  ",
        };
        out.extend_from_slice(indent);
        out.extend_from_slice(line);
    }
    out
}

/// What stands around the messages. An envelope begins with the length of all of it, so every message is measured first.
async fn envelope(view: &View, items: &Items, metadata: &Value) -> ApiResult<(Vec<u8>, Vec<u8>)> {
    let (mut total, mut measured) = (0, 0);
    let mut items = items.clone();
    while let Some(entry) = items.next().await? {
        let message = view.item_message_bytes(&entry)?;
        total += protobuf::list_item_head_bytes(message) + message;
        measured += 1;
        if measured % MEASURED_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
    let (kind, api_version, _) = view.list_type();
    // A list without elements must be refused in this format, too, when its kind has no messages.
    codec::to_protobuf(&json!({"kind": kind, "apiVersion": api_version}))?;
    let frame = protobuf::list_frame(&api_version, &kind, metadata, total);
    let (head, tail) = frame.map_err(|error| ApiError::internal(error.to_string()))?;
    Ok((head, tail.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Buffers;
    use crate::cache::tests_support::entry;
    use crate::negotiate::{Output, Shape};
    use crate::registry::list::tests_support::items;
    use crate::table::IncludeObject;
    use std::sync::Arc;

    fn view(output: Output) -> View {
        let kinds = nauplius_kinds::builtin();
        let kind = kinds.iter().find(|kind| &*kind.descriptor().plural == "configmaps").unwrap();
        View::new(Arc::clone(kind), 0, output, IncludeObject::Metadata)
    }

    fn share() -> Share {
        Buffers::default().share()
    }

    async fn written(output: &Output, entries: &[Arc<Entry>], piece: usize) -> Vec<u8> {
        let metadata = json!({"resourceVersion": "9"});
        let mut body =
            ListBody::new(view(output.clone()), items(entries.to_vec()), &metadata, share()).await.unwrap();
        let mut whole = Vec::new();
        while !body.is_done() {
            body.fill(piece).await.unwrap();
            whole.extend_from_slice(&body.take());
        }
        whole
    }

    /// Whatever the format, the pieces together are what the whole list as one tree gives.
    #[tokio::test]
    async fn pieces_are_the_whole_list() {
        let text = "multi
line: text

end";
        let entries: Vec<_> = (0..5).map(|index| entry(&format!("{text}{index}"), index + 1)).collect();
        let formats = Format::ALL;
        for (format, pretty, count) in formats
            .iter()
            .flat_map(|format| [(format, false, 0), (format, true, 0), (format, false, 5), (format, true, 5)])
        {
            let output = Output { format: *format, pretty, shape: Shape::Object };
            let json = written(&Output::json(), &entries[..count], 1).await;
            let tree: Value = serde_json::from_slice(&json).unwrap();
            assert_eq!(tree["items"].as_array().unwrap().len(), count);
            let expected = render::encode_value(&tree, &output).unwrap();
            for piece in [1, 300, 1 << 20] {
                let got = written(&output, &entries[..count], piece).await;
                if output == Output::json() {
                    // Copied bytes keep the order in which they are stored.
                    assert_eq!(serde_json::from_slice::<Value>(&got).unwrap(), tree);
                } else if *format == Format::Cbor {
                    // The elements stand last.
                    assert_eq!(cbor::decode(&got).unwrap(), tree);
                } else {
                    let [got, expected] = [&got, &expected].map(|bytes| String::from_utf8_lossy(bytes));
                    assert_eq!(got, expected, "{output:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_large_element_is_cut() {
        let long = "x".repeat(900_000);
        let entries = [entry(&long, 3), entry("y", 4)];
        let view = view(Output::json());
        let mut body = ListBody::new(view, items(entries.to_vec()), &json!({}), share()).await.unwrap();
        let mut pieces = Vec::new();
        while !body.is_done() {
            pieces.push(body.piece().await.unwrap());
        }
        assert!(pieces.len() > 4 && pieces.iter().all(|piece| piece.len() <= BUFFER_BYTES));
        let tree: Value = serde_json::from_slice(&pieces.concat()).unwrap();
        assert_eq!(tree["items"][0]["metadata"]["name"], Value::from(long));
    }
}
