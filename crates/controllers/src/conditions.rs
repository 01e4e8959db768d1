//! Times and conditions as status objects hold them.

use nauplius_base::time::Timestamp;
use nauplius_kinds::api::meta::Time;

/// A `metav1.Time`, which knows whole seconds only.
pub(crate) fn seconds(at: Timestamp) -> Time {
    // Any timestamp's whole second is a timestamp.
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}
