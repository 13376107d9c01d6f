//! What is counted of records: by workers, the book and the couriers; read by a scrape.

use std::sync::atomic::{AtomicU64, Ordering};

/// Where records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// To a file.
    File,
    /// To a receiver over HTTP.
    Http,
    /// To a receiver of traces, as spans.
    Otlp,
    /// Into a stream of Redis.
    Redis,
}

impl Sink {
    /// All of them, in order of their index.
    pub(crate) const ALL: [Self; 4] = [Self::File, Self::Http, Self::Otlp, Self::Redis];

    /// What metrics and files call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Http => "http",
            Self::Otlp => "otlp",
            Self::Redis => "redis",
        }
    }
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// An allocation began.
    Start,
    /// It goes on.
    Interim,
    /// It ended.
    Stop,
}

impl Stage {
    /// All of them, in order of their index.
    pub(crate) const ALL: [Self; 3] = [Self::Start, Self::Interim, Self::Stop];

    /// What records and metrics call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Interim => "interim",
            Self::Stop => "stop",
        }
    }
}

/// A number that threads add to.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted of one sink.
#[derive(Debug, Default)]
pub(crate) struct SinkAccount {
    /// Records it took.
    pub(crate) delivered: Count,
    /// Records it will never get, as there was no room for them.
    pub(crate) lost: Count,
    /// Records it will never get, as it does not take them.
    pub(crate) refused: Count,
    /// Attempts that failed.
    pub(crate) failed: Count,
    /// Records that wait for it.
    pub(crate) waiting: Count,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// Records made, by [`Stage`].
    pub(crate) made: [Count; Stage::ALL.len()],
    /// Notes of workers that found no room.
    pub(crate) unheard: Count,
    /// By [`Sink`].
    pub(crate) sinks: [SinkAccount; Sink::ALL.len()],
    /// Bytes in the spool.
    pub(crate) spooled_bytes: Count,
    /// Bytes that have room there.
    pub(crate) spool_bytes: Count,
}

impl Accounts {
    /// Records that nobody will ever get.
    pub(crate) fn lost(&self) -> u64 {
        let sinks = self.sinks.iter().map(|it| it.lost.value() + it.refused.value());
        self.unheard.value() + sinks.sum::<u64>()
    }

    pub(super) fn sink(&self, sink: Sink) -> &SinkAccount {
        &self.sinks[sink as usize]
    }
}
