//! CertificateSigningRequest: who wants a certificate, whether somebody approves, and the certificate.

use super::{GROUP, date_conditions, keep_conditions, signer_name};
use crate::check::{self, Errors};
use crate::core::pod_diff::diff;
use crate::describe::describe;
use crate::duration;
use crate::kind::{Column, Context, Descriptor, Kind, carry};
use crate::pem;
use crate::table::{self, NONE, string};
use crate::tree::{child, default, each, equal, is_unset, list, number, remove, set, text, texts};
use nauplius_meta::apply::Filter;
use nauplius_meta::field::{FieldError, Path};
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

const UNKNOWN_SIGNER: &str = "kubernetes.io/legacy-unknown";
const MIN_EXPIRATION_S: i64 = 600;
/// The types of conditions by which somebody decides.
const DECISIONS: &[&str] = &["Approved", "Denied"];
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(crate) struct CertificateSigningRequest(Descriptor);

pub(crate) fn kind() -> CertificateSigningRequest {
    let plural = "certificatesigningrequests";
    let descriptor = describe(GROUP, "v1", "CertificateSigningRequest", plural).cluster_scoped();
    CertificateSigningRequest(descriptor.short(&["csr"]).written_in_place("approval").status().done())
}

impl Kind for CertificateSigningRequest {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }

    /// The request says who asked, in the words of who was authenticated.
    fn prepare_create(&self, context: &Context<'_>, object: &mut Value) {
        let spec = child(object, "spec");
        for key in ["username", "uid", "groups", "extra"] {
            remove(spec, key);
        }
        let mut put = |key: &str, value: Value| {
            if !is_unset(&json!({ key: value }), key) {
                set(spec, key, value);
            }
        };
        put("username", context.user.into());
        put("uid", context.uid.into());
        put("groups", context.groups.to_vec().into());
        if let Some(extra) = context.extra.filter(|extra| !extra.is_empty()) {
            put("extra", json!(extra));
        }
        set(object, "status", json!({}));
    }

    fn prepare_update(&self, _context: &Context<'_>, new: &mut Value, old: &Value) {
        carry(new, old, "spec");
        carry(new, old, "status");
    }

    fn prepare_subresource_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        carry(new, old, "spec");
        if context.subresource == Some("status") {
            keep_conditions(new, old, DECISIONS);
        }
        let now = duration::moment(context.now_s);
        each(child(new, "status"), "conditions", |condition| {
            default(condition, "lastUpdateTime", now.clone())
        });
        date_conditions(new, old, &now);
        if context.subresource == Some("approval") {
            let conditions = remove(child(new, "status"), "conditions");
            carry(new, old, "status");
            crate::kind::put(child(new, "status"), "conditions", conditions);
        }
    }

    fn tracked(&self, subresource: &str) -> Filter {
        match subresource {
            "status" => Filter::Exclude(&[&["spec"], &["status", "conditions"]]),
            "approval" => Filter::Exclude(&[&["spec"], &["status", "certificate"]]),
            _ => Filter::Exclude(&[&["spec"], &["status"]]),
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (spec, path) = (&object["spec"], Path::new("spec"));
        if let Err(problem) = check_request(text(spec, "request")) {
            errors.push(FieldError::invalid(&path.child("request"), spec["request"].clone(), problem));
        }
        usages(spec, &path.child("usages"), &mut errors);
        if text(spec, "signerName") == UNKNOWN_SIGNER {
            let detail = "the legacy signerName is not allowed via this API version";
            errors.push(FieldError::invalid(&path.child("signerName"), UNKNOWN_SIGNER, detail));
        } else {
            signer_name(spec, &path, &mut errors);
        }
        if let Some(seconds) = number(spec, "expirationSeconds").filter(|seconds| *seconds < MIN_EXPIRATION_S)
        {
            let detail = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, detail));
        }
        conditions(&object["status"], &mut errors);
        if let Err(problem) = check_certificate(text(&object["status"], "certificate")) {
            let path = Path::new("status").child("certificate");
            errors.push(FieldError::invalid(&path, "<certificate data>", problem));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate_change(None, new, old)
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate_change(Some(subresource), new, old)
    }

    fn validate_name(&self, _name: &str, _prefix: bool) -> Vec<String> {
        // Upstream does not care what requests are called.
        Vec::new()
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn selectable_field(&self, object: &Value, _name: &str) -> String {
        text(&object["spec"], "signerName").to_owned()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            table::name(),
            table::age(),
            string("SignerName", "Who is to sign it."),
            string("Requestor", "Who asked for it."),
            string("RequestedDuration", "How long the certificate is to be valid."),
            string("Condition", "Whether it was approved, and signed."),
        ]
    }

    fn cells(&self, object: &Value, now_s: i64) -> Vec<Value> {
        let spec = &object["spec"];
        let signer = text(spec, "signerName");
        let duration = number(spec, "expirationSeconds").map_or_else(|| NONE.to_owned(), duration::human);
        vec![
            table::name_cell(object),
            table::age_cell(object, now_s),
            table::or_none(signer),
            text(spec, "username").into(),
            duration.into(),
            state(&object["status"]).into(),
        ]
    }
}

