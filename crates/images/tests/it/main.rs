//! The crate through its public door: pulls from registries in memory and over HTTP, archives, unpacked directories, crashes.

mod archives;
mod crashes;
mod fake;
mod fixture;
mod http;
mod pulls;
mod store;
mod unpacked;
