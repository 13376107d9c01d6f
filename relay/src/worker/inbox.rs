//! What the office asks of a worker, and what other workers bring it.
//!
//! An order is a state and cannot get lost or wait, nor can a configuration; questions and parcels wait in short queues.
//! One question too many is dropped: who asked hears nothing, which is the answer of a worker in
//! trouble. One parcel too many is refused, and counted by who brought it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use mio::Waker;
use proto::addr::{AllocationId, FiveTuple};
use proto::media::MediaReport;
use proto::turn;
use proto::turn::tally::AllocationView;
use proto::turn::tap::Untapped;
use proto::turn::view::AllocationDetail;

use crate::capture::{Aim, Batches};
use crate::chronicle::{Account, Bookmark, Fresh, Subject};
use crate::dtls::Traveller;
use crate::stream::Guest;

/// Questions that may wait at a time.
const QUESTIONS: usize = 32;

/// Parcels that may wait at a time.
const PARCELS: usize = 256;

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

/// What a worker is asked, and where it puts the answer.
#[derive(Debug)]
pub(crate) enum Question {
    /// Nothing but whether it is there.
    Counters(SyncSender<()>),
    /// Allocations from a slot on, at most so many.
    Allocations { first: u32, most: usize, answer: SyncSender<Vec<AllocationView>> },
    /// These allocations, as far as they are there.
    Views(Vec<AllocationId>, SyncSender<Vec<AllocationView>>),
    /// Everything about an allocation.
    Detail(AllocationId, SyncSender<Option<AllocationDetail>>),
    /// How well the media of an allocation arrives, stream by stream.
    Media(AllocationId, SyncSender<Option<MediaReport>>),
    /// What happened to somebody, or for some reason.
    Account(Subject, SyncSender<Account>),
    /// What happened since then.
    Fresh(Bookmark, SyncSender<Fresh>),
    /// To capture what an allocation sends and gets.
    Capture(Aim, SyncSender<Result<Batches, Untapped>>),
    /// To capture no more of it.
    EndCapture(AllocationId),
    /// To end an allocation; whether there was one.
    End(AllocationId, SyncSender<bool>),
}

/// A client whose allocation, or connection to a peer, another worker has.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// The client.
    pub(crate) client: FiveTuple,
    /// The message it sent.
    pub(crate) bytes: Box<[u8]>,
    /// What comes with it.
    pub(crate) luggage: Luggage,
}

/// What a client takes along to another worker.
#[derive(Debug)]
pub(crate) enum Luggage {
    /// Nothing: it speaks in datagrams, which the kernel brings.
    Nothing,
    /// Its connection.
    Connection(Box<Guest>),
    /// Its session of DTLS. Without a message the session comes home.
    Session(Box<Traveller>),
}

/// Where orders, questions and parcels are put in, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Letterbox {
    order: Arc<AtomicU8>,
    renewal: Arc<Mutex<Option<Arc<turn::Config>>>>,
    questions: SyncSender<Question>,
    parcels: SyncSender<Parcel>,
    waker: Arc<Waker>,
}

/// Where a worker takes them out.
pub(crate) struct Inbox {
    order: Arc<AtomicU8>,
    renewal: Arc<Mutex<Option<Arc<turn::Config>>>>,
    questions: Receiver<Question>,
    parcels: Receiver<Parcel>,
}

/// Both ends; the waker wakes the worker that reads.
pub(crate) fn open(waker: Waker) -> (Letterbox, Inbox) {
    let order = Arc::new(AtomicU8::new(Order::Serve as u8));
    let (asked, questions) = sync_channel(QUESTIONS);
    let (brought, parcels) = sync_channel(PARCELS);
    let waker = Arc::new(waker);
    let renewal = Arc::new(Mutex::new(None));
    let inbox =
        Inbox { order: Arc::clone(&order), renewal: Arc::clone(&renewal), questions, parcels };
    (Letterbox { order, renewal, questions: asked, parcels: brought, waker }, inbox)
}

impl Letterbox {
    /// Gives an order.
    pub(crate) fn order(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.wake();
    }

    /// Puts another configuration in force; one that the worker has not taken yet is forgotten.
    pub(crate) fn renew(&self, config: Arc<turn::Config>) {
        *self.renewal.lock().unwrap_or_else(PoisonError::into_inner) = Some(config);
        self.wake();
    }

    /// Asks what is to be answered through a channel.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(SyncSender<T>) -> Question) -> Receiver<T> {
        let (answer, receiver) = sync_channel(1);
        if self.questions.try_send(question(answer)).is_ok() {
            self.wake();
        }
        receiver
    }

    /// Brings a parcel; gives it back if there is no room for it.
    pub(super) fn bring(&self, parcel: Parcel) -> Result<(), Box<Parcel>> {
        let outcome = self.parcels.try_send(parcel);
        self.wake();
        outcome.map_err(|refused| match refused {
            TrySendError::Full(parcel) | TrySendError::Disconnected(parcel) => Box::new(parcel),
        })
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

    /// The configuration to be put in force, if there is another.
    pub(super) fn renewal(&self) -> Option<Arc<turn::Config>> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The next question.
    pub(super) fn question(&self) -> Option<Question> {
        self.questions.try_recv().ok()
    }

    /// The next parcel.
    pub(super) fn parcel(&self) -> Option<Parcel> {
        self.parcels.try_recv().ok()
    }
}
