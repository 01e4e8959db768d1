//! PodCertificateRequest: a kubelet wants a certificate for one of its pods. It is created, then issued, denied or failed, once.

use super::{GROUP, date_conditions, is_kubernetes_signer, issued_certificate, keep_conditions, signer_name};
use crate::check::{self, Errors, messages, wrong};
use crate::describe::describe;
use crate::kind::{Column, Context, Descriptor, Kind, keep_content, keep_metadata};
use crate::pem;
use crate::runtime_config::RuntimeConfig;
use crate::table::{self, string};
use crate::tree::{child, default, entries, equal, is_unset, list, number, text};
use crate::{conditions, duration, name};
use nauplius_meta::field::{FieldError, Path};
use nauplius_meta::names;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

pub(super) const DAY_S: i64 = 24 * 60 * 60;
pub(super) const MIN_LIFE_S: i64 = 60 * 60;
const MAX_LIFE_S: i64 = 91 * DAY_S;
const MAX_UID_BYTES: usize = 128;
const MAX_REQUEST_BYTES: usize = 10 * 1024;
/// How far from now a certificate may begin.
const SKEW_S: i64 = 5 * 60;
const OUTCOMES: &[&str] = &["Issued", "Denied", "Failed"];
const NOT_A_REQUEST: &str = "must be a valid PKCS#10 CSR";

pub(crate) struct PodCertificateRequest(Descriptor);

pub(crate) fn kind(config: &RuntimeConfig) -> PodCertificateRequest {
    let descriptor = describe(GROUP, "v1", "PodCertificateRequest", "podcertificaterequests");
    let descriptor = descriptor.defaults(set_defaults).also(config, "v1beta1");
    PodCertificateRequest(descriptor.defaults(set_defaults).status().done())
}

fn set_defaults(object: &mut Value) {
    default(child(object, "spec"), "maxExpirationSeconds", DAY_S);
}