impl CertificateSigningRequest {
    /// The object itself changes nothing of the status; `approval` changes who approves, `status` all else.
    fn validate_change(&self, subresource: Option<&str>, new: &Value, old: &Value) -> Errors {
        let mut errors = self.validate(new);
        let path = Path::new("status").child("conditions");
        for type_ in ["Approved", "Denied", "Failed"] {
            if of_type(new, type_).len() < of_type(old, type_).len() {
                let detail = format!("updates may not remove a condition of type \"{type_}\"");
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
        if subresource != Some("approval") {
            for type_ in DECISIONS {
                errors.extend(decision_change(type_, new, old, &path));
            }
        }
        let path = Path::new("status").child("certificate");
        let certificate = |object: &Value| text(&object["status"], "certificate").to_owned();
        if certificate(new) != certificate(old) {
            if subresource != Some("status") {
                let detail = "updates may not set certificate content";
                errors.push(FieldError::forbidden(&path, detail));
            } else if !certificate(old).is_empty() {
                let detail = "updates may not modify existing certificate content";
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
        errors
    }
}

fn decision_change(type_: &str, new: &Value, old: &Value, path: &Path) -> Option<FieldError> {
    let (now, before) = (of_type(new, type_), of_type(old, type_));
    if now.len() > before.len() {
        let detail = format!("updates may not add a condition of type \"{type_}\"");
        return Some(FieldError::forbidden(path, detail));
    }
    let (now, before) = (json!(now), json!(before));
    if list(&json!({ "a": now }), "a").len() < list(&json!({ "a": before }), "a").len()
        || equal(&now, &before)
    {
        return None;
    }
    let difference = diff(&before, &now);
    let detail = format!("updates may not modify a condition of type \"{type_}\"\n{difference}");
    Some(FieldError::forbidden(path, detail))
}

fn of_type<'a>(object: &'a Value, type_: &str) -> Vec<&'a Value> {
    list(&object["status"], "conditions").iter().filter(|own| text(own, "type") == type_).collect()
}

/// The organizations of the subject of a request, which are groups to the API server; none of one that is not sound.
pub fn csr_organizations(encoded: &str) -> Vec<String> {
    let bytes = pem::base64(encoded).unwrap_or_default();
    let blocks = pem::blocks(&String::from_utf8_lossy(&bytes));
    let Some(block) = blocks.first() else { return Vec::new() };
    // What is not sound has been refused by the time that anybody signs it.
    let Ok((_, request)) = X509CertificationRequest::from_der(&block.content) else { return Vec::new() };
    let organizations = request.certification_request_info.subject.iter_organization();
    organizations.filter_map(|organization| organization.as_str().ok()).map(str::to_owned).collect()
}

/// Why the bytes are no certificate request, or not one that was signed with its own key.
fn check_request(encoded: &str) -> Result<(), String> {
    const LABEL: &str = "PEM block type must be CERTIFICATE REQUEST";
    let bytes = pem::base64(encoded).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let blocks = pem::blocks(&text);
    let block = blocks.first().filter(|block| block.label == "CERTIFICATE REQUEST").ok_or(LABEL)?;
    let malformed = |_| "asn1: structure error: the block is no certificate request".to_owned();
    let (_, request) = X509CertificationRequest::from_der(&block.content).map_err(malformed)?;
    request
        .verify_signature()
        .map_err(|_| "x509: the signature of the request does not fit its key".to_owned())
}

fn check_certificate(encoded: &str) -> Result<(), String> {
    if encoded.is_empty() {
        return Ok(());
    }
    let bytes = pem::base64(encoded).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let blocks = pem::blocks(&text);
    for block in &blocks {
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if block.has_headers {
            return Err("no PEM block headers are permitted".to_owned());
        }
        x509_parser::parse_x509_certificate(&block.content)
            .map_err(|_| "x509: malformed certificate".to_owned())?;
    }
    if blocks.is_empty() { Err("must contain at least one CERTIFICATE PEM block".to_owned()) } else { Ok(()) }
}

fn usages(spec: &Value, path: &Path, errors: &mut Errors) {
    let usages = texts(spec, "usages");
    if usages.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    for (index, usage) in usages.iter().enumerate().filter(|(_, usage)| !USAGES.contains(usage)) {
        errors.push(FieldError::not_supported(&path.index(index), *usage, USAGES));
    }
    check::duplicates(
        usages.into_iter().enumerate().map(|(index, usage)| (path.index(index), usage)),
        errors,
    );
}

fn conditions(status: &Value, errors: &mut Errors) {
    let path = Path::new("status").child("conditions");
    let mut seen: Vec<&str> = Vec::new();
    for (index, condition) in list(status, "conditions").iter().enumerate() {
        let path = path.index(index);
        let type_ = text(condition, "type");
        check::required_text(condition, "type", &path, errors);
        let decides = ["Approved", "Denied", "Failed"].contains(&type_);
        let statuses: &[&str] = if decides { &["True"] } else { &["False", "True", "Unknown"] };
        check::one_of(condition, "status", statuses, &path, errors);
        let other = match type_ {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && seen.contains(&other) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(&path.child("type"), type_, detail));
        }
        if seen.contains(&type_) {
            errors.push(FieldError::duplicate(&path.child("type"), type_));
        }
        seen.push(type_);
    }
}

fn state(status: &Value) -> String {
    let has = |type_: &str| list(status, "conditions").iter().any(|own| text(own, "type") == type_);
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !text(status, "certificate").is_empty() {
        state.push_str(",Issued");
    }
    state
}
