//! The API server as a whole, with the test tools.

mod bench;
mod rounds;
