//! The test tools: an API server alone (its store, its listener, its own authority), clients that record what they did and saw, and
//! checkers that judge such histories. The checkers are pure; they know nothing of servers.

pub mod chance;
pub mod check;
pub mod clients;
pub mod faults;
pub mod history;
pub mod solo;
