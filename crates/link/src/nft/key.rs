//! Keys and values of sets and maps: concatenated fields, each padded to 32 bits.

use std::fmt;
use std::net::IpAddr;

/// The type of one field of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A layer 4 protocol number.
    Proto,
    /// A port.
    Port,
    /// A packet mark.
    Mark,
    /// An interface name.
    IfName,
    /// A number in the machine's order, as numgen makes.
    Number,
}

impl Field {
    /// Bytes, before padding.
    pub fn len(self) -> u32 {
        match self {
            Self::Ipv4 | Self::Mark | Self::Number => 4,
            Self::Ipv6 | Self::IfName => 16,
            Self::Proto => 1,
            Self::Port => 2,
        }
    }

    /// No field is empty.
    pub fn is_empty(self) -> bool {
        false
    }

    pub(super) fn padded(self) -> u32 {
        self.len().next_multiple_of(4)
    }

    /// The number that the nft program knows the type by; the kernel only stores it.
    fn type_number(self) -> u32 {
        match self {
            Self::Number => 4,
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Proto => 12,
            Self::Port => 13,
            Self::Mark => 19,
            Self::IfName => 41,
        }
    }

    fn host_order(self) -> bool {
        matches!(self, Self::Mark | Self::IfName | Self::Number)
    }
}

/// Length in the kernel's registers: a single field is not padded.
pub(super) fn length(fields: &[Field]) -> u32 {
    match fields {
        [single] => single.len(),
        many => many.iter().map(|field| field.padded()).sum(),
    }
}

pub(super) fn type_number(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |number, field| (number << 6) | field.type_number())
}

/// 1 for the machine's order, 2 for network order, as the nft program stores it beside a set.
pub(super) fn byte_order(fields: &[Field]) -> u32 {
    match fields {
        [single] if single.host_order() => 1,
        _ => 2,
    }
}

/// The bytes of a key or value. Made field by field in the order of the set's definition.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Key(Vec<u8>);

impl Key {
    /// An empty key to add fields to.
    pub fn new() -> Self {
        Self::default()
    }

    /// From bytes that are laid out already.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, with every field but a single one padded.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn field(mut self, bytes: &[u8]) -> Self {
        // Pad the field before, not the last: a key of one field has no padding.
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds an address.
    #[must_use]
    pub fn ip(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.field(&v4.octets()),
            IpAddr::V6(v6) => self.field(&v6.octets()),
        }
    }

    /// Adds a protocol number.
    #[must_use]
    pub fn proto(self, number: u8) -> Self {
        self.field(&[number])
    }

    /// Adds a port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.field(&port.to_be_bytes())
    }

    /// Adds a number in the machine's order (a mark, an index).
    #[must_use]
    pub fn number(self, number: u32) -> Self {
        self.field(&number.to_ne_bytes())
    }

    /// Adds an interface name.
    #[must_use]
    pub fn interface(self, name: &str) -> Self {
        let mut padded = [0; 16];
        let length = name.len().min(15);
        padded[..length].copy_from_slice(&name.as_bytes()[..length]);
        self.field(&padded)
    }

    /// The bytes as the kernel wants them: concatenations padded at the end too.
    pub(super) fn wire(&self, length: u32) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(length as usize, 0);
        bytes
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_padded_to_words() {
        let fields = [Field::Ipv4, Field::Proto, Field::Port];
        let key = Key::new().ip([10, 96, 0, 1].into()).proto(6).port(443);
        assert_eq!(key.wire(length(&fields)), [10, 96, 0, 1, 6, 0, 0, 0, 1, 187, 0, 0]);
        assert_eq!(length(&[Field::Port]), 2);
        assert_eq!(type_number(&fields), (7 << 12) | (12 << 6) | 13);
    }
}
