//! Allocations as operators see them, and the names they have there.

use std::fmt;
use std::str::FromStr;

use proto::addr::AllocationId;
use proto::turn::tally::AllocationView;

/// One allocation, with the worker that serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The worker.
    pub worker: u16,
    /// The allocation; its id is unique in that worker.
    pub view: AllocationView,
}

/// Names an allocation of any worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId {
    /// The worker.
    pub(crate) worker: u16,
    /// The allocation.
    pub(crate) allocation: AllocationId,
}

impl Session {
    /// Its name.
    pub(crate) fn id(&self) -> SessionId {
        SessionId { worker: self.worker, allocation: self.view.id }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AllocationId { slot, generation } = self.allocation;
        write!(f, "{}-{slot}-{generation}", self.worker)
    }
}

impl FromStr for SessionId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_plain = |byte: u8| byte.is_ascii_digit() || byte == b'-';
        let mut parts = text.split('-').filter(|_| text.bytes().all(is_plain));
        let (worker, slot, generation) = (parts.next(), parts.next(), parts.next());
        let id = Self {
            worker: number(worker)?,
            allocation: AllocationId { slot: number(slot)?, generation: number(generation)? },
        };
        parts.next().is_none().then_some(id).ok_or(())
    }
}

fn number<N: FromStr>(digits: Option<&str>) -> Result<N, ()> {
    digits.and_then(|digits| digits.parse().ok()).ok_or(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let allocation = AllocationId { slot: 12, generation: 345 };
        let id = SessionId { worker: 3, allocation };
        assert_eq!(id.to_string(), "3-12-345");
        assert_eq!("3-12-345".parse(), Ok(id));
        for wrong in ["", "3", "3-12", "3-12-345-6", "3--345", "+3-12-345", "70000-1-1", "a-b-c"] {
            assert_eq!(wrong.parse::<SessionId>(), Err(()), "{wrong}");
        }
    }
}
