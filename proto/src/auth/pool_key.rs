//! The secrets of a pool, as `proto` takes them: derived bytes, never the private key.

use std::fmt;

use zeroize::Zeroizing;

/// Secret bytes; wiped when dropped, never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for keyed hashes only.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Names a pool key in user names, logs and metrics: eight lower-case hex digits, not secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 4]);

impl KeyId {
    /// Reads what [`fmt::Display`] writes: exactly eight lower-case hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = <&[u8; 8]>::try_from(text.as_bytes()).ok()?;
        let mut id = [0; 4];
        for (byte, &[high, low]) in id.iter_mut().zip(digits.as_chunks::<2>().0) {
            *byte = hex_digit(high)? << 4 | hex_digit(low)?;
        }
        Some(Self(id))
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One pool key: an independent secret for each use.
#[derive(Clone, Debug)]
pub struct PoolKey {
    /// Its name.
    pub id: KeyId,
    /// Turns user names into passwords; 32 bytes.
    pub credentials: Secret,
    /// Authenticates nonces; 32 bytes.
    pub nonces: Secret,
    /// Keys the hash that stands for a user in quotas, logs and metrics; 32 bytes.
    pub users: Secret,
    /// Seals mobility tickets; 32 bytes.
    pub tickets: Secret,
    /// Seals access tokens of RFC 7635; 32 bytes.
    pub tokens: Secret,
    /// Makes the keys of MRAS tokens; 32 bytes.
    pub ms_tokens: Secret,
}

/// The pool keys in force: minting uses the current one, verifying all of them.
#[derive(Clone, Debug)]
pub struct KeyRing {
    /// Mints.
    pub current: PoolKey,
    /// Still verify, newest first, so that a pool rolls its key without a failed call.
    pub previous: Vec<PoolKey>,
}

impl KeyRing {
    /// The key of this name.
    pub fn find(&self, id: KeyId) -> Option<&PoolKey> {
        self.keys().find(|key| key.id == id)
    }

    /// Every key, newest first.
    pub fn keys(&self) -> impl Iterator<Item = &PoolKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

#[cfg(test)]
impl PoolKey {
    /// A key for tests: of every byte another one.
    pub(crate) fn of_test(byte: u8) -> Self {
        let secret = |label: u8| Secret::new(vec![byte ^ label << 4; 32]);
        Self {
            id: KeyId([byte; 4]),
            credentials: secret(1),
            nonces: secret(2),
            users: secret(3),
            tickets: secret(4),
            tokens: secret(5),
            ms_tokens: secret(6),
        }
    }
}
