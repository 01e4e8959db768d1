//! OpenAPI in both versions against the facts of the API that lie beside the checkout, and its two encodings against each other.

use crate::support::{Fixture, model};
use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// Every difference to the facts, with its reason. `*` ends a line that stands for all that begin so.
const DIFFERENCES: &str = include_str!("openapi_differences.tsv");

fn fact(file: &str) -> Option<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/api").join(file);
    if !path.exists() {
        println!("SKIP: the facts of the API ({file}) are not beside the checkout");
        return None;
    }
    Some(std::fs::read_to_string(path).expect("facts are text"))
}

async fn v2() -> (Fixture, Value) {
    let fixture = model().await;
    let document = fixture.get("/openapi/v2").await.expect(200);
    (fixture, document)
}

/// Compares found differences with the explained ones of one section.
fn explained(section: &str, found: &BTreeSet<String>) {
    let lines = DIFFERENCES.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let known: Vec<&str> = lines
        .map(|line| line.split_once('\t').unwrap_or_else(|| panic!("no reason: {line}")).0)
        .filter_map(|line| line.strip_prefix(section)?.strip_prefix(' '))
        .collect();
    let fits = |found: &str, known: &str| match known.strip_suffix('*') {
        Some(start) => found.starts_with(start),
        None => found == known,
    };
    let new: Vec<_> = found.iter().filter(|found| !known.iter().any(|known| fits(found, known))).collect();
    let gone: Vec<_> = known.iter().filter(|known| !found.iter().any(|found| fits(found, known))).collect();
    assert!(new.is_empty() && gone.is_empty(), "unexplained {section}: {new:#?}\nno longer: {gone:#?}");
}

/// Without prose and enumerations, which the facts do not have.
fn bare(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else { return schema.clone() };
    let mut kept = Map::new();
    for (key, value) in fields {
        match key.as_str() {
            "description" | "enum" => {}
            "properties" => {
                let properties = value.as_object().unwrap().iter();
                let bare: Map<_, _> = properties.map(|(name, value)| (name.clone(), bare(value))).collect();
                kept.insert(key.clone(), bare.into());
            }
            "required" => {
                let names: BTreeSet<_> = value.as_array().unwrap().iter().filter_map(Value::as_str).collect();
                kept.insert(key.clone(), names.into_iter().collect());
            }
            _ => {
                kept.insert(key.clone(), bare(value));
            }
        }
    }
    kept.into()
}

fn differences(name: &str, own: &Value, fact: &Value, found: &mut BTreeSet<String>) {
    let empty = Map::new();
    let of = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (own, fact) = (of(own), of(fact));
    let keys: BTreeSet<&String> = own.keys().chain(fact.keys()).collect();
    for key in keys {
        let (mine, other) = (own.get(key).unwrap_or(&Value::Null), fact.get(key).unwrap_or(&Value::Null));
        if mine == other {
            continue;
        }
        if key != "properties" {
            found.insert(format!("{name} {key}"));
            continue;
        }
        let (mine, other) = (mine.as_object().unwrap_or(&empty), other.as_object().unwrap_or(&empty));
        let names: BTreeSet<&String> = mine.keys().chain(other.keys()).collect();
        let changed = names.into_iter().filter(|field| mine.get(*field) != other.get(*field));
        found.extend(changed.map(|field| format!("{name}.{field}")));
    }
}

#[tokio::test]
async fn definitions_are_upstreams() {
    let Some(facts) = fact("definitions.json") else { return };
    let facts: Value = serde_json::from_str(&facts).unwrap();
    let (_fixture, document) = v2().await;
    let mut found = BTreeSet::new();
    for (name, own) in document["definitions"].as_object().unwrap() {
        let short = name.strip_prefix("io.k8s.").unwrap();
        match facts.get(name) {
            Some(fact) => differences(short, &bare(own), &bare(fact), &mut found),
            None => {
                found.insert(short.to_owned());
            }
        }
    }
    explained("definition", &found);
}

/// Method and path, with what is said of it.
type Operations = BTreeMap<String, [String; 6]>;

