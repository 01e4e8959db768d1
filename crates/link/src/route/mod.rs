//! Links, addresses and routes through rtnetlink. One [`Rtnl`] is one socket in one network namespace, wherever its owner's
//! thread is. It does what it is told; it keeps no state and makes no plan.

mod address;
mod links;
mod node;
mod routes;

pub use address::{Address, Scope};
pub use links::{BridgePort, BridgeSpec, Link, LinkChange, Mac, VethEnd, VethSpec};
pub use node::DefaultRoute;
pub use routes::{Route, RouteKind};

use crate::error::Result;
use crate::netns::Netns;
use crate::socket::Socket;

/// A connection to the kernel's routing side, in one network namespace.
pub struct Rtnl {
    socket: Socket,
}

impl Rtnl {
    /// For the calling thread's namespace.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(None)? })
    }

    /// For the namespace `netns`.
    ///
    /// # Errors
    /// The namespace cannot be entered or the socket cannot be opened.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.run(Self::open)?
    }
}
