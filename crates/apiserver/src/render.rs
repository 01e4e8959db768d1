//! Objects on their way out: stored bytes into the version, shape and format that the client wants. Plain JSON of the stored
//! form is only copied; everything else is made on demand.

use crate::cache::Entry;
use crate::codec;
use crate::encode::{self, Layout, decode_stored};
use crate::error::ApiResult;
use crate::negotiate::{Format, Output, Shape};
use crate::registry::convert::{api_version, from_hub};
use crate::registry::internal_package;
use crate::respond::{self, Reply};
use crate::table::{self, IncludeObject};
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use nauplius_client::transport::BoxError;
use nauplius_kinds::{Kind, Version, scale_cells, scale_columns};
use nauplius_meta::error::{ApiError, Reason, Status};
use nauplius_meta::gvk::GroupVersionKind;
use nauplius_meta::{cbor, json, object, protobuf, schema};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Objects beyond this are not copied on their way out.
const LARGE_BYTES: usize = 128 << 10;

/// How one client sees one resource. Streams own one.
#[derive(Clone)]
pub(crate) struct View {
    kind: Arc<dyn Kind>,
    version: usize,
    pub output: Output,
    include_object: IncludeObject,
    /// Kind and apiVersion of the requested version, when the stored ones differ.
    head: Option<Vec<u8>>,
    /// In a stream of tables: whether the columns were told. Only its first table has them.
    columns_told: Option<Arc<AtomicBool>>,
}

impl View {
    pub fn new(kind: Arc<dyn Kind>, version: usize, output: Output, include_object: IncludeObject) -> Self {
        let descriptor = kind.descriptor();
        let name = &descriptor.versions[version].name;
        let head =
            (*name != descriptor.hub).then(|| encode::head(&descriptor.kind, &api_version(descriptor, name)));
        Self { head, version, output, include_object, kind, columns_told: None }
    }

    /// For a stream of events.
    pub fn stream(self) -> Self {
        Self { columns_told: Some(Arc::default()), ..self }
    }

    /// What is the same for all clients that see the same.
    pub fn likeness(&self) -> String {
        let (descriptor, version) = (self.kind.descriptor(), self.api_version());
        format!("{version} {} {:?} {:?}", descriptor.kind, self.output, self.include_object)
    }

    /// Whether what comes next in the stream no longer depends on what came before.
    pub fn is_settled(&self) -> bool {
        match (&self.output.shape, &self.columns_told) {
            (Shape::Table(_), Some(told)) => told.load(Ordering::Relaxed),
            _ => true,
        }
    }

    /// Whether what a watcher sees of an object at `revision` has to be made, and is kept by nothing else.
    pub fn makes(&self, entry: &Entry, revision: i64) -> bool {
        match self.output.format {
            Format::Cbor => true,
            Format::Protobuf => !self.keeps_messages() || revision != entry.revision(),
            Format::Json | Format::Yaml => !self.copies(),
        }
    }

    fn version(&self) -> &Version {
        &self.kind.descriptor().versions[self.version]
    }

    /// `apps/v1`
    pub fn api_version(&self) -> String {
        api_version(self.kind.descriptor(), &self.version().name)
    }

    /// Whether stored bytes can be copied.
    pub fn copies(&self) -> bool {
        self.output.shape == Shape::Object && self.version().from_hub.is_none()
    }

    /// A decoded object in the requested version and shape.
    fn shaped(&self, stored: &[u8], revision: i64) -> ApiResult<Value> {
        if let Shape::MetadataList(_) = self.output.shape {
            return Err(no_list());
        }
        let mut object = decode_stored(stored, revision).map_err(ApiError::internal)?;
        Ok(match &self.output.shape {
            Shape::Object => {
                from_hub(&*self.kind, self.version(), &mut object);
                object
            }
            Shape::Metadata(version) | Shape::MetadataList(version) => metadata_only(object, version),
            Shape::Table(version) => {
                let row = self.row(object);
                self.table(version, revision, row)
            }
        })
    }

    /// A table of one row.
    fn table(&self, version: &str, revision: i64, row: Value) -> Value {
        let metadata = json!({"resourceVersion": revision.to_string()});
        let mut table = table::table(&self.kind.columns(), version, &metadata, vec![row]);
        if let Some(told) = &self.columns_told
            && told.swap(true, Ordering::Relaxed)
        {
            table["columnDefinitions"] = Value::Null;
        }
        table
    }

