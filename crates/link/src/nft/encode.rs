//! Expressions, sets and elements to netlink attributes. Numbers are those of `linux/netfilter/nf_tables.h`.

use super::chain::Family;
use super::expr::{
    CmpOp, CtDirection, CtKey, DynsetOp, Expr, FibResult, LimitUnit, MetaKey, NatKind, Numgen, PayloadBase,
    Reg, Reject, SetRef, Verdict,
};
use super::key::{self, Field, Key};
use super::set::{Element, MapData, MapValue, Set};
use crate::wire::Encoder;

pub(super) const LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const VERDICT_DATA_TYPE: u32 = 0xffff_ff00;
const VERDICT_REGISTER: u32 = 0;

pub(super) const SET_ANONYMOUS: u32 = 1;
pub(super) const SET_CONSTANT: u32 = 2;
pub(super) const SET_INTERVAL: u32 = 4;
pub(super) const SET_MAP: u32 = 8;
pub(super) const SET_TIMEOUT: u32 = 16;
pub(super) const SET_EVAL: u32 = 32;
const ELEMENT_INTERVAL_END: u32 = 1;

/// The kernel's name for an inline set, and its number within the batch.
pub(super) struct InlineSet {
    pub name: &'static str,
    pub id: u32,
}

/// One expression as a list element. `inline` is what an inline set of it was declared as.
pub(super) fn expression(encoder: &mut Encoder, family: Family, expr: &Expr, inline: Option<&InlineSet>) {
    encoder.nest(LIST_ELEM, |element| {
        element.put_str(1, name(expr));
        element.nest(2, |data| body(data, family, expr, inline));
    });
}

fn name(expr: &Expr) -> &'static str {
    match expr {
        Expr::Payload { .. } => "payload",
        Expr::Meta { .. } | Expr::MetaSet { .. } => "meta",
        Expr::Cmp { .. } => "cmp",
        Expr::Bitwise { .. } => "bitwise",
        Expr::Lookup { .. } | Expr::VerdictMap { .. } => "lookup",
        Expr::Immediate { .. } | Expr::Verdict(_) => "immediate",
        Expr::Nat { .. } => "nat",
        Expr::Masquerade { .. } => "masq",
        Expr::Reject(_) => "reject",
        Expr::Numgen { .. } => "numgen",
        Expr::Counter => "counter",
        Expr::Ct { .. } | Expr::CtSet { .. } => "ct",
        Expr::Fib { .. } => "fib",
        Expr::Notrack => "notrack",
        Expr::Limit { .. } => "limit",
        Expr::Dynset { .. } => "dynset",
    }
}

fn body(data: &mut Encoder, family: Family, expr: &Expr, inline: Option<&InlineSet>) {
    match expr {
        Expr::Payload { base, offset, len, dreg } => {
            numbers(data, &[(1, dreg.0), (2, payload_base(*base)), (3, *offset), (4, *len)]);
        }
        Expr::Meta { key, dreg } => numbers(data, &[(1, dreg.0), (2, meta_key(*key))]),
        Expr::MetaSet { key, sreg } => numbers(data, &[(2, meta_key(*key)), (3, sreg.0)]),
        Expr::Cmp { op, sreg, data: value } => {
            numbers(data, &[(1, sreg.0), (2, cmp_op(*op))]);
            put_value(data, 3, value);
        }
        Expr::Bitwise { sreg, dreg, mask, xor } => {
            let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
            numbers(data, &[(1, sreg.0), (2, dreg.0), (3, length)]);
            put_value(data, 4, mask);
            put_value(data, 5, xor);
        }
        Expr::Lookup { set, sreg, dreg, inverted } => {
            lookup(data, set, inline, *sreg, dreg.map(|reg| reg.0));
            data.put_be32(5, u32::from(*inverted));
        }
        Expr::VerdictMap { set, sreg } => lookup(data, set, inline, *sreg, Some(VERDICT_REGISTER)),
        Expr::Immediate { dreg, data: value } => {
            data.put_be32(1, dreg.0);
            put_value(data, 2, value);
        }
        Expr::Verdict(verdict) => {
            data.put_be32(1, VERDICT_REGISTER);
            put_verdict(data, 2, verdict);
        }
        Expr::Numgen { dreg, modulus, kind, offset } => {
            let kind = u32::from(*kind == Numgen::Random);
            numbers(data, &[(1, dreg.0), (2, *modulus), (3, kind), (4, *offset)]);
        }
        Expr::Dynset { set, op, key, data: value, timeout_ms } => {
            data.put_str(1, set);
            numbers(data, &[(3, dynset_op(*op)), (4, key.0)]);
            value.inspect(|reg| data.put_be32(5, reg.0));
            timeout_ms.inspect(|timeout| data.put_be64(6, *timeout));
        }
        Expr::Nat { .. } | Expr::Masquerade { .. } | Expr::Reject(_) => translate(data, family, expr),
        Expr::Ct { .. } | Expr::CtSet { .. } | Expr::Fib { .. } | Expr::Limit { .. } => observe(data, expr),
        Expr::Counter | Expr::Notrack => {}
    }
}

