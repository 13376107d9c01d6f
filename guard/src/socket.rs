//! A unix socket that only those reach whom its file's mode lets in.
//!
//! The kernel asks for the right to write before it connects anybody. Nobody can connect before
//! the mode is set, because the socket does not listen until then. A file that a dead process left
//! is taken away; a living one is not disturbed, and of two that start at once one is second.

mod lock;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use nix::unistd::{Gid, Group};
use socket2::{Domain, SockAddr, Socket, Type};

use lock::Lock;
pub use lock::Unlocked;

/// Callers that may wait to be accepted.
const BACKLOG: i32 = 16;

/// Where such a socket is, and who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path.
    pub path: PathBuf,
    /// The mode of its file; nobody connects who may not write.
    pub mode: u32,
    /// The group of its file, if another than the process's.
    pub group: Option<Gid>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Another process serves there.
    #[error("another process answers there. Stop that process, or choose another path.")]
    InUse,
    /// Something else has the name.
    #[error("there is a file which is no socket. Take it away, or choose another path.")]
    Taken,
    /// Others cannot be kept from opening it at the same time.
    #[error("{0} Or choose another path.")]
    Lock(#[from] Unlocked),
    /// What the system says.
    #[error("{0}.")]
    System(#[from] io::Error),
}

/// The group of this name.
pub fn group(name: &str) -> Option<Gid> {
    Group::from_name(name).ok().flatten().map(|group| group.gid)
}

impl Place {
    /// Opens it. To be called with the rights of whoever starts the service.
    pub fn open(&self) -> Result<UnixListener, Refused> {
        let address = SockAddr::unix(&self.path)?;
        let _alone = Lock::of(&self.path)?;
        self.clear()?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&address)?;
        if let Some(group) = self.group {
            chown(&self.path, None, Some(group.as_raw()))?;
        }
        fs::set_permissions(&self.path, fs::Permissions::from_mode(self.mode))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    }

    /// Takes away what a dead process left.
    fn clear(&self) -> Result<(), Refused> {
        let found = match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        if !found.file_type().is_socket() {
            return Err(Refused::Taken);
        }
        match UnixStream::connect(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Ok(fs::remove_file(&self.path)?)
            }
            // Whoever does not let us in lives as well.
            Ok(_) | Err(_) => Err(Refused::InUse),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(home: &tempfile::TempDir) -> Place {
        Place { path: home.path().join("control.sock"), mode: 0o600, group: None }
    }

    #[test]
    fn what_a_dead_process_left_is_taken_away_and_the_living_stays() {
        let home = tempfile::tempdir().unwrap();
        let place = place(&home);
        let first = place.open().unwrap();
        assert!(matches!(place.open(), Err(Refused::InUse)));
        UnixStream::connect(&place.path).expect("the first one is as it was");
        drop(first);
        assert!(place.path.exists(), "it leaves its file behind, as after a crash");
        let _second = place.open().unwrap();
        UnixStream::connect(&place.path).unwrap();
    }

    #[test]
    fn of_many_that_start_at_once_one_serves() {
        let home = tempfile::tempdir().unwrap();
        let place = place(&home);
        drop(place.open().unwrap());
        let open = || place.open().ok();
        let served: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(served.len(), 1);
        UnixStream::connect(&place.path).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let place = place(&home);
        fs::write(&place.path, "precious").unwrap();
        assert!(matches!(place.open(), Err(Refused::Taken)));
        assert_eq!(fs::read(&place.path).unwrap(), b"precious");
        let nowhere = Place { path: home.path().join("none/control.sock"), ..place };
        assert!(matches!(nowhere.open(), Err(Refused::Lock(_))));
    }

    #[test]
    fn its_file_has_the_mode_that_was_asked_for() {
        let home = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o660] {
            let place = Place { mode, ..place(&home) };
            let _door = place.open().unwrap();
            assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, mode);
        }
    }
}
