//! Random names and ids from one source that a test may seed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

static SEEDED: Mutex<Option<u64>> = Mutex::new(None);
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Makes every later id a function of `seed` (splitmix64). For tests; secrets never come from here.
pub fn seed(seed: u64) {
    *SEEDED.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(seed);
}

/// 64 random bits: the system's, unless seeded. Not for keys: those come from the `pki` crate.
pub fn random_u64() -> u64 {
    let mut seeded = SEEDED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match seeded.as_mut() {
        Some(state) => splitmix64(state),
        None => system_u64(),
    }
}

fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The standard library's per-process hash keys come from the system's entropy; a counter keeps calls apart.
fn system_u64() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(COUNTER.fetch_add(1, Ordering::Relaxed));
    hasher.finish()
}

/// A number in `0..bound`; 0 when `bound` is 0.
pub fn below(bound: u64) -> u64 {
    if bound == 0 { 0 } else { random_u64() % bound }
}

/// A factor in `[0, 1)`.
pub fn unit() -> f64 {
    #[allow(clippy::cast_precision_loss)] // 53 bits fit exactly.
    let numerator = (random_u64() >> 11) as f64;
    numerator / 9_007_199_254_740_992.0
}

/// A version 4 UUID, as `metadata.uid` wants it.
pub fn uuid() -> String {
    let (high, low) = (random_u64(), random_u64());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

/// Upstream's alphabet for generated names: no vowels and no 0, 1, 3, so that no words form.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// `length` characters as upstream's `rand.String` draws them, for `generateName` and pod names.
pub fn suffix(length: usize) -> String {
    (0..length).map(|_| char::from(NAME_ALPHABET[below(NAME_ALPHABET.len() as u64) as usize])).collect()
}

/// Lower-case hex of `bytes` random bytes: container and sandbox ids.
pub fn hex(bytes: usize) -> String {
    (0..bytes).map(|_| format!("{:02x}", random_u64() & 0xff)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_shape_that_kubernetes_wants() {
        let uuid = uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4");
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"));
        assert_eq!(suffix(5).len(), 5);
        assert!(suffix(200).bytes().all(|byte| NAME_ALPHABET.contains(&byte)));
        assert_eq!(hex(32).len(), 64);
    }
}
