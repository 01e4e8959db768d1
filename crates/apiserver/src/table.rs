//! Tables: what `kubectl get` prints. Columns and cells come from the kind.

use crate::error::ApiResult;
use crate::request::Query;
use nauplius_kinds::Column;
use nauplius_meta::error::ApiError;
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

/// What each row carries of its object: upstream's `includeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    /// Reads the query.
    ///
    /// # Errors
    /// 400 for a word that is none of upstream's.
    pub fn of(query: &Query) -> ApiResult<Self> {
        match query.get("includeObject").unwrap_or_default() {
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            "" | "Metadata" => Ok(Self::Metadata),
            other => {
                let detail = "must be 'Metadata', 'Object', 'None', or empty";
                let error = FieldError::invalid(&Path::new("includeObject"), other, detail);
                Err(ApiError::bad_request(format!("Unable to convert to Table as requested: {error}")))
            }
        }
    }
}

/// The column definitions.
pub(crate) fn columns(columns: &[Column]) -> Value {
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
pub(crate) fn table(of: &[Column], version: &str, metadata: &Value, rows: Vec<Value>) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
        "columnDefinitions": columns(of),
        "rows": rows,
    })
}
