//! The list of the kinds that are served without any definition. It knows no more of a kind than its module.

use crate::core;
use crate::kind::Kind;
use std::sync::Arc;

/// The built-in kinds, in no order that matters.
pub fn builtin() -> Vec<Arc<dyn Kind>> {
    vec![
        Arc::new(core::config_map::kind()),
        Arc::new(core::namespace::kind()),
        Arc::new(core::pod::kind()),
        Arc::new(core::secret::kind()),
        Arc::new(core::service_account::kind()),
    ]
}
