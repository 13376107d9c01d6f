//! Landlock: the files a service may open, and where it may connect to.
//!
//! Rules hold for folders as they are now, whatever they are called later. Where a name on the way
//! to a file is a link to a folder, as `current` to `releases/7`, it will be one to another folder
//! beside that one; so what lies beside is readable as well, within reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

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

/// Links on the way to a file, at most, as the kernel has it.
const MOST_LINKS: usize = 40;

/// The folders below which files are read again: where each lies by its name, where it really is,
/// and those in which the folders lie that names on the way are links to. A folder that is the root
/// of all files counts for nothing.
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
        let links = links(file).into_iter();
        found.extend(links.map(|it| it.beside).filter(|beside| !is_too_much(beside)));
    }
    found
}

/// Links to folders on the way to these files which must not lead elsewhere later: what lies beside
/// those folders would be too much to read.
pub(crate) fn fixed(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let links = files.iter().flat_map(|file| links(file));
    links.filter(|it| is_too_much(&it.beside)).map(|it| it.path).collect()
}

/// Whether this is the root of all files, or lies in it: `/etc`, `/home`.
fn is_too_much(folder: &Path) -> bool {
    folder.components().count() <= 2
}

/// A name that is a link to a folder.
struct Link {
    path: PathBuf,
    /// Where the folder lies.
    beside: PathBuf,
}

/// The links to folders on the way to a file; they may lead to each other.
fn links(file: &Path) -> Vec<Link> {
    let (mut found, mut passed) = (Vec::new(), 0);
    let Ok(named) = std::path::absolute(file) else { return found };
    let mut real = PathBuf::from("/");
    let mut left: Vec<PathBuf> = Vec::new();
    let add = |left: &mut Vec<PathBuf>, path: &Path| {
        left.extend(path.components().rev().map(|part| PathBuf::from(part.as_os_str())));
    };
    add(&mut left, &named);
    while let Some(part) = left.pop() {
        match part.components().next() {
            Some(Component::RootDir) => real = part,
            Some(Component::ParentDir) => drop(real.pop()),
            Some(Component::Normal(name)) => {
                let path = real.join(name);
                match fs::read_link(&path) {
                    Ok(target) if passed < MOST_LINKS => {
                        passed += 1;
                        let beside = real.join(&target);
                        let beside = beside.parent().and_then(|it| it.canonicalize().ok());
                        if let Some(beside) = beside.filter(|_| path.is_dir()) {
                            found.push(Link { path, beside });
                        }
                        add(&mut left, &target);
                    }
                    _ => real = path,
                }
            }
            _ => {}
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

    #[test]
    fn a_link_to_a_folder_may_lead_to_its_neighbours_later_and_nowhere_else() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        for folder in ["releases/1/conf", "releases/2/conf", "other/conf"] {
            fs::create_dir_all(at(folder)).unwrap();
            fs::write(at(folder).join("file"), folder).unwrap();
        }
        symlink("releases/latest", at("current")).unwrap();
        symlink("1", at("releases/latest")).unwrap();
        let file = at("current/conf/file");
        let lead = |link: &str, to: &str| {
            fs::remove_file(at(link)).unwrap();
            symlink(to, at(link)).unwrap();
        };
        let (steps, done) = (std::sync::Barrier::new(2), at("releases"));
        std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                let own = folders(std::slice::from_ref(&file));
                assert!(own.contains(&done.canonicalize().unwrap()), "{own:?}");
                let own = own.iter().map(PathBuf::as_path);
                assert!(confine(own, &[], &Connects::Anywhere).unwrap());
                let mut read = Vec::new();
                for _ in 0..4 {
                    read.push(fs::read_to_string(&file).ok());
                    steps.wait();
                    steps.wait();
                }
                read
            });
            let moves = [("releases/latest", "2"), ("current", "releases/1"), ("current", "other")];
            for (link, to) in moves {
                steps.wait();
                lead(link, to);
                steps.wait();
            }
            steps.wait();
            steps.wait();
            let read = confined.join().unwrap();
            let expected =
                [Some("releases/1/conf"), Some("releases/2/conf"), Some("releases/1/conf"), None];
            assert_eq!(read, expected.map(|it| it.map(str::to_owned)));
        });
    }

    #[test]
    fn a_link_to_a_folder_of_the_system_opens_nothing_beside_it_and_is_named() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        for (link, folder) in [("root", "/usr"), ("share", "/usr/share")] {
            symlink(folder, home.join(link)).unwrap();
            let files = [home.join(link).join("no-such-file")];
            assert!(
                folders(&files).iter().all(|it| it.starts_with(&home)),
                "{:?}",
                folders(&files)
            );
            assert_eq!(fixed(&files), [home.join(link)].into());
        }
        let plain = [home.join("file"), PathBuf::from("/no-such-file")];
        assert!(fixed(&plain).is_empty());
        symlink("round", home.join("round")).unwrap();
        assert!(links(&home.join("round/file")).is_empty(), "a link to itself ends");
    }
}
