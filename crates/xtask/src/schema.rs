//! Turns the facts about upstream's Go types into the compact table of `meta::schema`. It must not know how the table is used; what the
//! facts do not say (aliases of other packages, types declared outside the API files, tags without `omitempty`) is listed here.
//!
//! The format, one line each, fields separated by tabs: `P group version` starts a package, `: Name flags` a type, and every other
//! line is a field of it: JSON name, protobuf number, kind, flags, then `key=value` for what is rare.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

/// One line of fields.tsv.
#[derive(Clone)]
struct Row {
    package: String,
    type_name: String,
    json: String,
    number: String,
    inline: bool,
    go_type: String,
    required: bool,
    patch_strategy: String,
    patch_merge_key: String,
    list_type: String,
    map_keys: String,
    default: String,
}

/// The API group of each Go package that is not its own group name.
const GROUPS: &[(&str, &str)] = &[
    ("admission", "admission.k8s.io"),
    ("admissionregistration", "admissionregistration.k8s.io"),
    ("apidiscovery", "apidiscovery.k8s.io"),
    ("apiextensions", "apiextensions.k8s.io"),
    ("apiregistration", "apiregistration.k8s.io"),
    ("apiserverinternal", "internal.apiserver.k8s.io"),
    ("authentication", "authentication.k8s.io"),
    ("authorization", "authorization.k8s.io"),
    ("certificates", "certificates.k8s.io"),
    ("coordination", "coordination.k8s.io"),
    ("core", ""),
    ("discovery", "discovery.k8s.io"),
    ("events", "events.k8s.io"),
    ("flowcontrol", "flowcontrol.apiserver.k8s.io"),
    ("imagepolicy", "imagepolicy.k8s.io"),
    ("lifecycle", "lifecycle.k8s.io"),
    ("meta", "meta.k8s.io"),
    ("networking", "networking.k8s.io"),
    ("node", "node.k8s.io"),
    ("rbac", "rbac.authorization.k8s.io"),
    ("resource", "resource.k8s.io"),
    ("scheduling", "scheduling.k8s.io"),
    ("storage", "storage.k8s.io"),
    ("storagemigration", "storagemigration.k8s.io"),
];

/// Types without fields, which the facts therefore do not list.
const EMPTY_STRUCTS: &[&str] = &[
    "AllCompositeDisruptionMode",
    "AllDisruptionMode",
    "BasicSchedulingPolicy",
    "CompositeBasicSchedulingPolicy",
    "CustomResourceSubresourceStatus",
    "SingleCompositeDisruptionMode",
    "SingleDisruptionMode",
    "StorageVersionSpec",
    "WorkloadCompositePodGroupAllDisruptionMode",
    "WorkloadCompositePodGroupBasicSchedulingPolicy",
    "WorkloadCompositePodGroupSingleDisruptionMode",
    "WorkloadPodGroupAllDisruptionMode",
    "WorkloadPodGroupBasicSchedulingPolicy",
    "WorkloadPodGroupSingleDisruptionMode",
];

