//! ServiceAccount: the identity of pods. Tokens are made elsewhere.

use crate::describe::{CREATE, describe};
use crate::kind::{Column, Descriptor, Kind};
use crate::tree::{get, list};
use crate::{name, table};
use nauplius_meta::field::FieldError;
use serde_json::Value;

pub(crate) struct ServiceAccount(Descriptor);

pub(crate) fn kind() -> ServiceAccount {
    let body = ("authentication.k8s.io", "v1", "TokenRequest");
    let descriptor = describe("", "v1", "ServiceAccount", "serviceaccounts").short(&["sa"]);
    ServiceAccount(descriptor.subresource("token", Some(body), CREATE).done())
}

impl Kind for ServiceAccount {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let key = "kubernetes.io/enforce-mountable-secrets";
        let is_given = get(&new["metadata"]["annotations"], key).is_some();
        let words = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
        is_given.then(|| format!("metadata.annotations[{key}]: {words}")).into_iter().collect()
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        let secrets = table::string("Secrets", "How many secrets pods of the account may reference.");
        vec![table::name(), secrets, table::age()]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let secrets = list(object, "secrets").len();
        vec![table::name_cell(object), secrets.into(), table::age_cell(object, now_s)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{creation, row, updated};
    use serde_json::json;

    #[test]
    fn only_the_name_is_checked() {
        creation(&kind(), json!({"automountServiceAccountToken": false}), &[]);
        updated(&kind(), &json!({}), json!({"secrets": [{"name": "s"}]}), &[]);
        assert_eq!(kind().validate_name("A", false).len(), 1);
        assert!(kind().validate_name("a.b-", true).is_empty());
    }

    #[test]
    fn the_row_counts_secrets() {
        row(&kind(), json!({"secrets": [{"name": "s"}]}), json!(["x", 1, "75s"]));
    }
}
