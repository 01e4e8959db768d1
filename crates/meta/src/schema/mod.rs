//! What the types of the API look like: fields, their kinds, protobuf numbers, and how lists and maps merge. It must not know what any
//! type means.
//!
//! The built-in types are read once from a table that `cargo xtask schema` generates. Names are slices of that table, so
//! all of them together take a few hundred kilobytes.
mod table;

use crate::gvk::GroupVersionKind;

use table::table;

/// The kind of one value, without the containers around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string, maybe with a Go type of its own.
    String,
    /// A boolean.
    Bool,
    /// A 32 bit integer.
    Int32,
    /// A 64 bit integer.
    Int64,
    /// A double.
    Float,
    /// Bytes, base64 in JSON.
    Bytes,
    /// `resource.Quantity`
    Quantity,
    /// `metav1.Time`
    Time,
    /// `metav1.MicroTime`
    MicroTime,
    /// `metav1.Duration`
    Duration,
    /// `intstr.IntOrString`
    IntOrString,
    /// `runtime.RawExtension`: any JSON.
    RawExtension,
    /// `metav1.FieldsV1`: any JSON object.
    FieldsV1,
    /// `apiextensions.JSON`: any JSON.
    Json,
    /// A list of strings that protobuf wraps in a message.
    StringList,
    /// A JSON schema, or a list of them.
    SchemaOrArray,
    /// A JSON schema, or a boolean.
    SchemaOrBool,
    /// A JSON schema, or a list of strings.
    SchemaOrStrings,
    /// A type with fields.
    Struct(TypeRef),
}

/// What stands around the values of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// Nothing: there is one value.
    None,
    /// A list of them.
    List,
    /// A map of them, by string.
    Map,
}

/// How lists of a field merge in server-side apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListType {
    /// As one value; what upstream takes an unmarked list for.
    #[default]
    Atomic,
    /// By value.
    Set,
    /// By the values of key fields.
    Map,
}

/// How lists and structures of a field merge in strategic merge patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    /// Lists are merged, not replaced.
    pub merge: bool,
    /// The value is replaced, not merged.
    pub replace: bool,
    /// Patches may say which keys are kept.
    pub retain_keys: bool,
}

/// What only few fields have.
#[derive(Debug, Clone, Copy, Default)]
struct Rare {
    go_name: &'static str,
    patch: PatchStrategy,
    merge_key: &'static str,
    list_type: ListType,
    atomic: bool,
    map_keys: &'static str,
    default: &'static str,
}

/// A field of a type.
#[derive(Debug)]
pub struct Field {
    name: &'static str,
    number: u16,
    kind: Kind,
    container: Container,
    flags: Flags,
    rare: Option<&'static Rare>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    pointer: bool,
    required: bool,
    always_written: bool,
    inline: bool,
    omit_zero: bool,
}

const NO_RARE: Rare = Rare {
    go_name: "",
    patch: PatchStrategy { merge: false, replace: false, retain_keys: false },
    merge_key: "",
    list_type: ListType::Atomic,
    atomic: false,
    map_keys: "",
    default: "",
};

impl Field {
    fn rare(&self) -> &'static Rare {
        self.rare.unwrap_or(&NO_RARE)
    }

    /// The JSON name; empty for an embedded type.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The protobuf number; 0 for a field that protobuf does not have.
    pub fn number(&self) -> u32 {
        self.number.into()
    }

    /// The kind of its values.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What stands around its values.
    pub fn container(&self) -> Container {
        self.container
    }

    /// Whether its fields stand among those of the type in JSON; protobuf nests them.
    pub fn is_inline(&self) -> bool {
        self.flags.inline
    }

    /// Whether it is a pointer in Go, for which zero is not absent.
    pub fn is_pointer(&self) -> bool {
        self.flags.pointer
    }

    /// Whether the API marks it as required.
    pub fn is_required(&self) -> bool {
        self.flags.required
    }

    /// Whether Go writes it even when it is empty.
    pub fn is_always_written(&self) -> bool {
        self.flags.always_written
    }

    /// Whether Go leaves it out when it is a zero structure.
    pub fn omits_zero(&self) -> bool {
        self.flags.omit_zero
    }

    /// How Go's errors name the type of a value, for scalars.
    pub fn go_type(&self) -> &'static str {
        match self.kind {
            _ if !self.rare().go_name.is_empty() => self.rare().go_name,
            Kind::String => "string",
            Kind::Bool => "bool",
            Kind::Int32 => "int32",
            Kind::Int64 => "int64",
            Kind::Float => "float64",
            Kind::Bytes => "[]uint8",
            Kind::StringList => "v1.ExtraValue",
            Kind::Struct(ty) => ty.name(),
            _ => "",
        }
    }

    /// How strategic merge patches treat it.
    pub fn patch_strategy(&self) -> PatchStrategy {
        self.rare().patch
    }

    /// The field by which strategic merge patches match the items of its list; empty for none.
    pub fn merge_key(&self) -> &'static str {
        self.rare().merge_key
    }

    /// How server-side apply merges its list.
    pub fn list_type(&self) -> ListType {
        self.rare().list_type
    }

    /// Whether server-side apply takes its map or structure as one value.
    pub fn is_atomic(&self) -> bool {
        self.rare().atomic
    }

    /// The key fields of the items of a list of type map.
    pub fn map_keys(&self) -> impl Iterator<Item = &'static str> {
        self.rare().map_keys.split(',').filter(|key| !key.is_empty())
    }

    /// The default that its declaration states, as it is written there.
    pub fn static_default(&self) -> Option<&'static str> {
        Some(self.rare().default).filter(|default| !default.is_empty())
    }

    /// The type of its values, if they have fields.
    pub fn struct_type(&self) -> Option<TypeRef> {
        if let Kind::Struct(ty) = self.kind { Some(ty) } else { None }
    }
}

