//! Calls to webhooks: one JSON document posted over TLS, one JSON document back. Where a webhook is — a URL, or a service whose
//! endpoints are in the caches — and whom it must prove to be are its configuration's words; what the documents say is the
//! caller's business.

mod client;
mod place;

pub(crate) use client::{CallError, Webhook};
