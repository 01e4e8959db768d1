//! What the embedded store promises, tried from outside.

mod embedded;
mod full_disk;
mod kill;
mod model;
