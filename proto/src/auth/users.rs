//! Users whom the configuration names, for small installations.
//!
//! Only keys are kept, never a password (RFC 8656 §6): one a user and password algorithm. Because
//! every such user is known, a name can also be found by its hash (RFC 8489 §14.4).

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::auth::pool_key::Secret;
use crate::stun::integrity::{MessageKey, PasswordAlgorithm, user_hash};

/// The keys of one user in the realm.
#[derive(Clone, Debug, Default)]
pub struct UserKeys {
    /// For clients that know RFC 5389 only, or choose MD5.
    pub md5: Option<MessageKey>,
    /// For clients of RFC 8489, which choose it where it is offered.
    pub sha256: Option<MessageKey>,
}

impl UserKeys {
    /// Both keys of a password.
    pub fn of_password(username: &str, realm: &str, password: &str) -> Self {
        let key = |algorithm| Some(MessageKey::long_term(algorithm, username, realm, password));
        Self { md5: key(PasswordAlgorithm::Md5), sha256: key(PasswordAlgorithm::Sha256) }
    }

    /// The key that an algorithm makes.
    pub fn of(&self, algorithm: PasswordAlgorithm) -> Option<&MessageKey> {
        match algorithm {
            PasswordAlgorithm::Md5 => self.md5.as_ref(),
            PasswordAlgorithm::Sha256 => self.sha256.as_ref(),
        }
    }
}

/// The users of a realm, by name and by hash.
#[derive(Clone)]
pub struct Users {
    keys: BTreeMap<Box<str>, UserKeys>,
    names: BTreeMap<[u8; 32], Box<str>>,
    secret: Secret,
    decoy: MessageKey,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.keys.len())
    }
}

impl Users {
    /// Users with their keys for this realm. Of a name that comes twice the last keys count.
    pub fn new(realm: &str, users: impl IntoIterator<Item = (String, UserKeys)>) -> Self {
        let keys: BTreeMap<Box<str>, UserKeys> =
            users.into_iter().map(|(name, keys)| (name.into(), keys)).collect();
        let names = keys.keys().map(|name| (user_hash(name, realm), name.clone())).collect();
        // Known to whoever has the file, so equal on all relays that share it.
        let mut hash = Sha256::new_with_prefix(b"av-edge users\0");
        for (name, keys) in &keys {
            hash.update(name.as_bytes());
            for key in [&keys.md5, &keys.sha256].into_iter().flatten() {
                hash.update(key.bytes());
            }
        }
        let digest = Zeroizing::new(<[u8; 32]>::from(hash.finalize()));
        let decoy = MessageKey::of_bytes(&digest);
        Self { keys, names, secret: Secret::new(digest.to_vec()), decoy }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys of a user.
    pub(super) fn find(&self, username: &str) -> Option<&UserKeys> {
        self.keys.get(username)
    }

    /// The name behind a USERHASH.
    pub(super) fn name(&self, hash: &[u8; 32]) -> Option<&str> {
        self.names.get(hash).map(|name| &**name)
    }

    /// What stands for the key of a user nobody knows.
    pub(super) fn decoy(&self) -> &MessageKey {
        &self.decoy
    }

    /// Keys the hashes that stand for users.
    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }
}
