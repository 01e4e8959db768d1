//! Servers and clients of every protocol version against each other in memory, through tunnels, and against clients that
//! others wrote: kubectl where it is installed, and a WebSocket library.

mod kubectl;
mod port_forward;
mod remote_command;
mod server;
mod tunnel;
mod websocket;
