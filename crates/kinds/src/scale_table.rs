//! What `kubectl get --subresource=scale` shows of a `Scale`.

use crate::kind::Column;
use crate::table;
use crate::tree::at;
use serde_json::Value;

/// The columns of a `Scale`. Upstream has printers for its own kinds only: a `custom` resource's scale shows no more than its name
/// and the moment of its creation.
pub fn scale_columns(custom: bool) -> Vec<Column> {
    if custom {
        return vec![table::name(), table::created_at()];
    }
    vec![
        Column { format: "".into(), ..table::name() },
        table::integer("Desired", "How many replicas are wanted."),
        table::integer("Available", "How many replicas were last seen."),
        table::age(),
    ]
}

/// The cells of one row, in the order of [`scale_columns`]. `now_s` dates ages.
pub fn scale_cells(scale: &Value, custom: bool, now_s: i64) -> Vec<Value> {
    let name = table::name_cell(scale);
    if custom {
        return vec![name, table::created_at_cell(scale)];
    }
    let count = |part: &str| at(scale, &[part, "replicas"]).as_i64().unwrap_or(0).into();
    vec![name, count("spec"), count("status"), table::age_cell(scale, now_s)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_scale_has_a_cell_for_each_column() {
        let scale = json!({"metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"replicas": 3}, "status": {"replicas": 2}});
        let shown = |custom: bool| {
            let cells = scale_cells(&scale, custom, 60);
            assert_eq!(scale_columns(custom).len(), cells.len());
            Value::from(cells)
        };
        assert_eq!(shown(false), json!(["a", 3, 2, "60s"]));
        assert_eq!(shown(true), json!(["a", "1970-01-01T00:00:00Z"]));
    }
}
