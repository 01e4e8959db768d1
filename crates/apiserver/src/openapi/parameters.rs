//! The parameters of requests, in our own words. It knows which options a verb takes, not who takes them.

use super::model::{Parameter, Place, Text};
use nauplius_meta::schema::{Kind, TypeRef};

type Row = (&'static str, &'static str, &'static str);

const PRETTY: Row = ("pretty", "string", "If 'true', the output is indented for reading.");
const WATCH: &[Row] = &[
    (
        "allowWatchBookmarks",
        "boolean",
        "Asks a watch for BOOKMARK events, which carry only a resourceVersion to resume from.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "With watch=true, begins with an ADDED event for every object and a bookmark that marks their end.",
    ),
    ("watch", "boolean", "Streams changes of the resources as events instead of answering with a list."),
];
const SELECTION: &[Row] = &[
    ("continue", "string", "The continue token of the page before; the other parameters must be the same."),
    ("fieldSelector", "string", "Restricts the objects by their fields."),
    ("labelSelector", "string", "Restricts the objects by their labels."),
    (
        "limit",
        "integer",
        "How many objects one page holds at most; the answer's continue token asks for the next.",
    ),
    (
        "resourceVersion",
        "string",
        "Which resource version the answer may be served from; unset asks for the newest.",
    ),
    ("resourceVersionMatch", "string", "How resourceVersion is applied to lists: Exact or NotOlderThan."),
    ("timeoutSeconds", "integer", "How long a list or watch may last."),
];
const DELETE: &[Row] = &[
    ("gracePeriodSeconds", "integer", "Seconds before the object is removed; zero removes it at once."),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Also removes an object that can no longer be read from the store.",
    ),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy. Whether dependents are kept."),
    ("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
];
const DRY_RUN: Row = ("dryRun", "string", "With 'All', the request is processed but nothing is stored.");
const WRITE: &[Row] = &[
    DRY_RUN,
    ("fieldManager", "string", "The name under which changed fields are recorded."),
    (
        "fieldValidation",
        "string",
        "What is done about unknown and duplicate fields: Ignore, Warn (the default) or Strict.",
    ),
];
const FORCE: Row = ("force", "boolean", "Takes over fields that other managers own; for apply patches only.");

fn query(row: &Row) -> Parameter {
    Parameter { name: row.0.into(), place: Place::Query, type_: row.1, description: row.2.into() }
}

fn rows(groups: &[&[Row]]) -> Vec<Parameter> {
    let mut parameters: Vec<Parameter> = groups.iter().copied().flatten().map(query).collect();
    parameters.sort_by(|a, b| a.name.cmp(&b.name));
    parameters
}

pub(super) fn list() -> Vec<Parameter> {
    rows(&[WATCH, SELECTION])
}

pub(super) fn write() -> Vec<Parameter> {
    rows(&[WRITE])
}

pub(super) fn patch() -> Vec<Parameter> {
    rows(&[WRITE, &[FORCE]])
}

pub(super) fn delete() -> Vec<Parameter> {
    rows(&[DELETE, &[DRY_RUN]])
}

pub(super) fn delete_collection() -> Vec<Parameter> {
    rows(&[DELETE, SELECTION, &[DRY_RUN, WATCH[1]]])
}

pub(super) fn pretty() -> Parameter {
    query(&PRETTY)
}

fn path(name: &'static str, description: impl Into<Text>) -> Parameter {
    Parameter { name: name.into(), place: Place::Path, type_: "string", description: description.into() }
}

pub(super) fn namespace() -> Parameter {
    path("namespace", "The namespace of the objects.")
}

pub(super) fn name(kind: &str) -> Parameter {
    path("name", format!("name of the {kind}"))
}

/// What follows `proxy`.
pub(super) fn below() -> Parameter {
    path("path", "path to the resource")
}

/// The fields of an options type (`PodExecOptions`, `PodLogOptions`, ...), which its requests carry in the query.
pub(super) fn of_options(options: TypeRef) -> Vec<Parameter> {
    options
        .json_fields()
        .map(|field| Parameter {
            name: field.name().into(),
            place: Place::Query,
            type_: match field.kind() {
                Kind::Bool => "boolean",
                Kind::Int32 | Kind::Int64 => "integer",
                _ => "string",
            },
            description: "".into(),
        })
        .collect()
}
