//! What is wrong with a key, and what would be right.

use std::io;
use std::path::Path;

use thiserror::Error;

/// A key that cannot be used, by the name of its file.
#[derive(Debug, Error)]
#[error("{name}: {problem}")]
pub struct KeyError {
    /// The file, or what else held the key.
    pub name: String,
    /// What is wrong, and what to do.
    pub problem: Problem,
}

impl KeyError {
    pub(crate) fn new(name: &str, problem: Problem) -> Self {
        Self { name: name.to_owned(), problem }
    }

    pub(crate) fn at(path: &Path, problem: Problem) -> Self {
        Self { name: path.display().to_string(), problem }
    }
}

/// What is wrong with a key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    #[error(
        "the pool key cannot be read ({0}); give the path of a PEM private key that this user \
         may read, or make one with: av-edge key generate"
    )]
    Unreadable(io::Error),
    /// The file cannot be written.
    #[error("the pool key cannot be written ({0}); an existing file is never overwritten")]
    Unwritable(io::Error),
    /// Everybody on this host can read the file.
    #[error(
        "the pool key has mode {0:04o}, so every user of this host can use it; take it away \
         from others: chmod o= FILE"
    )]
    Exposed(u32),
    /// The text holds something else.
    #[error(
        "found {0}, but no private key; wanted a PEM block PRIVATE KEY with RSA of at least \
         2048 bits, P-256 or Ed25519"
    )]
    NoKey(String),
    /// The text holds more than one private key.
    #[error("found {0} private keys; wanted exactly one: previous keys go into files of their own")]
    Several(usize),
    /// The key is protected by a pass phrase.
    #[error(
        "the private key is encrypted, and a service cannot type its pass phrase; write it in \
         the clear to a file with mode 0600: openssl pkcs8 -topk8 -nocrypt -in FILE"
    )]
    Encrypted,
    /// The PEM or DER structure is damaged.
    #[error("the private key is damaged: {0}; copy the file anew from where it was made")]
    Damaged(&'static str),
    /// A kind of key we do not take.
    #[error("found {0}; wanted RSA of at least 2048 bits, P-256 or Ed25519")]
    Unsupported(String),
    /// Too few bits.
    #[error(
        "found an RSA key of {0} bits, which is too weak; wanted at least 2048 bits, \
         or P-256 or Ed25519"
    )]
    Weak(usize),
    /// One key under two names.
    #[error("holds the same key as {0}; each key of the ring is named once")]
    Repeated(String),
}
