//! Netlink's message format: headers, attributes and nested attributes, to bytes and back. Knows no family's meaning.

use std::net::IpAddr;

pub(crate) const HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;
const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;

/// What stands in the netlink header of a message to send.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
}

/// Appends messages to one buffer.
#[derive(Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    overlong: bool,
}

impl Encoder {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether some attribute did not fit its length field; such a buffer must not be sent.
    pub fn overlong(&self) -> bool {
        self.overlong
    }

    pub fn message(&mut self, head: Head, family_header: &[u8], body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&head.kind.to_ne_bytes());
        self.bytes.extend_from_slice(&head.flags.to_ne_bytes());
        self.bytes.extend_from_slice(&head.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.raw(family_header);
        body(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or_else(|_| {
            self.overlong = true;
            0
        });
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Bytes without an attribute header, padded: the fixed header inside some nested attributes.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    pub fn put(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |encoder| encoder.bytes.extend_from_slice(value));
    }

    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, body);
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or_else(|_| {
            self.overlong = true;
            0
        });
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }

    pub fn put_u8(&mut self, kind: u16, value: u8) {
        self.put(kind, &[value]);
    }

    /// A 32 bit value in the machine's order, as rtnetlink wants it.
    pub fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// A 32 bit value in network order, as netfilter wants it.
    pub fn put_be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A 64 bit value in network order.
    pub fn put_be64(&mut self, kind: u16, value: u64) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A string with its terminating zero.
    pub fn put_str(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |encoder| {
            encoder.bytes.extend_from_slice(value.as_bytes());
            encoder.bytes.push(0);
        });
    }

    pub fn put_ip(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.put(kind, &v4.octets()),
            IpAddr::V6(v6) => self.put(kind, &v6.octets()),
        }
    }
}

/// One received message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// The messages of one datagram. A length that does not fit ends the iteration.
pub(crate) struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Received<'a>;

    fn next(&mut self) -> Option<Received<'a>> {
        let length = ne32(self.0.get(..4)?)? as usize;
        let message = self.0.get(..length).filter(|message| message.len() >= HEADER_LEN)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Received {
            kind: ne16(&message[4..6])?,
            flags: ne16(&message[6..8])?,
            sequence: ne32(&message[8..12])?,
            payload: &message[HEADER_LEN..],
        })
    }
}

/// The attributes in a payload: kind without its flags, and value. A length that does not fit ends the iteration.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(ne16(self.0.get(..2)?)?);
        let kind = ne16(self.0.get(2..4)?)? & KIND_MASK;
        let value = self.0.get(ATTRIBUTE_HEADER_LEN..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Attributes<'a> {
    pub fn find(self, wanted: u16) -> Option<&'a [u8]> {
        let mut attributes = self;
        attributes.find_map(|(kind, value)| (kind == wanted).then_some(value))
    }
}

pub(crate) fn ne16(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_ne_bytes)
}

pub(crate) fn ne32(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

pub(crate) fn be16(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_be_bytes)
}

pub(crate) fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

pub(crate) fn be64(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

pub(crate) fn string(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

pub(crate) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_survives_the_wire() {
        let mut encoder = Encoder::default();
        let head = Head { kind: 16, flags: 5, sequence: 7 };
        encoder.message(head, &[1, 2, 3, 4], |attributes| {
            attributes.put_str(3, "eth0");
            attributes.nest(18, |nested| nested.put_u32(1, 9));
        });
        let messages: Vec<_> = Messages(encoder.bytes()).collect();
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].kind, messages[0].flags, messages[0].sequence), (16, 5, 7));
        let attributes = Attributes(&messages[0].payload[4..]);
        assert_eq!(string(attributes.find(3).unwrap()), "eth0");
        assert_eq!(ne32(Attributes(attributes.find(18).unwrap()).find(1).unwrap()), Some(9));
    }

    #[test]
    fn an_attribute_that_does_not_fit_is_noticed() {
        let mut encoder = Encoder::default();
        encoder.put(1, &vec![0; 70_000]);
        assert!(encoder.overlong());
    }

    proptest! {
        #[test]
        fn outside_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in Messages(&bytes) {
                let _count = Attributes(message.payload).count();
            }
            let _count = Attributes(&bytes).count();
        }
    }
}