fn translate(data: &mut Encoder, family: Family, expr: &Expr) {
    match expr {
        Expr::Nat { kind, ipv6, address, port, flags } => {
            let kind = u32::from(*kind == NatKind::Destination);
            numbers(data, &[(1, kind), (2, if *ipv6 { 10 } else { 2 })]);
            for (attribute, register) in [(3, address), (5, port)] {
                register.inspect(|register| data.put_be32(attribute, register.0));
            }
            if *flags != 0 {
                data.put_be32(7, *flags);
            }
        }
        Expr::Masquerade { flags } if *flags != 0 => data.put_be32(1, *flags),
        Expr::Reject(reject) => {
            let (kind, code) = reject_code(family, *reject);
            data.put_be32(1, kind);
            data.put_u8(2, code);
        }
        _ => {}
    }
}

/// Only tables of both versions know the abstract ICMP codes; in the others a packet would just be dropped.
fn reject_code(family: Family, reject: Reject) -> (u32, u8) {
    let codes = match reject {
        Reject::TcpReset => return (1, 0),
        Reject::PortUnreachable => [3, 4, 1],
        Reject::AdminProhibited => [13, 1, 3],
    };
    match family {
        Family::Ip => (0, codes[0]),
        Family::Ip6 => (0, codes[1]),
        Family::Inet | Family::Bridge => (2, codes[2]),
    }
}

fn observe(data: &mut Encoder, expr: &Expr) {
    match expr {
        Expr::Ct { key, dreg, direction } => {
            numbers(data, &[(1, dreg.0), (2, ct_key(*key))]);
            direction.inspect(|direction| data.put_u8(3, u8::from(*direction == CtDirection::Reply)));
        }
        Expr::CtSet { key, sreg } => numbers(data, &[(2, ct_key(*key)), (4, sreg.0)]),
        Expr::Fib { dreg, result, flags } => {
            let result = match result {
                FibResult::Oif => 1,
                FibResult::OifName => 2,
                FibResult::AddressType => 3,
            };
            numbers(data, &[(1, dreg.0), (2, result), (3, *flags)]);
        }
        Expr::Limit { rate, unit, burst, inverted } => {
            let seconds = match unit {
                LimitUnit::Second => 1,
                LimitUnit::Minute => 60,
                LimitUnit::Hour => 3600,
            };
            data.put_be64(1, *rate);
            data.put_be64(2, seconds);
            numbers(data, &[(3, *burst), (4, 0), (5, u32::from(*inverted))]);
        }
        _ => {}
    }
}

fn numbers(encoder: &mut Encoder, attributes: &[(u16, u32)]) {
    for (kind, value) in attributes {
        encoder.put_be32(*kind, *value);
    }
}

fn lookup(data: &mut Encoder, set: &SetRef, inline: Option<&InlineSet>, sreg: Reg, dreg: Option<u32>) {
    match (set, inline) {
        (SetRef::Named(name), _) => data.put_str(1, name),
        (SetRef::Inline { .. }, Some(inline)) => {
            data.put_str(1, inline.name);
            data.put_be32(4, inline.id);
        }
        // The batch declares every inline set before its rule; without a name the kernel refuses the message.
        (SetRef::Inline { .. }, None) => {}
    }
    data.put_be32(2, sreg.0);
    dreg.inspect(|dreg| data.put_be32(3, *dreg));
}

fn put_value(encoder: &mut Encoder, kind: u16, value: &[u8]) {
    encoder.nest(kind, |data| data.put(NFTA_DATA_VALUE, value));
}

fn put_verdict(encoder: &mut Encoder, kind: u16, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    encoder.nest(kind, |data| {
        data.nest(NFTA_DATA_VERDICT, |nested| {
            nested.put_be32(1, i32::cast_unsigned(code));
            if let Some(chain) = chain {
                nested.put_str(2, chain);
            }
        });
    });
}

fn payload_base(base: PayloadBase) -> u32 {
    match base {
        PayloadBase::Link => 0,
        PayloadBase::Network => 1,
        PayloadBase::Transport => 2,
    }
}

