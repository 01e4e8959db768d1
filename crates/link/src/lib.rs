//! The machine's network, by system calls: netlink (links, addresses, routes, nftables, connection tracking), network
//! namespaces, sysctls and address management. No other binary is run. Nothing here knows what a pod or a service is.
//!
//! Everything is synchronous and takes micro- to milliseconds; async callers use a blocking thread. The wire format has one
//! small codec of our own, because nftables and connection tracking need one anyway, and because the
//! kernel's extended error messages are kept that way.

mod error;
mod socket;
mod wire;

pub mod conntrack;
pub mod ipam;
pub mod netns;
pub mod nft;
pub mod route;
pub mod sysctl;

pub use error::{Error, Result};
pub use netns::Netns;
pub use route::Rtnl;