    fn row(&self, mut hub: Value) -> Value {
        let cells = self.kind.cells(&hub, nauplius_base::time::unix_seconds());
        let object = match self.include_object {
            IncludeObject::None => Value::Null,
            IncludeObject::Metadata => metadata_only(hub, "v1"),
            IncludeObject::Object => {
                from_hub(&*self.kind, self.version(), &mut hub);
                hub
            }
        };
        table::row(cells, object)
    }

    /// Answers with one object. A large one is not copied: its bytes stay those of the cache.
    pub fn one(&self, code: StatusCode, stored: &Bytes, layout: Layout, revision: i64) -> ApiResult<Reply> {
        let media_type = self.output.format.media_type();
        let plain = self.output.format == Format::Json && !self.output.pretty;
        if !plain {
            let body = encode_value(&self.shaped(stored, revision)?, &self.output)?;
            return Ok(respond::bytes(code, media_type, body));
        }
        let mut out =
            Vec::with_capacity(if stored.len() < LARGE_BYTES { stored.len() + 64 } else { 1 << 10 });
        let rest = self.open(&mut out, stored, layout, revision)?.bytes;
        if rest.len() < LARGE_BYTES {
            out.extend_from_slice(&rest);
            return Ok(respond::bytes(code, media_type, out));
        }
        let mut reply = respond::bytes(code, media_type, Bytes::new());
        let parts = [Bytes::from(out), rest].map(|part| Ok::<_, BoxError>(Frame::data(part)));
        *reply.body_mut() = StreamBody::new(stream::iter(parts)).boxed_unsync();
        Ok(reply)
    }

    /// Answers with the object's `Scale`.
    pub fn scale(&self, code: StatusCode, scale: Value) -> ApiResult<Reply> {
        let shown = match &self.output.shape {
            Shape::Object => scale,
            Shape::Metadata(version) => metadata_only(scale, version),
            Shape::MetadataList(_) => return Err(no_list()),
            Shape::Table(version) => self.scale_table(version, scale),
        };
        Ok(respond::value(code, &shown, &self.output))
    }

    fn scale_table(&self, version: &str, scale: Value) -> Value {
        let custom = self.kind.schema().is_some();
        let metadata = json!({"resourceVersion": object::resource_version(&scale)});
        let cells = scale_cells(&scale, custom, nauplius_base::time::unix_seconds());
        let included = match self.include_object {
            IncludeObject::None => Value::Null,
            IncludeObject::Metadata => metadata_only(scale, "v1"),
            IncludeObject::Object => scale,
        };
        table::table(&scale_columns(custom), version, &metadata, vec![table::row(cells, included)])
    }

    /// Writes the beginning of one whole object as JSON and returns the rest of it.
    pub fn open(&self, out: &mut Vec<u8>, stored: &Bytes, layout: Layout, revision: i64) -> ApiResult<Bulk> {
        if self.copies() {
            encode::open_object(out, stored, layout, revision, self.head.as_deref());
            return Ok(Bulk::stored(stored, layout));
        }
        Ok(Bulk { bytes: json::encode(&self.shaped(stored, revision)?).into(), kept: None })
    }

    /// Writes the beginning of one element of a list as JSON, an item without kind and apiVersion or a table's row, and returns the
    /// rest of it.
    pub fn open_item(&self, out: &mut Vec<u8>, entry: &Entry) -> ApiResult<Bulk> {
        if self.copies() {
            encode::open_item(out, entry.revision());
            return Ok(Bulk::stored(entry.stored(), entry.layout()));
        }
        Ok(Bulk { bytes: json::encode(&self.item(entry.stored(), entry.revision())?).into(), kept: None })
    }

