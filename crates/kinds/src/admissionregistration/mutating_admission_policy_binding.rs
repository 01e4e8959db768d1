//! MutatingAdmissionPolicyBinding: puts a policy that changes objects to use.

use super::GROUP;
use super::binding::{self, Binding};
use crate::describe::describe;
use crate::runtime_config::RuntimeConfig;

pub(crate) fn kind(config: &RuntimeConfig) -> Binding {
    let plural = "mutatingadmissionpolicybindings";
    let describe = describe(GROUP, "v1", "MutatingAdmissionPolicyBinding", plural);
    let describe = describe.defaults(binding::set_defaults).also(config, "v1beta1");
    Binding::new(describe.defaults(binding::set_defaults), |_, _, _| ())
}
