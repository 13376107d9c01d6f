//! The way down, in the one order that works.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, fchown, getegid, geteuid, setgroups, setresgid, setresuid};

use crate::syscalls::Beyond;
use crate::{Connects, Errands, Measures, Reader, User, Writer, files, syscalls};

/// What a service wants to be when its sockets are open.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a measure of its own")]
pub struct Plan {
    /// Whom it becomes.
    pub user: User,
    /// Whether its system calls are filtered.
    pub seccomp: bool,
    /// Whether the files it opens are confined.
    pub landlock: bool,
    /// The files it reads again.
    pub files: Vec<PathBuf>,
    /// Whether it will open sockets on ports below 1024 again.
    pub low_ports: bool,
    /// Where it connects to.
    pub connects: Connects,
    /// Whether it reads and changes maps of kernel programs that it holds open.
    pub kernel_maps: bool,
    /// What one thread does that no other may, if there is something.
    pub errands: Option<Errands>,
}

/// What it became.
#[derive(Debug)]
pub struct Confined {
    /// What is in force.
    pub measures: Measures,
    /// Reads files again.
    pub reader: Reader,
    /// Runs the errands of the plan.
    pub writer: Option<Writer>,
}

impl Confined {
    /// A service that gives up nothing: it shares its process. With errands to run or without.
    pub fn free(errands: bool) -> Result<Self, Error> {
        let reader = Reader::start(|| {}).map_err(threadless)?;
        let writer = errands.then(|| Writer::start(|| {})).transpose().map_err(threadless)?;
        Ok(Self { measures: Measures::default(), reader, writer })
    }
}

/// What could not be done, and must not be left undone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user the operator named.
    #[error("cannot become the user {user:?}: {source}. Start it with CAP_SETUID and CAP_SETGID")]
    User {
        /// Its name.
        user: String,
        /// What the system said.
        source: Errno,
    },
    /// Something the kernel does not refuse.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn threadless(source: io::Error) -> Error {
    Error::System { what: "a thread for files", source }
}

impl Error {
    fn system(
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::System { what, source: io::Error::other(source) }
    }
}

