//! Captures: what one allocation sends and gets, as a file that Wireshark reads.
//!
//! A worker lays a tap into its server and hands what that saw over after each turn; who reads too
//! slowly gets less, and is told how much less. [`pcapng`] writes it down. While a capture goes on the
//! kernel relays nothing of its allocation by itself, so all of it is seen.

mod pcapng;

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::task::{Context, Poll, ready};

use proto::addr::AllocationId;
use proto::now::Now;
use proto::policy::Ledger;
use proto::turn::Server;
use proto::turn::tap::{Depth, Sight, Sights, Untapped};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::worker::{Letterbox, Question};
pub(crate) use pcapng::Pcapng;

/// Memory of what waits for a reader, at most.
const MOST_BYTES: usize = 8 << 20;

/// What is captured.
#[derive(Debug)]
pub(crate) struct Aim {
    /// Of which allocation.
    pub(crate) id: AllocationId,
    /// How much of each datagram.
    pub(crate) depth: Depth,
}

/// What was seen in one turn, and how much was not until then, by leg.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) seen: Vec<Sight>,
    pub(crate) missed: [u64; 2],
}

impl Batch {
    /// The memory it takes.
    fn bytes(&self) -> usize {
        self.seen.iter().map(|sight| size_of::<Sight>() + sight.bytes.len()).sum()
    }
}

/// What waits between a worker and a reader.
#[derive(Debug)]
pub(crate) struct Batches {
    queue: UnboundedReceiver<Batch>,
    /// The memory of what is in it, which the worker keeps below [`MOST_BYTES`].
    waiting: Arc<AtomicUsize>,
}

impl Batches {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Batch>> {
        let batch = ready!(self.queue.poll_recv(context));
        let bytes = batch.as_ref().map_or(0, Batch::bytes);
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        Poll::Ready(batch)
    }
}

/// The end of a reader. Nobody looks any more when it is dropped.
#[derive(Debug)]
pub(crate) struct Recording {
    batches: Batches,
    id: AllocationId,
    worker: Letterbox,
}

impl Recording {
    /// What a worker began.
    pub(crate) fn new(batches: Batches, id: AllocationId, worker: Letterbox) -> Self {
        Self { batches, id, worker }
    }

    /// The next turn, when there is one; `None` when there will be none.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Batch>> {
        self.batches.poll_next(context)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // Nobody waits for an answer. Where there is no room for the question, the worker finds
        // out with the next packet.
        drop(self.worker.ask(|_: SyncSender<()>| Question::EndCapture(self.id)));
    }
}

/// The end of a worker.
#[derive(Debug)]
pub(crate) struct Capture {
    id: AllocationId,
    reader: UnboundedSender<Batch>,
    waiting: Arc<AtomicUsize>,
    /// Sights that there was no room for, and nobody knows of yet.
    missed: [u64; 2],
}

impl Capture {
    /// Lays the tap; what is read from.
    pub(crate) fn begin<L: Ledger>(
        now: Now,
        aim: &Aim,
        server: &mut Server<L>,
    ) -> Result<(Self, Batches), Untapped> {
        server.tap(now, aim.id, aim.depth)?;
        let (reader, queue) = unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let batches = Batches { queue, waiting: Arc::clone(&waiting) };
        Ok((Self { id: aim.id, reader, waiting, missed: [0; 2] }, batches))
    }

    /// Whether it is of this allocation.
    pub(crate) fn is_of(&self, id: AllocationId) -> bool {
        self.id == id
    }

    /// Hands over what was seen in a turn. Whether there may be more.
    pub(crate) fn turn<L: Ledger>(&mut self, server: &mut Server<L>) -> bool {
        let Sights { seen, missed, over } = server.sights();
        self.hand_over(Batch { seen, missed });
        !over && !self.reader.is_closed()
    }

    fn hand_over(&mut self, mut batch: Batch) {
        let bytes = batch.bytes();
        for (before, more) in self.missed.iter_mut().zip(batch.missed) {
            *before += more;
        }
        if self.waiting.load(Ordering::Relaxed) + bytes > MOST_BYTES {
            for sight in &batch.seen {
                self.missed[sight.leg as usize] += 1;
            }
        } else if !batch.seen.is_empty() || self.missed != [0; 2] {
            batch.missed = mem::take(&mut self.missed);
            self.waiting.fetch_add(bytes, Ordering::Relaxed);
            // Who has gone is noticed behind this.
            let _ = self.reader.send(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proto::media::Leg;
    use proto::turn::Wrap;

    use super::*;

    #[test]
    fn who_reads_too_slowly_gets_less_and_is_told_how_much() {
        let (reader, queue) = unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut capture = Capture {
            id: AllocationId { slot: 0, generation: 0 },
            reader,
            waiting: Arc::clone(&waiting),
            missed: [0; 2],
        };
        let sight = Sight {
            at: crate::clock::Clock::new().last().mono,
            leg: Leg::Peer,
            sent: false,
            from: "192.0.2.1:1".parse().unwrap(),
            to: "192.0.2.2:2".parse().unwrap(),
            wrap: Wrap::Raw,
            len: 1_000,
            bytes: [7; 1_000].into(),
        };
        let batch = || Batch { seen: vec![sight.clone(); 100], missed: [0; 2] };
        for _ in 0..200 {
            capture.hand_over(batch());
        }
        assert!(waiting.load(Ordering::Relaxed) <= MOST_BYTES);
        let (mut seen, mut missed) = (0, 0);
        let mut batches = Batches { queue, waiting: Arc::clone(&waiting) };
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(batch)) = batches.poll_next(&mut context) {
            (seen, missed) = (seen + batch.seen.len(), missed + batch.missed[Leg::Peer as usize]);
        }
        assert_eq!((waiting.load(Ordering::Relaxed), missed), (0, 0));
        assert!((5_000..10_000).contains(&seen), "{seen}");
        capture.hand_over(batch());
        let Poll::Ready(Some(next)) = batches.poll_next(&mut context) else { panic!("nothing") };
        assert_eq!(next.missed, [0, 20_000 - seen as u64], "told as soon as there is room");
    }
}
