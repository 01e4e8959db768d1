//! ClusterTrustBundle: certificates of authorities that pods may trust, maybe those of one signer.

use super::{GROUP, signer_name};
use crate::check::{self, Errors};
use crate::describe::describe;
use crate::kind::{Column, Descriptor, Kind};
use crate::pem;
use crate::runtime_config::RuntimeConfig;
use crate::table::{self, string};
use crate::tree::{same, text};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::Value;

const MAX_BUNDLE_BYTES: usize = 1024 * 1024;
/// Bundles are not repeated in messages.
const OMITTED: &str = "<value omitted>";

pub(crate) struct ClusterTrustBundle(Descriptor);

pub(crate) fn kind(config: &RuntimeConfig) -> ClusterTrustBundle {
    let descriptor = describe(GROUP, "v1", "ClusterTrustBundle", "clustertrustbundles").cluster_scoped();
    ClusterTrustBundle(descriptor.also(config, "v1beta1").done())
}

impl Kind for ClusterTrustBundle {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = name_and_signer(object);
        check_bundle(text(&object["spec"], "trustBundle"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = name_and_signer(new);
        if !same(&new["spec"], &old["spec"], "trustBundle") {
            check_bundle(text(&new["spec"], "trustBundle"), &mut errors);
        }
        check::immutable(&new["spec"], &old["spec"], "signerName", &Path::new("spec"), &mut errors);
        errors
    }

    fn validate_name(&self, _name: &str, _prefix: bool) -> Vec<String> {
        // What a bundle may be called depends on its signer.
        Vec::new()
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn selectable_field(&self, object: &Value, _name: &str) -> String {
        text(&object["spec"], "signerName").to_owned()
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![table::name(), string("SignerName", "Whose authorities these are.")]
    }

    fn cells(&self, object: &Value, _now_s: i64) -> Vec<Value> {
        let signer = text(&object["spec"], "signerName");
        vec![table::name_cell(object), table::or_none(signer)]
    }
}

fn name_and_signer(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let (name, signer) = (text(&object["metadata"], "name"), text(&object["spec"], "signerName"));
    let path = Path::new("metadata").child("name");
    check::messages(name_problems(name, signer), name, &path, &mut errors);
    if !signer.is_empty() {
        signer_name(&object["spec"], &Path::new("spec"), &mut errors);
    }
    errors
}

/// What is wrong with the name of a bundle of a signer, or of none.
pub(crate) fn name_problems(name: &str, signer: &str) -> Vec<String> {
    if signer.is_empty() {
        return if name.contains(':') {
            vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()]
        } else {
            names::dns1123_subdomain(name)
        };
    }
    let prefix = signer.replace('/', ":") + ":";
    match name.strip_prefix(&prefix) {
        Some(rest) => names::dns1123_subdomain(rest),
        None => {
            vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")]
        }
    }
}

fn check_bundle(bundle: &str, errors: &mut Errors) {
    let path = Path::new("spec").child("trustBundle");
    if bundle.len() > MAX_BUNDLE_BYTES {
        errors.push(FieldError::too_long(&path, MAX_BUNDLE_BYTES));
        return;
    }
    let before = errors.len();
    let blocks = pem::blocks(bundle);
    for (index, block) in blocks.iter().enumerate() {
        if let Some(problem) = anchor_problem(block) {
            errors.push(FieldError::invalid(&path, OMITTED, format!("entry {index} {problem}")));
        }
    }
    if errors.len() > before {
        return;
    }
    if blocks.is_empty() {
        errors.push(FieldError::invalid(&path, OMITTED, "at least one trust anchor must be provided"));
    }
    for (index, block) in blocks.iter().enumerate() {
        let is_same = |(_, other): &(usize, &pem::Block)| other.content == block.content;
        let all: Vec<String> =
            blocks.iter().enumerate().filter(is_same).map(|(index, _)| index.to_string()).collect();
        if all.len() > 1 && all[0] == index.to_string() {
            let detail = format!("duplicate trust anchor (indices [{}])", all.join(" "));
            errors.push(FieldError::invalid(&path, OMITTED, detail));
        }
    }
}

fn anchor_problem(block: &pem::Block) -> Option<String> {
    if block.label != "CERTIFICATE" {
        return Some(format!("has bad block type: {}", block.label));
    }
    if block.has_headers {
        return Some("has PEM block headers".to_owned());
    }
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(&block.content) else {
        return Some("does not parse as X.509".to_owned());
    };
    (!certificate.is_ca()).then(|| "does not have the CA bit set".to_owned())
}
