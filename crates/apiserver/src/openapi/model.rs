//! What both OpenAPI versions say of a path, before it is written down in either. It knows no syntax.

use super::definitions::Definition;
use nauplius_meta::gvk::GroupVersionKind;
use std::borrow::Cow;

/// A text that is fixed or made.
pub(super) type Text = Cow<'static, str>;

/// One path.
pub(super) struct PathItem {
    pub(super) path: String,
    /// What every operation on the path takes.
    pub(super) parameters: Vec<Parameter>,
    pub(super) operations: Vec<Operation>,
}

/// One method of a path.
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// `x-kubernetes-action`; empty where there is none.
    pub(super) action: &'static str,
    pub(super) id: String,
    pub(super) description: String,
    pub(super) tag: String,
    pub(super) gvk: Option<GroupVersionKind>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<Body>,
    pub(super) consumes: &'static [&'static str],
    pub(super) produces: &'static [&'static str],
    pub(super) responses: Vec<Response>,
}

/// What a request carries.
#[derive(Clone)]
pub(super) struct Body {
    pub(super) definition: Definition,
    pub(super) required: bool,
}

/// What is answered with one status code.
pub(super) struct Response {
    pub(super) code: &'static str,
    pub(super) description: &'static str,
    pub(super) content: Content,
}

/// The shape of an answer.
#[derive(Clone)]
pub(super) enum Content {
    None,
    Text,
    Object(Definition),
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
}

/// A parameter of a path or query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: Text,
    pub(super) place: Place,
    /// `string`, `integer` or `boolean`.
    pub(super) type_: &'static str,
    pub(super) description: Text,
}

impl PathItem {
    /// A path and its operations, where what all of them take is said once.
    pub(super) fn new(path: String, mut operations: Vec<Operation>, mut parameters: Vec<Parameter>) -> Self {
        if let Some((first, others)) = operations.split_first() {
            let shared: Vec<Parameter> = first
                .parameters
                .iter()
                .filter(|parameter| others.iter().all(|other| other.parameters.contains(parameter)))
                .cloned()
                .collect();
            for operation in &mut operations {
                operation.parameters.retain(|parameter| !shared.contains(parameter));
            }
            parameters.extend(shared);
        }
        Self { path, parameters, operations }
    }
}
