//! Values of API types as upstream's refusals show them: what Go's JSON encoder writes for the structure behind a field. Upstream checks
//! its internal types, whose fields have no JSON names, so they stand there under their Go names and zeroes are written, too. It must not
//! know what a value means.
use serde_json::{Map, Value};

use crate::field::{BadValue, FieldError};
use crate::schema::{Container, Field, Kind, TypeRef};

/// Packages whose types upstream checks in their versioned form, or that have no internal one.
const VERSIONED: &[&str] = &["meta/", "resource/", "scheduling/", "apiextensions/", "apiregistration/"];

/// Where Go declares fields in another order than that of their numbers.
const ORDER: &[(&str, &str, &[&str])] = &[
    ("meta/v1", "OwnerReference", &["apiVersion"]),
    ("core/v1", "ServicePort", &["name", "protocol", "appProtocol"]),
    (
        "core/v1",
        "SecurityContext",
        &["capabilities", "privileged", "seLinuxOptions", "windowsOptions", "runAsUser", "runAsGroup"],
    ),
];

/// Paths that upstream gives to what stands elsewhere, by type.
const ELSEWHERE: &[(&str, &str, &str)] =
    &[("Node", "metadata.taints", "spec.taints"), ("PersistentVolume", "nodeAffinity", "spec.nodeAffinity")];

/// Go's spelling of how JSON names begin.
const INITIALS: &[(&str, &str)] = &[
    ("api", "API"),
    ("aws", "AWS"),
    ("cidr", "CIDR"),
    ("cidrs", "CIDRs"),
    ("csi", "CSI"),
    ("dns", "DNS"),
    ("fc", "FC"),
    ("fs", "FS"),
    ("gce", "GCE"),
    ("grpc", "GRPC"),
    ("http", "HTTP"),
    ("id", "ID"),
    ("ip", "IP"),
    ("ips", "IPs"),
    ("iqn", "IQN"),
    ("iscsi", "ISCSI"),
    ("nfs", "NFS"),
    ("os", "OS"),
    ("pd", "PD"),
    ("rbd", "RBD"),
    ("se", "SE"),
    ("tcp", "TCP"),
    ("tls", "TLS"),
    ("tty", "TTY"),
    ("uid", "UID"),
    ("url", "URL"),
    ("wwids", "WWIDs"),
];

/// Gives the errors about an object of type `ty` the words in which upstream shows their values.
pub fn show(errors: &mut [FieldError], ty: TypeRef) {
    for error in errors {
        let Some(BadValue::Json(value @ (Value::Object(_) | Value::Array(_)))) = &error.bad_value else {
            continue;
        };
        if let Some(text) = place(ty, error.path.as_str()).and_then(|place| place.write(value)) {
            error.bad_value = Some(BadValue::Shown(text));
        }
    }
}

/// A field, or an item of it.
struct Place {
    field: &'static Field,
    container: Container,
}

/// What upstream means by a path; nothing where it leads nowhere.
fn place(ty: TypeRef, path: &str) -> Option<Place> {
    let moved = ELSEWHERE.iter().find_map(|(name, from, to)| {
        let rest = path.strip_prefix(from).filter(|_| *name == ty.name())?;
        Some(format!("{to}{rest}"))
    });
    lookup(ty, moved.as_deref().unwrap_or(path))
}

fn lookup(ty: TypeRef, path: &str) -> Option<Place> {
    let (mut ty, mut rest) = (ty, path);
    loop {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let field = ty.field(&rest[..end])?;
        let mut found = Place { field, container: field.container() };
        rest = &rest[end..];
        if let Some(inner) = rest.strip_prefix('[') {
            found.container = Container::None;
            rest = &inner[inner.find(']')? + 1..];
        }
        match rest.strip_prefix('.') {
            Some(below) => (ty, rest) = (field.struct_type()?, below),
            None if rest.is_empty() => return Some(found),
            None => return None,
        }
    }
}

impl Place {
    fn write(&self, value: &Value) -> Option<String> {
        let shape = Shape { kind: self.field.kind(), container: self.container };
        // Only structures are written otherwise than as they are.
        matches!(shape.kind, Kind::Struct(_)).then(|| {
            let mut text = String::new();
            shape.write(value, &mut text);
            text
        })
    }
}

#[derive(Clone, Copy)]
struct Shape {
    kind: Kind,
    container: Container,
}

