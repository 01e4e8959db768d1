//! To be written with the server.
