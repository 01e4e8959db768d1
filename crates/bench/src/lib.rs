//! `nauplius bench api`: a closed-loop load on any Kubernetes API server, with what it costs that server. It speaks HTTP/2 over TLS
//! with a client of its own that throws list bodies away, so that the server is what is measured. It knows nothing of our server.

mod error;
mod load;
mod objects;
mod options;
mod process;
mod report;
mod run;
mod wire;
mod workload;

pub use error::BenchError;
pub use options::{ApiArgs, Resource, Workload};
pub use report::{Report, Row};
pub use run::run;
