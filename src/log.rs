//! Where log lines go: to standard error, by a thread of their own.
//!
//! Whoever logs never waits and never fails. Lines queue for the thread; where its reader is slow
//! or its disk full, the newest are left out, and their number is said with the next one that
//! finds room. The thread begins with the first line that another thread than the main one logs: a
//! service has given up its privileges by then, and what began before would keep them.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::LogFormat;

/// Lines that may wait.
const WAITING: usize = 4_096;

/// How long the end of the process waits for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// The queue of this process; `None` if no thread could be had.
static QUEUE: OnceLock<Option<SyncSender<Line>>> = OnceLock::new();

/// Lines that found no room, or could not be written.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Whether lines are objects of JSON.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// What waits for the thread.
enum Line {
    Text(Box<[u8]>),
    /// Everything before this has been tried: says so.
    Mark(SyncSender<()>),
}

/// Logs what `AV_EDGE_LOG`, or else `RUST_LOG`, asks for; without either, this level.
pub(crate) fn begin(level: &str, format: LogFormat) {
    let filter = EnvFilter::try_from_env("AV_EDGE_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Queue);
    if format == LogFormat::Json {
        AS_JSON.store(true, Ordering::Relaxed);
        log.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    } else {
        log.init();
    }
}

/// The queue, once its thread has begun.
fn queue() -> Option<&'static SyncSender<Line>> {
    if QUEUE.get().is_none() && thread::current().name() == Some("main") {
        return None;
    }
    let begin = || {
        let (queue, lines) = sync_channel(WAITING);
        let thread = thread::Builder::new().name("log".into());
        thread.spawn(move || write_all(&lines, &mut io::stderr())).is_ok().then_some(queue)
    };
    QUEUE.get_or_init(begin).as_ref()
}

/// Waits a moment until everything logged so far has been written.
pub(crate) fn finish() {
    let (sender, done) = sync_channel(1);
    if queue().is_some_and(|queue| queue.try_send(Line::Mark(sender)).is_ok()) {
        // Too late is as good as never.
        let _ = done.recv_timeout(PATIENCE);
    }
}

/// Says something on standard error, if that is possible.
pub(crate) fn say(words: &str) {
    finish();
    // There is nobody else to tell.
    let _ = writeln!(io::stderr(), "{words}");
}

/// The work of the thread.
fn write_all(lines: &Receiver<Line>, out: &mut impl Write) {
    for line in lines {
        match line {
            // Who waited may have given up.
            Line::Mark(done) => drop(done.try_send(())),
            Line::Text(text) => {
                let lost = LOST.swap(0, Ordering::Relaxed);
                let told = lost == 0 || out.write_all(gap(lost).as_bytes()).is_ok();
                if !told || out.write_all(&text).is_err() {
                    LOST.fetch_add(lost + 1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// The line in the place of lines that are lost.
fn gap(lost: u64) -> String {
    let words = format!("{lost} lines of the log are lost");
    if AS_JSON.load(Ordering::Relaxed) {
        format!(
            "{{\"level\":\"WARN\",\"target\":\"log\",\"message\":\"{words}\",\"lost\":{lost}}}\n"
        )
    } else {
        words + "\n"
    }
}

/// Writes into the queue. One event is one call.
struct Queue;

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let lost = match queue() {
            Some(queue) => {
                matches!(queue.try_send(Line::Text(line.into())), Err(TrySendError::Full(_)))
            }
            None => io::stderr().write_all(line).is_err(),
        };
        LOST.fetch_add(u64::from(lost), Ordering::Relaxed);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for nothing, until there is some.
    struct Disk {
        full: bool,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_costs_lines_and_says_how_many() {
        let mut disk = Disk { full: true, written: Vec::new() };
        for (full, lines, expected) in
            [(true, 3, ""), (false, 2, "3 lines of the log are lost\nline\nline\n")]
        {
            let (queue, waiting) = sync_channel(lines);
            for _ in 0..lines {
                assert!(queue.try_send(Line::Text(Box::from(&b"line\n"[..]))).is_ok());
            }
            drop(queue);
            disk.full = full;
            write_all(&waiting, &mut disk);
            assert_eq!(String::from_utf8_lossy(&disk.written), expected);
        }
    }
}
