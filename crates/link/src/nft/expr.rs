//! The expressions that rules are made of, as data. One variant for each of the kernel's expressions that a dataplane needs.

use super::key::Field;
use super::set::{Element, MapData};

/// One of the sixteen 32 bit registers; longer data goes on in the next ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reg(pub(super) u32);

impl Reg {
    /// The register `word`, 0 to 15. Higher numbers are refused by the kernel.
    pub const fn word(word: u32) -> Self {
        Self(8 + word)
    }

    /// The register `words` further on.
    #[must_use]
    pub const fn after(self, words: u32) -> Self {
        Self(self.0 + words)
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Goes on to the next base chain.
    Accept,
    /// Is dropped.
    Drop,
    /// Goes on behind the jump.
    Return,
    /// Goes through a chain and comes back.
    Jump(String),
    /// Goes to a chain and does not come back.
    Goto(String),
}

/// Where an offset into a packet starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadBase {
    /// The Ethernet header.
    Link,
    /// The IP header.
    Network,
    /// The TCP, UDP, ... header.
    Transport,
}

/// What is known about a packet besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// The packet mark.
    Mark,
    /// The interface it came by (index).
    Iif,
    /// The interface it leaves by (index).
    Oif,
    /// The interface it came by (16 byte name).
    IifName,
    /// The interface it leaves by (16 byte name).
    OifName,
    /// IPv4 or IPv6, in an inet table.
    NfProto,
    /// The layer 4 protocol.
    L4Proto,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub enum CmpOp {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Which way an address is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// What the sender of a refused packet hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// ICMP (either version) port unreachable.
    PortUnreachable,
    /// ICMP (either version) administratively prohibited.
    AdminProhibited,
    /// A TCP reset.
    TcpReset,
}

/// How numbers are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numgen {
    /// One after the other.
    Incremental,
    /// By chance.
    Random,
}

/// What connection tracking knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtKey {
    /// Bits of [`ct_state`].
    State,
    /// 0 for the original direction.
    Direction,
    /// Bits of [`ct_status`].
    Status,
    /// The connection's mark.
    Mark,
    /// Destination port of a direction's tuple.
    ProtoDst,
    /// IPv4 destination of a direction's tuple.
    DstIp,
    /// IPv6 destination of a direction's tuple.
    DstIp6,
}

/// A direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtDirection {
    /// As the first packet went.
    Original,
    /// The other way.
    Reply,
}

/// Bits of a packet's connection state, in the machine's order.
pub mod ct_state {
    /// Belongs to no connection that could be tracked.
    pub const INVALID: u32 = 1;
    /// Both directions were seen.
    pub const ESTABLISHED: u32 = 2;
    /// Belongs to another connection (ICMP errors).
    pub const RELATED: u32 = 4;
    /// The first packet.
    pub const NEW: u32 = 8;
    /// Not tracked on purpose.
    pub const UNTRACKED: u32 = 64;
}

/// Bits of a connection's status, in the machine's order.
pub mod ct_status {
    /// The source is translated.
    pub const SNAT: u32 = 16;
    /// The destination is translated.
    pub const DNAT: u32 = 32;
}

/// What to learn from a route lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FibResult {
    /// The interface index.
    Oif,
    /// The interface name.
    OifName,
    /// One of [`route_type`].
    AddressType,
}

/// What a route lookup is made with.
pub mod fib_flag {
    /// The source address.
    pub const SADDR: u32 = 1;
    /// The destination address.
    pub const DADDR: u32 = 2;
    /// The mark too.
    pub const MARK: u32 = 4;
    /// The input interface too.
    pub const IIF: u32 = 8;
    /// Only whether there is a route.
    pub const PRESENT: u32 = 32;
}

/// Kinds of addresses that a route lookup tells, in the machine's order.
pub mod route_type {
    /// Somewhere else.
    pub const UNICAST: u32 = 1;
    /// This machine.
    pub const LOCAL: u32 = 2;
    /// Everyone on a link.
    pub const BROADCAST: u32 = 3;
}

