//! Tests of server-side apply, as tables of what upstream does.
mod cases;
mod laws;
mod manager;
mod ownership;
mod values;
mod world;
