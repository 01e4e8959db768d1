//! nftables through netlink: a [`Batch`] of changes that the kernel takes whole or not at all, and listings of what is there.
//! The types are nftables' own concepts; what the rules are for is the caller's business.

mod batch;
mod chain;
mod encode;
mod expr;
mod key;
mod list;
mod set;

pub use batch::{Batch, Refused};
pub use chain::{Chain, ChainKind, Family, Hook, Policy, Rule, Table};
pub use expr::{
    CmpOp, CtDirection, CtKey, DynsetOp, Expr, FibResult, LimitUnit, MetaKey, NatKind, Numgen, PayloadBase,
    Reg, Reject, SetRef, Verdict, ct_state, ct_status, fib_flag, nat_flag, route_type,
};
pub use key::{Field, Key};
pub use list::{ListedChain, ListedElement, ListedRule, ListedSet, ListedTable};
pub use set::{Element, MapData, MapValue, Set};

use crate::error::Result;
use crate::netns::Netns;
use crate::socket::Socket;

pub(crate) const SUBSYSTEM: u16 = 10 << 8;

/// A connection to nftables in one network namespace.
pub struct Nft {
    pub(crate) socket: Socket,
}

impl Nft {
    /// For the calling thread's namespace.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(Some(rustix::net::netlink::NETFILTER))? })
    }

    /// For the namespace `netns`.
    ///
    /// # Errors
    /// The namespace cannot be entered or the socket cannot be opened.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.run(Self::open)?
    }
}
