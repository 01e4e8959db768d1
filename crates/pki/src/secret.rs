//! Random secrets, and comparing secrets without telling how much of them matched.

use crate::PkiError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};

/// Random bytes that nobody can guess.
///
/// # Errors
/// [`PkiError::Crypto`] when the system gives no randomness.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| PkiError::Crypto)?;
    Ok(bytes)
}

/// 256 random bits as URL-safe text: one-time and bootstrap tokens.
///
/// # Errors
/// [`PkiError::Crypto`] when the system gives no randomness.
pub fn random_token() -> Result<String, PkiError> {
    Ok(URL_SAFE_NO_PAD.encode(random_bytes::<32>()?))
}

/// Whether two secrets are the same, in a time that depends on their lengths only.
pub fn constant_time_eq(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0u8, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_whole_secrets() {
        assert!(constant_time_eq(b"abc", b"abc"));
        assert!(!constant_time_eq(b"abc", b"abd"));
        assert!(!constant_time_eq(b"abc", b"ab"));
        assert!(constant_time_eq(b"", b""));
        assert_ne!(random_token().unwrap(), random_token().unwrap());
    }
}
