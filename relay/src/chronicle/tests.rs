//! What is remembered, for how long, and what is concluded from it.

use std::net::SocketAddr;
use std::time::Duration;

use proto::addr::{ClientAddr, Family, ListenerId, PeerAddr, RelayId};
use proto::policy::UserKey;
use proto::reject::DropReason;
use proto::turn::tally::{Procedure, Usage};
use proto::turn::{CloseReason, Occurrence};

use super::findings::{Finding, findings};
use super::*;
use crate::clock::Clock;
use crate::dtls::Greeting;
use crate::stream::{Ending, Refusal};

/// A worker's memory, and its time.
struct Story {
    now: Now,
    chronicle: Chronicle,
    /// Where the server has clients.
    seats: Vec<(FiveTuple, AllocationId)>,
}

/// A client's address.
fn at(host: u8, port: u16) -> FiveTuple {
    let client = ClientAddr::new(SocketAddr::from(([192, 0, 2, host], port)));
    FiveTuple { listener: ListenerId(0), client }
}

fn id(slot: u32) -> AllocationId {
    AllocationId { slot, generation: 1 }
}

fn peer(port: u16) -> PeerAddr {
    PeerAddr::new(SocketAddr::from(([198, 51, 100, 9], port)))
}

impl Story {
    fn new() -> Self {
        Self { now: Clock::new().last(), chronicle: Chronicle::new(0), seats: Vec::new() }
    }

    /// A second passes.
    fn wait(&mut self) -> &mut Self {
        self.now = self.now.advanced(Duration::from_secs(1));
        self
    }

    fn open(&mut self, slot: u32, client: FiveTuple) -> &mut Self {
        let user = UserKey(7);
        let (id, relayed) = (id(slot), [None; 2]);
        let (waited, trace) = (None, None);
        self.change(&Change::AllocationOpened { id, client, user, relayed, waited, trace })
    }

    fn close(&mut self, slot: u32) -> &mut Self {
        self.change(&Change::AllocationClosed {
            id: id(slot),
            reason: CloseReason::Expired,
            lived: Duration::ZERO,
            usage: Usage::default(),
            media: None,
        })
    }

    fn change(&mut self, change: &Change) -> &mut Self {
        match *change {
            Change::AllocationOpened { id, client, .. } => self.seats.push((client, id)),
            Change::AllocationClosed { id, .. } => self.seats.retain(|(_, of)| *of != id),
            Change::ClientMoved { id, client } => {
                self.seats.retain(|(_, of)| *of != id);
                self.seats.push((client, id));
            }
            _ => {}
        }
        self.chronicle.follow(self.now, change);
        self
    }

    fn tell(&mut self, notice: &Notice) {
        let Self { now, chronicle, seats } = self;
        chronicle.note(*now, notice, |client| {
            seats.iter().find(|(at, _)| *at == client).map(|(_, id)| *id)
        });
    }

    /// Refused so often, one by one; with proof of who asks, or without.
    fn refuse(&mut self, client: FiveTuple, why: Why, times: u32, proven: bool) -> &mut Self {
        let about = (why == Why::PeerDenied).then(|| peer(80).socket());
        let what = Occurrence::Refused {
            why,
            procedure: Procedure::Allocate,
            code: why.code().0,
            proven,
            peer: about,
        };
        for _ in 0..times {
            let notice = Notice { party: Party::Client(client), what, count: 1 };
            self.tell(&notice);
        }
        self
    }

    fn lose(&mut self, party: Party, reason: DropReason, count: u32) -> &mut Self {
        let what = Occurrence::Dropped(reason);
        self.tell(&Notice { party, what, count });
        self
    }

    fn account(&self, subject: Subject) -> Account {
        self.chronicle.account(self.now, subject)
    }

