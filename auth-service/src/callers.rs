//! Who may mint: named callers with bearer keys, each with a rate of its own.
//!
//! Keys are kept and compared as SHA-256 digests. A presented key is hashed, then compared in
//! constant time with every digest, whichever matches, so that time tells neither how much of a
//! key was right nor whose it was.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::limits::{Bucket, Rate};

/// The digest of a caller's key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallerKey([u8; 32]);

impl CallerKey {
    /// Shortest key, in characters (threat model T8: 16 bytes).
    const MIN: usize = 16;

    /// Longest key, in characters.
    const MAX: usize = 512;

    /// Takes a key from the configuration: what RFC 6750 §2.1 lets a header carry (`b64token`).
    pub(crate) fn new(key: &str) -> Result<Self, String> {
        let body = key.trim_end_matches('=');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        if !(Self::MIN..=Self::MAX).contains(&key.len()) {
            return Err(format!(
                "the key has {} characters, {} to {} are needed; make one with: \
                 openssl rand -base64 24",
                key.len(),
                Self::MIN,
                Self::MAX
            ));
        }
        if body.is_empty() || !body.bytes().all(plain) {
            return Err("the key may hold letters, digits and -._~+/ with = at the end, because \
                        it travels in a header; make one with: openssl rand -base64 24"
                .to_owned());
        }
        Ok(Self::of(key))
    }

    /// The digest of whatever was presented.
    fn of(presented: &str) -> Self {
        Self(Sha256::digest(presented.as_bytes()).into())
    }
}

/// One caller.
struct Caller {
    name: String,
    key: CallerKey,
    rate: Rate,
    bucket: Mutex<Bucket>,
}

/// Position of a caller in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallerId(usize);

impl CallerId {
    /// Position in a list with an entry per caller.
    pub(crate) fn index(self) -> usize {
        self.0
    }
}

/// All callers.
#[derive(Default)]
pub(crate) struct Callers(Vec<Caller>);

impl Callers {
    /// Adds a caller; false when the key is another's.
    pub(crate) fn add(&mut self, name: &str, key: CallerKey, rate: Rate) -> bool {
        if self.0.iter().any(|caller| caller.key == key) {
            return false;
        }
        let bucket = Mutex::new(Bucket::full(rate));
        self.0.push(Caller { name: name.to_owned(), key, rate, bucket });
        true
    }

    /// The names, in order of [`CallerId`].
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|caller| caller.name.as_str())
    }

    /// Whose key this is.
    pub(crate) fn identify(&self, presented: &str) -> Option<CallerId> {
        let presented = CallerKey::of(presented);
        let found = self.0.iter().zip(0_u64..).fold(u64::MAX, |found, (caller, index)| {
            u64::conditional_select(&found, &index, caller.key.0.ct_eq(&presented.0))
        });
        let index = usize::try_from(found).ok()?;
        (index < self.0.len()).then_some(CallerId(index))
    }

    /// Takes one request from a caller's allowance, or says how long to wait.
    pub(crate) fn take(&self, id: CallerId, now: Instant) -> Result<(), Duration> {
        let Some(caller) = self.0.get(id.0) else { return Ok(()) };
        caller.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(caller.rate, now)
    }
}

/// A copy starts with full allowances.
impl Clone for Callers {
    fn clone(&self) -> Self {
        let again = |caller: &Caller| Caller {
            name: caller.name.clone(),
            key: caller.key,
            rate: caller.rate,
            bucket: Mutex::new(Bucket::full(caller.rate)),
        };
        Self(self.0.iter().map(again).collect())
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|caller| (&caller.name, &caller.rate))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auth_035_short_or_unfit_keys_are_refused() {
        for (case, key, good) in [
            ("sixteen characters", "0123456789abcdef", true),
            ("base64 with padding", "q83vEjRWeJCrze8SNFZ4kA==", true),
            ("fifteen characters", "0123456789abcde", false),
            ("empty", "", false),
            ("space inside", "0123456789 abcdef", false),
            ("only padding", "================", false),
            ("padding inside", "01234567=89abcdef", false),
            ("not ASCII", "0123456789abcdefü", false),
        ] {
            assert_eq!(CallerKey::new(key).is_ok(), good, "{case}");
        }
        assert!(CallerKey::new(&"x".repeat(513)).is_err(), "too long");
    }

    #[test]
    fn rest_013_a_key_identifies_its_caller_and_nothing_else_does() {
        let rate = Rate::new(1.0, 1).unwrap();
        let mut callers = Callers::default();
        for name in ["one", "two", "three"] {
            assert!(callers.add(
                name,
                CallerKey::new(&format!("key-of-caller-{name}")).unwrap(),
                rate
            ));
        }
        assert!(!callers.add("four", CallerKey::new("key-of-caller-one").unwrap(), rate));
        for (presented, expected) in [
            ("key-of-caller-one", Some(0)),
            ("key-of-caller-two", Some(1)),
            ("key-of-caller-three", Some(2)),
            ("key-of-caller-", None),
            ("key-of-caller-one ", None),
            ("", None),
        ] {
            assert_eq!(callers.identify(presented).map(CallerId::index), expected, "{presented:?}");
        }
        assert_eq!(Callers::default().identify("key-of-caller-one"), None);
    }
}
