//! The API server in process, over the embedded store and over the model.

mod consistency;
mod crud;
mod discovery;
mod encodings;
mod hooks;
mod kubectl;
mod lists;
mod network;
mod odd;
mod openapi;
mod patches;
mod support;
mod typed;
mod watches;
