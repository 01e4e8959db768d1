//! Profiles as the OCI runtime specification writes them in JSON, read into rules over numbers. It must not know where a
//! profile is stored.

use super::number;
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};
use serde::Deserialize;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error("not a seccomp profile: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("{what} {value:?} is not supported")]
    Unsupported { what: &'static str, value: String },
    #[error("argument index {0} is not between 0 and 5")]
    Argument(u32),
    #[error("cannot build the filter: {0}")]
    Build(String),
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Allow,
    Log,
    Errno(u32),
    Trace(u32),
    Trap,
    KillThread,
    KillProcess,
}

impl From<Action> for SeccompAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Log => Self::Log,
            Action::Errno(number) => Self::Errno(number),
            Action::Trace(message) => Self::Trace(message),
            Action::Trap => Self::Trap,
            Action::KillThread => Self::KillThread,
            Action::KillProcess => Self::KillProcess,
        }
    }
}

/// An action for calls, always or under one of several conjunctions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub action: Action,
    pub calls: Vec<i64>,
    pub alternatives: Vec<Vec<SeccompCondition>>,
}

/// A profile over this machine's numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Profile {
    pub default_action: Action,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    pub rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    flags: Vec<String>,
    listener_path: Option<String>,
    #[serde(default)]
    syscalls: Vec<Syscall>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    excludes: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

impl Profile {
    /// Reads a profile. Calls that this machine does not have are skipped, as upstream does: profiles are written for many.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, ProfileError> {
        let document: Document = serde_json::from_slice(json)?;
        if let Some(value) = document.listener_path {
            return Err(ProfileError::Unsupported { what: "listenerPath", value });
        }
        let mut flags = 0;
        for flag in &document.flags {
            flags |= filter_flag(flag)?;
        }
        Ok(Self {
            default_action: action(&document.default_action, document.default_errno_ret)?,
            flags,
            rules: document.syscalls.iter().map(rule).collect::<Result<_, _>>()?,
        })
    }
}

fn filter_flag(name: &str) -> Result<u32, ProfileError> {
    match name {
        // Synchronising threads means nothing to a process with one.
        "SECCOMP_FILTER_FLAG_TSYNC" => Ok(0),
        "SECCOMP_FILTER_FLAG_LOG" => Ok(2),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(4),
        _ => Err(ProfileError::Unsupported { what: "flag", value: name.to_owned() }),
    }
}

fn action(name: &str, errno: Option<u32>) -> Result<Action, ProfileError> {
    let number = errno.unwrap_or(libc::EPERM.cast_unsigned());
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno(number),
        "SCMP_ACT_TRACE" => Action::Trace(number),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        _ => return Err(ProfileError::Unsupported { what: "action", value: name.to_owned() }),
    })
}

fn rule(syscall: &Syscall) -> Result<Rule, ProfileError> {
    // Docker's template fields would change the meaning if they were skipped.
    if !syscall.includes.is_empty() || !syscall.excludes.is_empty() {
        return Err(ProfileError::Unsupported { what: "field", value: "includes/excludes".to_owned() });
    }
    let arguments = syscall.args.as_deref().unwrap_or_default();
    let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    Ok(Rule {
        action: action(&syscall.action, syscall.errno_ret)?,
        calls: syscall.names.iter().filter_map(|name| number(name)).collect(),
        alternatives: alternatives(arguments, conditions),
    })
}

/// Conditions on different arguments must hold together; when one argument is named twice, any condition will do.
fn alternatives(arguments: &[Argument], conditions: Vec<SeccompCondition>) -> Vec<Vec<SeccompCondition>> {
    let twice = arguments
        .iter()
        .enumerate()
        .any(|(index, argument)| arguments[..index].iter().any(|other| other.index == argument.index));
    match (conditions.is_empty(), twice) {
        (true, _) => Vec::new(),
        (false, true) => conditions.into_iter().map(|condition| vec![condition]).collect(),
        (false, false) => vec![conditions],
    }
}

fn condition(argument: &Argument) -> Result<SeccompCondition, ProfileError> {
    let (operator, value) = match argument.op.as_str() {
        "SCMP_CMP_NE" => (SeccompCmpOp::Ne, argument.value),
        "SCMP_CMP_LT" => (SeccompCmpOp::Lt, argument.value),
        "SCMP_CMP_LE" => (SeccompCmpOp::Le, argument.value),
        "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, argument.value),
        "SCMP_CMP_GE" => (SeccompCmpOp::Ge, argument.value),
        "SCMP_CMP_GT" => (SeccompCmpOp::Gt, argument.value),
        "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(argument.value), argument.value_two),
        other => return Err(ProfileError::Unsupported { what: "operator", value: other.to_owned() }),
    };
    let index = u8::try_from(argument.index).map_err(|_| ProfileError::Argument(argument.index))?;
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, operator, value)
        .map_err(|_| ProfileError::Argument(argument.index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read() {
        let profile = Profile::parse(
            br#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
                {"names":["chmod","fchmodat","nosuchcall"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
                {"names":["socket"],"action":"SCMP_ACT_ERRNO","args":[
                    {"index":0,"value":40,"op":"SCMP_CMP_EQ"},{"index":0,"value":38,"op":"SCMP_CMP_EQ"}]}]}"#,
        )
        .unwrap();
        assert_eq!(profile.default_action, Action::Allow);
        assert_eq!(profile.rules[0].action, Action::Errno(13));
        assert!(profile.rules[0].alternatives.is_empty());
        assert_eq!(profile.rules[1].alternatives.len(), 2);
        assert_eq!(crate::seccomp::decode(&crate::seccomp::encode(&profile).unwrap()).unwrap().len(), 2);
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        let refused = [
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/x"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_NEW"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG","includes":{"caps":["X"]}}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
            "{}",
        ];
        for json in refused {
            assert!(Profile::parse(json.as_bytes()).is_err(), "{json}");
        }
    }
}
