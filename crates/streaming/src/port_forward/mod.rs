//! Forwarded ports: pairs of a data and an error stream over SPDY, SPDY inside a WebSocket, or the old WebSocket with two
//! channels for each port. What listens on the ports is unknown here.

mod client;
mod server;

pub use client::{ForwardedPort, PortForwardClient, PortForwardTransport, connect_port_forward};
pub use server::{
    ErrorSender, PortForwardOptions, PortForwardSession, PortForwardStream, accept_port_forward,
};

const STREAM_TYPE: &str = "streamType";
const PORT: &str = "port";
const REQUEST_ID: &str = "requestID";
const DATA: &str = "data";
const ERROR: &str = "error";
/// The stream protocol over SPDY.
const PORT_FORWARD_V1: &str = "portforward.k8s.io";
/// The WebSocket subprotocol whose binary messages carry SPDY.
const TUNNELED_V1: &str = "SPDY/3.1+portforward.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const V4_BASE64: &str = "v4.base64.channel.k8s.io";