/// Flags of address translation.
pub mod nat_flag {
    /// Ports are drawn unpredictably.
    pub const FULLY_RANDOM: u32 = 16;
}

/// The time that a rate counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub enum LimitUnit {
    Second,
    Minute,
    Hour,
}

/// What a rule does to a dynamic set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynsetOp {
    /// Adds, if it is not there.
    Add,
    /// Adds, or starts its time again.
    Update,
    /// Takes out.
    Delete,
}

/// The set that an expression looks in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetRef {
    /// One of the table's.
    Named(String),
    /// One that lives and dies with its rule and does not change.
    Inline {
        /// The fields of a key.
        key: Vec<Field>,
        /// What the keys lead to, for a map.
        data: Option<MapData>,
        /// Everything in it.
        elements: Vec<Element>,
    },
}

/// One expression.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // Fields are named as in the kernel's documentation.
pub enum Expr {
    /// Loads bytes of the packet.
    Payload { base: PayloadBase, offset: u32, len: u32, dreg: Reg },
    /// Loads something known about the packet.
    Meta { key: MetaKey, dreg: Reg },
    /// Stores something about the packet (its mark).
    MetaSet { key: MetaKey, sreg: Reg },
    /// Goes on if the comparison holds.
    Cmp { op: CmpOp, sreg: Reg, data: Vec<u8> },
    /// `dreg = (sreg & mask) ^ xor`.
    Bitwise { sreg: Reg, dreg: Reg, mask: Vec<u8>, xor: Vec<u8> },
    /// Goes on if the key is in the set (or not, inverted); a map's value goes to `dreg`.
    Lookup { set: SetRef, sreg: Reg, dreg: Option<Reg>, inverted: bool },
    /// Goes where the map of verdicts says, if the key is there.
    VerdictMap { set: SetRef, sreg: Reg },
    /// Loads constant bytes.
    Immediate { dreg: Reg, data: Vec<u8> },
    /// Decides.
    Verdict(Verdict),
    /// Translates to the address and port in registers. `ipv6` says which addresses.
    Nat { kind: NatKind, ipv6: bool, address: Option<Reg>, port: Option<Reg>, flags: u32 },
    /// Translates the source to the address of the outgoing interface.
    Masquerade { flags: u32 },
    /// Refuses.
    Reject(Reject),
    /// Makes a number below `modulus`, plus `offset`.
    Numgen { dreg: Reg, modulus: u32, kind: Numgen, offset: u32 },
    /// Counts packets and bytes.
    Counter,
    /// Loads what connection tracking knows; some keys need a direction.
    Ct { key: CtKey, dreg: Reg, direction: Option<CtDirection> },
    /// Stores the connection's mark.
    CtSet { key: CtKey, sreg: Reg },
    /// Looks a route up.
    Fib { dreg: Reg, result: FibResult, flags: u32 },
    /// Leaves the packet out of connection tracking.
    Notrack,
    /// Goes on as long as packets are below a rate (above it, inverted).
    Limit { rate: u64, unit: LimitUnit, burst: u32, inverted: bool },
    /// Changes a dynamic set.
    Dynset { set: String, op: DynsetOp, key: Reg, data: Option<Reg>, timeout_ms: Option<u64> },
}

impl Expr {
    /// Goes on if the register holds `data`.
    pub fn equal(sreg: Reg, data: impl Into<Vec<u8>>) -> Self {
        Self::Cmp { op: CmpOp::Equal, sreg, data: data.into() }
    }

    /// Goes on if the register does not hold `data`.
    pub fn not_equal(sreg: Reg, data: impl Into<Vec<u8>>) -> Self {
        Self::Cmp { op: CmpOp::NotEqual, sreg, data: data.into() }
    }

    /// Ends in a jump to `chain`.
    pub fn jump(chain: impl Into<String>) -> Self {
        Self::Verdict(Verdict::Jump(chain.into()))
    }

    /// Ends in a goto to `chain`.
    pub fn goto(chain: impl Into<String>) -> Self {
        Self::Verdict(Verdict::Goto(chain.into()))
    }
}
