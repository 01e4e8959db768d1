//! What an object may say but better would not: texts for the client, in upstream's words. Nothing here refuses anything.

mod address;
mod container;
mod node_label;
mod pod;
mod volume;

pub(crate) use address::{cidr, ip};
pub(crate) use node_label::{
    deprecated as deprecated_node_label, of_selector, of_term as of_node_selector_term,
};
pub(crate) use pod::{of_name, of_pod, of_template};
pub(crate) use volume::of_claim;

use crate::tree::get;
use nauplius_meta::field::Path;
use nauplius_meta::quantity::Quantity;
use serde_json::Value;

/// The warnings found so far.
pub(crate) type Warnings = Vec<String>;

/// Adds a warning for each of the named amounts of bytes that is no whole number; `path` is that of the list.
pub(crate) fn fractional_bytes(list: &Value, names: &[&str], path: &Path, warnings: &mut Warnings) {
    for name in names {
        let Some(value) = get(list, name) else { continue };
        // The schema refuses what is no quantity.
        let Ok(amount) = Quantity::from_value(value) else { continue };
        if amount.milli_value() % 1000 != 0 {
            let (path, amount) = (path.key(name), amount.canonical());
            warnings
                .push(format!("{path}: fractional byte value \"{amount}\" is invalid, must be an integer"));
        }
    }
}
