//! PEM blocks: what stands between `-----BEGIN X-----` and `-----END X-----`. It decodes them, and knows no certificate.

use crate::api::ByteString;

/// One block.
pub(crate) struct Block {
    /// `CERTIFICATE`, ...
    pub(crate) label: String,
    /// Whether it begins with headers, as encrypted keys do.
    pub(crate) has_headers: bool,
    /// What it encodes.
    pub(crate) content: Vec<u8>,
}

/// Base64 with the alphabet of Kubernetes' byte fields; `None` for what is none.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let bytes: Result<ByteString, _> = serde_json::from_value(text.into());
    bytes.ok().map(|bytes| bytes.0)
}

/// The blocks of a text; what is no block is passed over, as upstream's decoder does.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let label = line.trim_end().strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        let Some(label) = label else { continue };
        let end = format!("-----END {label}-----");
        let inside: Vec<&str> = lines.by_ref().map(str::trim).take_while(|line| *line != end).collect();
        let has_headers = inside.iter().any(|line| line.contains(':'));
        let encoded: String = inside.iter().filter(|line| !line.contains(':')).copied().collect();
        if let Some(content) = base64(&encoded) {
            found.push(Block { label: label.to_owned(), has_headers, content });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_between_other_lines() {
        let text = "hello\n-----BEGIN A-----\nYQ==\n-----END A-----\n-----BEGIN B-----\nProc-Type: 4\n\nYg==\n-----END B-----\n";
        let found: Vec<_> =
            blocks(text).into_iter().map(|block| (block.label, block.has_headers, block.content)).collect();
        assert_eq!(found, [("A".to_owned(), false, b"a".to_vec()), ("B".to_owned(), true, b"b".to_vec())]);
    }
}