impl Shape {
    fn write(self, value: &Value, out: &mut String) {
        let item = Self { container: Container::None, ..self };
        match (self.container, self.kind, value) {
            (Container::List, _, Value::Array(items)) => {
                sequence(out, ['[', ']'], items, |value, out| item.write(value, out));
            }
            (Container::Map, _, Value::Object(fields)) => {
                sequence(out, ['{', '}'], fields, |(name, value), out| {
                    key(name, out);
                    item.write(value, out);
                })
            }
            // Upstream often names the list and shows one item.
            (Container::None | Container::List, Kind::Struct(ty), Value::Object(fields)) => {
                sequence(out, ['{', '}'], written(ty, fields), |(name, value), out| {
                    key(&name, out);
                    value.write(out);
                });
            }
            (_, _, other) => out.push_str(&escaped(other)),
        }
    }
}

fn sequence<T>(
    out: &mut String,
    around: [char; 2],
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut String),
) {
    out.push(around[0]);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(around[1]);
}

fn key(name: &str, out: &mut String) {
    out.push_str(&escaped(&name.into()));
    out.push(':');
}

/// The value of a field that Go writes.
enum Written<'v> {
    Given(Shape, &'v Value),
    Zero(&'static Field),
}

impl Written<'_> {
    fn write(self, out: &mut String) {
        match self {
            Self::Given(shape, value) => shape.write(value, out),
            Self::Zero(field) => zero(field, out),
        }
    }
}

/// The fields that Go writes of a structure, under the names that it gives them.
fn written(ty: TypeRef, fields: &Map<String, Value>) -> Vec<(String, Written<'_>)> {
    let is_versioned = VERSIONED.iter().any(|package| ty.package().starts_with(package));
    let mut all = Vec::new();
    for field in declared(ty) {
        let given = fields.get(field.name()).filter(|value| !value.is_null());
        let shape = Shape { kind: field.kind(), container: field.container() };
        let name = if is_versioned { field.name().to_owned() } else { go_name(field.name()) };
        match (field.struct_type(), given) {
            (Some(inner), _) if field.is_inline() => all.extend(written(inner, fields)),
            // Go embeds the metadata of an internal type, which leaves its fields with the names that they have in JSON.
            (Some(inner), given) if !is_versioned && field.name() == "metadata" => {
                let given = given.and_then(Value::as_object);
                all.extend(given.into_iter().flat_map(|given| written(inner, given)));
            }
            (_, Some(value)) => all.push((name, Written::Given(shape, value))),
            (_, None) if is_versioned && !field.is_always_written() => {}
            (_, None) => all.push((name, Written::Zero(field))),
        }
    }
    all
}

/// The fields of a type as Go declares them.
fn declared(ty: TypeRef) -> Vec<&'static Field> {
    let known = ORDER.iter().find(|(package, name, _)| *package == ty.package() && *name == ty.name());
    let first = known.map_or(&[][..], |(_, _, first)| first);
    let mut fields: Vec<&Field> = ty.fields().iter().collect();
    fields.sort_by_key(|field| first.iter().position(|name| *name == field.name()).unwrap_or(first.len()));
    fields
}

fn zero(field: &Field, out: &mut String) {
    let is_null = field.is_pointer() || field.container() != Container::None;
    match field.kind() {
        _ if is_null => out.push_str("null"),
        Kind::String => out.push_str("\"\""),
        Kind::Bool => out.push_str("false"),
        Kind::Int32 | Kind::Int64 | Kind::Float | Kind::IntOrString => out.push('0'),
        Kind::Quantity => out.push_str("\"0\""),
        Kind::Duration => out.push_str("\"0s\""),
        kind @ Kind::Struct(_) => {
            Shape { kind, container: Container::None }.write(&Value::Object(Map::new()), out);
        }
        _ => out.push_str("null"),
    }
}

/// `podIPs` is `PodIPs` in Go, and `apiGroup` is `APIGroup`.
fn go_name(json: &str) -> String {
    let end = json.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(json.len());
    let (begin, rest) = json.split_at(end);
    if let Some((_, initials)) = INITIALS.iter().find(|(word, _)| *word == begin) {
        return format!("{initials}{rest}");
    }
    let mut name = json.to_owned();
    name[..1.min(end)].make_ascii_uppercase();
    name
}

