//! How a subcommand ends when it does not succeed: one message and an exit status.

use std::fmt;

/// What stopped a subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The arguments or the configuration are wrong: exit status 2.
    Setup(String),
    /// The job itself failed: exit status 1.
    Job(String),
    /// The answer is no, and was printed: exit status 1.
    No,
}

impl Failure {
    /// Wrong arguments or configuration.
    pub(crate) fn setup(error: impl fmt::Display) -> Self {
        Self::Setup(error.to_string())
    }

    /// The job failed.
    pub(crate) fn job(error: impl fmt::Display) -> Self {
        Self::Job(error.to_string())
    }

    /// A failure that knows its exit status.
    pub(crate) fn with_code(error: impl fmt::Display, code: u8) -> Self {
        if code == 2 { Self::setup(error) } else { Self::job(error) }
    }

    /// The exit status of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Setup(_) => 2,
            Self::Job(_) | Self::No => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(message) | Self::Job(message) => f.write_str(message),
            Self::No => Ok(()),
        }
    }
}