    /// The names of what happened to an allocation, and how often.
    fn life(&self, slot: u32) -> Vec<(&'static str, u64)> {
        let account = self.account(Subject::Allocation(id(slot)));
        account.entries().map(|(_, _, entry)| (entry.what.name(), entry.count)).collect()
    }

    /// What is concluded about a host, and about one of its ports.
    fn found(&self, host: u8, port: Option<u16>) -> Vec<&'static str> {
        let ip = at(host, 1).client.ip();
        let account = self.account(Subject::Client(ip));
        let found = findings(&account, port.map(|port| SocketAddr::new(ip, port)));
        for Finding { id, text, advice } in &found {
            assert!(text.ends_with('.') && advice.ends_with('.'), "{id}: {text} {advice}");
        }
        found.iter().map(|it| it.id).collect()
    }
}

#[test]
fn the_life_of_an_allocation_is_remembered_in_order_and_repetitions_are_counted() {
    let mut story = Story::new();
    let number = proto::channel_data::ChannelNumber::new(0x4001).unwrap();
    story.open(1, at(1, 1_000));
    for _ in 0..3 {
        let peer = peer(5_000);
        story.wait().change(&Change::PermissionSet { id: id(1), peer });
        story.wait().change(&Change::ChannelSet { id: id(1), number, peer });
    }
    story.wait().refuse(at(1, 1_000), Why::PeerDenied, 2, true);
    let party = |port| Party::Relay {
        id: RelayId { allocation: id(1), family: Family::V4 },
        peer: peer(port),
    };
    story.lose(party(1), DropReason::NoPermission, 40).lose(party(2), DropReason::NoPermission, 2);
    story.lose(Party::Client(at(1, 1_000)), DropReason::NoChannel, 5);
    story.change(&Change::ClientMoved { id: id(1), client: at(2, 2_000) });
    story.refuse(at(2, 2_000), Why::PeerDenied, 1, true);
    story.wait().close(1);
    assert_eq!(
        story.life(1),
        [
            ("opened", 1),
            ("permission", 3),
            ("channel", 3),
            ("no_permission", 42),
            ("no_channel", 5),
            ("moved", 1),
            ("peer_denied", 3),
            ("closed", 1),
        ]
    );
    for host in [1, 2] {
        let account = story.account(Subject::Client(at(host, 1).client.ip()));
        assert_eq!(account.lives.len(), 1, "it was at both addresses");
    }
    let account = story.account(Subject::Allocation(id(1)));
    let texts: Vec<_> = account.entries().map(|(_, _, entry)| words::sentence(entry)).collect();
    assert_eq!(texts[0], "opened by the client at 192.0.2.1:1000");
    assert_eq!(texts[2], "channel 0x4001 to peer 198.51.100.9:5000 bound or renewed");
    assert!(texts[3].starts_with("42 packets dropped, the last from peer 198.51.100.9:2: no live"));
    assert!(texts[6].starts_with("allocate refused with 403 for peer 198.51.100.9:80: the peer"));
    assert_eq!(texts[7], "ended: nobody refreshed it in time");
}

#[test]
fn memory_is_bounded_in_every_direction() {
    let mut story = Story::new();
    for slot in 0..1_000 {
        story.open(slot, at(1, 1_000)).close(slot);
    }
    assert_eq!(story.account(Subject::Client(at(1, 1).client.ip())).lives.len(), 256);
    assert!(story.life(0).is_empty(), "the oldest ends are forgotten");
    assert_eq!(story.life(999).len(), 2);
    story.open(5_000, at(2, 2_000));
    for port in 0..1_000 {
        story.change(&Change::DestinationSet { id: id(5_000), peer: peer(port) });
    }
    let life = story.life(5_000);
    assert_eq!(life.len(), 32);
    assert_eq!(life[0].0, "opened", "where it began is kept");
    assert_eq!(story.account(Subject::Allocation(id(5_000))).lives[0].1.omitted, 969);
    for n in 0..100_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let client = ClientAddr::new(SocketAddr::from(([10, a, b, c], 1)));
        let client = FiveTuple { listener: ListenerId(0), client };
        story.refuse(client, Why::UnknownUser, 1, false);
    }
    let remembered = story.chronicle.refusals.all().count();
    assert!((1_900..=2_048).contains(&remembered), "{remembered}");
    assert_eq!(story.account(Subject::Reason("unknown_user")).strangers.len(), 256);
}

