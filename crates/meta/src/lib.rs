//! API machinery, pure: object metadata, names, selectors, patches, schema, codecs and Status errors.
//!
//! Nothing here does input or output, reads a clock or waits. Objects are trees of [`serde_json::Value`].
pub mod apply;
pub mod cbor;
pub mod error;
pub mod field;
pub mod go;
pub mod go_struct;
pub mod gvk;
pub mod intstr;
pub mod json;
mod json_numbers;
mod json_syntax;
pub mod metadata;
pub mod names;
pub mod normalize;
pub mod object;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod schema;
pub mod selector;
mod status;
pub mod structural;
pub mod time;
pub mod yaml;

pub use error::ApiError;
pub use object::Object;
pub use status::Status;
