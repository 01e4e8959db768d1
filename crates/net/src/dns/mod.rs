//! Cluster DNS: the names of services and pods after the Kubernetes DNS specification 1.1.0, answered as CoreDNS answers with its
//! default configuration, and everything else forwarded. The zone is an immutable snapshot of plain data; the server
//! knows nothing of where it comes from.
//!
//! Queries are read and answers written by a codec of our own: most answers are a few bytes behind the question as it came, written
//! into one buffer per socket. The tests judge it by an independent implementation of the format.

mod answer;
mod cache;
mod chase;
mod counters;
mod forward;
mod reply;
mod resolv_conf;
mod resolver;
mod server;
mod wire;
mod zone;

pub use counters::{Counters, CountersSnapshot};
pub use forward::Forwarder;
pub use resolv_conf::upstreams;
pub use resolver::Resolver;
pub use server::Server;
pub use wire::fuzz_query;
pub use zone::{EndpointRecord, PortRecord, ServiceKind, ServiceRecord, Zone, ZoneSpec};