/// Types that upstream declares outside the files the facts were read from: package, type, and JSON name, number and Go type of the
/// fields.
type FieldFacts = (&'static str, &'static str, &'static str);
const MORE_TYPES: &[(&str, &str, &[FieldFacts])] = &[
    (
        "meta/v1",
        "GroupVersionKind",
        &[("group", "1", "string"), ("version", "2", "string"), ("kind", "3", "string")],
    ),
    (
        "meta/v1",
        "GroupVersionResource",
        &[("group", "1", "string"), ("version", "2", "string"), ("resource", "3", "string")],
    ),
    ("meta/v1", "GroupResource", &[("group", "1", "string"), ("resource", "2", "string")]),
    ("meta/v1", "WatchEvent", &[("type", "1", "string"), ("object", "2", "runtime.RawExtension")]),
];

/// Fields that Go writes even when they are empty although they are optional, for their tag has no `omitempty`: package (any version
/// when it has none), type, fields.
const ALWAYS_WRITTEN: &[(&str, &str, &[&str])] = &[
    ("core", "Event", &["reportingComponent", "reportingInstance"]),
    ("core", "ContainerImage", &["names"]),
    ("rbac", "Role", &["rules"]),
    ("rbac", "ClusterRole", &["rules"]),
    ("discovery", "EndpointSlice", &["endpoints", "ports"]),
    (
        "policy",
        "PodDisruptionBudgetStatus",
        &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"],
    ),
    ("autoscaling/v2", "HorizontalPodAutoscalerStatus", &["currentMetrics"]),
    ("storage", "CSINodeDriver", &["topologyKeys"]),
    ("authentication", "TokenRequestSpec", &["audiences", "expirationSeconds", "boundObjectRef"]),
    ("authentication", "TokenRequestStatus", &["token"]),
    ("apiextensions", "CustomResourceDefinitionStatus", &["conditions", "storedVersions"]),
    ("apiregistration", "APIServiceSpec", &["groupPriorityMinimum", "versionPriority"]),
    ("apps", "StatefulSetStatus", &["availableReplicas"]),
    ("apps", "StatefulSetSpec", &["serviceName"]),
    ("apps", "ControllerRevision", &["revision"]),
    ("scheduling", "PriorityClass", &["value"]),
    ("meta", "WatchEvent", &["type", "object"]),
    ("meta", "GroupVersionKind", &["group", "version", "kind"]),
    ("meta", "GroupVersionResource", &["group", "version", "resource"]),
    ("meta", "GroupResource", &["group", "resource"]),
];

/// Makes the table.
pub fn generate(fields: &str, definitions: &str) -> Result<String, String> {
    let definitions: Value =
        serde_json::from_str(definitions).map_err(|error| format!("definitions.json: {error}"))?;
    let facts = Facts::read(fields, &definitions)?;
    let mut table = String::new();
    let mut package = "";
    for ((type_package, name), rows) in &facts.types {
        if package != type_package {
            package = type_package;
            let (folder, version) =
                package.split_once('/').ok_or_else(|| format!("package {package} has no version"))?;
            let group = GROUPS.iter().find(|(known, _)| *known == folder).map_or(folder, |(_, group)| group);
            let _infallible = writeln!(table, "P\t{group}\t{version}\t{package}");
        }
        facts.write_type(&mut table, package, name, rows);
    }
    Ok(table)
}

struct Facts {
    types: BTreeMap<(String, String), Vec<Row>>,
    /// Package, type and field that the OpenAPI requires.
    openapi_required: BTreeSet<(String, String, String)>,
    atomic_structs: BTreeSet<(String, String)>,
}

impl Facts {
    fn read(fields: &str, definitions: &Value) -> Result<Self, String> {
        let mut types: BTreeMap<(String, String), Vec<Row>> = BTreeMap::new();
        for (number, line) in fields.lines().enumerate().skip(1) {
            let row =
                Row::parse(line).ok_or_else(|| format!("fields.tsv:{}: too few columns", number + 1))?;
            let special = row.type_name.starts_with("JSONSchemaPropsOr") || row.type_name == "MicroTime";
            if row.package == "runtime" || row.json == "-" || special {
                continue;
            }
            types.entry((row.package.clone(), row.type_name.clone())).or_default().push(row);
        }
        for (package, name, fields) in MORE_TYPES {
            let rows =
                fields.iter().map(|(json, number, go_type)| Row::plain(package, name, json, number, go_type));
            types.insert(((*package).to_owned(), (*name).to_owned()), rows.collect());
        }
        let mut facts = Self { types, openapi_required: BTreeSet::new(), atomic_structs: BTreeSet::new() };
        facts.add_empty_structs();
        facts.read_definitions(definitions);
        Ok(facts)
    }

    fn add_empty_structs(&mut self) {
        let rows: Vec<Row> = self.types.values().flatten().cloned().collect();
        for row in rows {
            let name = row.go_type.trim_start_matches('*');
            if EMPTY_STRUCTS.contains(&name) {
                self.types.entry((row.package, name.to_owned())).or_default();
            }
        }
    }

    fn read_definitions(&mut self, definitions: &Value) {
        for (name, definition) in definitions.as_object().into_iter().flatten() {
            let mut parts = name.rsplit('.');
            let (Some(kind), Some(version), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let package = format!("{group}/{version}");
            for field in definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                self.openapi_required.insert((package.clone(), kind.to_owned(), field.to_owned()));
            }
            if definition["x-kubernetes-map-type"] == "atomic" {
                self.atomic_structs.insert((package, kind.to_owned()));
            }
        }
    }

    fn write_type(&self, table: &mut String, package: &str, name: &str, rows: &[Row]) {
        let is_kind = rows.iter().any(|row| row.inline && row.go_type.ends_with("TypeMeta"));
        let atomic = self.atomic_structs.contains(&(package.to_owned(), name.to_owned()));
        let flags = format!("{}{}", if is_kind { "K" } else { "" }, if atomic { "A" } else { "" });
        let _infallible = writeln!(table, ":\t{name}\t{flags}");
        let mut rows: Vec<_> = rows.iter().filter(|row| !row.go_type.ends_with("TypeMeta")).collect();
        rows.sort_by_key(|row| row.number.parse::<u32>().unwrap_or(u32::MAX));
        for row in rows {
            self.write_field(table, row);
        }
    }

    fn write_field(&self, table: &mut String, row: &Row) {
        let json = if row.inline { "" } else { &row.json };
        let number = if row.number.is_empty() { "0" } else { &row.number };
        let kind = self.kind(&row.package, row.go_type.trim_start_matches('*'));
        let mut flags = String::new();
        for (set, flag) in [
            (row.go_type.starts_with('*'), '*'),
            (row.required, 'r'),
            (self.always_written(row), 'e'),
            (row.inline, '~'),
            // The one field with the omitzero tag.
            (row.type_name == "ObjectMeta" && row.json == "creationTimestamp", 'z'),
        ] {
            if set {
                flags.push(flag);
            }
        }
        let mut line = format!("{json}\t{number}\t{kind}\t{flags}");
        for (key, value) in [
            ("ps", &row.patch_strategy),
            ("mk", &row.patch_merge_key),
            ("lt", &row.list_type),
            ("lk", &row.map_keys),
            ("df", &row.default),
        ] {
            if !value.is_empty() {
                let _infallible = write!(line, "\t{key}={value}");
            }
        }
        table.push_str(&line);
        table.push('\n');
    }

    fn always_written(&self, row: &Row) -> bool {
        let key = (row.package.clone(), row.type_name.clone(), row.json.clone());
        let folder = row.package.split('/').next().unwrap_or_default();
        let listed = ALWAYS_WRITTEN.iter().any(|(package, name, fields)| {
            (*package == row.package || *package == folder)
                && *name == row.type_name
                && fields.contains(&row.json.as_str())
        });
        listed || self.openapi_required.contains(&key) || (row.required && !row.go_type.starts_with('*'))
    }

    /// The kind of a Go type: containers, then a letter or a reference, then the Go name if it is not the builtin's.
    fn kind(&self, package: &str, go_type: &str) -> String {
        if go_type == "[]byte" {
            return "y".to_owned();
        }
        if let Some(item) = go_type.strip_prefix("[]") {
            return format!("[]{}", self.kind(package, item.trim_start_matches('*')));
        }
        if let Some(rest) = go_type.strip_prefix("map[") {
            let value = rest.split_once(']').map_or(rest, |(_, value)| value);
            return format!("{{}}{}", self.kind(package, value.trim_start_matches('*')));
        }
        builtin(go_type).map(str::to_owned).or_else(|| self.reference(package, go_type)).unwrap_or_else(
            || {
                // What is no struct is a string with a name of its own.
                format!("s={}", go_name(package, go_type))
            },
        )
    }

    fn reference(&self, package: &str, go_type: &str) -> Option<String> {
        let (prefix, name) = go_type.split_once('.').unwrap_or(("", go_type));
        let candidates: Vec<String> = match prefix {
            "" => vec![package.to_owned(), package.replace("v1beta1", "v1").replace("v1alpha1", "v1")],
            "metav1" => vec!["meta/v1".to_owned()],
            "v1" => {
                ["core/v1", "meta/v1", "authentication/v1", "coordination/v1"].map(str::to_owned).to_vec()
            }
            "corev1" | "apiv1" => vec!["core/v1".to_owned()],
            // Such as `batchv1` or `schedulingv1alpha3`.
            alias => {
                let (folder, version) = alias.split_at(alias.rfind("v1").unwrap_or(alias.len()));
                vec![format!("{folder}/{version}")]
            }
        };
        let found = candidates
            .into_iter()
            .find(|package| self.types.contains_key(&(package.clone(), name.to_owned())))?;
        Some(if found == package { format!("@{name}") } else { format!("@{found}.{name}") })
    }
}

fn builtin(go_type: &str) -> Option<&'static str> {
    Some(match go_type.rsplit('.').next().unwrap_or(go_type) {
        "string" => "s",
        "bool" => "b",
        "int32" => "i",
        "int64" => "l",
        "float64" => "d",
        "Quantity" => "q",
        "Time" => "t",
        "MicroTime" => "u",
        "Duration" => "D",
        "IntOrString" => "n",
        "RawExtension" => "r",
        "FieldsV1" => "f",
        "JSON" => "j",
        "ExtraValue" | "Verbs" | "AttestationValue" => "S",
        "JSONSchemaPropsOrArray" => "A",
        "JSONSchemaPropsOrBool" => "B",
        "JSONSchemaPropsOrStringArray" => "C",
        "ResourceList" => "{}q",
        "JSONSchemaDefinitions" => "{}@JSONSchemaProps",
        "JSONSchemaDependencies" => "{}C",
        "ValidationRules" => "[]@ValidationRule",
        _ => return None,
    })
}

/// How Go's errors name the type: the last part of its package, and its name.
fn go_name(package: &str, go_type: &str) -> String {
    match go_type.split_once('.') {
        Some(("types" | "apimachinerytypes", name)) => format!("types.{name}"),
        Some((_, name)) => format!("v1.{name}"),
        None => format!("{}.{go_type}", package.rsplit('/').next().unwrap_or(package)),
    }
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let mut columns = line.split('\t').map(str::to_owned);
        let mut next = || columns.next();
        let (package, type_name, json, number) = (next()?, next()?, next()?, next()?);
        let (_wire, inline, go_type, presence) = (next()?, next()?, next()?, next()?);
        Some(Self {
            package,
            type_name,
            inline: inline == "inline" || json == "-inline-",
            json,
            number,
            go_type,
            required: presence == "required",
            patch_strategy: next()?,
            patch_merge_key: next()?,
            list_type: next()?,
            map_keys: next()?,
            default: next()?,
        })
    }

    fn plain(package: &str, type_name: &str, json: &str, number: &str, go_type: &str) -> Self {
        let line = format!("{package}\t{type_name}\t{json}\t{number}\t\t\t{go_type}\trequired\t\t\t\t\t");
        Self::parse(&line).expect("the line was just made with all its columns")
    }
}
