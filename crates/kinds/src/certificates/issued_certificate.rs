//! The chain of certificates that answers a PodCertificateRequest: that it is for the key of the request, for names that there
//! can be, and for the time that the status says.

use super::pod_certificate_request::{DAY_S, MIN_LIFE_S};
use crate::check::Errors;
use crate::tree::{get, number, text};
use crate::{duration, pem};
use nauplius_meta::field::{FieldError, Path};
use serde_json::Value;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

const MAX_CHAIN_BYTES: usize = 100 * 1024;
/// How long after its beginning and before its end a certificate is renewed at the earliest and latest.
const MARGIN_S: i64 = 10 * 60;

/// The certificate is for the key of the request, and its times are those of the status.
pub(super) fn check(new: &Value, errors: &mut Errors) {
    let (spec, status, path) = (&new["spec"], &new["status"], Path::new("status"));
    let chain_path = path.child("certificateChain");
    let chain = text(status, "certificateChain");
    if chain.len() > MAX_CHAIN_BYTES {
        errors.push(FieldError::too_long(&chain_path, MAX_CHAIN_BYTES));
        return;
    }
    let invalid = |detail: &str| FieldError::invalid(&chain_path, chain, detail);
    let blocks = pem::blocks(chain);
    let Some(leaf) = blocks.first() else {
        errors.push(invalid("issued certificate chain must contain at least one certificate"));
        return;
    };
    if leaf.label != "CERTIFICATE" {
        errors.push(invalid("issued certificate chain must consist entirely of CERTIFICATE PEM blocks"));
        return;
    }
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(&leaf.content) else {
        errors.push(invalid("leaf certificate does not parse as valid X.509"));
        return;
    };
    names_of(&certificate, &chain_path, errors);
    let request = pem::base64(text(spec, "stubPKCS10Request")).unwrap_or_default();
    let wanted = X509CertificationRequest::from_der(&request);
    let is_for_key = wanted.is_ok_and(|(_, request)| {
        request.certification_request_info.subject_pki.subject_public_key
            == certificate.public_key().subject_public_key
    });
    if !is_for_key {
        errors.push(invalid("leaf certificate was not issued to the requested public key"));
        return;
    }
    let validity = certificate.validity();
    times(spec, status, (validity.not_before.timestamp(), validity.not_after.timestamp()), &path, errors);
    if !errors.is_empty() {
        return;
    }
    for block in &blocks[1..] {
        if block.label != "CERTIFICATE" {
            // The word is upstream's.
            errors.push(invalid("issued certificate chain must consist entirely of CERTFICATE PEM blocks"));
            return;
        }
        if x509_parser::parse_x509_certificate(&block.content).is_err() {
            errors.push(invalid("intermediate certificate does not parse as valid X.509"));
            return;
        }
    }
}

/// Names that no host has, and what is no address of mail.
fn names_of(certificate: &X509Certificate<'_>, path: &Path, errors: &mut Errors) {
    // An extension that does not parse has no names.
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return };
    let all = &names.value.general_names;
    let hosts = all.iter().filter_map(|name| match name {
        GeneralName::DNSName(host) => Some(*host),
        _ => None,
    });
    for host in hosts {
        let problems = [
            (host.is_empty(), "leaf certificate should not contain empty DNSName"),
            (host.contains(".."), "leaf certificate's DNSName should not contain '..'"),
            (
                host.starts_with('.') || host.ends_with('.'),
                "leaf certificate's DNSName should not start or end with '.'",
            ),
        ];
        let found = problems.into_iter().filter(|(is_so, _)| *is_so);
        errors.extend(found.map(|(_, detail)| FieldError::invalid(path, host, detail)));
    }
    let is_mail = |address: &str| {
        let (local, domain) = address.rsplit_once('@').unwrap_or_default();
        !local.is_empty() && !domain.is_empty() && !address.contains(char::is_whitespace)
    };
    for name in all {
        if let GeneralName::RFC822Name(address) = name
            && !is_mail(address)
        {
            let detail = "leaf certificate should not contain invalid EmailAddress";
            errors.push(FieldError::invalid(path, *address, detail));
        }
    }
}

fn times(spec: &Value, status: &Value, (start, end): (i64, i64), path: &Path, errors: &mut Errors) {
    let consistent = "must be present and consistent with the issued certificate";
    let needed = [
        ("notBefore", consistent),
        ("notAfter", consistent),
        ("beginRefreshAt", "must be present and in the range [notbefore+10min, notafter-10min]"),
    ];
    let missing: Vec<_> = needed.iter().filter(|(key, _)| get(status, key).is_none()).collect();
    errors.extend(missing.iter().map(|(key, detail)| FieldError::required(&path.child(key), *detail)));
    if !errors.is_empty() {
        return;
    }
    let moment = |key: &str| duration::seconds(text(status, key)).unwrap_or(0);
    let (not_before, not_after, refresh) =
        (moment("notBefore"), moment("notAfter"), moment("beginRefreshAt"));
    let max = number(spec, "maxExpirationSeconds").unwrap_or(DAY_S);
    let problem = if not_before != start {
        Some(("notBefore", "must be set to the NotBefore time encoded in the leaf certificate".to_owned()))
    } else if not_after != end {
        Some(("notAfter", "must be set to the NotAfter time encoded in the leaf certificate".to_owned()))
    } else if end - start < MIN_LIFE_S {
        Some(("certificateChain", "leaf certificate lifetime must be >= 1 hour".to_owned()))
    } else if end - start > max {
        let detail = format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({max})");
        Some(("certificateChain", detail))
    } else if refresh < not_before + MARGIN_S {
        Some(("beginRefreshAt", "must be at least 10 minutes after status.notBefore".to_owned()))
    } else if refresh > not_after - MARGIN_S {
        Some(("beginRefreshAt", "must be at least 10 minutes before status.notAfter".to_owned()))
    } else {
        None
    };
    let lifetime_ns = (end - start) * 1_000_000_000;
    if let Some((key, detail)) = problem {
        let shown =
            if key == "certificateChain" { lifetime_ns.into() } else { Value::from(text(status, key)) };
        errors.push(FieldError::invalid(&path.child(key), shown, detail));
    }
}
