//! MutatingAdmissionPolicyBinding: puts a policy that changes objects to use.

use super::GROUP;
use super::binding;
use super::registration::Registration;
use crate::describe::describe;
use crate::runtime_config::RuntimeConfig;

pub(crate) fn kind(config: &RuntimeConfig) -> Registration {
    let plural = "mutatingadmissionpolicybindings";
    let describe = describe(GROUP, "v1", "MutatingAdmissionPolicyBinding", plural);
    let describe = describe.defaults(binding::set_defaults).also(config, "v1beta1");
    let own = binding::own(|binding, _| binding::validate(binding, |_, _, _| ()));
    Registration::new(describe.defaults(binding::set_defaults), own)
}
