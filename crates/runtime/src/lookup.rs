//! Who `user[:group]` is, by the container's own `/etc/passwd` and `/etc/group`, as Docker decides it.

use crate::plan::{Failure, FailureKind};

/// The result of a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups; the primary one is the first.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

const MAX_ID: i64 = i32::MAX as i64;

/// Looks a user up in the files below `/`.
///
/// # Errors
/// Docker's words for what does not exist.
pub fn identify(user: &str, added: &[String]) -> Result<Identity, Failure> {
    let read = |path| crate::read_small(path).unwrap_or_default();
    let passwd = read("/etc/passwd");
    identify_in(user, added, &passwd, &read("/etc/group"))
}

fn identify_in(spec: &str, added: &[String], passwd: &str, group: &str) -> Result<Identity, Failure> {
    let (user, group_name) = spec.split_once(':').unwrap_or((spec, ""));
    let number = user.parse::<i64>().ok();
    let account = accounts(passwd).find(|account| match user {
        "" => account.uid == 0,
        name => account.name == name || number == Some(account.uid.into()),
    });
    let mut identity = match (&account, number) {
        (Some(found), _) => {
            Identity { uid: found.uid, gid: found.gid, groups: Vec::new(), home: found.home.to_owned() }
        }
        (None, Some(number)) => Identity { uid: in_range(number)?, gid: 0, groups: Vec::new(), home: "/".to_owned() },
        (None, None) if user.is_empty() => Identity { uid: 0, gid: 0, groups: Vec::new(), home: "/".to_owned() },
        (None, None) => return Err(no_user(user)),
    };
    if !group_name.is_empty() {
        identity.gid = find_group(group_name, group)?;
    } else if let Some(account) = account {
        identity.groups =
            groups(group).filter(|group| has(group.members, account.name)).map(|group| group.gid).collect();
    }
    for name in added {
        identity.groups.push(find_group(name, group)?);
    }
    identity.groups.insert(0, identity.gid);
    let mut seen = Vec::new();
    identity.groups.retain(|gid| {
        !seen.contains(gid) && {
            seen.push(*gid);
            true
        }
    });
    Ok(identity)
}

fn find_group(name: &str, file: &str) -> Result<u32, Failure> {
    let number = name.parse::<i64>().ok();
    let found = groups(file).find(|group| group.name == name || number == Some(group.gid.into()));
    match (found, number) {
        (Some(group), _) => Ok(group.gid),
        (None, Some(number)) => in_range(number),
        (None, None) => Err(no_group(name)),
    }
}

fn accounts(file: &str) -> impl Iterator<Item = Account<'_>> {
    file.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/");
        Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

fn groups(file: &str) -> impl Iterator<Item = Group<'_>> {
    file.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Group { name, gid: gid.parse().ok()?, members: fields.next().unwrap_or("") })
    })
}

fn has(members: &str, name: &str) -> bool {
    members.split(',').any(|member| member == name)
}

fn in_range(id: i64) -> Result<u32, Failure> {
    u32::try_from(id)
        .ok()
        .filter(|_| id <= MAX_ID)
        .ok_or_else(|| other(format!("uids and gids must be in range 0-{MAX_ID}")))
}

fn no_user(name: &str) -> Failure {
    other(format!("unable to find user {name}: no matching entries in passwd file"))
}

fn no_group(name: &str) -> Failure {
    other(format!("unable to find group {name}: no matching entries in group file"))
}

fn other(message: String) -> Failure {
    Failure { step: "look up user".to_owned(), errno: 0, message, kind: FailureKind::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nu:x:1000:1001::/home/u:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:u,root\nug:x:1001:\nextra:x:77:u\n";

    fn look(user: &str, added: &[&str]) -> Result<Identity, String> {
        let added: Vec<_> = added.iter().map(ToString::to_string).collect();
        identify_in(user, &added, PASSWD, GROUP).map_err(|failure| failure.message)
    }

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<Identity, String> {
        Ok(Identity { uid, gid, groups: groups.to_vec(), home: home.into() })
    }

    #[test]
    fn names_numbers_and_groups() {
        assert_eq!(look("u", &[]), identity(1000, 1001, &[1001, 10, 77], "/home/u"));
        assert_eq!(look("1000", &[]), identity(1000, 1001, &[1001, 10, 77], "/home/u"));
        assert_eq!(look("5:7", &[]), identity(5, 7, &[7], "/"));
        assert_eq!(look("u:77", &[]), identity(1000, 77, &[77], "/home/u"));
        assert_eq!(look("u", &["extra", "99"]), identity(1000, 1001, &[1001, 10, 77, 99], "/home/u"));
        assert_eq!(look("", &[]), identity(0, 0, &[0, 10], "/root"));
    }

    #[test]
    fn dockers_words_for_what_is_missing() {
        let refused = |user, added| look(user, added).expect_err("refused");
        assert_eq!(refused("x", &[]), "unable to find user x: no matching entries in passwd file");
        assert_eq!(refused("u:x", &[]), "unable to find group x: no matching entries in group file");
        assert_eq!(refused("u", &["x"]), "unable to find group x: no matching entries in group file");
        assert_eq!(refused("4294967295", &[]), "uids and gids must be in range 0-2147483647");
    }
}
