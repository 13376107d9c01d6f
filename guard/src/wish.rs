//! What an operator wishes a service to be when its sockets are open.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{Connects, NoSuchUser, Plan, User};

/// The table `[hardening]` of both services' configurations.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hardening {
    user: Option<String>,
    seccomp: bool,
    landlock: bool,
}

impl Default for Hardening {
    fn default() -> Self {
        Self { user: None, seccomp: true, landlock: true }
    }
}

impl Hardening {
    /// The user it names.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// What a service becomes that reads these files again and connects there.
    pub fn plan(&self, files: Vec<PathBuf>, connects: Connects) -> Result<Plan, NoSuchUser> {
        Ok(Plan {
            user: User::find(self.user())?,
            seccomp: self.seccomp,
            landlock: self.landlock,
            files,
            low_ports: false,
            connects,
            kernel_maps: false,
            errands: None,
        })
    }
}