fn meta_key(key: MetaKey) -> u32 {
    match key {
        MetaKey::Mark => 3,
        MetaKey::Iif => 4,
        MetaKey::Oif => 5,
        MetaKey::IifName => 6,
        MetaKey::OifName => 7,
        MetaKey::NfProto => 15,
        MetaKey::L4Proto => 16,
    }
}

fn cmp_op(op: CmpOp) -> u32 {
    match op {
        CmpOp::Equal => 0,
        CmpOp::NotEqual => 1,
        CmpOp::Less => 2,
        CmpOp::LessOrEqual => 3,
        CmpOp::Greater => 4,
        CmpOp::GreaterOrEqual => 5,
    }
}

fn ct_key(key: CtKey) -> u32 {
    match key {
        CtKey::State => 0,
        CtKey::Direction => 1,
        CtKey::Status => 2,
        CtKey::Mark => 3,
        CtKey::ProtoDst => 12,
        CtKey::DstIp => 20,
        CtKey::DstIp6 => 22,
    }
}

fn dynset_op(op: DynsetOp) -> u32 {
    match op {
        DynsetOp::Add => 0,
        DynsetOp::Update => 1,
        DynsetOp::Delete => 2,
    }
}

/// What a set is declared with, behind its table and name.
pub(super) struct SetShape<'a> {
    pub key: &'a [Field],
    pub data: Option<&'a MapData>,
    pub flags: u32,
    pub id: u32,
    pub size: Option<u32>,
    pub timeout_ms: Option<u64>,
}

impl<'a> SetShape<'a> {
    pub fn named(set: &'a Set, id: u32) -> Self {
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let flags = flag(set.interval, SET_INTERVAL)
            | flag(set.timeout_ms.is_some(), SET_TIMEOUT)
            | flag(set.dynamic, SET_EVAL)
            | flag(set.data.is_some(), SET_MAP);
        Self { key: &set.key, data: set.data.as_ref(), flags, id, size: set.size, timeout_ms: set.timeout_ms }
    }

    pub fn put(&self, encoder: &mut Encoder) {
        encoder.put_be32(3, self.flags);
        encoder.put_be32(4, key::type_number(self.key));
        encoder.put_be32(5, key::length(self.key));
        let mut user_data = vec![0, 4];
        user_data.extend(key::byte_order(self.key).to_ne_bytes());
        match self.data {
            None => {}
            Some(MapData::Verdict) => numbers(encoder, &[(6, VERDICT_DATA_TYPE), (7, 0)]),
            Some(MapData::Fields(fields)) => {
                numbers(encoder, &[(6, key::type_number(fields)), (7, key::length(fields))]);
                user_data.extend([1, 4]);
                user_data.extend(key::byte_order(fields).to_ne_bytes());
            }
        }
        if let Some(size) = self.size {
            encoder.nest(9, |description| description.put_be32(1, size));
        }
        encoder.put_be32(10, self.id);
        if let Some(timeout) = self.timeout_ms {
            encoder.put_be64(11, timeout);
        }
        encoder.put(13, &user_data);
    }
}

/// The lengths that elements of a set are padded to.
#[derive(Clone, Copy)]
pub(super) struct ElementShape {
    pub key: u32,
    pub data: u32,
    pub interval: bool,
}

impl ElementShape {
    pub fn of(key: &[Field], data: Option<&MapData>, interval: bool) -> Self {
        let data = match data {
            Some(MapData::Fields(fields)) => key::length(fields),
            _ => 0,
        };
        Self { key: key::length(key), data, interval }
    }
}

/// One element; a range is two.
pub(super) fn element(encoder: &mut Encoder, shape: ElementShape, element: &Element) {
    encoder.nest(LIST_ELEM, |nested| {
        put_value(nested, 1, &element.key.wire(shape.key));
        match &element.value {
            Some(MapValue::Verdict(verdict)) => put_verdict(nested, 2, verdict),
            Some(MapValue::Value(value)) => put_value(nested, 2, &value.wire(shape.data)),
            None => {}
        }
        element.timeout_ms.inspect(|timeout| nested.put_be64(4, *timeout));
    });
    if let Some(end) = element.end.as_ref().filter(|_| shape.interval) {
        interval_end(encoder, shape, end);
    }
}

fn interval_end(encoder: &mut Encoder, shape: ElementShape, end: &Key) {
    encoder.nest(LIST_ELEM, |nested| {
        put_value(nested, 1, &end.wire(shape.key));
        nested.put_be32(3, ELEMENT_INTERVAL_END);
    });
}
