//! The protobuf form of an OpenAPI v2 document, as gnostic defines it: old kubectls ask for no other. It turns the JSON pieces of a document
//! into messages, by their field numbers, and knows nothing of what they say.

use serde_json::Value;

const LENGTH_DELIMITED: u32 = 2;
const VARINT: u32 = 0;
const FIXED64: u32 = 1;

/// A message in the making.
#[derive(Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field << 3 | LENGTH_DELIMITED));
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn message(&mut self, field: u32, message: Message) {
        self.bytes(field, &message.0);
    }

    /// The message so far with the beginning of field `field`, of which `length` bytes follow.
    pub(super) fn beginning(mut self, field: u32, length: usize) -> Vec<u8> {
        self.varint(u64::from(field << 3 | LENGTH_DELIMITED));
        self.varint(length as u64);
        self.0
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// The string `key` of an object, if it has one.
    fn text(&mut self, field: u32, object: &Value, key: &str) {
        if let Some(text) = object[key].as_str().filter(|text| !text.is_empty()) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u32, object: &Value, key: &str) {
        for text in object[key].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn flag(&mut self, field: u32, object: &Value, key: &str) {
        if object[key] == true {
            self.varint(u64::from(field << 3 | VARINT));
            self.0.push(1);
        }
    }

    /// A count, if it is not zero.
    fn count(&mut self, field: u32, object: &Value, key: &str) {
        if let Some(count) = object[key].as_u64().filter(|count| *count > 0) {
            self.varint(u64::from(field << 3 | VARINT));
            self.varint(count);
        }
    }

    /// A double, if it is not zero.
    fn number(&mut self, field: u32, object: &Value, key: &str) {
        if let Some(number) = object[key].as_f64().filter(|number| *number != 0.0) {
            self.varint(u64::from(field << 3 | FIXED64));
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// The `x-` keys of an object.
    fn extensions(&mut self, field: u32, object: &Value) {
        for (key, value) in object.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with("x-"))
        {
            self.message(field, named(key, any(value)));
        }
    }
}

/// A map entry: `name` and `value`.
pub(super) fn named(name: &str, value: Message) -> Message {
    let mut entry = Message::default();
    entry.bytes(1, name.as_bytes());
    entry.message(2, value);
    entry
}

/// Any value, as YAML; JSON is YAML.
fn any(value: &Value) -> Message {
    let mut message = Message::default();
    message.bytes(2, format!("{value}\n").as_bytes());
    message
}

fn around(field: u32, inner: Message) -> Message {
    let mut outer = Message::default();
    outer.message(field, inner);
    outer
}

/// `Document.info`, and the scalar fields before it.
pub(super) fn head(title: &str, version: &str) -> Message {
    let mut info = Message::default();
    info.bytes(1, title.as_bytes());
    info.bytes(2, version.as_bytes());
    let mut document = Message::default();
    document.bytes(1, b"2.0");
    document.message(2, info);
    document
}

/// `Document.security` and `Document.security_definitions`: one key in a header.
pub(super) fn security(document: &mut Message, name: &str, scheme: &Value) {
    document.message(12, around(1, named(name, Message::default())));
    let mut key = Message::default();
    key.text(1, scheme, "type");
    key.text(2, scheme, "name");
    key.text(3, scheme, "in");
    key.text(4, scheme, "description");
    document.message(13, around(1, named(name, around(2, key))));
}

pub(super) fn path_item(item: &Value) -> Message {
    let mut message = Message::default();
    for (field, method) in
        [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (6, "options"), (7, "head"), (8, "patch")]
    {
        if let Some(of_method) = item.get(method) {
            message.message(field, operation(of_method));
        }
    }
    for parameter in item["parameters"].as_array().into_iter().flatten() {
        message.message(9, parameters_item(parameter));
    }
    message
}

fn operation(operation: &Value) -> Message {
    let mut message = Message::default();
    message.texts(1, operation, "tags");
    message.text(3, operation, "description");
    message.text(5, operation, "operationId");
    message.texts(6, operation, "produces");
    message.texts(7, operation, "consumes");
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        message.message(8, parameters_item(parameter));
    }
    let mut responses = Message::default();
    for (code, response) in operation["responses"].as_object().into_iter().flatten() {
        let mut value = Message::default();
        value.text(1, response, "description");
        if let Some(of_response) = response.get("schema") {
            value.message(2, around(1, schema(of_response)));
        }
        responses.message(1, named(code, around(1, value)));
    }
    message.message(9, responses);
    message.texts(10, operation, "schemes");
    message.extensions(13, operation);
    message
}

fn parameters_item(item: &Value) -> Message {
    if item.get("$ref").is_none() {
        return around(1, parameter(item));
    }
    let mut reference = Message::default();
    reference.text(1, item, "$ref");
    around(2, reference)
}

pub(super) fn parameter(parameter: &Value) -> Message {
    let mut message = Message::default();
    if parameter["in"] == "body" {
        message.text(1, parameter, "description");
        message.text(2, parameter, "name");
        message.text(3, parameter, "in");
        message.flag(4, parameter, "required");
        message.message(5, schema(&parameter["schema"]));
        return around(1, message);
    }
    message.flag(1, parameter, "required");
    message.text(2, parameter, "in");
    message.text(3, parameter, "description");
    message.text(4, parameter, "name");
    // A query parameter may be empty, so that its later fields are one further on.
    let (form, type_, unique) = if parameter["in"] == "path" { (4, 5, 19) } else { (3, 6, 20) };
    message.text(type_, parameter, "type");
    message.flag(unique, parameter, "uniqueItems");
    around(2, around(form, message))
}

pub(super) fn schema(of: &Value) -> Message {
    let mut message = Message::default();
    message.text(1, of, "$ref");
    message.text(2, of, "format");
    message.text(3, of, "title");
    message.text(4, of, "description");
    if let Some(default) = of.get("default") {
        message.message(5, any(default));
    }
    for (field, key) in [(6, "multipleOf"), (7, "maximum"), (9, "minimum")] {
        message.number(field, of, key);
    }
    message.flag(8, of, "exclusiveMaximum");
    message.flag(10, of, "exclusiveMinimum");
    for (field, key) in [(11, "maxLength"), (12, "minLength"), (14, "maxItems"), (15, "minItems")] {
        message.count(field, of, key);
    }
    message.text(13, of, "pattern");
    message.flag(16, of, "uniqueItems");
    message.count(17, of, "maxProperties");
    message.count(18, of, "minProperties");
    message.texts(19, of, "required");
    for value in of["enum"].as_array().into_iter().flatten() {
        message.message(20, any(value));
    }
    match of.get("additionalProperties") {
        Some(Value::Bool(allowed)) => {
            let mut item = Message::default();
            item.varint(u64::from(2_u32 << 3 | VARINT));
            item.varint(u64::from(*allowed));
            message.message(21, item);
        }
        Some(values) => message.message(21, around(1, schema(values))),
        None => {}
    }
    if of["type"].is_string() {
        let mut types = Message::default();
        types.text(1, of, "type");
        message.message(22, types);
    }
    if let Some(items) = of.get("items") {
        message.message(23, around(1, schema(items)));
    }
    if let Some(properties) = of["properties"].as_object() {
        let mut entries = Message::default();
        for (name, property) in properties {
            entries.message(1, named(name, schema(property)));
        }
        message.message(25, entries);
    }
    message.extensions(31, of);
    message
}
