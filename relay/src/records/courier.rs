//! Brings records to a receiver, for as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use super::Accounts;
use super::spool::Outlet;

/// The pause after a first failure, and the longest one.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(30)];

/// A way to a receiver.
pub(super) trait Delivery: Send {
    /// Brings whole lines. They are not had unless this says so; then they come again.
    fn deliver(&mut self, lines: &[u8]) -> Result<(), String>;
}

/// Takes lines from an outlet to a receiver until there are none. A receiver that fails is tried
/// again, after longer and longer pauses.
pub(super) fn run(mut way: impl Delivery, mut outlet: Outlet, accounts: &Arc<Accounts>) {
    let sink = outlet.sink();
    let mut pause = None;
    while let Some(lines) = outlet.next() {
        match way.deliver(&lines.bytes) {
            Ok(()) => {
                outlet.done(&lines);
                if pause.take().is_some() {
                    tracing::info!(to = sink.name(), "usage records are taken again");
                }
            }
            Err(why) => {
                accounts.sink(sink).failed.add(1);
                let [first, longest] = PAUSES;
                if pause.is_none() {
                    tracing::warn!(to = sink.name(), "usage records wait in the spool: {why}");
                }
                let next = pause.map_or(first, |last: Duration| (last * 2).min(longest));
                pause = Some(next);
                if !outlet.rest(next) {
                    return;
                }
            }
        }
    }
}
