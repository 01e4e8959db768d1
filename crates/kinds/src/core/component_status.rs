//! ComponentStatus: whether the parts of the control plane are well. Nothing of it is stored; the API server works it out when
//! it is asked.

use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::table::{self, string};
use crate::tree::{list, text};
use nauplius_meta::field::FieldError;
use serde_json::Value;

pub(crate) struct ComponentStatus(Descriptor);

pub(crate) fn kind() -> ComponentStatus {
    let descriptor =
        describe("", "v1", "ComponentStatus", "componentstatuses").cluster_scoped().short(&["cs"]);
    ComponentStatus(descriptor.deprecated("v1 ComponentStatus is deprecated in v1.19+").read_only().done())
}

impl Kind for ComponentStatus {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("Status", "Whether the component is well."),
            string("Message", "What it says of itself."),
            string("Error", "Why it is not well."),
        ]
    }

    fn cells(&self, object: &Value, _now_s: i64) -> Vec<Value> {
        let condition =
            list(object, "conditions").iter().find(|condition| text(condition, "type") == "Healthy");
        let (status, message, error) = match condition {
            Some(condition) => {
                let well = match text(condition, "status") {
                    "True" => "Healthy",
                    "False" => "Unhealthy",
                    _ => "Unknown",
                };
                (well, text(condition, "message"), text(condition, "error"))
            }
            None => ("Unknown", "", ""),
        };
        vec![table::name_cell(object), status.into(), message.into(), error.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::row;
    use serde_json::json;

    #[test]
    fn the_row_tells_how_it_is() {
        let condition = json!({"type": "Healthy", "status": "True", "message": "ok"});
        row(&kind(), json!({"conditions": [condition]}), json!(["x", "Healthy", "ok", ""]));
        row(&kind(), json!({}), json!(["x", "Unknown", "", ""]));
    }
}
