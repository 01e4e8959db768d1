//! What the stores promise, tried from outside.

mod backup;
mod embedded;
mod etcd;
mod faults;
mod full_disk;
mod kill;
mod memory;
mod model;
mod shifted;
mod suite;
