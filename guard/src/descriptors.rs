//! Descriptors: how many a service may have, and what its doors do where none is left.
//!
//! A door that cannot accept waits a moment and tries again, as descriptors come free when others
//! leave. That is said once when it begins and once when it is over, however long it lasts.

use std::future::ready;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::time::{Instant, sleep_until};

/// After a failed accept, because descriptors need time to come free.
const PAUSE: Duration = Duration::from_millis(50);

/// The last descriptors there are, which clients get none of: with them operators are answered, files
/// are read again and records are kept. An eighth of all where there are few.
const KEPT: u64 = 64;

/// How many descriptors this process may have: now, and at most.
pub fn limit() -> io::Result<(u64, u64)> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?)
}

/// Raises the limit to the most this process may have, and says it.
pub fn raise() -> io::Result<u64> {
    let (now, most) = limit()?;
    if now < most {
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    }
    Ok(most)
}

/// Takes in a socket for clients or their peers, unless it is one of the last there are: descriptors
/// are given out from the lowest on. Fails as the system would that has none left.
pub fn for_clients<T: AsFd>(socket: T) -> io::Result<T> {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    let limit = *LIMIT.get_or_init(|| limit().map_or(u64::MAX, |(now, _)| now));
    let number = socket.as_fd().as_raw_fd();
    if is_kept(number, limit) { Err(Errno::EMFILE.into()) } else { Ok(socket) }
}

fn is_kept(number: RawFd, limit: u64) -> bool {
    u64::try_from(number).is_ok_and(|number| number >= limit - KEPT.min(limit / 8))
}

/// No descriptor, or no memory, is left for a connection that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// Accepting at one door.
#[derive(Debug)]
pub struct Accepting {
    door: &'static str,
    paused: bool,
    /// When it is tried again.
    rests_until: Option<Instant>,
}

impl Accepting {
    /// At the door of this name.
    pub fn new(door: &'static str) -> Self {
        Self { door, paused: false, rests_until: None }
    }

    /// Whether connections wait that nothing is left for.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The next connection; none if it is gone again, or if a pause is over. May be cancelled.
    pub async fn next<T>(
        &mut self,
        accept: impl Future<Output = io::Result<T>>,
    ) -> Result<Option<T>, Exhausted> {
        if let Some(until) = self.rests_until {
            sleep_until(until).await;
            self.rests_until = None;
        }
        let accepted = tokio::select! {
            biased;
            accepted = accept => accepted,
            // Nobody waits any more.
            () = ready(()), if self.paused => {
                self.go_on();
                return Ok(None);
            }
        };
        match accepted {
            Ok(connection) => {
                self.go_on();
                Ok(Some(connection))
            }
            Err(error) => {
                self.rests_until = Some(Instant::now() + PAUSE);
                self.failed(&error)
            }
        }
    }

    fn failed<T>(&mut self, error: &io::Error) -> Result<Option<T>, Exhausted> {
        let wants = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
        if !error.raw_os_error().is_some_and(|code| wants.contains(&Errno::from_raw(code))) {
            tracing::debug!("a connection at the door of {} is gone: {error}", self.door);
            return Ok(None);
        }
        if !self.paused {
            self.paused = true;
            tracing::warn!(
                "connections at the door of {} wait: {error}. Raise the limit of descriptors \
                 (LimitNOFILE=), or lower limits.connections.",
                self.door
            );
        }
        Err(Exhausted)
    }

    fn go_on(&mut self) {
        if self.paused {
            self.paused = false;
            tracing::warn!("connections at the door of {} are accepted again", self.door);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::runtime::Builder;
    use tokio::time::timeout;
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Level, Metadata, Subscriber};

    use super::*;

    fn on_paused_time<T>(work: impl Future<Output = T>) -> T {
        Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(work)
    }

    fn error(errno: Errno) -> io::Result<u8> {
        Err(io::Error::from_raw_os_error(errno as i32))
    }

    #[test]
    fn the_limit_is_raised_to_the_most_there_may_be() {
        let most = raise().unwrap();
        assert_eq!(limit().unwrap(), (most, most));
        assert_eq!(raise().unwrap(), most, "once more changes nothing");
    }

    #[test]
    fn the_last_descriptors_are_for_nobody_s_clients() {
        for (number, limit, kept) in [
            (0, 16, false),
            (13, 16, false),
            (14, 16, true),
            (223, 256, false),
            (224, 256, true),
            (524_223, 524_288, false),
            (524_224, 524_288, true),
            (3, 2, true),
        ] {
            assert_eq!(is_kept(number, limit), kept, "{number} of {limit}");
        }
        assert!(for_clients(std::fs::File::open("/dev/null").unwrap()).is_ok());
    }

    #[test]
    fn accepting_pauses_while_nothing_is_left_and_goes_on_with_the_next_or_when_nobody_waits() {
        on_paused_time(async {
            let mut door = Accepting::new("test");
            let begun = Instant::now();
            for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM] {
                assert_eq!(door.next(ready(error(errno))).await, Err(Exhausted));
                assert!(door.is_paused());
            }
            assert_eq!(Instant::now() - begun, 3 * PAUSE, "between two looks");
            assert_eq!(door.next(ready(Ok(7))).await, Ok(Some(7)));
            assert!(!door.is_paused());

            assert_eq!(door.next(ready(error(Errno::EMFILE))).await, Err(Exhausted));
            assert_eq!(door.next(pending::<io::Result<u8>>()).await, Ok(None));
            assert!(!door.is_paused(), "nobody waits any more");
            let next = door.next(pending::<io::Result<u8>>());
            assert!(timeout(PAUSE, next).await.is_err(), "now it waits for somebody");
        });
    }

    /// Counts what is said to operators.
    #[derive(Clone, Default)]
    struct Ear(Arc<AtomicUsize>);

    impl Subscriber for Ear {
        fn enabled(&self, about: &Metadata<'_>) -> bool {
            *about.level() <= Level::WARN
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_pause_is_said_once_when_it_begins_and_once_when_it_is_over() {
        let ear = Ear::default();
        let said = || ear.0.load(Ordering::Relaxed);
        let _listening = tracing::subscriber::set_default(ear.clone());
        on_paused_time(async {
            let mut door = Accepting::new("test");
            for _ in 0..200 {
                assert_eq!(door.next(ready(error(Errno::EMFILE))).await, Err(Exhausted));
                assert_eq!(said(), 1);
            }
            assert_eq!(door.next(ready(Ok(7))).await, Ok(Some(7)));
            assert_eq!(door.next(ready(Ok(8))).await, Ok(Some(8)));
            assert_eq!(said(), 2);
        });
    }

    #[test]
    fn who_is_gone_before_being_accepted_is_no_want_of_descriptors() {
        on_paused_time(async {
            let mut door = Accepting::new("test");
            assert_eq!(door.next(ready(error(Errno::ECONNABORTED))).await, Ok(None));
            assert!(!door.is_paused());
        });
    }

    #[test]
    fn a_pause_that_is_looked_away_from_does_not_begin_anew() {
        on_paused_time(async {
            let mut door = Accepting::new("test");
            assert_eq!(door.next(ready(error(Errno::EMFILE))).await, Err(Exhausted));
            let begun = Instant::now();
            for _ in 0..5 {
                let next = door.next(ready(Ok(7)));
                if timeout(PAUSE / 3, next).await.is_ok() {
                    assert_eq!(Instant::now() - begun, PAUSE);
                    return;
                }
            }
            panic!("it never ended");
        });
    }
}
