//! DefaultStorageClass and DefaultIngressClass: a new claim or ingress that names no class gets the one that an annotation makes the
//! default.

use super::lookup::{annotated_default, objects};
use super::{Mutate, Operation, Review};
use crate::cache::Caches;
use crate::error::ApiResult;
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::sync::Arc;

/// One kind of objects that belong to classes.
struct Rule {
    /// Group and resource of the objects.
    of: (&'static str, &'static str),
    /// Group and resource of the classes.
    classes: (&'static str, &'static str),
    /// The field of the spec that names the class.
    field: &'static str,
    /// The annotation that did so before there was the field.
    annotation: &'static str,
    /// Marks a class as the default.
    marks: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule {
        of: ("", "persistentvolumeclaims"),
        classes: ("storage.k8s.io", "storageclasses"),
        field: "storageClassName",
        annotation: "volume.beta.kubernetes.io/storage-class",
        marks: &[
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ],
    },
    Rule {
        of: ("networking.k8s.io", "ingresses"),
        classes: ("networking.k8s.io", "ingressclasses"),
        field: "ingressClassName",
        annotation: "kubernetes.io/ingress.class",
        marks: &["ingressclass.kubernetes.io/is-default-class"],
    },
];

/// Both plugins.
pub struct DefaultClass {
    caches: Arc<Caches>,
}

impl DefaultClass {
    /// Looks classes up in `caches`.
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    fn choose(&self, review: &Review<'_>, object: &mut Value) {
        let rule = RULES.iter().find(|rule| review.is_for(rule.of.0, rule.of.1));
        let Some(rule) = rule.filter(|_| review.operation == Operation::Create) else { return };
        // An empty name is a choice, too: no class.
        let has_class = !object["spec"][rule.field].is_null()
            || !object["metadata"]["annotations"][rule.annotation].is_null();
        if has_class {
            return;
        }
        let classes = objects(&self.caches, rule.classes.0, rule.classes.1, "");
        if let Some(class) = annotated_default(classes, rule.marks) {
            object["spec"][rule.field] = class["metadata"]["name"].clone();
        }
    }
}

impl Mutate for DefaultClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn mutate<'a>(
        &'a self,
        review: &'a Review<'a>,
        object: &'a mut Value,
        _old: Option<&'a Value>,
    ) -> BoxFuture<'a, ApiResult<()>> {
        self.choose(review, object);
        Box::pin(std::future::ready(Ok(())))
    }
}
