//! The service dataplane: services and their endpoints become a [`RuleSet`], and a [`Dataplane`] makes packets follow it. The
//! real one is nftables, laid out as upstream's kube-proxy does in its nftables mode; the fake one evaluates packets
//! against the same rule set.

mod choose;
mod compile;
mod evaluate;
pub(crate) mod expressions;
mod nftables;
mod ruleset;
mod service;
mod stale;

pub use evaluate::{Evaluator, Outcome, Packet, Target};
pub use nftables::NftDataplane;
pub use ruleset::{Conflict, HealthCheck, Network, PlannedService, RuleSet, Targets, plan};
pub use service::{Endpoint, Protocol, ServiceName, ServicePort, TrafficPolicy};

use std::collections::BTreeSet;
use std::net::IpAddr;

/// Makes packets follow a rule set.
pub trait Dataplane: Send {
    /// Brings the dataplane to `rules`: all of it at once, or nothing.
    ///
    /// # Errors
    /// The backend refuses; the rules of the last success still hold.
    fn apply(&mut self, rules: &RuleSet) -> Result<(), Error>;

    /// Whether what was applied last is still there; what is gone is applied whole the next time.
    ///
    /// # Errors
    /// The backend cannot be read.
    fn is_whole(&mut self) -> Result<bool, Error>;

    /// What the dataplane does now.
    ///
    /// # Errors
    /// The backend cannot be read.
    fn observe(&mut self) -> Result<Observed, Error>;

    /// Takes everything away; that nothing is there is fine.
    ///
    /// # Errors
    /// The backend refuses.
    fn remove(&mut self) -> Result<(), Error>;
}

/// What a dataplane does now, as far as it can be told from outside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Addresses that lead to endpoints.
    pub served: BTreeSet<(IpAddr, Protocol, u16)>,
    /// Node ports that lead to endpoints.
    pub node_ports: BTreeSet<(Protocol, u16)>,
    /// Addresses that are refused or dropped for want of endpoints.
    pub refused: BTreeSet<(IpAddr, Protocol, u16)>,
}

/// Why a dataplane could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error(transparent)]
    Link(#[from] nauplius_link::Error),
}
