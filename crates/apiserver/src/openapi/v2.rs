//! The document of OpenAPI v2, about the whole API, as JSON or in gnostic's protobuf. Parameters that many operations take are defined
//! once; those that old kubectls look for on operations stay there. It writes fragments and says how they are joined.

use super::custom::Custom;
use super::definitions::{Definition, Dialect, reachable};
use super::gnostic::{self, Message};
use super::model::{Content, Operation, Parameter, PathItem, Place};
use super::parts;
use super::schemas::{Schemas, of_gvk};
use super::segment::{Joined, Segment};
use super::{TITLE, definitions_of};
use crate::version::GIT_VERSION;
use nauplius_descriptions::Descriptions;
use nauplius_kinds::Kind;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

const SECURITY: &str = "BearerToken";

/// How the document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Protobuf,
}

/// Entries of a section of the document, and the parameters that they refer to.
pub(super) struct Paths {
    pub(super) bytes: Vec<u8>,
    pub(super) parameters: BTreeMap<String, Value>,
}

/// The entries of these paths.
pub(super) fn paths(form: Form, items: &[PathItem]) -> io::Result<Paths> {
    let mut shared = Shared::default();
    let mut entries = Entries::new(form);
    for item in items {
        let value = shared.path_item(item);
        entries.add(&item.path, &value, PATH_ENTRY, gnostic::path_item)?;
    }
    Ok(Paths { bytes: entries.bytes, parameters: shared.parameters })
}

/// The definitions that the paths of built-in kinds reach, which are all that custom resources share.
pub(super) fn built_in_definitions(
    form: Form,
    built_in: &[Arc<dyn Kind>],
    descriptions: &Descriptions,
) -> io::Result<Paths> {
    let items: Vec<PathItem> =
        parts::with_kinds(built_in).into_iter().flat_map(|(part, own)| part.paths(&own)).collect();
    definitions(form, reachable(definitions_of(&items)), &parts::served(built_in), descriptions)
}

/// The definitions of a custom resource: an object and a list.
pub(super) fn custom_definitions(
    form: Form,
    kind: &Arc<dyn Kind>,
    descriptions: &Descriptions,
) -> io::Result<Paths> {
    let own = [Custom::object(kind), Custom::list(kind)].map(Definition::Custom);
    definitions(form, own.into_iter().map(|own| (own.name(), own)), &[], descriptions)
}

/// What a custom resource is defined as.
pub(super) fn custom_name(kind: &Arc<dyn Kind>) -> String {
    Custom::object(kind).name()
}

fn definitions(
    form: Form,
    all: impl IntoIterator<Item = (String, Definition)>,
    served: &[(String, String)],
    descriptions: &Descriptions,
) -> io::Result<Paths> {
    let schemas = Schemas { dialect: Dialect::V2, descriptions, served };
    let mut entries = Entries::new(form);
    for (name, definition) in all {
        entries.add(&name, &schemas.of(definition), ENTRY, gnostic::schema)?;
    }
    Ok(Paths { bytes: entries.bytes, parameters: BTreeMap::new() })
}

/// The fields of entries in sections.
const PATH_ENTRY: u32 = 2;
const ENTRY: u32 = 1;

/// Entries of a section, one behind the other.
struct Entries {
    form: Form,
    bytes: Vec<u8>,
}

impl Entries {
    fn new(form: Form) -> Self {
        Self { form, bytes: Vec::new() }
    }

    fn add(
        &mut self,
        name: &str,
        value: &Value,
        field: u32,
        message: fn(&Value) -> Message,
    ) -> io::Result<()> {
        match self.form {
            Form::Json => {
                if !self.bytes.is_empty() {
                    self.bytes.push(b',');
                }
                serde_json::to_writer(&mut self.bytes, name)?;
                self.bytes.push(b':');
                serde_json::to_writer(&mut self.bytes, value)?;
            }
            Form::Protobuf => {
                let mut entry = Message::default();
                entry.message(field, gnostic::named(name, message(value)));
                self.bytes.extend(entry.into_bytes());
            }
        }
        Ok(())
    }
}

/// Joins the document from the fragments of its sections.
pub(super) fn join(
    form: Form,
    paths: &[Segment],
    definitions: &[Segment],
    parameters: &[(&str, &Value)],
    joined: &mut Joined,
) -> io::Result<()> {
    let mut entries = Entries::new(form);
    for (name, parameter) in parameters {
        entries.add(name, parameter, ENTRY, gnostic::parameter)?;
    }
    match form {
        Form::Json => join_json(paths, definitions, &entries.bytes, joined),
        Form::Protobuf => join_protobuf(paths, definitions, &entries.bytes, joined),
    }
}

fn join_json(
    paths: &[Segment],
    definitions: &[Segment],
    parameters: &[u8],
    joined: &mut Joined,
) -> io::Result<()> {
    let info = json!({"title": TITLE, "version": GIT_VERSION});
    joined.add_bytes(format!("{{\"swagger\":\"2.0\",\"info\":{info},\"paths\":{{").as_bytes())?;
    separated(paths, joined)?;
    joined.add_bytes(b"},\"parameters\":{")?;
    joined.add_bytes(parameters)?;
    joined.add_bytes(b"},\"definitions\":{")?;
    separated(definitions, joined)?;
    let definitions = json!({ SECURITY: security() });
    let end = format!("}},\"securityDefinitions\":{definitions},\"security\":[{{\"{SECURITY}\":[]}}]}}");
    joined.add_bytes(end.as_bytes())
}

fn separated(segments: &[Segment], joined: &mut Joined) -> io::Result<()> {
    let comma = Segment::of(b",")?;
    for (index, segment) in segments.iter().enumerate() {
        if index > 0 {
            joined.add(&comma);
        }
        joined.add(segment);
    }
    Ok(())
}

fn join_protobuf(
    paths: &[Segment],
    definitions: &[Segment],
    parameters: &[u8],
    joined: &mut Joined,
) -> io::Result<()> {
    let mut section = |head: Message, field: u32, segments: &[Segment]| {
        let length = segments.iter().map(Segment::length).sum();
        joined.add_bytes(&head.beginning(field, length))?;
        segments.iter().for_each(|segment| joined.add(segment));
        io::Result::Ok(())
    };
    section(gnostic::head(TITLE, GIT_VERSION), 8, paths)?;
    section(Message::default(), 9, definitions)?;
    section(Message::default(), 10, &[Segment::of(parameters)?])?;
    let mut end = Message::default();
    gnostic::security(&mut end, SECURITY, &security());
    joined.add_bytes(&end.into_bytes())
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
