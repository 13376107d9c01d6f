//! The grammar of `av-edge top`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Arguments of `av-edge top`.
#[derive(Args, Debug)]
#[command(after_help = "\
Keys: up, down, page up, page down to move; Enter for one allocation with its peers, streams and \
history, Esc back; t, l, a, e, b, i sort by throughput, loss, age, expiry, bytes, id, s by the next \
of these; p shows or hides what to do about what is wrong; q quits. Rates, loss and jitter are those \
of the last five seconds. Over the socket the relay needs the table [control] in its configuration, \
over TCP [admin].")]
pub(crate) struct TopArgs {
    /// The socket of a relay on this host: its `control.path`.
    #[arg(long, value_name = "PATH", default_value = "/run/av-edge/relay.sock")]
    pub(crate) socket: PathBuf,
    /// The admin endpoint of a relay instead: `http://IP:PORT` of its `admin.address`.
    #[arg(long, value_name = "URL", conflicts_with = "socket")]
    pub(crate) url: Option<String>,
    /// File with the token of the admin endpoint, if that asks for one.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) token_file: Option<PathBuf>,
    /// What the allocations are sorted by, the most first.
    #[arg(long, value_enum, value_name = "ORDER", default_value_t = TopSort::Throughput)]
    pub(crate) sort: TopSort,
    /// So many allocations at most, the first in that order.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// How often to look, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub(crate) every: u64,
    /// Print one frame as text, and end.
    #[arg(long)]
    pub(crate) once: bool,
}

/// What allocations are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopSort {
    /// Bytes each second, both ways.
    Throughput,
    /// Loss on the worse leg.
    Loss,
    /// Time since it began.
    Age,
    /// Time until it expires, the least first.
    Expiry,
    /// Bytes since it began.
    Bytes,
    /// Worker and place.
    Id,
}

impl TopSort {
    /// What the relay calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Loss => "loss",
            Self::Age => "age",
            Self::Expiry => "expiry",
            Self::Bytes => "bytes",
            Self::Id => "id",
        }
    }

    /// The one that the key stands for, its first letter.
    pub(crate) fn of_key(letter: char) -> Option<Self> {
        Self::value_variants().iter().copied().find(|sort| sort.name().starts_with(letter))
    }

    /// The one behind it, around.
    pub(crate) fn next(self) -> Self {
        let all = Self::value_variants();
        let at = all.iter().position(|it| *it == self).unwrap_or(0);
        all[(at + 1) % all.len()]
    }
}
