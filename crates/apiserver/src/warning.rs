//! Warnings on their way to the client's `Warning` headers. They are texts; which rule made them is not known here.

use std::sync::{Mutex, PoisonError};

/// Bytes of all warnings of one response, after which longer ones are cut; upstream's limit.
const MAX_TOTAL_BYTES: usize = 4 << 10;
/// What a long warning is cut to once the total passed its limit; upstream's limit.
const MAX_EACH_BYTES: usize = 256;

/// The warnings of one request, each once.
#[derive(Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    /// Adds a warning unless the same text was added before.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !text.is_empty() && !texts.contains(&text) {
            texts.push(text);
        }
    }

    /// Adds several.
    pub fn extend(&self, texts: impl IntoIterator<Item = String>) {
        texts.into_iter().for_each(|text| self.add(text));
    }

    /// The header values, as RFC 7234 writes warnings with code 299 and an unknown agent.
    pub fn headers(&self) -> Vec<String> {
        let texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = texts.iter().map(String::len).sum();
        let limit = if total > MAX_TOTAL_BYTES { MAX_EACH_BYTES } else { usize::MAX };
        let mut left = MAX_TOTAL_BYTES;
        let mut headers = Vec::new();
        for text in texts.iter() {
            let header = header(text, limit);
            if header.len() > left && !headers.is_empty() {
                break;
            }
            left = left.saturating_sub(header.len());
            headers.push(header);
        }
        headers
    }
}

fn header(text: &str, limit: usize) -> String {
    let mut quoted = String::with_capacity(text.len() + 12);
    for character in text.chars().filter(|character| !character.is_control()) {
        if quoted.len() >= limit {
            break;
        }
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    format!("299 - \"{quoted}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted_and_unique() {
        let warnings = Warnings::default();
        warnings.add("unknown field \"spec.x\"");
        warnings.add("unknown field \"spec.x\"");
        assert_eq!(warnings.headers(), [r#"299 - "unknown field \"spec.x\"""#]);
    }
}
