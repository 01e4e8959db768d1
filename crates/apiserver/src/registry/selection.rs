//! Which objects of a resource a request means: a namespace, maybe a name, label and field selectors.

use crate::cache::Entry;
use crate::error::ApiResult;
use crate::request::Call;
use nauplius_kinds::Descriptor;
use nauplius_kinds::Kind;
use nauplius_meta::error::ApiError;
use nauplius_meta::field::quote;
use nauplius_meta::object;
use nauplius_meta::selector::{FieldSelector, LabelSelector, Operator, Requirement};
use serde_json::Value;

/// A filter over entries.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub namespace: String,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

impl Selection {
    /// Reads the selectors of a list, watch or deletecollection.
    pub fn of(call: &Call, kind: &dyn Kind) -> ApiResult<Self> {
        let labels = call.query.get("labelSelector").unwrap_or_default();
        let labels = LabelSelector::parse(labels).map_err(|error| {
            ApiError::bad_request(format!("unable to parse requirement: {}", strip(&error.0)))
        })?;
        let fields = call.query.get("fieldSelector").unwrap_or_default();
        let mut fields =
            FieldSelector::parse(fields).map_err(|error| ApiError::bad_request(error.to_string()))?;
        check_fields(&fields, kind)?;
        if !call.info.name.is_empty() {
            match fields.requires_exact("metadata.name") {
                Some(name) if name == call.info.name => {}
                None if fields.is_everything() => {
                    fields = FieldSelector::equal("metadata.name", &*call.info.name)
                }
                _ => {
                    let message = "fieldSelector metadata.name doesn't match requested name";
                    return Err(ApiError::bad_request(message));
                }
            }
        }
        let mut namespace = call.info.namespace.clone();
        if namespace.is_empty()
            && let Some(selected) = fields.requires_exact("metadata.namespace")
        {
            selected.clone_into(&mut namespace);
        }
        Ok(Self { namespace: scope(kind.descriptor(), namespace), labels, fields })
    }

    /// The same namespace, but any labels and fields.
    pub fn without_selectors(&self) -> Self {
        let name = self.single_name().map(|name| FieldSelector::equal("metadata.name", name));
        Self { labels: LabelSelector::everything(), fields: name.unwrap_or_default(), ..self.clone() }
    }

    /// The one name that can match, if the selectors require one.
    pub fn single_name(&self) -> Option<&str> {
        self.fields.requires_exact("metadata.name")
    }

    /// Whether nothing but the namespace restricts it.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether an entry of the right namespace is meant.
    pub fn matches(&self, entry: &Entry) -> bool {
        (self.fields.is_everything() || self.fields.matches(|field| entry.field(field)))
            && (self.labels.is_everything() || matches_labels(&self.labels, entry))
    }

    /// Whether an object that is in no store is meant.
    pub fn selects(&self, object: &Value) -> bool {
        let field = |field: &str| match field {
            "metadata.name" => Some(object::name(object)),
            "metadata.namespace" => Some(object::namespace(object)),
            _ => None,
        };
        self.fields.matches(field) && self.labels.matches(object::labels(object))
    }

    /// Whether an entry of any namespace is meant.
    pub fn covers(&self, entry: &Entry) -> bool {
        (self.namespace.is_empty() || self.namespace == entry.namespace()) && self.matches(entry)
    }
}

/// Cluster-scoped objects have no namespace, whatever the path of `/namespaces/{name}` made of it.
fn scope(descriptor: &Descriptor, namespace: String) -> String {
    if descriptor.namespaced { namespace } else { String::new() }
}

fn strip(message: &str) -> &str {
    message.strip_prefix("unable to parse requirement: ").unwrap_or(message)
}

fn check_fields(fields: &FieldSelector, kind: &dyn Kind) -> ApiResult<()> {
    for requirement in fields.requirements() {
        let name = requirement.field.as_str();
        let is_known = match kind.named_fields() {
            Some(fields) => fields.iter().any(|field| **field == *name),
            None => kind.selectable_fields().contains(&name),
        };
        if !matches!(name, "metadata.name" | "metadata.namespace") && !is_known {
            return Err(ApiError::bad_request(unknown_field(kind, name)));
        }
    }
    Ok(())
}

/// Kinds with fields of their own say it in other words than the rest.
fn unknown_field(kind: &dyn Kind, name: &str) -> String {
    if kind.schema().is_none() && kind.selectable_fields().is_empty() {
        let known = "only \"metadata.name\", \"metadata.namespace\"";
        return format!("{} is not a known field selector: {known}", quote(name));
    }
    format!("field label not supported: {name}")
}

fn matches_labels(selector: &LabelSelector, entry: &Entry) -> bool {
    !selector.is_nothing() && selector.requirements().iter().all(|requirement| holds(requirement, entry))
}

fn holds(requirement: &Requirement, entry: &Entry) -> bool {
    let value = entry.label(requirement.key());
    let listed = |value: &str| requirement.values().iter().any(|known| known == value);
    match requirement.operator() {
        Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(listed),
        Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
        Operator::GreaterThan => compare(requirement, value).is_some_and(std::cmp::Ordering::is_gt),
        Operator::LessThan => compare(requirement, value).is_some_and(std::cmp::Ordering::is_lt),
    }
}

fn compare(requirement: &Requirement, value: Option<&str>) -> Option<std::cmp::Ordering> {
    let [bound] = requirement.values() else { return None };
    // A label that is no number is not compared.
    Some(value?.parse::<i64>().ok()?.cmp(&bound.parse::<i64>().ok()?))
}
