//! The API server in process, over the embedded store and over the model.

mod crud;
mod encodings;
mod hooks;
mod lists;
mod support;
mod watches;
