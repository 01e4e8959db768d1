//! The informer and the driver against a scripted API server.

mod informer;
mod script;
