//! Containers' logs in CRI's format: reading, following, and rotating them. It knows files, not pods.

pub mod follow;
pub mod line;
pub mod rotate;
pub mod tail;
