//! The runtime against the real kernel: each test has its own state directory, cgroups and image, and leaves nothing behind.

mod adoption;
mod image_volumes;
mod lifecycle;
mod limits;
mod security;
mod shared_pids;
mod streams;
mod world;
