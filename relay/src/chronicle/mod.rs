//! What happened, for operators who ask why: the history of allocations, and what befell strangers.
//!
//! Each worker follows its own changes and notices and keeps them in memory that is bounded:
//! [`life`] so many entries for each allocation that lives and for those that ended last,
//! [`strangers`] a fixed table of refusals and one of drops, so that no flood pushes out the history
//! of an allocation, nor noise a refusal. What happens again adds to a count. The office asks for an
//! [`Account`]; [`findings`] recognises what goes wrong over and over, [`words`] tells it.

mod below;
pub(crate) mod catalogue;
mod entry;
pub(crate) mod findings;
mod life;
mod news;
mod strangers;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::addr::{AllocationId, FiveTuple};
use proto::now::Now;
use proto::policy::Ledger;
use proto::reject::Why;
use proto::turn::{Change, Notice, Party, Server};

pub(crate) use below::{Below, Tidings};
pub(crate) use entry::{Entry, What};
pub(crate) use life::Life;
pub(crate) use news::{Bookmark, Fresh, Item};
pub(crate) use strangers::Stranger;

use crate::session::SessionId;
use life::Lives;
use news::News;
use strangers::Strangers;

/// Lives and strangers of an answer, each.
const ANSWER: usize = 256;

/// For how long a refusal counts as one of a crowd's.
const CROWD_FOR: Duration = Duration::from_secs(3_600);

/// How long a loop is told of after it has ended.
const LATELY: Duration = Duration::from_secs(120);

/// Clients of a crowd that are told apart.
const CROWD: usize = 64;

/// What a worker remembers.
#[derive(Debug)]
pub(crate) struct Chronicle {
    worker: u16,
    lives: Lives,
    refusals: Strangers,
    drops: Strangers,
    news: News,
}

/// Whom or what an operator asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// An allocation of this worker.
    Allocation(AllocationId),
    /// Clients at an address, whatever their ports.
    Client(IpAddr),
    /// A refusal or drop, by its stable name.
    Reason(&'static str),
    /// Everybody who is refused over and over for an old nonce, or lately for the time.
    Loops,
}

/// What a worker knows about a subject.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// Allocations, with the worker that has them.
    pub(crate) lives: Vec<(u16, Life)>,
    /// What befell clients without allocation, the latest first.
    pub(crate) strangers: Vec<Stranger>,
    /// Hosts whose credentials were refused lately for their time.
    pub(crate) out_of_time: Vec<IpAddr>,
}

impl Chronicle {
    /// That of a worker, without memories.
    pub(crate) fn new(worker: u16) -> Self {
        Self {
            worker,
            lives: Lives::default(),
            refusals: Strangers::new(),
            drops: Strangers::new(),
            news: News::default(),
        }
    }

    /// Follows a change.
    pub(crate) fn follow(&mut self, now: Now, change: &Change) {
        self.lives.follow(now, change);
        let what = match change {
            Change::AllocationOpened { .. } => What::Opened,
            Change::AllocationClosed { reason, .. } => What::Closed(*reason),
            Change::ClientMoved { .. } => What::Moved,
            Change::PermissionSet { .. }
            | Change::DestinationSet { .. }
            | Change::ChannelSet { .. }
            | Change::RoutesChanged { .. } => return,
        };
        self.announce(change.allocation(), Entry::new(now, what, None));
    }

    /// Has it told that something happened to an allocation.
    fn announce(&mut self, allocation: AllocationId, entry: Entry) {
        let Some(life) = self.lives.get(allocation) else { return };
        let id = SessionId { worker: self.worker, allocation };
        let about = entry.what.is_station().then(|| life.client().client.socket());
        let entry = Entry { about: entry.about.or(about), ..entry };
        self.news.add(Item { id, client: life.client(), entry });
    }

    /// Takes the refusals of a turn.
    pub(crate) fn take_refusals<L: Ledger>(&mut self, now: Now, server: &mut Server<L>) {
        while let Some(notice) = server.poll_notice() {
            self.note(now, &notice, |client| server.allocation_of(client));
        }
    }

    /// Takes the drops since this was done last.
    pub(crate) fn take_drops<L: Ledger>(&mut self, now: Now, server: &mut Server<L>) {
        while let Some(notice) = server.poll_drops() {
            self.note(now, &notice, |client| server.allocation_of(client));
        }
    }

    fn note(
        &mut self,
        now: Now,
        notice: &Notice,
        allocation_of: impl FnOnce(FiveTuple) -> Option<AllocationId>,
    ) {
        let entry = Entry::of(now, notice);
        let client = match notice.party {
            Party::Relay { id, .. } => {
                self.lives.note(id.allocation, entry);
                return;
            }
            Party::Client(client) => client,
        };
        if notice.is_proven()
            && let Some(id) = allocation_of(client)
        {
            if self.lives.note(id, entry) && entry.what.why().is_some() {
                self.announce(id, entry);
            }
        } else if entry.what.why().is_some_and(|why| why != Why::NoIntegrity) {
            self.refusals.note(client, entry);
        } else {
            self.drops.note(client, entry);
        }
    }

