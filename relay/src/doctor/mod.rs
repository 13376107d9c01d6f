//! Whether this host is a good place for a relay, before somebody's call finds out.
//!
//! Looks only: nothing is opened, changed or sent, and nobody needs privileges, but whoever has
//! those of the relay sees what the relay would. Each file of this module looks at one thing and
//! turns what it saw into [`Finding`]s by a function that needs no host, so that tests can give it
//! any.

mod clock;
mod files;
mod interfaces;
mod network;
mod process;

use files::Files;

use crate::config::Config;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Works, but will hurt under load or at an unlucky moment.
    Warning,
    /// A relay does not work here as it is configured.
    Problem,
}

impl Level {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What: a stable name.
    pub subject: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was seen, as a sentence.
    pub words: String,
    /// What to do, where something is to be done.
    pub advice: Option<String>,
}

impl Finding {
    fn good(subject: &'static str, words: impl Into<String>) -> Self {
        Self { subject, level: Level::Good, words: words.into(), advice: None }
    }

    fn new(
        level: Level,
        subject: &'static str,
        words: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { subject, level, words: words.into(), advice: Some(advice.into()) }
    }
}

/// Looks at this host, for the relay of a configuration or for one with all defaults.
pub fn examine(config: Option<&Config>) -> Vec<Finding> {
    let host = Files::of_this_host();
    let mut found = process::look(&host, config);
    found.push(clock::look());
    found.extend(network::look(&host, config));
    found.extend(interfaces::look(&host, config));
    found
}