fn own_operations(document: &Value) -> Operations {
    let join = |list: &Value| -> String {
        list.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect::<Vec<_>>().join(",")
    };
    let mut operations = Operations::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let gvk = &operation["x-kubernetes-group-version-kind"];
            let said = [
                text(&operation["x-kubernetes-action"]),
                text(&gvk["group"]),
                text(&gvk["version"]),
                text(&gvk["kind"]),
                join(&operation["consumes"]),
                join(&operation["produces"]),
            ];
            operations.insert(format!("{method} {path}"), said);
        }
    }
    operations
}

fn upstream_operations(facts: &str) -> Operations {
    let rows = facts.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    rows.map(|row| {
        let text = |index: usize| row[index].to_owned();
        let said = [text(2), text(3), text(4), text(5), text(6), text(7)];
        (format!("{} {}", row[1], row[0]), said)
    })
    .collect()
}

#[tokio::test]
async fn operations_are_upstreams() {
    let Some(facts) = fact("operations.tsv") else { return };
    let (fixture, document) = v2().await;
    let (own, upstream) = (own_operations(&document), upstream_operations(&facts));
    let mut found = BTreeSet::new();
    for (key, said) in &own {
        if upstream.get(key) != Some(said) {
            found.insert(key.clone());
        }
    }
    // Everything that upstream has below a resource that is served.
    let collections: BTreeSet<String> =
        own.keys().filter_map(|key| Some(key.split_once("/{name}")?.0.to_owned())).collect();
    let paths: BTreeSet<&str> = collections.iter().filter_map(|key| Some(key.split_once(' ')?.1)).collect();
    for key in upstream.keys().filter(|key| !own.contains_key(*key)) {
        let path = key.split_once(' ').unwrap().1;
        if paths.iter().any(|served| {
            path.strip_prefix(served).is_some_and(|rest| rest.is_empty() || rest.starts_with("/{name}"))
        }) {
            found.insert(key.clone());
        }
    }
    explained("operation", &found);
    // Every operation of the registry is said, and nothing else.
    let list = fixture.get("/api/v1").await.expect(200);
    for resource in list["resources"].as_array().unwrap() {
        let name = resource["name"].as_str().unwrap();
        let path = match name.split_once('/') {
            Some((plural, subresource)) => format!("/{plural}/{{name}}/{subresource}"),
            None => format!("/{name}"),
        };
        assert!(own.keys().any(|key| key.ends_with(&path)), "{name} is discovered but has no operation");
    }
}

#[tokio::test]
async fn old_clients_see_what_a_patch_may_ask_for() {
    let (_fixture, document) = v2().await;
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let names: Vec<&str> =
        patch["parameters"].as_array().unwrap().iter().filter_map(|own| own["name"].as_str()).collect();
    assert_eq!(names, ["body", "dryRun", "fieldValidation"]);
    let references: Vec<&str> =
        patch["parameters"].as_array().unwrap().iter().filter_map(|own| own["$ref"].as_str()).collect();
    for reference in references {
        let name = reference.strip_prefix("#/parameters/").unwrap();
        assert!(document["parameters"][name]["name"].is_string(), "{reference}");
    }
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    assert_eq!(document["securityDefinitions"]["BearerToken"]["type"], "apiKey");
}

/// Just enough of protobuf to read a document back.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (byte, rest) = self.0.split_first().unwrap();
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }

    /// All fields, scalars as their number in text.
    fn fields(mut self) -> Vec<(u64, &'a [u8])> {
        let mut fields = Vec::new();
        while !self.0.is_empty() {
            let key = self.varint();
            let bytes = match key & 7 {
                0 => {
                    assert_eq!(self.varint(), 1, "only true is written");
                    &b"true"[..]
                }
                2 => {
                    let length = usize::try_from(self.varint()).unwrap();
                    let (bytes, rest) = self.0.split_at(length);
                    self.0 = rest;
                    bytes
                }
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, bytes));
        }
        fields
    }
}