    /// The stored bytes that end an element of a list, where these can be copied.
    pub fn copied_item<'e>(&self, entry: &'e Entry) -> Option<&'e [u8]> {
        self.copies().then(|| &entry.stored()[entry.layout().rest()..])
    }

    /// One element of a list as a tree.
    pub fn item_value(&self, entry: &Entry) -> ApiResult<Value> {
        self.item(entry.stored(), entry.revision())
    }

    /// Writes one element of a list as CBOR.
    pub fn write_cbor_item(&self, out: &mut Vec<u8>, entry: &Entry) -> ApiResult<()> {
        let item = self.item_value(entry)?;
        let descriptor = self.kind.descriptor();
        let kind = GroupVersionKind::new(&*descriptor.group, &*self.version().name, &*descriptor.kind);
        let ty = schema::lookup_kind(&kind).filter(|_| self.output.shape == Shape::Object);
        cbor::write(out, &item, ty);
        Ok(())
    }

    /// An object at `revision` as a CBOR document.
    pub fn cbor(&self, entry: &Entry, revision: i64) -> ApiResult<Bulk> {
        Ok(Bulk { bytes: cbor::encode(&self.shaped(entry.stored(), revision)?).into(), kept: None })
    }

    /// The protobuf message of one element of a list, without an envelope.
    pub fn item_message(&self, entry: &Entry) -> ApiResult<Bytes> {
        if let Shape::MetadataList(_) = self.output.shape {
            return Ok(message(&self.item_value(entry)?)?.into());
        }
        Ok(self.message(entry, entry.revision())?.bytes)
    }

    /// The size of that message. Of what every reader gets it is remembered, also when the message is not.
    pub fn item_message_bytes(&self, entry: &Entry) -> ApiResult<usize> {
        if self.keeps_messages()
            && let Some(bytes) = entry.message_bytes(self.version)
        {
            return Ok(bytes);
        }
        Ok(self.item_message(entry)?.len())
    }

    /// Whether entries keep the messages of this client: only what every reader of the kind gets is worth keeping.
    fn keeps_messages(&self) -> bool {
        self.copies() && self.kind.descriptor().stored_as.is_none()
    }

    /// The protobuf message of an object at `revision`, without an envelope.
    pub fn message(&self, entry: &Entry, revision: i64) -> ApiResult<Bulk> {
        let make = || match self.transcoded(entry, revision) {
            Some(bytes) => Ok(bytes),
            None => message(&self.shaped(entry.stored(), revision)?),
        };
        if self.keeps_messages() && revision == entry.revision() {
            return Ok(Bulk { bytes: entry.message(self.version, make)?, kept: Some(Kept::Message) });
        }
        Ok(Bulk { bytes: make()?.into(), kept: None })
    }

    /// The same from the stored bytes, without a tree, where these are what the client sees.
    fn transcoded(&self, entry: &Entry, revision: i64) -> Option<Vec<u8>> {
        let descriptor = self.kind.descriptor();
        let kind = GroupVersionKind::new(&*descriptor.group, &*self.version().name, &*descriptor.kind);
        let ty = schema::lookup_kind(&kind).filter(|_| self.copies())?;
        let mut json = Vec::with_capacity(entry.stored().len() + 40);
        encode::write_object(&mut json, entry.stored(), entry.layout(), revision, None);
        protobuf::transcode_message(&json, ty)
    }

    /// Kind and apiVersion of an object as this client sees it.
    pub fn type_meta(&self) -> (String, String) {
        match &self.output.shape {
            Shape::Object => (self.kind.descriptor().kind.to_string(), self.api_version()),
            Shape::Metadata(version) | Shape::MetadataList(version) => {
                ("PartialObjectMetadata".to_owned(), format!("meta.k8s.io/{version}"))
            }
            Shape::Table(version) => ("Table".to_owned(), format!("meta.k8s.io/{version}")),
        }
    }

    /// Kind and apiVersion of a list, and the field that its elements are in.
    pub fn list_type(&self) -> (String, String, &'static str) {
        let (kind, api_version) = self.type_meta();
        match &self.output.shape {
            Shape::Object => (self.kind.descriptor().list_kind.to_string(), api_version, "items"),
            Shape::Metadata(_) | Shape::MetadataList(_) => (format!("{kind}List"), api_version, "items"),
            Shape::Table(_) => (kind, api_version, "rows"),
        }
    }

    fn item(&self, stored: &[u8], revision: i64) -> ApiResult<Value> {
        if let Shape::Table(_) = self.output.shape {
            let object = decode_stored(stored, revision).map_err(ApiError::internal)?;
            return Ok(self.row(object));
        }
        if let Shape::MetadataList(version) = &self.output.shape {
            let object = decode_stored(stored, revision).map_err(ApiError::internal)?;
            return Ok(metadata_only(object, version));
        }
        let mut item = self.shaped(stored, revision)?;
        if self.output.shape == Shape::Object
            && let Some(fields) = item.as_object_mut()
        {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        Ok(item)
    }

    /// What comes before the items of a list, as JSON: everything up to the opening bracket.
    ///
    /// # Errors
    /// 406 when a list was asked for in the form of one object.
    pub fn list_head(&self, metadata: &Value) -> ApiResult<Vec<u8>> {
        if let Shape::Metadata(_) = self.output.shape {
            return Err(self.no_single_object());
        }
        let (kind, api_version, name) = self.list_type();
        let mut head = format!(
            "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata}",
            Value::from(kind),
            Value::from(api_version)
        );
        if let Shape::Table(_) = self.output.shape {
            head.push_str(",\"columnDefinitions\":");
            head.push_str(&table::columns(&self.kind.columns()).to_string());
        }
        head.push_str(",\"");
        head.push_str(name);
        head.push_str("\":[");
        Ok(head.into_bytes())
    }

    fn no_single_object(&self) -> ApiError {
        let descriptor = self.kind.descriptor();
        let package = internal_package(&descriptor.group);
        not_acceptable(format!(
            "you requested PartialObjectMetadata, but the requested object is a list (*{package}.{})",
            descriptor.list_kind
        ))
    }

    /// A bookmark: an object that is nothing but a revision.
    pub fn bookmark(&self, revision: i64, initial_events_end: bool) -> Value {
        let descriptor = self.kind.descriptor();
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_events_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match &self.output.shape {
            Shape::Object => {
                json!({"kind": &*descriptor.kind, "apiVersion": self.api_version(), "metadata": metadata})
            }
            Shape::Metadata(version) | Shape::MetadataList(version) => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata,
            }),
            Shape::Table(version) => {
                let row = table::row(Vec::new(), metadata_only(json!({ "metadata": metadata }), "v1"));
                self.table(version, revision, row)
            }
        }
    }
}

