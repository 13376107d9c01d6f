//! Keys on disk.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proto::auth::KeyRing;
use zeroize::Zeroizing;

use crate::{KeyError, PrivateKey, Problem};

/// More bytes than any key with its chain of certificates has.
const FILE_MAX: u64 = 1 << 20;

/// Loads the private key of a file that others may not read.
pub fn load(path: &Path) -> Result<PrivateKey, KeyError> {
    let at = |problem| KeyError::at(path, problem);
    let text = read(path).map_err(at)?;
    PrivateKey::parse(&text).map_err(at)
}

/// Loads the current key and the previous ones, newest first.
pub fn load_ring(current: &Path, previous: &[PathBuf]) -> Result<KeyRing, KeyError> {
    let mut ring = KeyRing { current: load(current)?.pool_key(), previous: Vec::new() };
    for path in previous {
        let key = load(path)?.pool_key();
        if ring.find(key.id).is_some() {
            let first = std::iter::once(current)
                .chain(previous.iter().map(PathBuf::as_path))
                .find(|&other| load(other).is_ok_and(|other| other.pool_key().id == key.id));
            let first = first.unwrap_or(current).display().to_string();
            return Err(KeyError::at(path, Problem::Repeated(first)));
        }
        ring.previous.push(key);
    }
    Ok(ring)
}

impl PrivateKey {
    /// Writes the key to a new file that only its owner can read.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(self.to_pem().as_bytes()))
            .map_err(|error| KeyError::at(path, Problem::Unwritable(error)))
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, Problem> {
    let file = File::open(path).map_err(Problem::Unreadable)?;
    let metadata = file.metadata().map_err(Problem::Unreadable)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(Problem::Exposed(mode));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_MAX).read_to_end(&mut bytes).map_err(Problem::Unreadable)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(Problem::NoKey("binary data".into())),
    }
}
