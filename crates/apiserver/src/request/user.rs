//! Who asks: upstream's `user.Info`. How an identity was proven is not known here.

use std::collections::BTreeMap;

/// The user of a request without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of every authenticated user.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";
/// The group of everyone without credentials.
pub const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group that may do everything.
pub const SUPERUSERS: &str = "system:masters";

/// An identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// `system:node:a`, `system:serviceaccount:ns:name`, ...
    pub name: String,
    /// The uid of a service account, else mostly empty.
    pub uid: String,
    /// Groups, `system:authenticated` included.
    pub groups: Vec<String>,
    /// What the authenticator adds, for example the pod a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user in `groups` and in `system:authenticated`.
    pub fn authenticated(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut all: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        if !groups.contains(&ALL_AUTHENTICATED) {
            all.push(ALL_AUTHENTICATED.to_owned());
        }
        Self { name: name.into(), groups: all, ..Self::default() }
    }

    /// The service account `name` of `namespace`, with its groups.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        Self::authenticated(
            format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &of_namespace],
        )
    }

    /// Someone without credentials.
    pub fn anonymous() -> Self {
        let groups = vec![ALL_UNAUTHENTICATED.to_owned()];
        Self { name: ANONYMOUS.to_owned(), groups, ..Self::default() }
    }

    /// Whether the user belongs to `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}