/// Gives up what the service does not need any more. To be called when `sockets` are bound, and
/// before any thread is started: it holds for this thread and those that this one starts.
///
/// What the kernel cannot do is said in one line and left out; what it refuses is an error.
pub fn confine(plan: &Plan, sockets: &[BorrowedFd<'_>]) -> Result<Confined, Error> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|error| Error::system("core dumps", error))?;
    become_user(&plan.user, sockets)?;
    prctl::set_no_new_privs().map_err(|error| Error::system("new privileges", error))?;
    // Changing the user has the same effect, but not everybody does.
    prctl::set_dumpable(false).map_err(|error| Error::system("core dumps", error))?;
    let no_core_dumps = prctl::get_dumpable().is_ok_and(|dumpable| !dumpable);

    // Rules are bound to a folder as the kernel knows it now; open, it stays the same one.
    std::mem::forget(File::open("/proc/self").ok());
    let landlock = plan.landlock && fence(plan);
    let lost = unreadable(&plan.files);
    let can_keep = landlock && holds(Capability::CAP_DAC_READ_SEARCH);
    let reads =
        if lost.is_empty() || !can_keep { None } else { Some(Capability::CAP_DAC_READ_SEARCH) };
    let low = plan.low_ports && holds(Capability::CAP_NET_BIND_SERVICE);
    let low = low.then_some(Capability::CAP_NET_BIND_SERVICE);
    if reads.is_none() {
        warn_of(&lost, plan.user.name());
    }
    keep(&reads.into_iter().chain(low).collect())?;
    let seccomp = plan.seccomp;
    let first = move || {
        // It has them: less is always granted.
        drop(keep(&reads.into_iter().collect()));
        if seccomp {
            drop(syscalls::filter(Beyond::Nothing));
        }
    };
    let reader = Reader::start(first).map_err(threadless)?;
    let writer =
        plan.errands.as_ref().map(|it| write(it.clone(), landlock, seccomp)).transpose()?;
    keep(&low.into_iter().collect())?;
    if landlock {
        let own = [Path::new("/proc/self")];
        files::confine(own, &[], &plan.connects).map_err(|error| Error::system("files", error))?;
    }
    let beyond = if plan.kernel_maps { Beyond::Maps } else { Beyond::Nothing };
    if seccomp && let Err(error) = syscalls::filter(beyond) {
        tracing::warn!("system calls are not filtered: {error}");
    }
    let measures = Measures::look(no_core_dumps, landlock);
    say(measures, plan.user.name(), reads.is_some());
    Ok(Confined { measures, reader, writer })
}

/// Starts the thread that runs errands, with what they need and nothing else.
fn write(errands: Errands, landlock: bool, seccomp: bool) -> Result<Writer, Error> {
    let first = move || {
        // Less is always granted, and what is in force for the process holds here too.
        drop(keep(&CapsHashSet::new()));
        if landlock {
            let folders = files::folders(&errands.files);
            let paths = folders.iter().map(PathBuf::as_path).chain([Path::new("/proc/self")]);
            drop(files::confine(paths, &errands.folders, &Connects::Ports(errands.ports)));
        }
        if seccomp {
            drop(syscalls::filter(Beyond::Files));
        }
    };
    Writer::start(first).map_err(threadless)
}

/// Confines this thread to the service's files. Whether the kernel does so.
fn fence(plan: &Plan) -> bool {
    let errands = plan.errands.clone().unwrap_or_default();
    let folders = files::folders(&[&plan.files[..], &errands.files[..]].concat());
    for link in files::fixed(&plan.files) {
        tracing::warn!(
            "{}: this link leads to a folder beside which much else lies. When it leads elsewhere, \
             files behind it can be read again after a restart only. Let it lead to a folder in one \
             of the service's own, as current to releases/7.",
            link.display()
        );
    }
    let paths = folders.iter().map(PathBuf::as_path).chain([Path::new("/proc/self")]);
    let connects = match &plan.connects {
        Connects::Anywhere => Connects::Anywhere,
        Connects::Ports(ports) => Connects::Ports([&ports[..], &errands.ports[..]].concat()),
    };
    match files::confine(paths, &errands.folders, &connects) {
        Ok(true) => true,
        Ok(false) => {
            tracing::warn!("files are not confined: this kernel has no Landlock, or it is off");
            false
        }
        Err(error) => {
            tracing::warn!("files are not confined: {error}");
            false
        }
    }
}

/// Changes the user; sockets go along, because a port is shared among one user's sockets only.
fn become_user(user: &User, sockets: &[BorrowedFd<'_>]) -> Result<(), Error> {
    let old = (geteuid(), getegid());
    if user.uid == old.0 {
        return Ok(());
    }
    // Without the right to do so there is nothing in it worth taking away.
    drop(caps::clear(None, CapSet::Bounding));
    prctl::set_keepcaps(true).map_err(|error| Error::system("the user", error))?;
    let give = |(uid, gid): (Uid, Gid)| {
        sockets.iter().try_for_each(|socket| fchown(socket, Some(uid), Some(gid)))
    };
    let changed = give((user.uid, user.gid))
        .and_then(|()| setgroups(&[]))
        .and_then(|()| setresgid(user.gid, user.gid, user.gid))
        .and_then(|()| setresuid(user.uid, user.uid, user.uid));
    match changed {
        Ok(()) => Ok(()),
        Err(source) if user.wanted => Err(Error::User { user: user.name.clone(), source }),
        Err(source) => {
            // They are its own again, or have been all the time.
            let _ = give(old);
            tracing::warn!("stays root: cannot become {}: {source}", user.name);
            Ok(())
        }
    }
}

/// Whether this thread may take this capability.
fn holds(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Permitted, capability).unwrap_or(false)
}

/// Keeps these capabilities of the calling thread and no other.
fn keep(these: &CapsHashSet) -> Result<(), Error> {
    let failed = |error: caps::errors::CapsError| Error::system("capabilities", error.to_string());
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(failed)?;
    // Kernels without this set have nothing in it.
    drop(caps::clear(None, CapSet::Ambient));
    // Effective ones must be permitted at every moment.
    caps::set(None, CapSet::Effective, &CapsHashSet::new()).map_err(failed)?;
    caps::set(None, CapSet::Permitted, these).map_err(failed)?;
    caps::set(None, CapSet::Effective, these).map_err(failed)
}

/// Those of the files that cannot be opened now.
fn unreadable(files: &[PathBuf]) -> Vec<&Path> {
    let cannot = |file: &&PathBuf| {
        File::open(file).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    files.iter().filter(cannot).map(PathBuf::as_path).collect()
}

fn warn_of(lost: &[&Path], user: &str) {
    for file in lost {
        tracing::warn!(
            "{}: the user {user} cannot read it, so its changes wait for a restart. Let that \
             user's group read it: chgrp and chmod g+r, and g+x for its folder.",
            file.display()
        );
    }
}

/// One line: what is in force, and what is not.
fn say(measures: Measures, user: &str, reads: bool) {
    let list = |wanted: bool| {
        let those = measures.named().into_iter().filter(|(_, holds)| *holds == wanted);
        those.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    };
    let reader = if reads { "reads the configured files although its user may not" } else { "" };
    tracing::info!(user, in_force = list(true), missing = list(false), reader, "hardened");
}
