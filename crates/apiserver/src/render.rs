//! Objects on their way out: stored bytes into the version, shape and format that the client wants. Plain JSON of the stored
//! form is only copied; everything else is made on demand.

use crate::codec;
use crate::encode::{self, Layout, decode_stored};
use crate::error::ApiResult;
use crate::negotiate::{Format, Output, Shape};
use crate::registry::convert::{api_version, from_hub};
use crate::registry::internal_package;
use crate::respond::{self, Reply};
use crate::table::{self, IncludeObject};
use http::StatusCode;
use nauplius_kinds::{Kind, Version};
use nauplius_meta::error::{ApiError, Reason, Status};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// How one client sees one resource. Streams own one.
#[derive(Clone)]
pub(crate) struct View {
    kind: Arc<dyn Kind>,
    version: usize,
    pub output: Output,
    include_object: IncludeObject,
    /// Kind and apiVersion of the requested version, when the stored ones differ.
    head: Option<Vec<u8>>,
}

impl View {
    pub fn new(kind: Arc<dyn Kind>, version: usize, output: Output, include_object: IncludeObject) -> Self {
        let descriptor = kind.descriptor();
        let name = &descriptor.versions[version].name;
        let head =
            (*name != descriptor.hub).then(|| encode::head(&descriptor.kind, &api_version(descriptor, name)));
        Self { head, version, output, include_object, kind }
    }

    fn version(&self) -> &Version {
        &self.kind.descriptor().versions[self.version]
    }

    /// `apps/v1`
    pub fn api_version(&self) -> String {
        api_version(self.kind.descriptor(), &self.version().name)
    }

    /// Whether stored bytes can be copied.
    fn copies(&self) -> bool {
        self.output.shape == Shape::Object && self.version().from_hub.is_none()
    }

    /// A decoded object in the requested version and shape.
    fn shaped(&self, stored: &[u8], revision: i64) -> ApiResult<Value> {
        if let Shape::MetadataList(_) = self.output.shape {
            let message = "you requested PartialObjectMetadataList, but the requested object is not a list";
            return Err(not_acceptable(message.to_owned()));
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
                table::table(
                    &*self.kind,
                    version,
                    &json!({"resourceVersion": revision.to_string()}),
                    vec![row],
                )
            }
        })
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

    /// One object as a tree, in the requested version and shape.
    pub fn value(&self, stored: &[u8], revision: i64) -> ApiResult<Value> {
        self.shaped(stored, revision)
    }

    /// Answers with one object.
    pub fn one(&self, code: StatusCode, stored: &[u8], layout: Layout, revision: i64) -> ApiResult<Reply> {
        let plain = self.output.format == Format::Json && !self.output.pretty;
        let body = if plain {
            let mut out = Vec::with_capacity(stored.len() + 64);
            self.write(&mut out, stored, layout, revision)?;
            out
        } else {
            encode_value(&self.shaped(stored, revision)?, &self.output)?
        };
        Ok(respond::bytes(code, self.output.format.media_type(), body))
    }

    /// Writes one whole object as JSON.
    pub fn write(&self, out: &mut Vec<u8>, stored: &[u8], layout: Layout, revision: i64) -> ApiResult<()> {
        if self.copies() {
            encode::write_object(out, stored, layout, revision, self.head.as_deref());
            return Ok(());
        }
        append(out, &self.shaped(stored, revision)?)
    }

    /// Writes one element of a list as JSON: an item without kind and apiVersion, or a table's row.
    pub fn write_item(
        &self,
        out: &mut Vec<u8>,
        stored: &[u8],
        layout: Layout,
        revision: i64,
    ) -> ApiResult<()> {
        if self.copies() {
            encode::write_item(out, stored, layout, revision);
            return Ok(());
        }
        append(out, &self.item(stored, revision)?)
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
        let descriptor = self.kind.descriptor();
        let (kind, api_version, name) = match &self.output.shape {
            Shape::Object => (descriptor.list_kind.to_string(), self.api_version(), "items"),
            Shape::Metadata(_) => return Err(self.no_single_object()),
            Shape::MetadataList(version) => {
                ("PartialObjectMetadataList".to_owned(), format!("meta.k8s.io/{version}"), "items")
            }
            Shape::Table(version) => ("Table".to_owned(), format!("meta.k8s.io/{version}"), "rows"),
        };
        let mut head = format!(
            "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata}",
            Value::from(kind),
            Value::from(api_version)
        );
        if let Shape::Table(_) = self.output.shape {
            head.push_str(",\"columnDefinitions\":");
            head.push_str(&table::columns(&*self.kind).to_string());
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
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
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
                table::table(
                    &*self.kind,
                    version,
                    &json!({"resourceVersion": revision.to_string()}),
                    vec![row],
                )
            }
        }
    }
}

/// 406 in words of its own.
fn not_acceptable(message: String) -> ApiError {
    ApiError::Status(Box::new(Status::failure(406, Reason::NotAcceptable, message)))
}

fn append(out: &mut Vec<u8>, value: &Value) -> ApiResult<()> {
    serde_json::to_writer(out, value).map_err(|error| ApiError::internal(error.to_string()))
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
        Format::Json => serde_json::to_vec(value).map_err(|error| ApiError::internal(error.to_string())),
        Format::Yaml => Ok(codec::to_yaml(value)),
        Format::Protobuf => codec::to_protobuf(value),
    }
}

/// Indented JSON with a newline at its end, as upstream prints it.
pub(crate) fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
