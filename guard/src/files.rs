//! Landlock: the files a service may open, and where it may connect to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

/// The newest version of Landlock whose rights are named here; older kernels enforce what they know.
const KNOWN: ABI = ABI::V6;

/// Where a service connects to, over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connects {
    /// Wherever its clients ask it to; it listens anew as well.
    Anywhere,
    /// To these ports alone; it listens nowhere it does not already.
    Ports(Vec<u16>),
}

/// The folders below which files are read again: where each lies by its name, and where it really
/// is if names on the way are links. A folder that is the root of all files counts for nothing.
pub(crate) fn folders(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for file in files {
        let named = std::path::absolute(file).ok();
        let real = file.canonicalize().ok();
        for path in [named, real].into_iter().flatten() {
            match path.parent() {
                Some(folder) if folder != Path::new("/") => found.insert(folder.to_owned()),
                _ => found.insert(path),
            };
        }
    }
    found
}

/// Confines the calling thread, and those it starts, to reading below these paths, and to making,
/// writing and removing files below `writes`. Whether the kernel does so.
pub(crate) fn confine<'a>(
    paths: impl IntoIterator<Item = &'a Path>,
    writes: &[PathBuf],
    connects: &Connects,
) -> Result<bool, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write =
        read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?;
    if let Connects::Ports(_) = connects {
        rules = rules.handle_access(AccessNet::from_all(KNOWN))?;
    }
    let rules = rules.create()?.add_rules(path_beneath_rules(paths, read))?;
    let mut rules = rules.add_rules(path_beneath_rules(writes, write))?;
    if let Connects::Ports(ports) = connects {
        for &port in ports {
            rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_confined_thread_reads_its_own_files_and_no_other() {
        let home = tempfile::tempdir().unwrap();
        let (own, other) = (home.path().join("own"), home.path().join("other"));
        for folder in [&own, &other] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("file"), "text").unwrap();
        }
        // The second confinement is narrower than the first, as that of threads without files.
        std::thread::spawn(move || {
            assert!(
                confine([&*own], &[], &Connects::Anywhere).unwrap(),
                "no Landlock in this kernel"
            );
            assert_eq!(fs::read_to_string(own.join("file")).unwrap(), "text");
            for refused in [&*other.join("file"), Path::new("/etc/passwd")] {
                let error = fs::read(refused).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{refused:?}");
            }
            assert!(fs::write(own.join("file"), "changed").is_err());
            assert!(confine([], &[], &Connects::Anywhere).unwrap());
            assert!(fs::read(own.join("file")).is_err());
        })
        .join()
        .unwrap();
        assert!(fs::read("/etc/passwd").is_ok(), "other threads are free");
    }

    #[test]
    fn a_confined_thread_connects_where_it_must_and_nowhere_else() {
        let open = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (known, other) = (open(), open());
        std::thread::spawn(move || {
            let at = |it: &TcpListener| it.local_addr().unwrap();
            assert!(confine([], &[], &Connects::Ports(vec![at(&known).port()])).unwrap());
            TcpStream::connect(at(&known)).unwrap();
            assert!(TcpStream::connect(at(&other)).is_err());
            assert!(TcpListener::bind("127.0.0.1:0").is_err());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_writes_below_its_folder_and_nowhere_else() {
        let home = tempfile::tempdir().unwrap();
        let [own, other] = ["own", "other"].map(|name| home.path().join(name));
        for folder in [&own, &other] {
            fs::create_dir(folder).unwrap();
        }
        std::thread::spawn(move || {
            assert!(confine([], std::slice::from_ref(&own), &Connects::Anywhere).unwrap());
            fs::write(own.join("file"), "text").unwrap();
            assert_eq!(fs::read_to_string(own.join("file")).unwrap(), "text");
            fs::remove_file(own.join("file")).unwrap();
            assert!(fs::write(other.join("file"), "text").is_err());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn folders_are_those_of_the_name_and_of_the_file() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        for folder in ["archive", "live"] {
            fs::create_dir(home.join(folder)).unwrap();
        }
        fs::write(home.join("archive/key1.pem"), "").unwrap();
        symlink("../archive/key1.pem", home.join("live/key.pem")).unwrap();
        let found = folders(&[home.join("live/key.pem"), PathBuf::from("/no-such-file")]);
        let expected = [home.join("archive"), home.join("live"), PathBuf::from("/no-such-file")];
        assert_eq!(found, expected.into());
    }
}
