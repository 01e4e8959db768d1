//! The name of a template: a hash that is the same in every process. It is written in upstream's alphabet, but it is our own
//! hash: upstream's is over a printed Go struct.

use nauplius_kinds::Object;
use nauplius_kinds::api::core::{Pod, PodTemplateSpec};
use std::fmt::Write;

/// No vowels and no 0, 1, 3, so that no words form.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a, 32 bits, as upstream uses.
struct Fnv(u32);

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

/// The value of `pod-template-hash`; another one for each collision that was met.
pub(super) fn of(template: &PodTemplateSpec, collision_count: Option<i32>) -> String {
    let mut fnv = Fnv(0x811c_9dc5);
    let pod = Pod {
        metadata: template.metadata.clone().unwrap_or_default(),
        spec: template.spec.clone(),
        ..Pod::default()
    };
    fnv.write(&pod.encode());
    if let Some(count) = collision_count {
        fnv.write(&count.to_le_bytes());
    }
    safe_encode(fnv.0)
}

/// Upstream's `SafeEncodeString` of the decimal number.
fn safe_encode(number: u32) -> String {
    let mut decimal = String::new();
    // Writing to a string cannot fail.
    let _ = write!(decimal, "{number}");
    decimal.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_stable_and_moves_with_collisions() {
        let template = PodTemplateSpec::default();
        assert_eq!(of(&template, None), of(&template, None));
        assert_ne!(of(&template, None), of(&template, Some(0)));
        assert_ne!(of(&template, Some(0)), of(&template, Some(1)));
    }

    #[test]
    fn digits_become_upstreams_letters() {
        assert_eq!(safe_encode(1_234_567_890), "56789bcdf4");
    }
}
