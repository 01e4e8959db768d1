//! Tables: what `kubectl get` prints. Columns and cells come from the kind.

use crate::request::Query;
use nauplius_kinds::Kind;
use serde_json::{Value, json};

/// What each row carries of its object: upstream's `includeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    pub fn of(query: &Query) -> Self {
        match query.get("includeObject") {
            Some("None") => Self::None,
            Some("Object") => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// The column definitions.
pub(crate) fn columns(kind: &dyn Kind) -> Value {
    let columns = kind.columns();
    columns
        .iter()
        .map(|column| {
            json!({
                "name": &*column.name,
                "type": &*column.type_,
                "format": &*column.format,
                "description": &*column.description,
                "priority": column.priority,
            })
        })
        .collect()
}

/// One row.
pub(crate) fn row(cells: Vec<Value>, object: Value) -> Value {
    let mut row = json!({ "cells": cells });
    row["object"] = object;
    row
}

/// A whole table.
pub(crate) fn table(kind: &dyn Kind, version: &str, metadata: &Value, rows: Vec<Value>) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
        "columnDefinitions": columns(kind),
        "rows": rows,
    })
}
