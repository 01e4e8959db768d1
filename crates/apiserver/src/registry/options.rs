//! The options of writes, read from the query or, for deletions, from the body too, with upstream's checks.

use crate::error::ApiResult;
use crate::request::Query;
use nauplius_meta::error::ApiError;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::gvk::GroupKind;
use nauplius_meta::metadata::validate_field_manager;
use serde_json::{Value, json};

/// What happens to fields that the kind does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// Options of create, update and patch.
#[derive(Debug, Clone)]
pub(crate) struct WriteOptions {
    pub dry_run: bool,
    pub field_validation: FieldValidation,
    /// The same as an object, for admission.
    pub object: Value,
}

impl WriteOptions {
    /// Reads the query; `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub fn of(query: &Query, kind: &str) -> ApiResult<Self> {
        let mut errors = Vec::new();
        if kind == "PatchOptions" && query.get("force").is_some() {
            errors
                .push(FieldError::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
        }
        Self::read(query, kind, errors)
    }

    /// Reads the query of an apply, whose manager must have a name.
    pub fn of_apply(query: &Query) -> ApiResult<Self> {
        let mut errors = Vec::new();
        if query.non_empty("fieldManager").is_none() {
            errors.push(FieldError::required(&Path::new("fieldManager"), "is required for apply patch"));
        }
        Self::read(query, "PatchOptions", errors)
    }

    fn read(query: &Query, kind: &str, mut errors: Vec<FieldError>) -> ApiResult<Self> {
        let field_validation = field_validation(query, &mut errors);
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let manager = query.non_empty("fieldManager");
        if let Some(manager) = manager {
            errors.extend(validate_field_manager(manager, &Path::new("fieldManager")));
        }
        refuse(kind, errors)?;
        let mut object = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if dry_run {
            object["dryRun"] = json!(["All"]);
        }
        for name in ["fieldManager", "fieldValidation"] {
            if let Some(value) = query.non_empty(name) {
                object[name] = Value::from(value);
            }
        }
        Ok(Self { dry_run, field_validation, object })
    }
}

fn field_validation(query: &Query, errors: &mut Vec<FieldError>) -> FieldValidation {
    match query.get("fieldValidation").unwrap_or_default() {
        "" | "Warn" => FieldValidation::Warn,
        "Ignore" => FieldValidation::Ignore,
        "Strict" => FieldValidation::Strict,
        other => {
            let supported = ["", "Ignore", "Strict", "Warn"];
            errors.push(FieldError::not_supported(&Path::new("fieldValidation"), other, &supported));
            FieldValidation::Ignore
        }
    }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Vec<FieldError>) -> bool {
    let values: Vec<&str> = values.collect();
    if values.iter().any(|value| *value != "All") {
        errors.push(FieldError::not_supported(&Path::new("dryRun"), values.clone(), &["All"]));
    }
    !values.is_empty()
}

fn refuse(kind: &str, errors: Vec<FieldError>) -> ApiResult<()> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&GroupKind::new("meta.k8s.io", kind), "", errors))
}

/// Options of delete and deletecollection.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    pub grace_period_s: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Option<Propagation>,
    pub dry_run: bool,
    /// The same as an object, for admission.
    pub object: Value,
}

/// What happens to dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Orphan,
    Background,
    Foreground,
}

impl DeleteOptions {
    /// Reads the body, or the query when the body is empty, as upstream does.
    pub fn of(query: &Query, body: Option<Value>) -> ApiResult<Self> {
        let object = body.map_or_else(|| from_query(query), Ok)?;
        let mut errors = Vec::new();
        let propagation = propagation(&object, &mut errors);
        let listed: Vec<&str> =
            object["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let dry_run = dry_run(listed.into_iter(), &mut errors);
        refuse("DeleteOptions", errors)?;
        let text = |name: &str| object["preconditions"][name].as_str().map(str::to_owned);
        Ok(Self {
            grace_period_s: object["gracePeriodSeconds"].as_i64(),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            propagation,
            dry_run,
            object,
        })
    }
}

fn from_query(query: &Query) -> ApiResult<Value> {
    let mut object = json!({});
    if let Some(seconds) = query.non_empty("gracePeriodSeconds") {
        let seconds: i64 = seconds.parse().map_err(|_| {
            ApiError::bad_request(format!("strconv.ParseInt: parsing \"{seconds}\": invalid syntax"))
        })?;
        object["gracePeriodSeconds"] = seconds.into();
    }
    if query.get("orphanDependents").is_some() {
        object["orphanDependents"] = query.flag("orphanDependents").into();
    }
    if let Some(policy) = query.non_empty("propagationPolicy") {
        object["propagationPolicy"] = policy.into();
    }
    let dry_run: Vec<&str> = query.all("dryRun").collect();
    if !dry_run.is_empty() {
        object["dryRun"] = json!(dry_run);
    }
    Ok(object)
}

fn propagation(object: &Value, errors: &mut Vec<FieldError>) -> Option<Propagation> {
    let orphan = object.get("orphanDependents").and_then(Value::as_bool);
    let policy = object.get("propagationPolicy").and_then(Value::as_str);
    let path = Path::new("propagationPolicy");
    let supported = ["Foreground", "Background", "Orphan", "nil"];
    if let (Some(_), Some(policy)) = (orphan, policy) {
        let detail = "orphanDependents and deletionPropagation cannot be both set";
        errors.push(FieldError::invalid(&path, policy, detail));
    }
    if let Some(other) = policy.filter(|policy| !supported[..3].contains(policy)) {
        errors.push(FieldError::not_supported(&path, other, &supported));
    }
    match (orphan, policy) {
        (Some(true), None) | (None, Some("Orphan")) => Some(Propagation::Orphan),
        (Some(false), None) | (None, Some("Background")) => Some(Propagation::Background),
        (None, Some("Foreground")) => Some(Propagation::Foreground),
        _ => None,
    }
}
/// Reads a query as the options of every verb; says how many took it. For fuzzing.
pub fn fuzz_options(query: &Query) -> usize {
    let writes = ["CreateOptions", "UpdateOptions", "PatchOptions"];
    let writes = writes.iter().filter(|kind| WriteOptions::of(query, kind).is_ok()).count();
    let deletes = usize::from(DeleteOptions::of(query, None).is_ok());
    writes + deletes + usize::from(super::page::Page::of(query).is_ok())
}
