//! The definitions of a document: what they are called, which of them its operations reach, and what those that are no structures look
//! like. It knows the tables of types and no path.

use super::custom::Custom;
use nauplius_meta::schema::{Kind, TypeRef};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The version of OpenAPI that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// A reference to a definition.
    pub(super) fn reference(self, definition: Definition) -> Value {
        let place = match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        };
        json!({ "$ref": format!("{place}{}", definition.name()) })
    }
}

/// Something that a document defines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Definition {
    Type(TypeRef),
    Special(Special),
    Custom(Custom),
}

/// Definitions that are no structures of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Special {
    Patch,
    Quantity,
    Time,
    MicroTime,
    Duration,
    IntOrString,
    RawExtension,
    FieldsV1,
    Json,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
    VersionInfo,
}

impl Special {
    fn name(self) -> &'static str {
        match self {
            Self::Patch => "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
            Self::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity",
            Self::Time => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
            Self::MicroTime => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
            Self::Duration => "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
            Self::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            Self::RawExtension => "io.k8s.apimachinery.pkg.runtime.RawExtension",
            Self::FieldsV1 => "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
            Self::Json => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
            Self::SchemaOrArray => {
                "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray"
            }
            Self::SchemaOrBool => {
                "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool"
            }
            Self::SchemaOrStrings => {
                "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray"
            }
            Self::VersionInfo => "io.k8s.apimachinery.pkg.version.Info",
        }
    }

    /// What it looks like.
    pub(super) fn schema(self, dialect: Dialect) -> Value {
        match (self, dialect) {
            (Self::Patch | Self::RawExtension | Self::FieldsV1, _) => json!({"type": "object"}),
            (Self::Quantity, Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            (Self::Quantity | Self::Duration, _) => json!({"type": "string"}),
            (Self::Time | Self::MicroTime, _) => json!({"type": "string", "format": "date-time"}),
            (Self::IntOrString, Dialect::V2) => json!({"type": "string", "format": "int-or-string"}),
            (Self::IntOrString, Dialect::V3) => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            (Self::Json | Self::SchemaOrArray | Self::SchemaOrBool | Self::SchemaOrStrings, _) => json!({}),
            (Self::VersionInfo, _) => version_info(dialect),
        }
    }
}

/// The answer of `/version`, which is no API object.
fn version_info(dialect: Dialect) -> Value {
    let optional = ["emulationMajor", "emulationMinor", "minCompatibilityMajor", "minCompatibilityMinor"];
    let required = [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ];
    let mut properties = Map::new();
    for name in optional {
        properties.insert(name.to_owned(), json!({"type": "string"}));
    }
    for name in required {
        let schema = match dialect {
            Dialect::V2 => json!({"type": "string"}),
            Dialect::V3 => json!({"type": "string", "default": ""}),
        };
        properties.insert(name.to_owned(), schema);
    }
    json!({"type": "object", "properties": properties, "required": required})
}

impl Definition {
    /// `io.k8s.api.core.v1.Pod`
    pub(super) fn name(&self) -> String {
        let ty = match self {
            Self::Type(ty) => ty,
            Self::Special(special) => return special.name().to_owned(),
            Self::Custom(custom) => return custom.name(),
        };
        let (folder, version) = ty.package().split_once('/').unwrap_or((ty.package(), ""));
        let start = match folder {
            "meta" => "io.k8s.apimachinery.pkg.apis",
            "apiextensions" => "io.k8s.apiextensions-apiserver.pkg.apis",
            "apiregistration" => "io.k8s.kube-aggregator.pkg.apis",
            _ => "io.k8s.api",
        };
        format!("{start}.{folder}.{version}.{}", ty.name())
    }
}

/// What a field refers to, if it does.
pub(super) fn target(kind: Kind) -> Option<Definition> {
    Some(match kind {
        Kind::Struct(ty) => Definition::Type(ty),
        Kind::Quantity => Definition::Special(Special::Quantity),
        Kind::Time => Definition::Special(Special::Time),
        Kind::MicroTime => Definition::Special(Special::MicroTime),
        Kind::Duration => Definition::Special(Special::Duration),
        Kind::IntOrString => Definition::Special(Special::IntOrString),
        Kind::RawExtension => Definition::Special(Special::RawExtension),
        Kind::FieldsV1 => Definition::Special(Special::FieldsV1),
        Kind::Json => Definition::Special(Special::Json),
        Kind::SchemaOrArray => Definition::Special(Special::SchemaOrArray),
        Kind::SchemaOrBool => Definition::Special(Special::SchemaOrBool),
        Kind::SchemaOrStrings => Definition::Special(Special::SchemaOrStrings),
        Kind::String
        | Kind::Bool
        | Kind::Int32
        | Kind::Int64
        | Kind::Float
        | Kind::Bytes
        | Kind::StringList => return None,
    })
}

/// Everything that is reached from these, by name.
pub(super) fn reachable(roots: impl IntoIterator<Item = Definition>) -> BTreeMap<String, Definition> {
    let mut found = BTreeMap::new();
    let mut open: Vec<Definition> = roots.into_iter().collect();
    while let Some(definition) = open.pop() {
        if found.insert(definition.name(), definition.clone()).is_some() {
            continue;
        }
        match definition {
            Definition::Type(ty) => open.extend(ty.json_fields().filter_map(|field| target(field.kind()))),
            Definition::Custom(custom) => open.extend(custom.targets()),
            Definition::Special(_) => {}
        }
    }
    found
}
