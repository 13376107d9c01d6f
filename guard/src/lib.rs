//! What both services do for their own safety.
//!
//! A service starts as root, or with capabilities, because it binds low ports and reads secret
//! files. When its sockets are open it calls [`confine()`], before it starts a thread: it becomes an
//! unprivileged user ([`user`]), can gain nothing back, leaves no core, opens nothing but its own
//! files (Landlock, `files`) and makes only the system calls it needs (seccomp, `syscalls`). What
//! is in force is read back from the kernel ([`Measures`]), not assumed.
//!
//! Files that the configuration names are read again later by one thread, the [`Reader`]: where
//! the new user may not read them, that thread alone keeps the capability to do so, below the
//! folders of those files. What a service writes is written by one thread too, the [`Writer`], which
//! alone may. [`Access`] judges who may speak to operators' doors, [`tls`] checks their
//! certificates, a [`socket`] is a door for those whom its file's mode lets in, and [`http`] is what is
//! spoken behind the doors. They accept as many as there are [`descriptors`] for.
#![forbid(unsafe_code)]

mod access;
pub mod certificate;
mod confine;
pub mod descriptors;
mod files;
pub mod http;
mod measures;
mod reader;
mod secret;
pub mod socket;
mod syscalls;
pub mod tls;
mod user;
mod wish;
mod writer;

pub use access::{Access, Denied, NAMELESS, Token, TokenError, needs_proof};
pub use confine::{Confined, Error, Plan, confine};
pub use files::Connects;
pub use measures::Measures;
pub use reader::Reader;
pub use secret::{SecretText, SecretTexts};
pub use user::{NoSuchUser, User};
pub use wish::Hardening;
pub use writer::{Errands, Writer};
