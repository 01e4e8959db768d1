//! WebSocket (RFC 6455) as Kubernetes uses it: one message is a piece of one channel, or a piece of a byte stream. Messages
//! are passed on in pieces as they come, so their length needs no bound.

mod connection;
mod frame;
mod messages;

pub(crate) use connection::{Connection, Format, Open, Side};
pub use frame::fuzz_messages;
pub use messages::{Message, MessageSocket, accept_messages, accept_messages_of};