fn fields(bytes: &[u8]) -> Vec<(u64, &[u8])> {
    Reader(bytes).fields()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn first(bytes: &[u8], field: u64) -> &[u8] {
    fields(bytes).into_iter().find(|(own, _)| *own == field).unwrap_or_else(|| panic!("no field {field}")).1
}

fn yaml(any: &[u8]) -> Value {
    serde_json::from_str(&text(first(any, 2))).unwrap()
}

fn schema(bytes: &[u8]) -> Value {
    let mut schema = json!({});
    for (field, bytes) in fields(bytes) {
        let list = |schema: &mut Value, key: &str, value: Value| match schema[key].as_array_mut() {
            Some(values) => values.push(value),
            None => schema[key] = json!([value]),
        };
        match field {
            1 => schema["$ref"] = text(bytes).into(),
            2 => schema["format"] = text(bytes).into(),
            4 => schema["description"] = text(bytes).into(),
            19 => list(&mut schema, "required", text(bytes).into()),
            20 => list(&mut schema, "enum", yaml(bytes)),
            21 => schema["additionalProperties"] = self::schema(first(bytes, 1)),
            22 => schema["type"] = text(first(bytes, 1)).into(),
            23 => schema["items"] = self::schema(first(bytes, 1)),
            25 => {
                for (_, entry) in fields(bytes) {
                    schema["properties"][text(first(entry, 1))] = self::schema(first(entry, 2));
                }
            }
            31 => schema[text(first(bytes, 1))] = yaml(first(bytes, 2)),
            other => panic!("schema field {other}"),
        }
    }
    schema
}

fn parameter(bytes: &[u8]) -> Value {
    let mut value = json!({});
    let (form, inner) = fields(bytes)[0];
    if form == 1 {
        for (field, bytes) in fields(inner) {
            match field {
                2 => value["name"] = text(bytes).into(),
                3 => value["in"] = text(bytes).into(),
                4 => value["required"] = true.into(),
                5 => value["schema"] = schema(bytes),
                other => panic!("body field {other}"),
            }
        }
        return value;
    }
    let (kind, inner) = fields(inner)[0];
    for (field, bytes) in fields(inner) {
        match (field, kind) {
            (1, _) => value["required"] = true.into(),
            (2, _) => value["in"] = text(bytes).into(),
            (3, _) => value["description"] = text(bytes).into(),
            (4, _) => value["name"] = text(bytes).into(),
            (6, 3) | (5, 4) => value["type"] = text(bytes).into(),
            (20, 3) | (19, 4) => value["uniqueItems"] = true.into(),
            other => panic!("parameter field {other:?}"),
        }
    }
    value
}

fn parameters_item(bytes: &[u8]) -> Value {
    match fields(bytes)[0] {
        (1, inner) => parameter(inner),
        (2, inner) => json!({"$ref": text(first(inner, 1))}),
        other => panic!("parameters item {other:?}"),
    }
}

fn operation(bytes: &[u8]) -> Value {
    let mut value = json!({"tags": [], "produces": [], "consumes": [], "schemes": [], "responses": {}});
    let push = |value: &mut Value, key: &str, item: Value| {
        if value[key].is_null() {
            value[key] = json!([]);
        }
        value[key].as_array_mut().unwrap().push(item);
    };
    for (field, bytes) in fields(bytes) {
        match field {
            1 => push(&mut value, "tags", text(bytes).into()),
            3 => value["description"] = text(bytes).into(),
            5 => value["operationId"] = text(bytes).into(),
            6 => push(&mut value, "produces", text(bytes).into()),
            7 => push(&mut value, "consumes", text(bytes).into()),
            8 => push(&mut value, "parameters", parameters_item(bytes)),
            9 => {
                for (_, entry) in fields(bytes) {
                    let mut response = json!({});
                    for (field, bytes) in fields(first(first(entry, 2), 1)) {
                        match field {
                            1 => response["description"] = text(bytes).into(),
                            2 => response["schema"] = schema(first(bytes, 1)),
                            other => panic!("response field {other}"),
                        }
                    }
                    value["responses"][text(first(entry, 1))] = response;
                }
            }
            10 => push(&mut value, "schemes", text(bytes).into()),
            13 => value[text(first(bytes, 1))] = yaml(first(bytes, 2)),
            other => panic!("operation field {other}"),
        }
    }
    value
}

fn path_item(bytes: &[u8]) -> Value {
    let methods = ["", "", "get", "put", "post", "delete", "options", "head", "patch"];
    let mut value = json!({});
    for (field, bytes) in fields(bytes) {
        match field {
            2..=8 => value[methods[usize::try_from(field).unwrap()]] = operation(bytes),
            9 => {
                let parameter = parameters_item(bytes);
                match value["parameters"].as_array_mut() {
                    Some(parameters) => parameters.push(parameter),
                    None => value["parameters"] = json!([parameter]),
                }
            }
            other => panic!("path field {other}"),
        }
    }
    value
}

#[tokio::test]
async fn the_protobuf_says_what_the_json_says() {
    let (fixture, document) = v2().await;
    let answer = fixture.with_headers(Method::GET, "/openapi/v2", &[("accept", PROTOBUF)], "").await;
    assert_eq!(answer.headers["content-type"], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    let mut read = json!({"paths": {}, "definitions": {}, "parameters": {}});
    for (field, bytes) in fields(&answer.bytes) {
        let named = |bytes| (text(first(bytes, 1)), first(bytes, 2));
        match field {
            1 => read["swagger"] = text(bytes).into(),
            2 => read["info"] = json!({"title": text(first(bytes, 1)), "version": text(first(bytes, 2))}),
            8 => {
                for (_, entry) in fields(bytes) {
                    let (name, value) = named(entry);
                    read["paths"][name] = path_item(value);
                }
            }
            9 => {
                for (_, entry) in fields(bytes) {
                    let (name, value) = named(entry);
                    read["definitions"][name] = schema(value);
                }
            }
            10 => {
                for (_, entry) in fields(bytes) {
                    let (name, value) = named(entry);
                    read["parameters"][name] = parameter(value);
                }
            }
            12 => assert_eq!(text(first(first(bytes, 1), 1)), "BearerToken"),
            13 => assert_eq!(text(first(first(bytes, 1), 1)), "BearerToken"),
            other => panic!("document field {other}"),
        }
    }
    for section in ["swagger", "info", "paths", "parameters", "definitions"] {
        assert_eq!(read[section], document[section], "{section}");
    }
}

#[tokio::test]
async fn v3_documents_are_kept_by_their_hash() {
    let fixture = model().await;
    let index = fixture.get("/openapi/v3").await.expect(200);
    let paths = index["paths"].as_object().unwrap();
    for part in ["api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "version"] {
        assert!(paths.contains_key(part), "{part}");
    }
    let url = paths["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let kept = fixture.get(url).await;
    assert_eq!(kept.headers["cache-control"], "public, immutable");
    assert!(kept.headers["expires"].to_str().unwrap().ends_with(" GMT"));
    let tag = kept.headers["etag"].to_str().unwrap().to_owned();
    assert!(url.ends_with(&format!("?hash={}", tag.trim_matches('"'))));
    let plain = "/openapi/v3/apis/apps/v1";
    let again = fixture.with_headers(Method::GET, plain, &[("if-none-match", &tag)], "").await;
    assert_eq!((again.code.as_u16(), again.bytes.len()), (304, 0));
    let stale = fixture.get(&format!("{plain}?hash=0")).await;
    assert_eq!((stale.code.as_u16(), stale.headers["location"].to_str().unwrap()), (301, url));
    let packed = fixture.with_headers(Method::GET, plain, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(packed.bytes.len() * 4 < kept.bytes.len());
    assert_eq!(&packed.bytes[..2], &[0x1f, 0x8b]);
    let protobuf = [("accept", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf")];
    assert_eq!(fixture.with_headers(Method::GET, plain, &protobuf, "").await.code.as_u16(), 406);
    assert_eq!(fixture.with_headers(Method::GET, "/openapi/v2", &protobuf, "").await.code.as_u16(), 406);
    fixture.get("/openapi/v3/apis/none/v1").await.expect(404);
    fixture.get("/openapi/v4").await.expect(404);
}

#[tokio::test]
async fn everything_is_described() {
    let (_fixture, document) = v2().await;
    let mut bare = Vec::new();
    for (name, schema) in document["definitions"].as_object().unwrap() {
        bare.extend(schema["description"].is_null().then(|| name.clone()));
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            bare.extend(schema["description"].is_null().then(|| format!("{name}.{field}")));
        }
    }
    // Upstream says nothing of these, but for the fields of a watch event, which the description of the type tells.
    let silent = [
        "io.k8s.apimachinery.pkg.version.Info",
        "io.k8s.apimachinery.pkg.apis.meta.v1.GroupResource.",
        "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent.",
        "io.k8s.api.certificates.v1.CertificateSigningRequest.metadata",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.ExternalDocumentation.",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps.",
    ];
    bare.retain(|name| !silent.iter().any(|silent| name.starts_with(silent)));
    assert!(bare.is_empty(), "{bare:#?}");
}

/// Every reference of a document leads somewhere.
fn dangling(document: &Value, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                let pointer = reference.trim_start_matches('#');
                if document.pointer(pointer).is_none() {
                    found.insert(reference.to_owned());
                }
            }
            fields.values().for_each(|value| dangling(document, value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| dangling(document, value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn references_lead_somewhere_and_ids_are_unique() {
    let (fixture, document) = v2().await;
    let mut found = BTreeSet::new();
    dangling(&document, &document, &mut found);
    let mut ids = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for id in item.as_object().unwrap().values().filter_map(|operation| operation["operationId"].as_str())
        {
            assert!(ids.insert(id.to_owned()), "{id} stands twice");
        }
    }
    let index = fixture.get("/openapi/v3").await.expect(200);
    for part in index["paths"].as_object().unwrap().keys() {
        let document = fixture.get(&format!("/openapi/v3/{part}")).await.expect(200);
        assert_eq!(document["openapi"], "3.0.0");
        dangling(&document, &document, &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn schemas_of_v3_say_defaults_and_forms() {
    let fixture = model().await;
    let document = fixture.get("/openapi/v3/api/v1").await.expect(200);
    let check = |definition: &str, field: &str, expected: Value| {
        let mut schema = document["components"]["schemas"][definition]["properties"][field].clone();
        assert!(schema.as_object_mut().unwrap().remove("description").is_some(), "{definition}.{field}");
        assert_eq!(schema, expected, "{definition}.{field}");
    };
    let reference = |name: &str| json!([{"$ref": format!("#/components/schemas/io.k8s.{name}")}]);
    let pod = "io.k8s.api.core.v1.Pod";
    check(pod, "kind", json!({"type": "string"}));
    check(pod, "spec", json!({"allOf": reference("api.core.v1.PodSpec"), "default": {}}));
    let port = "io.k8s.api.core.v1.ContainerPort";
    check(port, "containerPort", json!({"type": "integer", "format": "int32", "default": 0}));
    check(port, "hostPort", json!({"type": "integer", "format": "int32"}));
    let protocols = json!(["SCTP", "TCP", "UDP"]);
    check(port, "protocol", json!({"type": "string", "default": "TCP", "enum": protocols}));
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    check(meta, "creationTimestamp", json!({"allOf": reference("apimachinery.pkg.apis.meta.v1.Time")}));
    check(
        meta,
        "labels",
        json!({"type": "object", "additionalProperties": {"type": "string", "default": ""}}),
    );
    check(
        "io.k8s.api.core.v1.PodSpec",
        "containers",
        json!({
            "type": "array",
            "items": {"allOf": reference("api.core.v1.Container"), "default": {}},
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "x-kubernetes-patch-merge-key": "name",
            "x-kubernetes-patch-strategy": "merge",
        }),
    );
    let slice = fixture.get("/openapi/v3/apis/discovery.k8s.io/v1").await.expect(200);
    let slice = &slice["components"]["schemas"]["io.k8s.api.discovery.v1.EndpointSlice"]["properties"];
    assert_eq!(slice["addressType"]["enum"], json!(["FQDN", "IPv4", "IPv6"]));
    let values = "\n\nPossible enum values:\n - `\"FQDN\"`\n - `\"IPv4\"`\n - `\"IPv6\"`";
    assert!(slice["addressType"]["description"].as_str().unwrap().ends_with(values));
    let int_or_string = &document["components"]["schemas"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
    assert_eq!(int_or_string["oneOf"], json!([{"type": "integer"}, {"type": "string"}]));
    assert!(Bytes::from(document.to_string()).len() < 2 << 20);
}
