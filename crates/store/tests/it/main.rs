//! What the stores promise, tried from outside.

mod embedded;
mod etcd;
mod full_disk;
mod kill;
mod model;
mod shifted;
mod suite;
