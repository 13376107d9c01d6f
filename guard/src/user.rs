//! Whom a service becomes when its sockets are open.

use nix::unistd::{self, Gid, Uid};

/// Users taken without a word from the operator, the first that exists.
const USUAL: [&str; 2] = ["av-edge", "nobody"];

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub(crate) name: String,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// Whether the operator named it.
    pub(crate) wanted: bool,
}

/// The name belongs to nobody, or this process cannot become that user.
#[derive(Debug, thiserror::Error)]
pub enum NoSuchUser {
    /// Nobody has the name.
    #[error(
        "this host has no such user. Make one with: useradd --system --shell /usr/sbin/nologin NAME"
    )]
    Unknown,
    /// Only root changes users.
    #[error(
        "this process was not started as root and cannot become another user. Leave the key out, \
         or start it as root"
    )]
    NotRoot,
}

impl User {
    /// The user of this name; without one the usual one where root starts the process, else whom
    /// the process has already.
    pub fn find(name: Option<&str>) -> Result<Self, NoSuchUser> {
        let own = unistd::geteuid();
        let known = |name: &str| unistd::User::from_name(name).ok().flatten();
        let of = |user: unistd::User, wanted| Self {
            name: user.name,
            uid: user.uid,
            gid: user.gid,
            wanted,
        };
        match name {
            Some(name) => {
                let user = known(name).ok_or(NoSuchUser::Unknown)?;
                if !own.is_root() && user.uid != own {
                    return Err(NoSuchUser::NotRoot);
                }
                Ok(of(user, true))
            }
            None if own.is_root() => {
                let usual = USUAL.iter().find_map(|name| known(name));
                Ok(usual.map_or_else(Self::own, |user| of(user, false)))
            }
            None => Ok(Self::own()),
        }
    }

    /// Whom the process has now.
    fn own() -> Self {
        let uid = unistd::geteuid();
        let name = unistd::User::from_uid(uid).ok().flatten();
        let name = name.map_or_else(|| uid.to_string(), |user| user.name);
        Self { name, uid, gid: unistd::getegid(), wanted: false }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_has_is_refused() {
        assert!(matches!(User::find(Some("no such user")), Err(NoSuchUser::Unknown)));
        assert_eq!(User::find(Some("root")).is_ok(), unistd::geteuid().is_root());
    }

    #[test]
    fn without_a_name_root_becomes_somebody_and_others_stay() {
        let user = User::find(None).unwrap();
        assert_eq!(user.uid == unistd::geteuid(), !unistd::geteuid().is_root(), "{user:?}");
    }
}
