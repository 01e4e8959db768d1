//! CSIDriver: what Kubernetes has to know of a driver of volumes.

use super::GROUP;
use crate::check::{self, Errors};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::name;
use crate::table::{self, string};
use crate::tree::{child, default, flag, get, list, number, text, texts};
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};

const MODES: &[&str] = &["Persistent", "Ephemeral"];
const MIN_TOKEN_S: i64 = 600;
const MAX_TOKEN_S: i64 = 1 << 32;
const MIN_PERIOD_S: i64 = 10;

pub(crate) struct CsiDriver(Descriptor);

pub(crate) fn kind() -> CsiDriver {
    let descriptor = describe(GROUP, "v1", "CSIDriver", "csidrivers").cluster_scoped();
    CsiDriver(descriptor.defaults(set_defaults).done())
}

fn set_defaults(object: &mut Value) {
    let spec = child(object, "spec");
    default(spec, "attachRequired", true);
    default(spec, "podInfoOnMount", false);
    default(spec, "storageCapacity", false);
    default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    default(spec, "requiresRepublish", false);
    default(spec, "seLinuxMount", false);
    if list(spec, "volumeLifecycleModes").is_empty() {
        crate::tree::set(spec, "volumeLifecycleModes", json!(["Persistent"]));
    }
}

impl Kind for CsiDriver {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        let required = [
            ("attachRequired", "attachedRequired"),
            ("podInfoOnMount", "podInfoOnMount"),
            ("storageCapacity", "storageCapacity"),
        ];
        for (key, shown) in required.iter().filter(|(key, _)| get(spec, key).is_none()) {
            let _ = key;
            errors.push(FieldError::required(&path.child(shown), ""));
        }
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        check::one_of_if_set(spec, "fsGroupPolicy", &policies, &path, &mut errors);
        token_requests(spec, &path.child("tokenRequests"), &mut errors);
        for mode in texts(spec, "volumeLifecycleModes").into_iter().filter(|mode| !MODES.contains(mode)) {
            errors.push(FieldError::not_supported(&path.child("volumeLifecycleModes"), mode, MODES));
        }
        if let Some(seconds) =
            number(spec, "nodeAllocatableUpdatePeriodSeconds").filter(|s| *s < MIN_PERIOD_S)
        {
            let path = path.child("nodeAllocatableUpdatePeriodSeconds");
            errors.push(FieldError::invalid(&path, seconds, "must be greater than or equal to 10 seconds"));
        }
        let in_secrets = get(spec, "serviceAccountTokenInSecrets");
        if let Some(value) = in_secrets.filter(|_| list(spec, "tokenRequests").is_empty()) {
            let path = path.child("serviceAccountTokenInSecrets");
            let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
            errors.push(FieldError::invalid(&path, value.clone(), detail));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let path = Path::new("spec");
        if !crate::tree::same(&new["spec"], &old["spec"], "attachRequired") {
            let value = new["spec"]["attachRequired"].clone();
            errors.push(FieldError::invalid(&path.child("attachedRequired"), value, check::IMMUTABLE));
        }
        check::immutable(&new["spec"], &old["spec"], "volumeLifecycleModes", &path, &mut errors);
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn counts_generations(&self) -> bool {
        true
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            table::boolean("AttachRequired", "Whether volumes are attached to nodes first."),
            table::boolean("PodInfoOnMount", "Whether the driver is told of the pod."),
            table::boolean("StorageCapacity", "Whether the driver says how much room it has."),
            string("TokenRequests", "The audiences of tokens that the driver is given."),
            table::boolean("RequiresRepublish", "Whether the driver is called again and again."),
            string("Modes", "How long its volumes live."),
            table::age(),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let spec = &object["spec"];
        let audiences: Vec<_> =
            list(spec, "tokenRequests").iter().map(|request| text(request, "audience")).collect();
        let modes = texts(spec, "volumeLifecycleModes").join(",");
        let tokens = if audiences.is_empty() { "<unset>".to_owned() } else { audiences.join(",") };
        vec![
            table::name_cell(object),
            get(spec, "attachRequired").and_then(Value::as_bool).unwrap_or(true).into(),
            flag(spec, "podInfoOnMount").into(),
            flag(spec, "storageCapacity").into(),
            tokens.into(),
            flag(spec, "requiresRepublish").into(),
            table::or_none(&modes),
            table::age_cell(object, now_s),
        ]
    }
}

fn token_requests(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = Vec::new();
    for (index, request) in list(spec, "tokenRequests").iter().enumerate() {
        let (path, audience) = (path.index(index), text(request, "audience"));
        if seen.contains(&audience) {
            errors.push(FieldError::duplicate(&path.child("audience"), audience));
            continue;
        }
        seen.push(audience);
        let Some(seconds) = number(request, "expirationSeconds") else { continue };
        let detail = match seconds {
            i64::MIN..MIN_TOKEN_S => "may not specify a duration less than 10 minutes",
            MIN_TOKEN_S..=MAX_TOKEN_S => continue,
            _ => "may not specify a duration larger than 2^32 seconds",
        };
        errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, detail));
    }
}
