//! CBOR to trees and back, as upstream's serializer does it: strings are byte strings, bytes carry the tag that says "base64 in JSON",
//! floats are as short as they can be, and every document begins with the tag of self-described CBOR. It must not know what a tree means.
mod decode;
mod encode;

pub use decode::{MAX_DEPTH, decode, documents};
pub use encode::{array_head, encode, entry, event_head, list_head, write};

/// What every document begins with: tag 55799.
pub const MAGIC: [u8; 3] = [0xd9, 0xd9, 0xf7];

/// Bytes that are base64 in JSON (RFC 8949, 3.4.5.2).
const BASE64: u64 = 22;

/// Why bytes are no CBOR that has a form in JSON, in the words of upstream's library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// They end too early.
    #[error("unexpected EOF")]
    End,
    /// They are no CBOR.
    #[error("cbor: invalid data item at index {0}")]
    Syntax(usize),
    /// Something follows the document.
    #[error("cbor: {bytes} bytes of extraneous data starting at index {index}")]
    Extraneous {
        /// So much of it.
        bytes: usize,
        /// Where it begins.
        index: usize,
    },
    /// Lists and maps in one another.
    #[error("cbor: exceeded max nested level {MAX_DEPTH}")]
    Depth,
    /// A map has a key twice.
    #[error("cbor: found duplicate map key {} at map element index {index}", crate::field::quote(key))]
    Duplicate {
        /// The key.
        key: String,
        /// The place of the second in its map, from 0.
        index: usize,
    },
    /// Text that is none.
    #[error("cbor: invalid UTF-8 string")]
    Utf8,
    /// What JSON has no form for.
    #[error("cbor: cannot unmarshal {0}")]
    NoJson(&'static str),
}
