//! The three patches that carry a part of an object: operations (RFC 6902), a merge (RFC 7386), and Kubernetes' strategic merge, which
//! knows the type. They must not check what comes out: `normalize` and the kinds do.
pub mod json;
pub mod merge;
pub mod strategic;
