//! What workers tell: that an allocation began, moved or ended.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use proto::addr::{AllocationId, FiveTuple, RelayedAddr};
use proto::auth::Trace;
use proto::media::LegSummary;
use proto::now::Now;
use proto::policy::UserKey;
use proto::turn::Change;
use proto::turn::action::CloseReason;
use proto::turn::tally::Usage;

use super::Accounts;

/// Something that happened in a worker.
#[derive(Debug)]
pub(super) struct Note {
    /// The worker.
    pub(super) worker: u16,
    /// When.
    pub(super) at: Instant,
    /// What.
    pub(super) news: News,
}

/// What happened.
#[derive(Debug)]
pub(super) enum News {
    /// An allocation began.
    Opened {
        id: AllocationId,
        client: FiveTuple,
        user: UserKey,
        relayed: [Option<RelayedAddr>; 2],
        trace: Option<Trace>,
    },
    /// Its client went elsewhere.
    Moved { id: AllocationId, client: FiveTuple },
    /// It ended.
    Closed {
        id: AllocationId,
        reason: CloseReason,
        lived: Duration,
        usage: Usage,
        media: Option<Box<[LegSummary; 2]>>,
    },
    /// Every allocation of the worker ended, by a defect.
    AllLost,
}

/// Tells the book what happens in a worker.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    worker: u16,
    told: SyncSender<Box<Note>>,
    accounts: Arc<Accounts>,
}

impl Teller {
    /// The teller of the first worker.
    pub(super) fn new(told: SyncSender<Box<Note>>, accounts: Arc<Accounts>) -> Self {
        Self { worker: 0, told, accounts }
    }

    /// The same of another worker.
    pub(crate) fn of_worker(&self, worker: u16) -> Self {
        Self { worker, ..self.clone() }
    }

    /// Tells a change, if it is one for records.
    pub(crate) fn change(&self, now: Now, change: &Change) {
        let news = match *change {
            Change::AllocationOpened { id, client, user, relayed, trace, .. } => {
                News::Opened { id, client, user, relayed, trace }
            }
            Change::ClientMoved { id, client } => News::Moved { id, client },
            Change::AllocationClosed { id, reason, lived, usage, ref media } => {
                let media =
                    media.as_ref().map(|it| Box::new(it.legs.each_ref().map(|it| it.summary)));
                News::Closed { id, reason, lived, usage, media }
            }
            Change::PermissionSet { .. }
            | Change::DestinationSet { .. }
            | Change::ChannelSet { .. }
            | Change::RoutesChanged { .. } => return,
        };
        self.tell(now.mono, news);
    }

    /// Tells that the worker begins anew.
    pub(crate) fn all_lost(&self, at: Instant) {
        self.tell(at, News::AllLost);
    }

    fn tell(&self, at: Instant, news: News) {
        let note = Box::new(Note { worker: self.worker, at, news });
        if self.told.try_send(note).is_err() {
            self.accounts.unheard.add(1);
        }
    }
}
