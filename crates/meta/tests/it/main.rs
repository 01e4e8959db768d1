//! The codecs against upstream's own objects: each of them in each encoding.
mod fixtures;
mod generated;