/// A built-in type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeRef(u16);

impl std::fmt::Debug for TypeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.package(), self.name())
    }
}

impl TypeRef {
    fn data(self) -> &'static table::TypeData {
        &table().types[usize::from(self.0)]
    }

    /// Its Go name.
    pub fn name(self) -> &'static str {
        self.data().name
    }

    /// The Go package, such as `core/v1`.
    pub fn package(self) -> &'static str {
        self.data().package.name
    }

    /// The group it belongs to.
    pub fn group(self) -> &'static str {
        self.data().package.group
    }

    /// The version it belongs to.
    pub fn version(self) -> &'static str {
        self.data().package.version
    }

    /// Whether it carries `kind` and `apiVersion`.
    pub fn is_kind(self) -> bool {
        self.data().is_kind
    }

    /// Whether server-side apply takes it as one value.
    pub fn is_atomic(self) -> bool {
        self.data().is_atomic
    }

    /// What its objects say of themselves.
    pub fn gvk(self) -> GroupVersionKind {
        GroupVersionKind::new(self.group(), self.version(), self.name())
    }

    /// Its own fields in the order of their protobuf numbers, embedded types among them.
    pub fn fields(self) -> &'static [Field] {
        self.data().fields()
    }

    /// The field with this JSON name, also from embedded types. `kind` and `apiVersion` are not among them.
    pub fn field(self, name: &str) -> Option<&'static Field> {
        let fields = self.data().by_name();
        let found = fields.binary_search_by(|index| table().fields[usize::from(*index)].name.cmp(name));
        found.ok().map(|at| &table().fields[usize::from(fields[at])])
    }

    /// All fields that its JSON has, by name, also from embedded types.
    pub fn json_fields(self) -> impl Iterator<Item = &'static Field> {
        self.data().by_name().iter().map(|index| &table().fields[usize::from(*index)])
    }
}

/// All built-in types, ordered by package and name.
pub fn builtin() -> impl Iterator<Item = TypeRef> {
    (0..table().types.len()).map(|index| TypeRef(index as u16))
}

/// The type of a Go package, such as `core/v1` and `PodSpec`.
pub fn lookup_type(package: &str, name: &str) -> Option<TypeRef> {
    let types = &table().types;
    let found = types.binary_search_by(|data| (data.package.name, data.name).cmp(&(package, name)));
    // Not being there is the answer.
    found.ok().map(|index| TypeRef(index as u16))
}

/// The type of a kind. Options, Status, WatchEvent and the like are in every group and version.
pub fn lookup_kind(gvk: &GroupVersionKind) -> Option<TypeRef> {
    let package =
        table().packages.iter().find(|package| package.group == gvk.group && package.version == gvk.version);
    let own = package.and_then(|package| lookup_type(package.name, &gvk.kind)).filter(|ty| ty.is_kind());
    own.or_else(|| {
        let shared = lookup_type("meta/v1", &gvk.kind)?;
        (shared.is_kind() || shared.name() == "WatchEvent").then_some(shared)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod_spec() -> TypeRef {
        lookup_type("core/v1", "PodSpec").unwrap()
    }

    #[test]
    fn the_table_knows_the_builtin_types() {
        assert!(builtin().count() > 1200);
        let deployment = lookup_kind(&GroupVersionKind::new("apps", "v1", "Deployment")).unwrap();
        let Kind::Struct(spec) = deployment.field("spec").unwrap().kind() else { panic!("spec is a struct") };
        assert_eq!((spec.name(), spec.field("replicas").unwrap().kind()), ("DeploymentSpec", Kind::Int32));
        assert!(spec.field("replicas").unwrap().is_pointer());
        assert!(spec.field("strategy").unwrap().patch_strategy().retain_keys);
        assert!(lookup_kind(&GroupVersionKind::new("apps", "v1", "DeploymentSpec")).is_none());
        assert!(lookup_kind(&GroupVersionKind::new("apps", "v1", "DeleteOptions")).is_some());
        assert_eq!(deployment.gvk(), GroupVersionKind::new("apps", "v1", "Deployment"));
    }

    #[test]
    fn fields_say_how_they_merge() {
        let containers = pod_spec().field("containers").unwrap();
        assert_eq!(
            (containers.merge_key(), containers.list_type(), containers.container()),
            ("name", ListType::Map, Container::List)
        );
        assert!(containers.patch_strategy().merge && containers.is_always_written());
        let ports = containers.struct_type().unwrap().field("ports").unwrap();
        assert_eq!(ports.map_keys().collect::<Vec<_>>(), ["containerPort", "protocol"]);
        assert_eq!(ports.struct_type().unwrap().field("protocol").unwrap().static_default(), Some("\"TCP\""));
        assert!(pod_spec().field("nodeSelector").unwrap().is_atomic());
        assert_eq!(pod_spec().field("restartPolicy").unwrap().go_type(), "v1.RestartPolicy");
    }

    #[test]
    fn embedded_fields_are_found_in_json() {
        let volume = lookup_type("core/v1", "Volume").unwrap();
        assert!(volume.field("hostPath").is_some() && volume.field("").is_none());
        assert_eq!(volume.fields().len(), 2);
        let key = lookup_type("core/v1", "ConfigMapKeySelector").unwrap();
        assert_eq!(key.json_fields().map(Field::name).collect::<Vec<_>>(), ["key", "name", "optional"]);
        let resources = lookup_type("core/v1", "ResourceRequirements").unwrap().field("limits").unwrap();
        assert_eq!((resources.kind(), resources.container()), (Kind::Quantity, Container::Map));
    }
}
