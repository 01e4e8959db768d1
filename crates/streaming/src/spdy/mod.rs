//! SPDY/3.1 as Kubernetes uses it: streams named by headers over one connection. Upstream's implementation neither keeps nor
//! respects flow-control windows, so we respect a peer's only when it announces them, and bound memory by not reading on.

mod connection;
mod dictionary;
mod frame;
mod headers;
mod state;

pub(crate) use connection::{Connection, IncomingStream, Opener, Role, SpdyStream};
pub use frame::fuzz_frames;
pub(crate) use headers::Headers;
pub(crate) use state::{RECEIVE_WINDOW, StreamState};
