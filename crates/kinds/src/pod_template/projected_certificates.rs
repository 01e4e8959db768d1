//! Certificates among the sources of a projected volume: those of authorities, and those made for the pod.

use super::projected::claim_path;
use crate::certificates::{bundle_name_problems, check_signer, is_kubernetes_signer};
use crate::check::{self, Errors};
use crate::label_selector;
use crate::tree::{entries, get, number, text};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;

const KEY_TYPES: &[&str] = &["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
const MIN_LIFE_S: i64 = 3600;
const MAX_LIFE_S: i64 = 91 * 24 * 3600;
const MAX_KUBERNETES_LIFE_S: i64 = 24 * 3600;

/// Checks a projection of the sort that `key` names.
pub(super) fn validate<'a>(
    key: &str,
    projection: &'a Value,
    volume: &Path,
    path: &Path,
    paths: &mut Vec<&'a str>,
    errors: &mut Errors,
) {
    if key == "clusterTrustBundle" {
        trust_bundle(projection, path, errors);
        let file = text(projection, "path");
        claim_path(file, paths, file, volume, errors);
    } else {
        pod_certificate(projection, volume, path, paths, errors);
    }
}

fn trust_bundle(projection: &Value, path: &Path, errors: &mut Errors) {
    let field = |key: &str| get(projection, key).and_then(Value::as_str);
    match (field("name"), field("signerName")) {
        (Some(_), Some(_)) => {
            let detail = "only one of name and signerName may be used";
            errors.push(FieldError::invalid(path, projection.clone(), detail));
        }
        (Some(name), None) => by_name(name, projection, path, errors),
        (None, Some(signer)) => {
            let signer_path = path.child("signerName");
            if signer.is_empty() {
                errors.push(FieldError::required(&signer_path, "must be a valid signer name"));
            }
            check_signer(signer, &signer_path, errors);
            if let Some(selector) = get(projection, "labelSelector") {
                label_selector::validate(selector, &path.child("labelSelector"), errors);
            }
        }
        (None, None) => {
            errors.push(FieldError::required(path, "either name or signerName must be specified"));
        }
    }
    check::required_text(projection, "path", path, errors);
    check::non_reserved_path(text(projection, "path"), &path.child("path"), errors);
}

fn by_name(name: &str, projection: &Value, path: &Path, errors: &mut Errors) {
    let name_path = path.child("name");
    if name.is_empty() {
        errors.push(FieldError::required(&name_path, "must be a valid object name"));
    }
    // The name of a signer's bundle begins with the signer.
    let signer = name.rsplit_once(':').map(|(signer, _)| signer.replace(':', "/")).unwrap_or_default();
    for problem in bundle_name_problems(name, &signer) {
        let detail = format!("not a valid clustertrustbundlename: {problem}");
        errors.push(FieldError::invalid(&name_path, name, detail));
    }
    if let Some(selector) = get(projection, "labelSelector") {
        let detail = "labelSelector must be unset if name is specified";
        errors.push(FieldError::invalid(&path.child("labelSelector"), selector.clone(), detail));
    }
}

fn pod_certificate<'a>(
    projection: &'a Value,
    volume: &Path,
    path: &Path,
    paths: &mut Vec<&'a str>,
    errors: &mut Errors,
) {
    let signer = text(projection, "signerName");
    check_signer(signer, &path.child("signerName"), errors);
    let annotations = entries(projection, "userAnnotations");
    check::user_annotations(annotations, &path.child("userAnnotations"), errors);
    let key_type = text(projection, "keyType");
    if !KEY_TYPES.contains(&key_type) {
        errors.push(FieldError::not_supported(&path.child("keyType"), key_type, KEY_TYPES));
    }
    if let Some(life_s) = number(projection, "maxExpirationSeconds") {
        let path = path.child("maxExpirationSeconds");
        if life_s < MIN_LIFE_S {
            let detail = format!("if provided, maxExpirationSeconds must be >= {MIN_LIFE_S}");
            errors.push(FieldError::invalid(&path, life_s, detail));
        }
        let most = if is_kubernetes_signer(signer) { MAX_KUBERNETES_LIFE_S } else { MAX_LIFE_S };
        if life_s > most {
            let detail = format!("if provided, maxExpirationSeconds must be <= {most}");
            errors.push(FieldError::invalid(&path, life_s, detail));
        }
    }
    let mut files = 0;
    for key in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let file = text(projection, key);
        if !file.is_empty() {
            files += 1;
            check::non_reserved_path(file, &path.child(key), errors);
            claim_path(file, paths, file, volume, errors);
        }
    }
    if files == 0 {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.push(FieldError::required(path, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(key: &str, projection: Value, expected: &[&str]) {
        let (mut errors, mut paths) = (Errors::new(), vec!["taken"]);
        validate(key, &projection, &Path::new("v"), &Path::new("p"), &mut paths, &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn bundles_are_named_in_one_way() {
        check("clusterTrustBundle", json!({"name": "example.com:s:b", "path": "a"}), &[]);
        check("clusterTrustBundle", json!({"signerName": "example.com/s", "path": "a"}), &[]);
        check(
            "clusterTrustBundle",
            json!({"path": "taken"}),
            &[
                "p: Required value: either name or signerName must be specified",
                "v: Invalid value: \"taken\": conflicting duplicate paths",
            ],
        );
        check(
            "clusterTrustBundle",
            json!({"name": "", "labelSelector": {}, "path": "../a"}),
            &[
                "p.name: Required value: must be a valid object name",
                "p.name: Invalid value: \"\": not a valid clustertrustbundlename: a lowercase RFC 1123 subdomain must consist of \
                 lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                "p.labelSelector: Invalid value: {}: labelSelector must be unset if name is specified",
                "p.path: Invalid value: \"../a\": must not contain '..'",
            ],
        );
    }

    #[test]
    fn certificates_of_pods_are_checked() {
        let good = json!({"signerName": "example.com/s", "keyType": "ED25519", "keyPath": "k",
            "userAnnotations": {"example.com/a": "b"}});
        check("podCertificate", good, &[]);
        check(
            "podCertificate",
            json!({"signerName": "kubernetes.io/s", "keyType": "X", "maxExpirationSeconds": 90_000,
                "userAnnotations": {"a": "b"}}),
            &[
                "p.userAnnotations: Invalid value: \"a\": must be a domain-prefixed key (such as \"acme.io/foo\")",
                "p.keyType: Unsupported value: \"X\": supported values: \"RSA3072\", \"RSA4096\", \"ECDSAP256\", \"ECDSAP384\", \
                 \"ECDSAP521\", \"ED25519\"",
                "p.maxExpirationSeconds: Invalid value: 90000: if provided, maxExpirationSeconds must be <= 86400",
                "p: Required value: specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
            ],
        );
    }
}
