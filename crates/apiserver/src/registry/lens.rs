//! What a client reads and writes at a path: the object in a served version, or its `scale`. Shown from the hub form, folded
//! back into it.

use super::{Scope, convert};
use crate::error::ApiResult;
use nauplius_kinds::Scale;
use nauplius_meta::error::ApiError;
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::gvk::{GroupKind, GroupVersionKind};
use nauplius_meta::object;
use nauplius_meta::selector::LabelSelector;
use serde_json::{Value, json};

/// One of the two.
#[derive(Clone, Copy)]
pub(crate) enum Lens {
    /// The object itself, also for `status` and other subresources with its body.
    Version,
    /// `autoscaling/v1 Scale`.
    Scale,
}

impl Lens {
    /// The lens of the request's path.
    pub fn of(scope: &Scope) -> Self {
        if scope.call.info.subresource == "scale" { Self::Scale } else { Self::Version }
    }

    /// The kind of the body.
    pub fn gvk(self, scope: &Scope) -> GroupVersionKind {
        match self {
            Self::Version => scope.gvk(),
            Self::Scale => GroupVersionKind::new("autoscaling", "v1", "Scale"),
        }
    }

    /// What the client sees of a hub object.
    pub fn show(self, scope: &Scope, hub: &Value) -> ApiResult<Value> {
        match self {
            Self::Version => {
                let mut shown = hub.clone();
                convert::from_hub(&*scope.resource.kind, scope.version(), &mut shown);
                Ok(shown)
            }
            Self::Scale => {
                let paths = paths(scope)?;
                check_counted(scope, paths, hub)?;
                Ok(scale_of(paths, hub))
            }
        }
    }

    /// What a body makes of the hub object that is there.
    pub fn fold(self, scope: &Scope, mut body: Value, hub: &Value) -> ApiResult<Value> {
        match self {
            Self::Version => {
                convert::to_hub(&*scope.resource.kind, scope.version(), &mut body);
                Ok(body)
            }
            Self::Scale => fold_scale(scope, &body, hub),
        }
    }
}

fn paths(scope: &Scope) -> ApiResult<&Scale> {
    scope.resource.kind.descriptor().scale.as_ref().ok_or(ApiError::PathNotFound)
}

/// A custom resource may leave out what its scale shows.
fn check_counted(scope: &Scope, paths: &Scale, hub: &Value) -> ApiResult<()> {
    let is_there = object::get(hub, &refs(&paths.spec_replicas)).is_some();
    if is_there || scope.resource.kind.schema().is_none() {
        return Ok(());
    }
    let path = paths.spec_replicas.join(".");
    Err(ApiError::internal(format!("the spec replicas field \".{path}\" does not exist")))
}

fn refs(path: &[nauplius_kinds::kind::Name]) -> Vec<&str> {
    path.iter().map(|name| &**name).collect()
}

fn scale_of(paths: &Scale, hub: &Value) -> Value {
    let mut metadata = json!({});
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object::get(hub, &["metadata", name]) {
            metadata[name] = value.clone();
        }
    }
    let count = |path: &[nauplius_kinds::kind::Name]| object::get_i64(hub, &refs(path)).unwrap_or(0);
    let mut status = json!({"replicas": count(&paths.status_replicas)});
    if let Some(selector) = paths.selector.as_ref().and_then(|path| selector_text(hub, &refs(path))) {
        status["selector"] = selector.into();
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": count(&paths.spec_replicas)},
        "status": status,
    })
}

/// Selectors are texts, maps (replication controllers) or LabelSelectors.
fn selector_text(hub: &Value, path: &[&str]) -> Option<String> {
    let selector = object::get(hub, path)?;
    if let Some(text) = selector.as_str() {
        return Some(text.to_owned());
    }
    let structured = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    if !structured {
        return selector.as_object().map(|labels| LabelSelector::from_map(labels).to_string());
    }
    let labels = LabelSelector::from_map(object::get_object(selector, &["matchLabels"]));
    let expressions = json!({"matchExpressions": object::get_array(selector, &["matchExpressions"])});
    // A stored selector was validated; one that cannot be read is not shown.
    let expressions = LabelSelector::from_value(Some(&expressions)).ok()?;
    let all = labels.requirements().iter().chain(expressions.requirements()).cloned().collect();
    Some(LabelSelector::from_requirements(all).to_string())
}

fn fold_scale(scope: &Scope, scale: &Value, hub: &Value) -> ApiResult<Value> {
    let path = Path::new("spec").child("replicas");
    let replicas = object::get_i64(scale, &["spec", "replicas"]).unwrap_or(0);
    if replicas < 0 {
        let error = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
        return Err(ApiError::invalid(&GroupKind::new("autoscaling", "Scale"), scope.name(), vec![error]));
    }
    let mut new = hub.clone();
    object::set(&mut new, &refs(&paths(scope)?.spec_replicas), replicas);
    object::set_resource_version(&mut new, object::resource_version(scale));
    Ok(new)
}
