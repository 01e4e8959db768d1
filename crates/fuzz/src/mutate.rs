//! Changed seeds in an order that never varies: the same number makes the same bytes. It knows bytes and no parser.

/// What small numbers, limits and structure characters look like in most formats.
const INTERESTING: &[&[u8]] = &[
    b"\0",
    b"\x01",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"-1",
    b"0",
    b"9223372036854775807",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\n",
    b"/",
    b"..",
    b"%",
    b"null",
    b"\xc3\x28",
    b"\xf0\x9f\xa6\x80",
];
/// Longer bytes are cut: what breaks a parser breaks it small.
const MAX_BYTES: usize = 4 << 10;

/// Endless mutations of seeds.
pub struct Mutations<'a> {
    seeds: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutations<'a> {
    /// Of `seeds`, which are not empty; `number` tells one order from another.
    pub fn new(seeds: &'a [Vec<u8>], number: u64) -> Self {
        Self { seeds, state: number.wrapping_add(0x9e37_79b9_7f4a_7c15) }
    }

    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound.max(1) as u64).unwrap_or(0)
    }

    /// A piece of the bytes.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..start + self.below((length - start).min(32) + 1)
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(self.below(256)).unwrap_or(0),
            2 => drop(bytes.drain(self.range(bytes.len()))),
            3 => {
                let piece = bytes[self.range(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let piece = INTERESTING[self.below(INTERESTING.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            5 => {
                let piece = INTERESTING[self.below(INTERESTING.len())];
                let end = (at + piece.len()).min(bytes.len());
                bytes.splice(at..end, piece.iter().copied());
            }
            6 => {
                let other = &self.seeds[self.below(self.seeds.len())];
                let piece = other[self.range(other.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.truncate(at),
        }
        bytes.truncate(MAX_BYTES);
    }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut bytes = self.seeds[self.below(self.seeds.len())].clone();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes);
        }
        Some(bytes)
    }
}
