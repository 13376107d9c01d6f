//! Everything that can go wrong, by its stable name: what it is, and what to do.

use proto::reject::{DropReason, Why};

use crate::dtls::{Greeting, Loss, Parting};
use crate::stream::{Ending, Refusal};

/// Something that can go wrong. Some share a name, as they share a label in metrics; then they are
/// of other kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Stable name: the label of the metric.
    pub id: &'static str,
    /// A "refusal" has a code; a "drop" is silence; of a "connection" it is why it was refused or
    /// ended, of "dtls" what became of a hello, a session or a record.
    pub kind: &'static str,
    /// What the client hears of a refusal.
    pub code: Option<u16>,
    /// What it is.
    pub help: &'static str,
    /// What to do.
    pub advice: &'static str,
}

/// All of them, refusals first.
pub fn reasons() -> impl Iterator<Item = Reason> {
    macro_rules! all {
        ($kind:literal, $all:expr, $code:expr) => {
            $all.iter().map(|it| Reason {
                id: it.name(),
                kind: $kind,
                code: $code(it),
                help: it.help(),
                advice: it.advice(),
            })
        };
    }
    all!("refusal", Why::ALL, |why: &Why| Some(why.code().0))
        .chain(all!("drop", DropReason::ALL, |_| None))
        .chain(all!("connection", Refusal::ALL, |_| None))
        .chain(all!("connection", Ending::ALL, |_| None))
        .chain(all!("dtls", Greeting::ALL, |_| None))
        .chain(all!("dtls", Parting::ALL, |_| None))
        .chain(all!("dtls", Loss::ALL, |_| None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_says_what_it_is_and_what_to_do() {
        for Reason { id, help, advice, .. } in reasons() {
            assert!(help.split(' ').count() >= 3, "{id}: {help}");
            assert!(advice.split(' ').count() >= 3, "{id}: {advice}");
            assert!(!help.ends_with('.') && !advice.ends_with('.'), "{id}: others end it");
            assert!(!help.contains("  ") && !advice.contains("  "), "{id}: {help} {advice}");
        }
    }
}