/// JSON as Go writes it: fit to stand in HTML.
pub(crate) fn escaped(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                safe.push_str(&format!("\\u{:04x}", character as u32))
            }
            plain => safe.push(plain),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;
    use crate::gvk::GroupVersionKind;
    use crate::schema::lookup_kind;
    use serde_json::json;

    fn check(kind: (&str, &str, &str), path: &str, value: Value, expected: &str) {
        let ty = lookup_kind(&GroupVersionKind::new(kind.0, kind.1, kind.2)).unwrap();
        let mut errors = [FieldError::invalid(&Path::new(path), value, "d")];
        show(&mut errors, ty);
        assert_eq!(errors[0].body(), format!("Invalid value: {expected}: d"));
    }

    #[test]
    fn structures_have_go_names_and_zeroes() {
        check(
            ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
            "roleRef",
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "x"}),
            r#"{"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"x"}"#,
        );
        check(
            ("", "v1", "Service"),
            "spec.ports[1]",
            json!({"port": 80, "protocol": "TCP"}),
            r#"{"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#,
        );
        check(("", "v1", "Pod"), "status.podIPs", json!([{"ip": "a"}, {}]), r#"[{"IP":"a"},{"IP":""}]"#);
        check(
            ("", "v1", "PersistentVolume"),
            "spec.claimRef",
            json!({"uid": "u", "fieldPath": "<b>"}),
            r#"{"Kind":"","Namespace":"","Name":"","UID":"u","APIVersion":"","ResourceVersion":"","FieldPath":"\u003cb\u003e"}"#,
        );
    }

    #[test]
    fn shared_types_keep_their_json_names() {
        let selector =
            json!({"matchExpressions": [{"key": "k", "operator": "Exists"}], "matchLabels": {"a": "b"}});
        let shown = r#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"k","operator":"Exists"}]}"#;
        check(("apps", "v1", "Deployment"), "spec.selector", selector, shown);
        check(("apps", "v1", "Deployment"), "spec.selector", json!({}), "{}");
        check(
            ("", "v1", "ConfigMap"),
            "metadata.ownerReferences",
            json!({"uid": "u", "name": "n", "kind": "K", "apiVersion": "v", "blockOwnerDeletion": true}),
            r#"{"apiVersion":"v","kind":"K","name":"n","uid":"u","blockOwnerDeletion":true}"#,
        );
        check(
            ("policy", "v1", "PodDisruptionBudget"),
            "spec",
            json!({"minAvailable": 1, "maxUnavailable": "5%", "selector": {}}),
            r#"{"MinAvailable":1,"Selector":{},"MaxUnavailable":"5%","UnhealthyPodEvictionPolicy":null}"#,
        );
    }

    #[test]
    fn embedded_metadata_stands_among_the_fields() {
        let ty = lookup_kind(&GroupVersionKind::new("", "v1", "PodTemplate")).unwrap();
        let value = json!({"metadata": {"labels": {"a": "b"}}});
        let mut errors = [FieldError::invalid(&Path::new("template"), value, "d")];
        show(&mut errors, ty);
        let begin = r#"Invalid value: {"labels":{"a":"b"},"Spec":{"Volumes":null,"Containers":null,"RestartPolicy":"","#;
        assert!(errors[0].body().starts_with(begin), "{}", errors[0]);
    }

    #[test]
    fn what_a_path_does_not_lead_to_stays() {
        check(("", "v1", "Node"), "metadata.nothing[1]", json!({"key": "a"}), r#"{"key":"a"}"#);
        check(("", "v1", "ConfigMap"), "data[a.b]", json!({"key": "a"}), r#"{"key":"a"}"#);
    }

    #[test]
    fn what_upstream_names_elsewhere_is_found() {
        let shown = r#"{"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}"#;
        let taint = json!({"effect": "NoSchedule", "key": "a"});
        check(("", "v1", "Node"), "metadata.taints[1]", taint, shown);
        check(("", "v1", "PersistentVolume"), "nodeAffinity", json!({}), r#"{"Required":null}"#);
    }

    #[test]
    fn names_are_gos() {
        for (json, go) in [
            ("apiGroup", "APIGroup"),
            ("seLinuxOptions", "SELinuxOptions"),
            ("podIPs", "PodIPs"),
            ("ips", "IPs"),
            ("terminationGracePeriodSeconds", "TerminationGracePeriodSeconds"),
            ("", ""),
        ] {
            assert_eq!(go_name(json), go);
        }
    }
}
