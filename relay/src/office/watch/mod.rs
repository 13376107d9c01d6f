//! What the office keeps in mind of the last ten minutes, for operators who look.
//!
//! Every five seconds each worker is asked for its allocations, a page a question, as for a scrape;
//! nothing of this is on the way of a packet. `table` makes rates of counters and keeps them in few
//! bytes, `totals` does the same for the relay as a whole, and `trouble` says in words what is
//! wrong. Where no door for browsers is configured this sleeps until somebody asks, and some minutes
//! after the last question forgets everything.

mod samples;
mod table;
#[cfg(test)]
mod tests;
mod totals;
mod trouble;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::chronicle::findings::{Finding, findings};
use crate::chronicle::{Account, Subject};
use crate::service::Observer;
use crate::session::SessionId;
use crate::worker::Question;
pub(super) use samples::Sample;
use table::Table;
pub(super) use table::{Recent, Sort};
use totals::Totals;
pub(super) use totals::{Total, relayed};
pub(super) use trouble::Trouble;

/// How often everything is looked at.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// Looks closer together than this would tell more of chance than of calls.
const SHORTEST: Duration = Duration::from_millis(2_500);

/// An answer older than this is none.
const STALE: Duration = Duration::from_secs(8);

/// How long it goes on after the last question, where nothing says it always should.
const INTEREST: Duration = Duration::from_secs(300);

/// Allocations of one question.
const PAGE: usize = 250;

/// Clones watch the same relay.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    observer: Observer,
    /// Whether it goes on when nobody asks.
    always: bool,
    seen: Arc<Mutex<Seen>>,
    /// Held while a look is taken: one at a time.
    looking: Arc<Mutex<()>>,
}

/// What was seen. Times are since the relay began.
#[derive(Debug, Default)]
struct Seen {
    asked: Option<Duration>,
    looked: Option<Duration>,
    table: Table,
    totals: Totals,
    troubles: Vec<Trouble>,
}

impl Watch {
    /// Nothing was seen yet.
    pub(super) fn new(observer: Observer) -> Self {
        let always = observer.config().admin.is_some();
        Self { observer, always, seen: Arc::default(), looking: Arc::default() }
    }

    /// Looks for ever.
    pub(super) async fn run(self) {
        let mut times = interval(EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            if self.is_wanted() {
                let watch = self.clone();
                // A look that failed is followed by the next one.
                drop(spawn_blocking(move || watch.look(SHORTEST)).await);
            } else {
                *self.seen() = Seen::default();
            }
        }
    }

    fn is_wanted(&self) -> bool {
        let asked = self.seen().asked;
        self.always || asked.is_some_and(|at| self.observer.uptime() < at + INTEREST)
    }

    /// Somebody asks: what is answered from here on is of now. Waits for the workers if nobody
    /// looked lately.
    pub(super) fn attend(&self) {
        self.seen().asked = Some(self.observer.uptime());
        self.look(STALE);
    }

    /// Looks at everything, unless somebody did so a moment ago.
    fn look(&self, unless: Duration) {
        let _turn = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = self.observer.uptime();
        let lately = |at: Duration| begun.saturating_sub(at) < unless;
        if self.seen().looked.is_some_and(lately) {
            return;
        }
        let whole = self.look_at_all();
        let counters = self.observer.counters();
        let host = trouble::Host::look(&self.observer);
        let loops = self.loops();
        let mut seen = self.seen();
        let Seen { looked, table, totals, troubles, .. } = &mut *seen;
        if whole {
            table.sweep();
        }
        totals.take(begun, &counters, &host);
        *troubles = trouble::find(&host, totals, table, whole && counters.whole);
        trouble::add_loops(troubles, &loops);
        *looked = Some(begun);
    }

    /// What goes wrong over and over, whoever it befalls.
    fn loops(&self) -> Vec<Finding> {
        let mut all = Account::default();
        let answers = self.observer.ask(|answer| Question::Account(Subject::Loops, answer));
        answers.into_iter().flatten().for_each(|account| all.join(account));
        findings(&all, None)
    }

    /// Page after page, so that a worker never answers at length; whether all answered.
    fn look_at_all(&self) -> bool {
        let mut behind = None;
        self.seen().table.begin();
        loop {
            let Some(page) = self.observer.page(behind, PAGE) else { return false };
            let at = self.observer.uptime();
            let mut seen = self.seen();
            for session in &page {
                seen.table.take(at, session);
            }
            behind = page.last().map(crate::session::Session::id);
            if page.len() < PAGE {
                return true;
            }
        }
    }

    /// The first so many in some order, and how many there are.
    pub(super) fn first(&self, sort: Sort, most: usize) -> (Vec<SessionId>, usize) {
        let seen = self.seen();
        (seen.table.first(sort, most), seen.table.len())
    }

    /// What is known of an allocation's last seconds.
    pub(super) fn recent(&self, id: SessionId) -> Recent {
        self.seen().table.recent(id)
    }

    /// What is known of an allocation's last minutes, the oldest first.
    pub(super) fn samples(&self, id: SessionId) -> Vec<Sample> {
        self.seen().table.samples(id)
    }

    /// What is known of the relay's last minutes behind a time, the oldest first.
    pub(super) fn totals(&self, behind: Duration) -> Vec<Total> {
        self.seen().totals.behind(behind)
    }

    /// What is wrong, the worst first.
    pub(super) fn troubles(&self) -> Vec<Trouble> {
        self.seen().troubles.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