#[test]
fn a_flood_of_strangers_pushes_out_neither_allocations_nor_refusals_and_allocates_nothing() {
    let mut story = Story::new();
    story.open(1, at(1, 1_000)).refuse(at(2, 2_000), Why::WrongPassword, 5, false);
    story.open(2, at(3, 3_000)).close(2);
    let flood = |story: &mut Story, n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        let client = ClientAddr::new(SocketAddr::from(([10, a, b, c], 1)));
        let party = Party::Client(FiveTuple { listener: ListenerId(0), client });
        story.lose(party, DropReason::Throttled, 1).lose(party, DropReason::Unrecognised, 1);
        let Party::Client(client) = party else { return };
        story.refuse(client, Why::NoIntegrity, 1, false);
    };
    let counted = allocation_counter::measure(|| {
        for n in 0..100_000 {
            flood(&mut story, n);
        }
    });
    assert_eq!(counted.count_total, 0, "memory for strangers");
    assert_eq!(story.life(1), [("opened", 1)]);
    assert_eq!(story.life(2), [("opened", 1), ("closed", 1)]);
    let account = story.account(Subject::Client(at(2, 1).client.ip()));
    assert_eq!(account.strangers[0].entry.count, 5);
}

#[test]
fn who_forges_the_address_of_a_client_does_not_write_into_its_life() {
    let mut story = Story::new();
    story.open(1, at(1, 1_000)).refuse(at(1, 1_000), Why::WrongPassword, 9, false);
    story.lose(Party::Client(at(1, 1_000)), DropReason::Unrecognised, 9);
    assert_eq!(story.life(1), [("opened", 1)]);
    assert_eq!(story.account(Subject::Client(at(1, 1).client.ip())).strangers.len(), 2);
}

#[test]
fn loops_are_recognised_and_what_is_over_is_not() {
    let tell = |work: &dyn Fn(&mut Story)| {
        let mut story = Story::new();
        work(&mut story);
        story.found(1, None)
    };
    let here = at(1, 1_000);
    for (case, expected, work) in [
        (
            "a nonce grows old",
            None,
            &(|it: &mut Story| {
                it.open(1, here).wait().refuse(here, Why::StaleNonce, 1, false);
            }) as &dyn Fn(&mut Story),
        ),
        ("a client keeps an old nonce", Some("stale_nonce"), &|it| {
            it.refuse(here, Why::StaleNonce, 9, false);
        }),
        ("its port changes in a call", Some("moved_nat_port"), &|it| {
            it.open(1, here).wait();
            it.lose(Party::Client(at(1, 2_000)), DropReason::NoAllocation, 3);
        }),
        ("its port changes with each request", Some("moved_nat_port"), &|it| {
            for port in 1_000..1_003 {
                it.refuse(at(1, port), Why::StaleNonce, 1, false);
            }
        }),
        ("another client behind its NAT has an allocation", None, &|it| {
            it.open(1, here).open(2, at(1, 2_000)).wait();
            it.refuse(at(1, 2_000), Why::StaleNonce, 1, false);
        }),
        ("another call from its host has just ended", None, &|it| {
            it.open(1, here).open(2, at(1, 2_000)).wait().close(2);
            it.lose(Party::Client(at(1, 2_000)), DropReason::NoAllocation, 3);
        }),
        ("a wrong password", Some("wrong_password"), &|it| {
            it.refuse(here, Why::WrongPassword, 1, false);
        }),
        ("a password that was wrong at first", None, &|it| {
            it.refuse(here, Why::WrongPassword, 1, false).wait().open(1, here);
        }),
        ("another pool's name", Some("unknown_user"), &|it| {
            it.refuse(here, Why::UnknownUser, 1, false);
        }),
        ("another realm", Some("wrong_realm"), &|it| {
            it.refuse(here, Why::WrongRealm, 1, false);
        }),
        ("an old credential", Some("expired_credential"), &|it| {
            it.refuse(here, Why::Expired, 2, false);
        }),
        ("the other side", Some("wrong_side"), &|it| {
            it.refuse(here, Why::WrongSide, 1, true);
        }),
        ("a peer that is denied", Some("denied_peer"), &|it| {
            it.open(1, here).wait().refuse(here, Why::PeerDenied, 1, true);
        }),
        ("no credentials, ever", Some("unanswered_challenge"), &|it| {
            it.refuse(here, Why::NoIntegrity, 7, false);
        }),
        ("a first request", None, &|it| {
            it.refuse(here, Why::NoIntegrity, 1, false).wait().open(1, here);
        }),
    ] {
        assert_eq!(tell(work), expected.into_iter().collect::<Vec<_>>(), "{case}");
    }
}

