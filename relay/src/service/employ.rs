//! A worker's thread. One that fails takes the others with it: a relay that serves half of its
//! clients would look alive from outside.

use std::io;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use super::{Observer, StartError};
use crate::sys;
use crate::telemetry::process::WORKER;
use crate::worker::Work;

/// Stops the relay if a worker ends by a panic that nobody caught, as another defect in what it
/// does after a first one.
struct Alarm<'o>(&'o Observer);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

/// Starts it.
pub(super) fn employ(
    index: u16,
    mut worker: Box<dyn Work>,
    observer: Observer,
) -> Result<JoinHandle<io::Result<()>>, StartError> {
    let work = move || {
        let _alarm = Alarm(&observer);
        if observer.0.config.workers > 1
            && let Err(error) = sys::pin_to_core(usize::from(index))
        {
            tracing::warn!(worker = index, %error, "the worker is not bound to a core");
        }
        let outcome = worker.run(&|| {
            if observer.0.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
                observer.stop();
            }
        });
        if outcome.is_err() {
            observer.stop();
        }
        outcome
    };
    thread::Builder::new()
        .name(format!("{WORKER}{index}"))
        .spawn(work)
        .map_err(|source| StartError::system("a worker's thread", source))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::service::start;

    /// A worker with a defect in what it does after one.
    struct Hopeless;

    impl Work for Hopeless {
        fn run(&mut self, _: &dyn Fn()) -> io::Result<()> {
            panic!("a second defect")
        }
    }

    /// A worker that cannot go on, and says so.
    struct Failing;

    impl Work for Failing {
        fn run(&mut self, _: &dyn Fn()) -> io::Result<()> {
            Err(io::Error::other("too many defects"))
        }
    }

    #[test]
    fn a_worker_that_ends_by_an_error_or_by_a_panic_takes_the_relay_with_it() {
        let workers: [(_, Box<dyn Work>); 2] =
            [("a panic", Box::new(Hopeless)), ("an error", Box::new(Failing))];
        for (case, worker) in workers {
            let text = "realm = \"r\"\nworkers = 1\n[auth]\nrest_secrets = [\"0123456789abcdef\"]\n\
                        [[listen]]\naddress = \"127.15.0.1:3478\"\n\
                        [relay]\naddresses = [{ local = \"127.15.0.1\" }]";
            let relay = start(Config::from_toml(text, "test", None).unwrap()).unwrap();
            let thread = employ(1, worker, relay.observer()).unwrap();
            let (ended, end) = channel();
            thread::spawn(move || ended.send(relay.wait().is_ok()));
            let clean = end.recv_timeout(Duration::from_secs(10));
            assert_eq!(clean, Ok(true), "{case}: the other worker ended in order");
            assert_eq!(thread.join().is_err(), case == "a panic");
        }
    }
}
