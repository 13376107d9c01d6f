//! Which relayed ports live, and at which worker.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::addr::Carried;

/// Which ports of one relay address are alive; changed only by who holds the books.
#[derive(Debug)]
pub(super) struct LivePorts {
    pub(super) ip: IpAddr,
    /// By [`Carried`].
    words: [Box<[AtomicU64]>; 2],
}

/// By port, one more than the number of the worker that serves it; nothing of an address takes memory
/// but the ports that were alive once.
#[derive(Debug)]
pub(super) struct Servers(Box<[u16]>);

impl LivePorts {
    /// An address without a live port.
    pub(super) fn none(ip: IpAddr) -> Self {
        let words = [(); 2].map(|()| (0..=u16::MAX / 64).map(|_| AtomicU64::new(0)).collect());
        Self { ip, words }
    }

    pub(super) fn mark(&self, port: u16, carried: Carried, live: bool) {
        let word = &self.words[carried as usize][usize::from(port / 64)];
        let bit = 1 << (port % 64);
        if live {
            word.fetch_or(bit, Ordering::Release);
        } else {
            word.fetch_and(!bit, Ordering::Release);
        }
    }

    pub(super) fn is_live(&self, port: u16, carried: Carried) -> bool {
        self.words[carried as usize][usize::from(port / 64)].load(Ordering::Acquire) >> (port % 64)
            & 1
            == 1
    }
}

impl Default for Servers {
    fn default() -> Self {
        Self(vec![0; 1 << 16].into())
    }
}

impl Servers {
    pub(super) fn set(&mut self, port: u16, worker: Option<u16>) {
        self.0[usize::from(port)] = worker.map_or(0, |worker| worker + 1);
    }

    /// The ports of a worker, which serves them no more.
    pub(super) fn forget(&mut self, worker: u16) -> impl Iterator<Item = u16> {
        (0..=u16::MAX).zip(&mut self.0).filter_map(move |(port, server)| {
            let its = *server == worker + 1;
            its.then(|| {
                *server = 0;
                port
            })
        })
    }
}
