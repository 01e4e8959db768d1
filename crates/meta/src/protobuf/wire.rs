//! Protobuf's wire format: tags, varints and lengths. It must not know messages.
use std::ops::Range;

use super::ProtobufError;

pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;
const START_GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const FIXED32: u8 = 5;

#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

/// How many bytes a varint takes.
pub(super) fn varint_bytes(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

impl Writer {
    /// Goes on behind what was written already.
    pub(super) fn after(written: Vec<u8>) -> Self {
        Self(written)
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes once more what was written there.
    pub(super) fn repeat(&mut self, range: Range<usize>) {
        self.0.extend_from_within(range);
    }

    /// Takes out what was written there.
    pub(super) fn cut(&mut self, range: Range<usize>) {
        self.0.drain(range);
    }

    /// Makes a field of all that was written from `start` on.
    pub(super) fn wrap(&mut self, field: u32, start: usize) {
        let (end, length) = (self.0.len(), self.0.len() - start);
        self.bytes_head(field, length);
        let head = self.0.len() - end;
        self.0[start..].rotate_right(head);
    }

    fn raw_varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn tag(&mut self, field: u32, wire: u8) {
        self.raw_varint(u64::from(field) << 3 | u64::from(wire));
    }

    /// Negative numbers are extended to 64 bits.
    pub(super) fn varint(&mut self, field: u32, number: i64) {
        self.tag(field, VARINT);
        self.raw_varint(number as u64);
    }

    pub(super) fn double(&mut self, field: u32, number: f64) {
        self.tag(field, FIXED64);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.bytes_head(field, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// What stands before `length` bytes that someone else writes.
    pub(super) fn bytes_head(&mut self, field: u32, length: usize) {
        self.tag(field, BYTES);
        self.raw_varint(length as u64);
    }

    pub(super) fn message(&mut self, field: u32, message: Self) {
        self.bytes(field, &message.0);
    }
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The number and wire type of the next field, or nothing at the end.
    pub(super) fn tag(&mut self) -> Result<Option<(u32, u8)>, ProtobufError> {
        if self.is_empty() {
            return Ok(None);
        }
        let tag = self.raw_varint()?;
        match u32::try_from(tag >> 3) {
            Ok(number) if number > 0 => Ok(Some((number, (tag & 7) as u8))),
            _ => Err(ProtobufError::Tag(tag)),
        }
    }

    pub(super) fn raw_varint(&mut self) -> Result<u64, ProtobufError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(ProtobufError::End)?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(ProtobufError::Overflow)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], ProtobufError> {
        let length = usize::try_from(length).map_err(|_| ProtobufError::Overflow)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::End)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn varint(&mut self, wire: u8, field: &str) -> Result<u64, ProtobufError> {
        expect(wire, VARINT, field)?;
        self.raw_varint()
    }

    pub(super) fn double(&mut self, wire: u8, field: &str) -> Result<f64, ProtobufError> {
        expect(wire, FIXED64, field)?;
        let bytes = self.take(8)?;
        Ok(f64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
    }

    pub(super) fn bytes(&mut self, wire: u8, field: &str) -> Result<&'a [u8], ProtobufError> {
        expect(wire, BYTES, field)?;
        let length = self.raw_varint()?;
        self.take(length)
    }

    pub(super) fn skip(&mut self, wire: u8) -> Result<(), ProtobufError> {
        match wire {
            VARINT => self.raw_varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            FIXED32 => self.take(4).map(drop),
            BYTES => {
                let length = self.raw_varint()?;
                self.take(length).map(drop)
            }
            START_GROUP => self.skip_group(),
            other => Err(ProtobufError::WireType { wire: other, field: "unknown".to_owned() }),
        }
    }

    /// Groups nest, but only their depth has to be remembered.
    fn skip_group(&mut self) -> Result<(), ProtobufError> {
        let mut depth = 1;
        while depth > 0 {
            match self.tag()? {
                None => return Err(ProtobufError::End),
                Some((_, START_GROUP)) => depth += 1,
                Some((_, END_GROUP)) => depth -= 1,
                Some((_, wire)) => self.skip(wire)?,
            }
        }
        Ok(())
    }
}

fn expect(wire: u8, wanted: u8, field: &str) -> Result<(), ProtobufError> {
    if wire == wanted { Ok(()) } else { Err(ProtobufError::WireType { wire, field: field.to_owned() }) }
}
