//! A document of OpenAPI v3: one part of the API.

use super::definitions::{Definition, Dialect, reachable};
use super::json::Pieces;
use super::model::{Content, Operation, Parameter, PathItem, Place};
use super::parts::{self, Part};
use super::schemas::{Schemas, of_gvk};
use super::{TITLE, definitions_of};
use crate::version::GIT_VERSION;
use nauplius_descriptions::Descriptions;
use nauplius_kinds::Kind;
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::sync::Arc;

/// Writes the document.
pub(super) fn write(
    part: &Part,
    kinds: &[Arc<dyn Kind>],
    descriptions: &Descriptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let served = parts::built_in(kinds);
    let schemas = Schemas { dialect: Dialect::V3, descriptions, served: &served };
    let paths = part.paths(kinds);
    let info = json!({"title": TITLE, "version": GIT_VERSION});
    write!(out, "{{\"openapi\":\"3.0.0\",\"info\":{info},\"paths\":")?;
    let mut pieces = Pieces::begin(out)?;
    for item in &paths {
        pieces.add(&item.path, &path_item(item))?;
    }
    pieces.end()?;
    write!(out, ",\"components\":{{\"schemas\":")?;
    let mut pieces = Pieces::begin(out)?;
    for (name, definition) in reachable(definitions_of(&paths)) {
        pieces.add(&name, &schemas.of(definition))?;
    }
    pieces.end()?;
    write!(out, "}}}}")
}

fn path_item(item: &PathItem) -> Value {
    let mut value = Map::new();
    for of_method in &item.operations {
        value.insert(of_method.method.to_owned(), operation(of_method));
    }
    if !item.parameters.is_empty() {
        value.insert("parameters".to_owned(), item.parameters.iter().map(parameter).collect());
    }
    value.into()
}

fn operation(operation: &Operation) -> Value {
    let mut value = json!({
        "description": operation.description,
        "operationId": operation.id,
        "tags": [operation.tag],
        "responses": responses(operation),
    });
    if !operation.parameters.is_empty() {
        value["parameters"] = operation.parameters.iter().map(parameter).collect();
    }
    if let Some(body) = &operation.body {
        let schema = object(body.definition.clone());
        value["requestBody"] = json!({ "content": content(operation.consumes, &schema) });
        if body.required {
            value["requestBody"]["required"] = true.into();
        }
    }
    if !operation.action.is_empty() {
        value["x-kubernetes-action"] = operation.action.into();
    }
    if let Some(gvk) = &operation.gvk {
        value["x-kubernetes-group-version-kind"] = of_gvk(gvk);
    }
    value
}

fn object(definition: Definition) -> Value {
    Dialect::V3.reference(definition)
}

fn content(media_types: &[&str], schema: &Value) -> Value {
    let entries =
        media_types.iter().map(|media_type| ((*media_type).to_owned(), json!({ "schema": schema })));
    Value::Object(entries.collect())
}

fn responses(operation: &Operation) -> Value {
    let responses = operation.responses.iter().map(|response| {
        let mut value = json!({"description": response.description});
        match &response.content {
            Content::None => {}
            Content::Text => value["content"] = content(operation.produces, &json!({"type": "string"})),
            Content::Object(definition) => {
                value["content"] = content(operation.produces, &object(definition.clone()))
            }
        }
        (response.code.to_owned(), value)
    });
    Value::Object(responses.collect())
}

fn parameter(parameter: &Parameter) -> Value {
    let mut value = json!({
        "name": parameter.name,
        "in": if parameter.place == Place::Path { "path" } else { "query" },
        "schema": {"type": parameter.type_, "uniqueItems": true},
    });
    if !parameter.description.is_empty() {
        value["description"] = parameter.description.as_ref().into();
    }
    if parameter.place == Place::Path {
        value["required"] = true.into();
    }
    value
}
