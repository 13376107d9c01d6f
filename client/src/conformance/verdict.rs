//! What a case finds, and how it says so.

use std::fmt::Display;
use std::io;

use super::message::Message;

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server does what the requirement says.
    Pass,
    /// It does something else.
    Fail {
        /// What the requirement asks for.
        expected: String,
        /// What was seen instead.
        seen: String,
    },
    /// The requirement does not apply here; why.
    NotApplicable(String),
}

/// Why a case did not pass; travels by `?`.
#[derive(Clone, Debug)]
pub(super) enum Miss {
    Fail { expected: String, seen: String },
    NotOffered(String),
}

pub(super) type Finding<T = ()> = Result<T, Miss>;

impl From<Finding> for Verdict {
    fn from(finding: Finding) -> Self {
        match finding {
            Ok(()) => Self::Pass,
            Err(Miss::Fail { expected, seen }) => Self::Fail { expected, seen },
            Err(Miss::NotOffered(why)) => Self::NotApplicable(why),
        }
    }
}

impl From<io::Error> for Miss {
    fn from(error: io::Error) -> Self {
        fail("a working connection", error)
    }
}

pub(super) fn fail(expected: impl Display, seen: impl Display) -> Miss {
    Miss::Fail { expected: expected.to_string(), seen: seen.to_string() }
}

pub(super) fn not_offered(why: impl Display) -> Miss {
    Miss::NotOffered(why.to_string())
}

/// Passes only if `holds`.
pub(super) fn demand(holds: bool, expected: impl Display, seen: impl Display) -> Finding {
    if holds { Ok(()) } else { Err(fail(expected, seen)) }
}

/// Passes only if both are equal.
pub(super) fn equal<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, wanted: &T) -> Finding {
    demand(seen == wanted, format!("{what} {wanted:?}"), format!("{seen:?}"))
}

/// Says at which step of its case something was found.
pub(super) trait At {
    fn at(self, step: impl Display) -> Self;
}

impl<T> At for Finding<T> {
    fn at(self, step: impl Display) -> Self {
        self.map_err(|miss| match miss {
            Miss::Fail { expected, seen } => {
                Miss::Fail { expected: format!("{step}: {expected}"), seen }
            }
            other @ Miss::NotOffered(_) => other,
        })
    }
}

impl Message {
    pub(super) fn expect_success(&self) -> Finding {
        demand(self.is_success(), "success", self.describe())
    }

    pub(super) fn expect(&self, code: u16) -> Finding {
        demand(self.code() == Some(code), code, self.describe())
    }

    pub(super) fn expect_any(&self, codes: &[u16]) -> Finding {
        let wanted: Vec<String> = codes.iter().map(u16::to_string).collect();
        let holds = self.code().is_some_and(|code| codes.contains(&code));
        demand(holds, wanted.join(" or "), self.describe())
    }
}
