//! The lock that a service holds while it opens its socket.
//!
//! It is on a file beside the socket which only the service's user can open: whoever can open what
//! is locked, a folder for instance, can hold the lock as well, and a service would never start.
//! The file goes with the lock. It has a new one's place only if it was locked in time, so who has
//! got a lock looks whether its file is still the one with the name.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How often a lock is asked for that another process holds, and how long it is waited between:
/// two seconds, in which one that is about to serve or to end does so.
const TRIES: u32 = 40;
const BETWEEN: Duration = Duration::from_millis(50);

/// A lock that is held.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _held: Flock<File>,
}

/// Why it is not.
#[derive(Debug, thiserror::Error)]
#[error("the lock file {path:?} {why}")]
pub struct Unlocked {
    path: PathBuf,
    why: String,
}

impl Lock {
    /// Takes the lock of a socket at this path.
    pub(super) fn of(socket: &Path) -> Result<Self, Unlocked> {
        let mut name = socket.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        for attempt in 0..TRIES {
            if attempt > 0 {
                thread::park_timeout(BETWEEN);
            }
            match take(&path) {
                Ok(None) => {}
                Ok(Some(held)) => return Ok(Self { path, _held: held }),
                Err(error) => {
                    let why = format!(
                        "cannot be used: {error}. Its folder must be there, the service's user \
                         must own it, and nothing else may have this name."
                    );
                    return Err(Unlocked { path, why });
                }
            }
        }
        let why = "is held by another process. Find that with fuser, and stop it.".to_owned();
        Err(Unlocked { path, why })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever waits sees that the file is gone, and makes another.
        let _ = fs::remove_file(&self.path);
    }
}

/// Asks for it once; `None` if another process has it, or had it until now.
fn take(path: &Path) -> io::Result<Option<Flock<File>>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let held = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => held,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, error)) => return Err(error.into()),
    };
    let own = held.metadata()?;
    let named = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        named => named?,
    };
    let is_named = (own.dev(), own.ino()) == (named.dev(), named.ino());
    Ok(is_named.then_some(held))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_its_user_can_open_what_is_locked_and_it_goes_with_the_lock() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("control.sock.lock");
        let lock = Lock::of(&home.path().join("control.sock")).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        drop(lock);
        assert!(!file.exists());
    }

    #[test]
    fn a_lock_is_waited_for_a_while_and_its_file_is_named_then() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("control.sock");
        let first = Lock::of(&socket).unwrap();
        let refused = Lock::of(&socket).unwrap_err().to_string();
        assert!(refused.contains("control.sock.lock\" is held by another process"), "{refused}");
        let second = thread::scope(|scope| {
            let waiting = scope.spawn(|| Lock::of(&socket));
            thread::park_timeout(2 * BETWEEN);
            drop(first);
            waiting.join().unwrap()
        });
        assert!(second.is_ok(), "{second:?}");
    }

    #[test]
    fn a_file_that_lost_its_name_while_it_was_locked_is_no_lock() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        let old = File::create(&path).unwrap();
        let late = take(&path).unwrap().expect("nobody has it");
        fs::remove_file(&path).unwrap();
        let fresh = take(&path).unwrap().expect("another file");
        assert_ne!(old.metadata().unwrap().ino(), fresh.metadata().unwrap().ino());
        assert!(take(&path).unwrap().is_none(), "the new one is held");
        drop(late);
    }

    #[test]
    fn a_link_is_not_followed_and_who_locks_the_folder_stops_nobody() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("control.sock");
        let folder = File::open(home.path()).unwrap();
        let _held = Flock::lock(folder, FlockArg::LockExclusive).unwrap();
        drop(Lock::of(&socket).unwrap());
        symlink("elsewhere", home.path().join("control.sock.lock")).unwrap();
        let refused = Lock::of(&socket).unwrap_err().to_string();
        assert!(refused.contains("control.sock.lock\" cannot be used"), "{refused}");
        assert!(!home.path().join("elsewhere").exists());
    }
}
