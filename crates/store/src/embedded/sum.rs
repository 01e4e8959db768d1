//! The checksum that each row carries, so that a damaged value is found even where SQLite's structures are intact.

const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// A 64-bit sum over a row's parts. Not secret and not against an attacker: against bits that rot.
pub(super) struct Sum(u64);

impl Sum {
    pub(super) fn new() -> Self {
        Self(MULTIPLIER)
    }

    pub(super) fn number(&mut self, number: i64) {
        self.0 = (self.0.rotate_left(29) ^ number.cast_unsigned()).wrapping_mul(MULTIPLIER);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len().cast_signed() as i64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(i64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.number(i64::from_le_bytes(last));
    }

    pub(super) fn finish(&self) -> i64 {
        (self.0 ^ (self.0 >> 32)).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> i64 {
        let mut sum = Sum::new();
        sum.bytes(bytes);
        sum.finish()
    }

    #[test]
    fn every_bit_and_the_length_count() {
        let bytes = *b"an odd number of bytes!";
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(of(&bytes), of(&damaged));
        }
        assert_ne!(of(b"a"), of(b"a\0"));
    }
}