impl Kind for PodCertificateRequest {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    fn prepare_subresource_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        keep_content(new, old);
        keep_metadata(new, old);
        keep_conditions(new, old, OUTCOMES);
        date_conditions(new, old, &duration::moment(context.now_s));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        signer_name(spec, &path, &mut errors);
        let annotations = entries(spec, "unverifiedUserAnnotations");
        check::user_annotations(annotations, &path.child("unverifiedUserAnnotations"), &mut errors);
        for (who, uid) in
            [("podName", "podUID"), ("serviceAccountName", "serviceAccountUID"), ("nodeName", "nodeUID")]
        {
            let (name, id) = (text(spec, who), text(spec, uid));
            messages(names::dns1123_subdomain(name), name, &path.child(who), &mut errors);
            if id.is_empty() {
                errors.push(FieldError::invalid(&path.child(uid), id, "must not be empty"));
            }
            if id.len() > MAX_UID_BYTES {
                errors.push(FieldError::too_long(&path.child(uid), MAX_UID_BYTES));
            }
        }
        if lifetime(spec, &path.child("maxExpirationSeconds"), &mut errors) {
            check_key(spec, &path, &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        check::immutable(new, old, "spec", &Path::root(), &mut errors);
        errors
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = outcomes(&new["status"]);
        if errors.is_empty() {
            check_transition(new, old, &mut errors);
        }
        errors
    }

    /// A certificate is handed in when it begins.
    fn validate_moment(&self, context: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let (status, mut errors) = (&new["status"], Errors::new());
        let is_new = !conditions::is_true(&old["status"], "Issued") && conditions::is_true(status, "Issued");
        let begins = duration::seconds(text(status, "notBefore")).unwrap_or(0);
        if is_new && (begins - context.now_s).abs() >= SKEW_S {
            let detail = "must be set to within 5 minutes of kube-apiserver's current time";
            let path = Path::new("status").child("notBefore");
            errors.push(FieldError::invalid(&path, text(status, "notBefore"), detail));
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        name::subdomain(name, prefix)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.signerName", "spec.podName", "spec.nodeName"]
    }

    fn selectable_field(&self, object: &Value, name: &str) -> String {
        text(&object["spec"], name.trim_start_matches("spec.")).to_owned()
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            string("PodName", "The pod that it is for."),
            string("ServiceAccountName", "The account of the pod."),
            string("NodeName", "The node of the pod."),
            string("SignerName", "Who is to sign it."),
            string("State", "Whether it was issued."),
        ]
    }

    fn cells(&self, object: &Value, _now_s: i64) -> Vec<Value> {
        let spec = &object["spec"];
        let state = OUTCOMES.iter().find(|outcome| conditions::is_true(&object["status"], outcome));
        let [pod, account, node, signer] =
            ["podName", "serviceAccountName", "nodeName", "signerName"].map(|key| text(spec, key).into());
        vec![table::name_cell(object), pod, account, node, signer, (*state.unwrap_or(&"Pending")).into()]
    }
}

/// Whether it says how long the certificate may be valid.
fn lifetime(spec: &Value, path: &Path, errors: &mut Errors) -> bool {
    let Some(seconds) = number(spec, "maxExpirationSeconds") else {
        errors.push(FieldError::required(path, "must be set"));
        return false;
    };
    let max = if is_kubernetes_signer(text(spec, "signerName")) { DAY_S } else { MAX_LIFE_S };
    if !(MIN_LIFE_S..=max).contains(&seconds) {
        let detail = format!("must be in the range [{MIN_LIFE_S}, {max}]");
        errors.push(FieldError::invalid(path, seconds, detail));
    }
    true
}

fn check_key(spec: &Value, path: &Path, errors: &mut Errors) {
    let set = |key: &str| !is_unset(spec, key);
    match (set("stubPKCS10Request"), set("pkixPublicKey"), set("proofOfPossession")) {
        (true, false, false) => {
            stub(text(spec, "stubPKCS10Request"), &path.child("stubPKCS10Request"), errors)
        }
        // The older way to prove a key, which upstream keeps for kubelets of the version before.
        (false, true, true) => {
            let detail = "proving a key without a PKCS#10 request is not built: use stubPKCS10Request";
            errors.push(wrong(&path.child("pkixPublicKey"), detail));
        }
        _ => {
            let detail =
                "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
            errors.push(wrong(path, detail));
        }
    }
}

fn stub(encoded: &str, path: &Path, errors: &mut Errors) {
    let der = pem::base64(encoded).unwrap_or_default();
    if der.len() > MAX_REQUEST_BYTES {
        errors.push(FieldError::too_long(path, MAX_REQUEST_BYTES));
        return;
    }
    let Ok((_, request)) = X509CertificationRequest::from_der(&der) else {
        errors.push(wrong(path, NOT_A_REQUEST));
        return;
    };
    let key = &request.certification_request_info.subject_pki;
    if let Some(problem) = key_problem(key) {
        errors.push(problem.at(path));
    } else if request.verify_signature().is_err() {
        errors.push(wrong(path, "invalid signature"));
    }
}

/// What is wrong with a key, with what is said of it.
struct KeyProblem(Option<String>, &'static str);

impl KeyProblem {
    fn at(self, path: &Path) -> FieldError {
        match self.0 {
            Some(value) => FieldError::invalid(path, value, self.1),
            None => wrong(path, self.1),
        }
    }
}

fn key_problem(key: &SubjectPublicKeyInfo<'_>) -> Option<KeyProblem> {
    const ED25519: &str = "1.3.101.112";
    const BITS: [usize; 2] = [3072, 4096];
    const CURVE_BITS: [usize; 3] = [256, 384, 521];
    if key.algorithm.algorithm.to_id_string() == ED25519 {
        return None;
    }
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if BITS.contains(&rsa.key_size()) => None,
        Ok(PublicKey::RSA(rsa)) => {
            let shown = format!("{}-bit modulus", rsa.key_size());
            Some(KeyProblem(Some(shown), "RSA keys must have modulus size 3072 or 4096"))
        }
        Ok(PublicKey::EC(point)) => {
            // A point is one byte and two coordinates; those of P521 fill their bytes up.
            let bits = point.key_size();
            let is_known = CURVE_BITS.iter().any(|known| bits.abs_diff(*known) < 8);
            let detail = "elliptic public keys must use curve P256, P384, or P521";
            (!is_known).then(|| KeyProblem(Some(format!("curve of {bits} bits")), detail))
        }
        _ => {
            let detail = "unknown public key type; supported types are Ed25519, ECDSA, and RSA";
            Some(KeyProblem(None, detail))
        }
    }
}

/// At most one outcome, which is true.
fn outcomes(status: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("status").child("conditions");
    let mut known = 0;
    for (index, condition) in list(status, "conditions").iter().enumerate() {
        let type_ = text(condition, "type");
        // Upstream puts a dot before the index here.
        let path = path.child(&format!("[{index}]"));
        if !OUTCOMES.contains(&type_) {
            errors.push(FieldError::not_supported(&path.child("type"), type_, OUTCOMES));
            continue;
        }
        known += 1;
        if known > 1 {
            let detail = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.push(FieldError::invalid(&path.child("type"), type_, detail));
        }
        if text(condition, "status") != "True" {
            errors.push(FieldError::not_supported(
                &path.child("status"),
                text(condition, "status"),
                &["True"],
            ));
        }
    }
    conditions::validate(status, &path, &mut errors);
    errors
}

fn check_transition(new: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status");
    let (status, before) = (&new["status"], &old["status"]);
    let is = |status: &Value, outcome: &str| conditions::is_true(status, outcome);
    if OUTCOMES.iter().any(|outcome| is(before, outcome)) {
        if !equal(status, before) {
            let detail = "immutable after PodCertificateRequest is issued, denied, or failed";
            errors.push(wrong(&path, detail));
        }
    } else if is(status, "Denied") || is(status, "Failed") {
        if !equal(status, &json!({"conditions": status["conditions"]})) {
            let detail =
                "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
            errors.push(wrong(&path, detail));
        }
    } else if is(status, "Issued") {
        issued_certificate::check(new, errors);
    } else if !equal(status, before) {
        let detail = "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
        errors.push(wrong(&path, detail));
    }
}
