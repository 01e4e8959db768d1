//! PEM text in and out. What the sections mean is the caller's business.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::{PemObject, SectionKind};

pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        out.extend(line.iter().map(|byte| char::from(*byte)));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// Every section of this kind, in order; sections of other kinds are passed over. A broken section ends the list.
pub(crate) fn sections(text: &str, wanted: SectionKind) -> Vec<Vec<u8>> {
    <(SectionKind, Vec<u8>) as PemObject>::pem_slice_iter(text.as_bytes())
        .map_while(Result::ok) // Callers refuse when the section they need is missing.
        .filter(|(kind, _)| *kind == wanted)
        .map(|(_, der)| der)
        .collect()
}