#[test]
fn many_hosts_that_are_late_at_once_mean_a_wrong_clock() {
    let mut story = Story::new();
    for host in 1..=3 {
        assert!(!story.found(1, None).contains(&"clock_skew"), "{host} hosts");
        story.refuse(at(host, 1_000), Why::Expired, 1, false);
    }
    assert_eq!(story.found(1, None), ["clock_skew", "expired_credential"]);
    let account = story.account(Subject::Reason("expired_credential"));
    let text = &findings(&account, None)[0].text;
    assert!(text.starts_with("Credentials from 3 addresses"), "{text}");
    story.now = story.now.advanced(CROWD_FOR * 2);
    assert_eq!(story.found(1, None), ["expired_credential"], "they were late long ago");
}

#[test]
fn what_befalls_connections_is_remembered_unless_it_is_their_ordinary_end() {
    let mut story = Story::new();
    let mut tidings = Tidings::default();
    tidings.tell(at(1, 1_000), Below::Ended(Ending::ByClient));
    tidings.tell(at(1, 1_000), Below::Ended(Ending::Tls));
    tidings.tell(at(1, 1_001), Below::Refused(Refusal::Handshakes));
    tidings.tell(at(2, 1_000), Below::Greeted(Greeting::Asked));
    tidings.tell(at(2, 1_000), Below::Greeted(Greeting::Mismatch));
    for port in 0..100 {
        tidings.tell(at(3, port), Below::Ended(Ending::Garbled));
    }
    story.chronicle.take_tidings(story.now, &mut tidings);
    assert_eq!(tidings.take().count(), 0, "they are told once");
    let names = |host: u8| {
        let account = story.account(Subject::Client(at(host, 1).client.ip()));
        let mut names: Vec<_> = account.entries().map(|(_, _, it)| it.what.name()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(1), ["handshakes", "tls"]);
    assert_eq!(names(2), ["mismatch"]);
    assert_eq!(names(3).len(), 32 - 3, "of too many in a turn, the first");
    assert_eq!(story.found(1, None), ["failed_handshake"]);
    assert_eq!(story.found(2, None), ["failed_handshake"]);
    let kept = story.chronicle.refusals.all().count();
    assert_eq!(kept, 2 + 29, "a hello may be forged and pushes out nothing that is proven");
}

#[test]
fn loops_of_all_clients_are_told_while_they_last() {
    let mut story = Story::new();
    let found = |story: &Story| {
        let account = story.account(Subject::Loops);
        findings(&account, None).iter().map(|it| it.id).collect::<Vec<_>>()
    };
    story.refuse(at(1, 1_000), Why::WrongPassword, 9, false);
    story.refuse(at(2, 1_000), Why::StaleNonce, 5, false);
    assert_eq!(found(&story), [""; 0]);
    story.wait().refuse(at(2, 1_000), Why::StaleNonce, 1, false);
    assert_eq!(found(&story), ["stale_nonce"]);
    for host in 3..=5 {
        story.refuse(at(host, 1_000), Why::TooFarAhead, 1, false);
    }
    assert_eq!(found(&story), ["clock_skew", "stale_nonce", "expiry_too_far_ahead"]);
    story.now = story.now.advanced(Duration::from_secs(200));
    assert_eq!(found(&story), [""; 0]);
}

#[test]
fn what_is_asked_about_one_port_says_nothing_of_others_behind_the_same_nat() {
    let mut story = Story::new();
    story.open(1, at(1, 1_000)).wait();
    story.refuse(at(1, 2_000), Why::WrongPassword, 4, false);
    assert_eq!(story.found(1, Some(1_000)), [""; 0]);
    assert_eq!(story.found(1, Some(2_000)), ["wrong_password"]);
    story.refuse(at(1, 3_000), Why::NoAllocation, 1, true);
    assert_eq!(story.found(1, Some(1_000)), ["moved_nat_port"]);
    assert_eq!(story.found(1, Some(3_000)), ["moved_nat_port"]);
    assert_eq!(story.found(1, Some(2_000)), ["wrong_password"]);
}

#[test]
fn a_reason_tells_whom_it_befell_and_of_them_nothing_else() {
    let mut story = Story::new();
    story.open(1, at(1, 1_000)).open(2, at(2, 2_000)).wait();
    story.refuse(at(1, 1_000), Why::PeerDenied, 2, true);
    story.refuse(at(1, 1_000), Why::TooManyChannels, 1, true);
    story.refuse(at(3, 3_000), Why::WrongPassword, 1, false);
    let account = story.account(Subject::Reason("peer_denied"));
    let names: Vec<_> = account.entries().map(|(_, _, entry)| entry.what.name()).collect();
    assert_eq!(names, ["opened", "peer_denied"]);
}

#[test]
fn who_follows_hears_each_thing_once_and_how_much_it_missed() {
    let mut story = Story::new();
    story.open(1, at(1, 1_000)).refuse(at(9, 9_000), Why::Expired, 1, false);
    let mut bookmark = Bookmark::default();
    let mut hear = |story: &Story| {
        let fresh = story.chronicle.fresh(bookmark);
        bookmark = fresh.until;
        let items = fresh.items.iter().map(|it| it.entry.what.name());
        let strangers = fresh.strangers.iter().map(|it| it.entry.what.name());
        (items.chain(strangers).collect::<Vec<_>>(), fresh.missed)
    };
    assert_eq!(hear(&story), (vec!["opened"], 0), "what befell strangers before is old");
    assert_eq!(hear(&story), (vec![], 0));
    let channel = proto::channel_data::ChannelNumber::new(0x4001).unwrap();
    story.change(&Change::ChannelSet { id: id(1), number: channel, peer: peer(1) });
    story.refuse(at(1, 1_000), Why::PeerDenied, 5, true);
    // In the same instant as the question before.
    story.refuse(at(2, 2_000), Why::WrongPassword, 5, false);
    story.refuse(at(2, 2_000), Why::NoIntegrity, 5, false);
    story.change(&Change::ClientMoved { id: id(1), client: at(3, 3_000) });
    assert_eq!(hear(&story), (vec!["peer_denied", "moved", "wrong_password"], 0));
    story.refuse(at(3, 3_000), Why::PeerDenied, 5, true).close(1);
    assert_eq!(hear(&story), (vec!["closed"], 0), "the first refusal of a kind alone");
    for slot in 10..1_034 {
        story.open(slot, at(4, 4_000)).close(slot);
    }
    let (heard, missed) = hear(&story);
    assert_eq!((heard.len(), missed), (1_024, 1_024));
}
