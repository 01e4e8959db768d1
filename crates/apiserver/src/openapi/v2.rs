//! The document of OpenAPI v2, about the whole API, as JSON or in gnostic's protobuf. Parameters that many operations take are defined
//! once; those that old kubectls look for on operations stay there.

use super::definitions::{Dialect, reachable};
use super::gnostic::{self, Message};
use super::json::Pieces;
use super::model::{Content, Operation, Parameter, PathItem, Place};
use super::parts;
use super::schemas::{Schemas, of_gvk};
use super::{TITLE, definitions_of};
use crate::version::GIT_VERSION;
use nauplius_descriptions::Descriptions;
use nauplius_kinds::Kind;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

const SECURITY: &str = "BearerToken";

/// Writes the document as JSON.
pub(super) fn write_json(
    kinds: &[Arc<dyn Kind>],
    descriptions: &Descriptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let info = json!({"title": TITLE, "version": GIT_VERSION});
    write!(out, "{{\"swagger\":\"2.0\",\"info\":{info},\"paths\":")?;
    let (paths, mut shared) = (paths(kinds), Shared::default());
    let mut pieces = Pieces::begin(out)?;
    for item in &paths {
        pieces.add(&item.path, &shared.path_item(item))?;
    }
    pieces.end()?;
    write!(out, ",\"parameters\":")?;
    let mut pieces = Pieces::begin(out)?;
    for (name, parameter) in &shared.parameters {
        pieces.add(name, parameter)?;
    }
    pieces.end()?;
    write!(out, ",\"definitions\":")?;
    let served = parts::built_in(kinds);
    let schemas = Schemas { dialect: Dialect::V2, descriptions, served: &served };
    let mut pieces = Pieces::begin(out)?;
    for (name, definition) in reachable(definitions_of(&paths)) {
        pieces.add(&name, &schemas.of(definition))?;
    }
    pieces.end()?;
    let definitions = json!({ SECURITY: security() });
    write!(out, ",\"securityDefinitions\":{definitions},\"security\":[{{\"{SECURITY}\":[]}}]}}")
}

/// Writes the document in protobuf.
pub(super) fn write_protobuf(
    kinds: &[Arc<dyn Kind>],
    descriptions: &Descriptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (paths, mut shared) = (paths(kinds), Shared::default());
    let mut document = gnostic::head(TITLE, GIT_VERSION);
    let mut section = Message::default();
    for item in &paths {
        let value = gnostic::path_item(&shared.path_item(item));
        section.message(2, gnostic::named(&item.path, value));
    }
    document.message(8, section);
    let served = parts::built_in(kinds);
    let schemas = Schemas { dialect: Dialect::V2, descriptions, served: &served };
    let mut section = Message::default();
    for (name, definition) in reachable(definitions_of(&paths)) {
        section.message(1, gnostic::named(&name, gnostic::schema(&schemas.of(definition))));
    }
    document.message(9, section);
    let mut section = Message::default();
    for (name, parameter) in &shared.parameters {
        section.message(1, gnostic::named(name, gnostic::parameter(parameter)));
    }
    document.message(10, section);
    gnostic::security(&mut document, SECURITY, &security());
    out.write_all(&document.into_bytes())
}

fn paths(kinds: &[Arc<dyn Kind>]) -> Vec<PathItem> {
    let mut paths: Vec<PathItem> = parts::all(kinds).iter().flat_map(|part| part.paths(kinds)).collect();
    paths.sort_by(|a, b| a.path.cmp(&b.path));
    paths
}

fn security() -> Value {
    json!({"description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey"})
}

/// The parameters that were defined so far, by the name that references use.
#[derive(Default)]
struct Shared {
    parameters: BTreeMap<String, Value>,
}

impl Shared {
    fn path_item(&mut self, item: &PathItem) -> Value {
        let mut value = Map::new();
        for of_method in &item.operations {
            value.insert(of_method.method.to_owned(), self.operation(of_method));
        }
        if !item.parameters.is_empty() {
            let parameters = item.parameters.iter().map(|parameter| self.parameter(parameter));
            value.insert("parameters".to_owned(), parameters.collect());
        }
        value.into()
    }

    fn operation(&mut self, operation: &Operation) -> Value {
        let mut value = json!({
            "description": operation.description,
            "operationId": operation.id,
            "tags": [operation.tag],
            "schemes": ["https"],
            "consumes": operation.consumes,
            "produces": operation.produces,
            "responses": responses(operation),
        });
        let mut parameters: Vec<Value> = operation
            .body
            .iter()
            .map(|body| {
                let mut value =
                    json!({"in": "body", "name": "body", "schema": Dialect::V2.reference(body.definition.clone())});
                if body.required {
                    value["required"] = true.into();
                }
                value
            })
            .collect();
        parameters.extend(operation.parameters.iter().map(|parameter| self.parameter(parameter)));
        if !parameters.is_empty() {
            value["parameters"] = parameters.into();
        }
        if !operation.action.is_empty() {
            value["x-kubernetes-action"] = operation.action.into();
        }
        if let Some(gvk) = &operation.gvk {
            value["x-kubernetes-group-version-kind"] = of_gvk(gvk);
        }
        value
    }

    /// The parameter, or a reference to it.
    fn parameter(&mut self, of: &Parameter) -> Value {
        let value = parameter(of);
        // kubectl up to 1.27 finds out about dry run and field validation by the operations' own parameters; a name says which kind's it is.
        if matches!(of.name.as_ref(), "name" | "dryRun" | "fieldValidation") {
            return value;
        }
        let name = format!("{}-{}", of.name, short_hash(value.to_string().as_bytes()));
        let reference = json!({ "$ref": format!("#/parameters/{name}") });
        self.parameters.insert(name, value);
        reference
    }
}

fn parameter(parameter: &Parameter) -> Value {
    let mut value = json!({
        "name": parameter.name,
        "in": if parameter.place == Place::Path { "path" } else { "query" },
        "type": parameter.type_,
        "uniqueItems": true,
    });
    if !parameter.description.is_empty() {
        value["description"] = parameter.description.as_ref().into();
    }
    if parameter.place == Place::Path {
        value["required"] = true.into();
    }
    value
}

fn responses(operation: &Operation) -> Value {
    let responses = operation.responses.iter().map(|response| {
        let mut value = json!({"description": response.description});
        match &response.content {
            Content::None => {}
            Content::Text => value["schema"] = json!({"type": "string"}),
            Content::Object(definition) => value["schema"] = Dialect::V2.reference(definition.clone()),
        }
        (response.code.to_owned(), value)
    });
    Value::Object(responses.collect())
}

/// FNV-1, eight characters of it.
fn short_hash(bytes: &[u8]) -> String {
    use base64::Engine as _;
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        hash.wrapping_mul(0x0000_0100_0000_01b3) ^ u64::from(*byte)
    });
    base64::engine::general_purpose::URL_SAFE.encode(&hash.to_be_bytes()[..6])
}
