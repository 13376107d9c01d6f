//! Brings records to a receiver, for as long as it takes.
//!
//! A receiver that is away or busy is tried again for ever. One that refuses what it was given may
//! be restarting into a mistake, or not take one of the records: they come again, fewer at once, until
//! the one that is refused stands alone, and goes when that was refused often enough. Nothing
//! behind it waits for longer than that.

use std::sync::Arc;
use std::time::Duration;

use super::Accounts;
use super::spool::Outlet;

/// How failures are met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The pause after a first failure.
    first: Duration,
    /// The longest one of ours.
    longest: Duration,
    /// The longest one that a receiver may ask for.
    most_asked: Duration,
    /// How often a record may be refused.
    refusals: u32,
}

impl Patience {
    /// With the refusals, which take five minutes with these pauses.
    pub(super) const USUAL: Self = Self {
        first: Duration::from_millis(200),
        longest: Duration::from_secs(30),
        most_asked: Duration::from_secs(600),
        refusals: 10,
    };
}

/// Why a receiver does not have lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It is away or busy, or we are not let in; perhaps it says for how long.
    Away(String, Option<Duration>),
    /// It does not want these lines, or one of them.
    Refused(String),
    /// It does not want these lines, and they must not come again.
    Final(String),
}

/// A way to a receiver.
pub(super) trait Delivery: Send {
    /// Brings whole lines. They are not had unless this says so; then they come again.
    fn deliver(&mut self, lines: &[u8]) -> Result<(), Failure>;
}

/// Takes lines from an outlet to a receiver until there are none. A receiver that fails is tried
/// again, after longer and longer pauses.
pub(super) fn run(
    mut way: impl Delivery,
    mut outlet: Outlet,
    accounts: &Arc<Accounts>,
    patience: Patience,
) {
    let sink = outlet.sink();
    let mut pause = None;
    let mut limit = None;
    let mut refusals = 0;
    let mut dropping = false;
    while let Some(lines) = outlet.next(limit) {
        let Err(failure) = way.deliver(&lines.bytes) else {
            outlet.done(&lines);
            (limit, refusals) = (None, 0);
            if pause.take().is_some() || std::mem::take(&mut dropping) {
                tracing::info!(to = sink.name(), "usage records are taken again");
            }
            continue;
        };
        accounts.sink(sink).failed.add(1);
        let (why, asked, given_up) = match failure {
            Failure::Away(why, asked) => (why, asked, false),
            Failure::Final(why) => (why, None, true),
            Failure::Refused(why) if lines.records > 1 => {
                limit = Some(lines.bytes.len() as u64 / 2);
                (why, None, false)
            }
            Failure::Refused(why) => {
                refusals += 1;
                (why, None, refusals >= patience.refusals)
            }
        };
        if given_up {
            outlet.give_up(&lines);
            (limit, refusals) = (None, 0);
            if !std::mem::replace(&mut dropping, true) {
                tracing::error!(to = sink.name(), "usage records are refused, and lost: {why}");
            }
            continue;
        }
        if pause.is_none() {
            tracing::warn!(to = sink.name(), "usage records wait in the spool: {why}");
        }
        let own = pause.map_or(patience.first, |last: Duration| (last * 2).min(patience.longest));
        pause = Some(own);
        if !outlet.rest(own.max(asked.unwrap_or_default().min(patience.most_asked))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::clock::Clock;
    use crate::records::accounts::Count;
    use crate::records::spool::{self, Inlet};
    use crate::records::{Sink, SpoolWish};

    const QUICK: Patience = Patience {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(1),
        most_asked: Duration::from_millis(300),
        refusals: 3,
    };

    /// What a receiver makes of lines, and who hears what was brought.
    struct Script<F>(F, Sender<String>);

    impl<F: FnMut(&str) -> Result<(), Failure> + Send> Delivery for Script<F> {
        fn deliver(&mut self, lines: &[u8]) -> Result<(), Failure> {
            let text = std::str::from_utf8(lines).unwrap();
            self.1.send(text.replace('\n', "")).unwrap();
            (self.0)(text)
        }
    }

    /// What is brought of records to a receiver that always answers; what it has of them, and
    /// how many it was refused, failed to take, and are left.
    fn brought(
        records: &str,
        answer: impl FnMut(&str) -> Result<(), Failure> + Send,
    ) -> (Vec<String>, [u64; 4]) {
        let folder = tempfile::tempdir().unwrap();
        let accounts: Arc<Accounts> = Arc::default();
        let wish = SpoolWish { folder: folder.path().to_owned(), limit: 1 << 20 };
        let opened = spool::open(&wish, &[Sink::Http], Arc::clone(&accounts));
        let (mut inlet, mut outlets): (Inlet, _) = opened.unwrap();
        for record in records.chars() {
            inlet.append(format!("{record}\n").as_bytes(), 1);
        }
        let (told, heard) = channel();
        let outlet = outlets.remove(0);
        let account = accounts.sink(Sink::Http);
        std::thread::scope(|scope| {
            let accounts = &accounts;
            scope.spawn(move || run(Script(answer, told), outlet, accounts, QUICK));
            while account.waiting.value() > 0 {
                std::thread::yield_now();
            }
            inlet.end();
        });
        let counts = [&account.delivered, &account.refused, &account.failed, &account.waiting];
        (heard.into_iter().collect(), counts.map(Count::value))
    }

    #[test]
    fn a_receiver_that_is_away_gets_everything_when_it_is_back() {
        let mut times = 0;
        let (heard, counts) = brought("abc", |_| {
            times += 1;
            if times < 20 { Err(Failure::Away("away".to_owned(), None)) } else { Ok(()) }
        });
        assert_eq!((heard, counts), (vec!["abc".to_owned(); 20], [3, 0, 19, 0]));
    }

    #[test]
    fn a_record_that_is_refused_goes_alone_when_that_was_said_often_enough() {
        let (heard, counts) = brought("abcdXefg", |lines| {
            if lines.contains('X') { Err(Failure::Refused("no X".to_owned())) } else { Ok(()) }
        });
        let expected = ["abcdXefg", "abcd", "Xefg", "Xe", "X", "X", "X", "efg"];
        assert_eq!((&heard[..], counts), (&expected.map(str::to_owned)[..], [7, 1, 6, 0]));
    }

    #[test]
    fn what_must_not_come_again_goes_at_once_and_all_of_it() {
        let mut first = true;
        let (heard, counts) = brought("abc", |_| {
            if std::mem::take(&mut first) { Err(Failure::Final("no".to_owned())) } else { Ok(()) }
        });
        assert_eq!((heard, counts), (vec!["abc".to_owned()], [0, 3, 1, 0]));
    }

    #[test]
    fn a_receiver_is_left_alone_as_long_as_it_asks_within_reason() {
        for (asked, waited) in [(100, 100), (3_600_000, 300)] {
            let begin = Clock::new();
            let mut first = true;
            brought("a", |_| {
                let asked = Some(Duration::from_millis(asked));
                let busy = std::mem::take(&mut first);
                if busy { Err(Failure::Away("busy".to_owned(), asked)) } else { Ok(()) }
            });
            assert!(begin.spent() >= Duration::from_millis(waited), "{asked}: {:?}", begin.spent());
        }
    }
}