/// The metadata of a list's objects were asked for.
fn no_list() -> ApiError {
    let message = "you requested PartialObjectMetadataList, but the requested object is not a list";
    not_acceptable(message.to_owned())
}

/// 406 in words of its own.
fn not_acceptable(message: String) -> ApiError {
    ApiError::Status(Box::new(Status::failure(406, Reason::NotAcceptable, message)))
}

/// The rest of an encoded object.
pub(crate) struct Bulk {
    /// The bytes.
    pub bytes: Bytes,
    /// How the entry gives them again; `None` when it does not keep them.
    pub kept: Option<Kept>,
}

/// Which of an entry's bytes they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The stored ones from the first field of the metadata on.
    Stored,
    /// The protobuf message.
    Message,
}

impl Bulk {
    fn stored(stored: &Bytes, layout: Layout) -> Self {
        Self { bytes: stored.slice(layout.rest()..), kept: Some(Kept::Stored) }
    }
}

/// The protobuf message of a tree that says of what kind it is.
fn message(tree: &Value) -> ApiResult<Vec<u8>> {
    let ty = GroupVersionKind::of(tree).ok().and_then(|kind| schema::lookup_kind(&kind));
    let ty = ty.ok_or_else(codec::no_protobuf)?;
    protobuf::encode_message(tree, ty).map_err(|error| ApiError::internal(error.to_string()))
}

fn metadata_only(object: Value, version: &str) -> Value {
    let mut fields = match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let metadata = fields.remove("metadata").unwrap_or_else(|| json!({}));
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
    })
}

/// Encodes a tree in a format.
pub(crate) fn encode_value(value: &Value, output: &Output) -> ApiResult<Vec<u8>> {
    match output.format {
        Format::Json if output.pretty => Ok(pretty(value)),
        Format::Json => Ok(json::encode(value)),
        Format::Yaml => Ok(codec::to_yaml(value)),
        Format::Protobuf => codec::to_protobuf(value),
        Format::Cbor => Ok(cbor::encode(value)),
    }
}

/// Indented JSON with a newline at its end, as upstream prints it.
pub(crate) fn pretty(value: &Value) -> Vec<u8> {
    let mut text = json::encode_pretty(value);
    text.push(b'\n');
    text
}
