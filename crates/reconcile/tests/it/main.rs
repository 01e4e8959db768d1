//! The informer and the driver against a scripted API server.

mod driver;
mod informer;
mod script;
