//! What the office asks of a worker.
//!
//! An order is a state and cannot get lost or wait; questions wait in a short queue, and one too
//! many is dropped: who asked hears nothing, which is the answer of a worker in trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mio::Waker;
use proto::turn::tally::AllocationView;

/// Questions that may wait at a time.
const CAPACITY: usize = 32;

/// How a worker shall go on. Later ones outrank earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Order {
    /// Serve.
    Serve = 0,
    /// Take no new allocation.
    Drain = 1,
    /// End every allocation, then end.
    Stop = 2,
}

/// Where a worker puts its allocations when asked.
pub(crate) type Answer = SyncSender<Vec<AllocationView>>;

/// Where orders and questions are put in, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Letterbox {
    order: Arc<AtomicU8>,
    questions: SyncSender<Answer>,
    waker: Arc<Waker>,
}

/// Where a worker takes them out.
pub(crate) struct Inbox {
    order: Arc<AtomicU8>,
    questions: Receiver<Answer>,
}

/// Both ends; the waker wakes the worker that reads.
pub(crate) fn open(waker: Waker) -> (Letterbox, Inbox) {
    let order = Arc::new(AtomicU8::new(Order::Serve as u8));
    let (asked, questions) = sync_channel(CAPACITY);
    let waker = Arc::new(waker);
    (Letterbox { order: Arc::clone(&order), questions: asked, waker }, Inbox { order, questions })
}

impl Letterbox {
    /// Gives an order.
    pub(crate) fn order(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.wake();
    }

    /// Asks for the allocations.
    pub(crate) fn ask(&self) -> Receiver<Vec<AllocationView>> {
        let (answer, receiver) = sync_channel(1);
        if self.questions.try_send(answer).is_ok() {
            self.wake();
        }
        receiver
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a worker cannot be woken");
        }
    }
}

impl Inbox {
    /// The order in force.
    pub(super) fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Serve,
            1 => Order::Drain,
            _ => Order::Stop,
        }
    }

    /// The next question.
    pub(super) fn question(&self) -> Option<Answer> {
        self.questions.try_recv().ok()
    }
}
