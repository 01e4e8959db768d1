//! Whom a container runs as: CRI's fields and the image's `USER`, resolved by the image's own `/etc/passwd` and `/etc/group`. Pure
//! over their texts.

/// The image's account files; empty where it has none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accounts {
    pub passwd: String,
    pub group: String,
}

/// What CRI asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted<'a> {
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub username: &'a str,
    /// The image's `USER`, when nothing else is said.
    pub image_user: &'a str,
    pub supplemental_groups: &'a [i64],
    /// Groups of the image's `/etc/group` do not count.
    pub strict_groups: bool,
}

/// Numbers, and the home directory for `HOME`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// Why there is no such user, in containerd's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("user group {0:?} is specified without user")]
    GroupWithoutUser(i64),
    #[error("{0} is not a valid user or group id")]
    Number(i64),
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl Accounts {
    fn users(&self) -> impl Iterator<Item = Account<'_>> {
        self.passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.trim().split(':').collect();
            let number = |index: usize| fields.get(index)?.parse().ok(); // A malformed line names nobody.
            Some(Account {
                name: fields[0],
                uid: number(2)?,
                gid: number(3)?,
                home: fields.get(5).copied().unwrap_or(""),
            })
        })
    }

    /// Name, gid and members.
    fn groups(&self) -> impl Iterator<Item = (&str, u32, Vec<&str>)> {
        self.group.lines().filter_map(|line| {
            let fields: Vec<&str> = line.trim().split(':').collect();
            let gid = fields.get(2)?.parse().ok()?; // As above.
            Some((
                fields[0],
                gid,
                fields.get(3).map(|members| members.split(',').collect()).unwrap_or_default(),
            ))
        })
    }
}

/// Resolves who runs.
pub(crate) fn resolve(wanted: &Wanted<'_>, accounts: &Accounts) -> Result<Identity, UserError> {
    let (user, group) = specified(wanted)?;
    let by_uid = |uid: u32| accounts.users().find(|account| account.uid == uid);
    let by_name = accounts.users().find(|account| account.name == user);
    let (uid, account) = match (by_name, user.parse::<u32>()) {
        (Some(account), _) => (account.uid, Some(account)),
        (None, Ok(uid)) => (uid, by_uid(uid)),
        (None, Err(_)) => return Err(UserError::NoUser(user)),
    };
    let gid = match group {
        Some(group) => find_group(&group, accounts)?,
        None => account.as_ref().map_or(0, |account| account.gid),
    };
    let mut groups = vec![gid];
    if let Some(account) = account.as_ref().filter(|_| !wanted.strict_groups) {
        groups.extend(
            accounts
                .groups()
                .filter(|(_, _, members)| members.contains(&account.name))
                .map(|(_, gid, _)| gid),
        );
    }
    for gid in wanted.supplemental_groups {
        groups.push(u32::try_from(*gid).map_err(|_| UserError::Number(*gid))?);
    }
    groups.sort_unstable();
    groups.dedup();
    let home = account.map_or("", |account| account.home);
    Ok(Identity { uid, gid, groups, home: if home.is_empty() { "/".to_owned() } else { home.to_owned() } })
}

/// The user and perhaps the group as texts, by CRI's order of precedence.
fn specified(wanted: &Wanted<'_>) -> Result<(String, Option<String>), UserError> {
    for number in [wanted.uid, wanted.gid].into_iter().flatten() {
        u32::try_from(number).map_err(|_| UserError::Number(number))?;
    }
    let user = match wanted.uid {
        Some(uid) => Some(uid.to_string()),
        None if !wanted.username.is_empty() => Some(wanted.username.to_owned()),
        None => None,
    };
    match (user, wanted.gid) {
        (Some(user), gid) => Ok((user, gid.map(|gid| gid.to_string()))),
        (None, Some(gid)) => Err(UserError::GroupWithoutUser(gid)),
        (None, None) => {
            let (user, group) = wanted.image_user.split_once(':').unwrap_or((wanted.image_user, ""));
            let user = if user.is_empty() { "0" } else { user };
            Ok((user.to_owned(), Some(group).filter(|group| !group.is_empty()).map(str::to_owned)))
        }
    }
}

fn find_group(name: &str, accounts: &Accounts) -> Result<u32, UserError> {
    let named = accounts.groups().find(|(known, _, _)| *known == name).map(|(_, gid, _)| gid);
    named.or_else(|| name.parse().ok()).ok_or_else(|| UserError::NoGroup(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wanted: &Wanted<'_>, expected: Result<(u32, u32, &[u32]), &str>) {
        let accounts = Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/false\nbroken\n".to_owned(),
            group: "root:x:0:\nwww:x:34:\nlogs:x:50:web,root\n".to_owned(),
        };
        let found = resolve(wanted, &accounts);
        match (found, expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!((found.uid, found.gid, found.groups.as_slice()), expected, "{wanted:?}")
            }
            (Err(found), Err(expected)) => assert_eq!(found.to_string(), expected),
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn users_are_resolved() {
        let none = Wanted::default();
        check(&none, Ok((0, 0, &[0, 50])));
        check(&Wanted { image_user: "web", ..none.clone() }, Ok((33, 34, &[34, 50])));
        check(&Wanted { image_user: "web:logs", ..none.clone() }, Ok((33, 50, &[50])));
        check(&Wanted { image_user: "1000", ..none.clone() }, Ok((1000, 0, &[0])));
        check(&Wanted { uid: Some(33), image_user: "root", ..none.clone() }, Ok((33, 34, &[34, 50])));
        check(
            &Wanted { uid: Some(1), gid: Some(2), supplemental_groups: &[9], ..none.clone() },
            Ok((1, 2, &[2, 9])),
        );
        check(
            &Wanted { uid: Some(33), strict_groups: true, supplemental_groups: &[9], ..none.clone() },
            Ok((33, 34, &[9, 34])),
        );
        check(&Wanted { username: "web", ..none.clone() }, Ok((33, 34, &[34, 50])));
    }

    #[test]
    fn impossible_users_are_refused() {
        let none = Wanted::default();
        check(
            &Wanted { username: "foo", ..none.clone() },
            Err("unable to find user foo: no matching entries in passwd file"),
        );
        check(
            &Wanted { image_user: "web:foo", ..none.clone() },
            Err("unable to find group foo: no matching entries in group file"),
        );
        check(&Wanted { gid: Some(1), ..none.clone() }, Err("user group 1 is specified without user"));
        check(&Wanted { uid: Some(-1), ..none }, Err("-1 is not a valid user or group id"));
    }
}