    /// Takes what befell connections in a turn.
    pub(crate) fn take_tidings(&mut self, now: Now, tidings: &mut Tidings) {
        for (client, below) in tidings.take() {
            let entry = Entry::new(now, What::Below(below), None);
            let table = if below.may_be_forged() { &mut self.drops } else { &mut self.refusals };
            table.note(client, entry);
        }
    }

    /// What is known about a subject.
    pub(crate) fn account(&self, now: Now, subject: Subject) -> Account {
        let strangers = self.refusals.all().chain(self.drops.all());
        let (lives, mut strangers): (Vec<Life>, Vec<Stranger>) = match subject {
            Subject::Allocation(id) => {
                (self.lives.get(id).into_iter().map(Life::told).collect(), vec![])
            }
            Subject::Client(ip) => {
                let is_there = |at: SocketAddr| at.ip() == ip;
                let strangers = strangers.filter(|it| it.client.client.ip() == ip).copied();
                (latest(self.lives.all().filter(|it| it.was_at(is_there))), strangers.collect())
            }
            Subject::Loops => {
                let lately =
                    |it: &&Stranger| now.mono.saturating_duration_since(it.entry.last) <= LATELY;
                let is_loop = |it: &&Stranger| match it.entry.what.why() {
                    Some(Why::StaleNonce) => findings::is_loop(&it.entry),
                    why => matches!(why, Some(Why::Expired | Why::TooFarAhead)),
                };
                let strangers = self.refusals.all().filter(lately).filter(is_loop);
                (Vec::new(), strangers.copied().collect())
            }
            Subject::Reason(reason) => {
                let is_about = |entry: &Entry| entry.what.is_for(reason);
                let mut lives =
                    latest(self.lives.all().filter(|it| it.entries.iter().any(is_about)));
                for life in &mut lives {
                    let is_frame = |what: What| what.is_station() || what.end().is_some();
                    life.entries.retain(|it| is_about(it) || is_frame(it.what));
                }
                (lives, strangers.filter(|it| is_about(&it.entry)).copied().collect())
            }
        };
        strangers.sort_by_key(|it| Reverse(it.entry.last));
        strangers.truncate(ANSWER);
        Account {
            lives: lives.into_iter().map(|life| (self.worker, life)).collect(),
            strangers,
            out_of_time: self.out_of_time(now),
        }
    }

    /// What happened since somebody asked last.
    pub(crate) fn fresh(&self, since: Bookmark) -> Fresh {
        let (items, missed) = self.news.since(since.items);
        let noted = self.refusals.noted();
        let known = since.strangers.unwrap_or(noted);
        let strangers = self.refusals.all().filter(|it| it.number > known);
        let mut strangers: Vec<Stranger> = strangers.copied().collect();
        strangers.sort_by_key(|it| it.number);
        let excess = strangers.len().saturating_sub(news::STRANGERS);
        let strangers = strangers.split_off(excess);
        let until = Bookmark { items: self.news.count(), strangers: Some(noted) };
        Fresh { items, strangers, missed: missed + excess as u64, until }
    }

    /// Hosts whose credentials were refused lately for their time.
    fn out_of_time(&self, now: Now) -> Vec<IpAddr> {
        let lately = |entry: &Entry| {
            matches!(entry.what.why(), Some(Why::Expired | Why::TooFarAhead))
                && now.mono.saturating_duration_since(entry.last) <= CROWD_FOR
        };
        let strangers = self.refusals.all().filter(|it| lately(&it.entry));
        let mut hosts: Vec<IpAddr> = strangers.map(|it| it.client.client.ip()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts.truncate(CROWD);
        hosts
    }
}

/// Those that began last.
fn latest<'a>(lives: impl Iterator<Item = &'a Life>) -> Vec<Life> {
    let mut lives: Vec<_> = lives.collect();
    lives.sort_by_key(|life| Reverse(life.opened));
    lives.into_iter().take(ANSWER).map(Life::told).collect()
}

impl Account {
    /// Adds what another worker knows.
    pub(crate) fn join(&mut self, other: Self) {
        self.lives.extend(other.lives);
        self.strangers.extend(other.strangers);
        self.strangers.sort_by_key(|it| Reverse(it.entry.last));
        self.out_of_time.extend(other.out_of_time);
        self.out_of_time.sort_unstable();
        self.out_of_time.dedup();
    }

    /// Everything that happened, with the client and the allocation that it happened to.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (FiveTuple, Option<SessionId>, &Entry)> {
        let of_lives = self.lives.iter().flat_map(|(worker, life)| {
            let id = SessionId { worker: *worker, allocation: life.id };
            life.entries.iter().map(move |entry| (life.client(), Some(id), entry))
        });
        of_lives.chain(self.strangers.iter().map(|it| (it.client, None, &it.entry)))
    }
}
