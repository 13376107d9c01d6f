//! Clients that move between addresses and transports of a relay with several workers, which
//! now and then begins anew with another number of them; judged by a small model. Beside those of
//! RFC 8016 there are clients of MS-TURN, who follow their connections.
//!
//! 256 seeds by default; `SEED=0x51 cargo nextest run crew` replays one, `SEEDS=5000` runs more.

mod ms;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use proto::addr::{ClientAddr, FiveTuple, ListenerId};
use rig::client::Client;
use rig::crew::{Crew, Heard};
use rig::script::channel_data;
use rig::seeds::{is_replay, play};
use rig::site::{BEGIN, TCP_LISTENER, pool_login};
use rig::{Draft, Heard as Answer, kind};

const PEOPLE: usize = 4;
const STEPS: usize = 75;
const BOB: &str = "45.33.32.10:6000";
const CHANNEL: u16 = 0x4000;
/// Refreshed before the permissions of channels end.
const LIFETIME: u32 = 600;

#[test]
fn mob_006_mst_075_clients_move_between_workers_transports_and_lives_of_the_relay() {
    let (count, totals) = play("crew", 256, run, |sum, it: Totals| Totals {
        moved: sum.moved + it.moved,
        astray: sum.astray + it.astray,
        words: sum.words + it.words,
        recovered: sum.recovered + it.recovered,
        ms: std::array::from_fn(|at| sum.ms[at] + it.ms[at]),
    });
    if is_replay() {
        return;
    }
    println!("{count} seeds: {totals:?}");
    // A simulation in which nothing happens proves nothing.
    assert!(totals.moved >= count && totals.astray >= count / 2, "{totals:?}");
    assert!(totals.words >= 10 * count && totals.recovered >= count / 2, "{totals:?}");
    assert!(totals.ms.iter().all(|times| *times >= count / 2), "{totals:?}");
}

/// What happened in all seeds.
#[derive(Debug, Default)]
struct Totals {
    /// Moves, and those of them to where another worker would hear the client.
    moved: u64,
    astray: u64,
    /// Words that arrived, either way.
    words: u64,
    /// Allocations made anew after the relay had ended.
    recovered: u64,
    /// The same four of clients of MS-TURN.
    ms: [u64; 4],
}

fn run(seed: u64, totals: &mut Totals) {
    let mut play = Play::new(seed);
    for _ in 0..STEPS {
        play.act(totals);
        play.judge();
    }
    totals.recovered += play.recovered;
    totals.ms = std::array::from_fn(|at| totals.ms[at] + play.ms[at]);
    // After hours of silence nothing is left.
    play.crew.advance(Duration::from_secs(3 * 3600));
    let (sockets, allocations) = play.crew.relayed();
    assert_eq!((sockets.len(), allocations), (0, 0));
    let callers = play.callers.iter().filter_map(ms::Caller::seat);
    let seats: Vec<_> = play.people.iter().flat_map(Person::seats).chain(callers).collect();
    for seat in seats {
        assert!(!play.crew.is_diverted(seat), "a diversion without an allocation");
    }
}

/// A client, and what the model knows of its allocation.
struct Person {
    client: Client,
    held: Option<Held>,
    /// Whether the relay has ended since it was heard from.
    orphaned: bool,
    ports: u16,
}

/// An allocation.
struct Held {
    relayed: SocketAddr,
    ticket: Vec<u8>,
    /// Where payload goes; nowhere while the client is away.
    at: Option<FiveTuple>,
    /// Where the client is expected.
    arriving: Option<FiveTuple>,
}

impl Person {
    fn seats(&self) -> Vec<FiveTuple> {
        let held = self.held.iter();
        held.flat_map(|held| held.at.into_iter().chain(held.arriving)).collect()
    }
}

struct Play {
    crew: Crew,
    people: Vec<Person>,
    callers: Vec<ms::Caller>,
    words: u64,
    recovered: u64,
    ms: [u64; 4],
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut dice = rig::dice::Dice::seeded(seed);
        let workers = 1 + u16::try_from(dice.below(4)).expect("few");
        let people = (0..PEOPLE).map(|index| {
            let name = format!("person-{index}");
            let address =
                SocketAddr::from(([81, 2, 69, 10 + u8::try_from(index).expect("few")], 1));
            let login = pool_login(&name, BEGIN + 20 * 86_400);
            let client = Client::new(&name, address, login);
            Person { client, held: None, orphaned: false, ports: 1_024 }
        });
        Self {
            people: people.collect(),
            callers: ms::Caller::all(),
            crew: Crew::seeded(dice.roll(), workers),
            words: 0,
            recovered: 0,
            ms: [0; 4],
        }
    }

    fn act(&mut self, totals: &mut Totals) {
        if self.crew.dice.one_in_thousand(350) {
            return self.act_ms();
        }
        let who = self.crew.dice.index(PEOPLE);
        match self.crew.dice.below(100) {
            0..45 => self.talk(who, totals),
            45..60 => self.peer_talks(who, totals),
            60..78 => self.travel(who, totals),
            78..86 => self.refresh(who),
            86..91 => self.break_off(who),
            91..94 => self.begin_anew(),
            _ => {
                let seconds = self.crew.dice.below(120);
                self.let_pass(seconds);
            }
        }
    }

    /// Everybody refreshes often enough; channels are bound again with it.
    fn let_pass(&mut self, seconds: u64) {
        self.crew.advance(Duration::from_secs(seconds));
        for who in 0..PEOPLE {
            self.refresh(who);
        }
        for who in 0..self.callers.len() {
            self.refresh_ms(who);
        }
    }

    /// Model and relay agree on what there is, and on where datagrams go.
    fn judge(&mut self) {
        let expected: BTreeSet<_> = self
            .people
            .iter()
            .filter(|person| !person.orphaned)
            .filter_map(|person| Some(person.held.as_ref()?.relayed))
            .chain(self.callers.iter().filter_map(ms::Caller::relayed))
            .collect();
        let (sockets, allocations) = self.crew.relayed();
        assert_eq!(sockets.into_iter().collect::<BTreeSet<_>>(), expected);
        assert_eq!(allocations, expected.len() as u64);
        let people = self.people.iter().filter(|person| !person.orphaned);
        let held = people.filter_map(|it| Some((it.held.as_ref()?.relayed, it.seats())));
        let callers = self.callers.iter();
        let callers = callers.filter_map(|it| Some((it.relayed()?, vec![it.seat()?])));
        for (relayed, seats) in held.chain(callers) {
            let owner = self.crew.owner(relayed).expect("it is there");
            for seat in seats {
                let astray = seat.listener != TCP_LISTENER && self.crew.steered(seat) != owner;
                assert_eq!(self.crew.is_diverted(seat), astray, "{seat:?} of worker {owner}");
            }
        }
        assert!(self.crew.heard.is_empty(), "{:?}", self.crew.heard);
    }

    /// A place where nobody was before: another port, perhaps another transport.
    fn new_place(&mut self, who: usize) -> FiveTuple {
        let person = &mut self.people[who];
        person.ports += 1;
        let client = SocketAddr::new(person.client.address.ip(), person.ports);
        let listener =
            if self.crew.dice.one_in_thousand(400) { TCP_LISTENER } else { ListenerId(0) };
        FiveTuple { listener, client: ClientAddr::new(client) }
    }

    /// Sends a signed request from a place, again where the nonce was stale, and now and then the
    /// very same once more, which is answered alike; the answer.
    fn ask(&mut self, who: usize, from: FiveTuple, draft: &Draft) -> Answer {
        for _ in 0..3 {
            let draft = draft.clone().transaction(self.crew.dice.transaction());
            let client = &self.people[who].client;
            let signed = if client.challenge.is_some() { client.sign(draft) } else { draft };
            let bytes = signed.encode();
            let answer = self.exchange(from, &bytes);
            if matches!(answer.code(), Some(401 | 438)) {
                self.people[who].client.learn(&answer);
                continue;
            }
            let repeats = from.listener != TCP_LISTENER && answer.code().is_none();
            if repeats && self.crew.dice.one_in_thousand(300) {
                let again = self.exchange(from, &bytes);
                assert_eq!(again.code(), None, "a repeated request is answered alike");
                let ticket =
                    |answer: &Answer| answer.value(kind::MOBILITY_TICKET).map(<[u8]>::to_vec);
                assert_eq!(ticket(&again), ticket(&answer), "and brings the same ticket");
            }
            return answer;
        }
        panic!("the server calls every nonce stale")
    }

    fn exchange(&mut self, from: FiveTuple, bytes: &[u8]) -> Answer {
        self.crew.client_says(from, bytes);
        match self.crew.heard.pop_front() {
            Some(Heard::Client(to, answer)) if to == from => Answer::read(&answer),
            other => panic!("an answer for {from:?}, not {other:?}"),
        }
    }

    /// Allocates and binds the channel to bob.
    fn open(&mut self, who: usize, from: FiveTuple) {
        let wish = Draft::allocate()
            .raw(kind::LIFETIME, &LIFETIME.to_be_bytes())
            .raw(kind::MOBILITY_TICKET, &[]);
        let answer = self.ask(who, from, &wish);
        let ticket = answer.expect_success().value(kind::MOBILITY_TICKET).expect("a ticket");
        let held = Held {
            relayed: answer.relayed().expect("a relayed address"),
            ticket: ticket.to_vec(),
            at: Some(from),
            arriving: None,
        };
        self.people[who].held = Some(held);
        self.recovered += u64::from(std::mem::take(&mut self.people[who].orphaned));
        self.bind(who, from);
    }

    fn bind(&mut self, who: usize, from: FiveTuple) {
        let bob = BOB.parse().expect("an address");
        self.ask(who, from, &Draft::bind(CHANNEL, bob)).expect_success();
    }

    /// Keeps the allocation, or finds that the relay has forgotten it and makes another.
    fn refresh(&mut self, who: usize) {
        let Some(held) = &self.people[who].held else { return };
        let Some(from) = held.at.or(held.arriving) else { return self.come_back(who) };
        if self.people[who].orphaned {
            self.ask(who, from, &Draft::refresh(LIFETIME)).expect_code(437);
            self.people[who].held = None;
            return self.open(who, from);
        }
        self.ask(who, from, &Draft::refresh(LIFETIME)).expect_success();
        self.bind(who, from);
    }

    /// Moves, or opens what there is to move later.
    fn travel(&mut self, who: usize, totals: &mut Totals) {
        let place = self.new_place(who);
        if self.people[who].held.is_none() {
            return self.open(who, place);
        }
        self.bring(who, place);
        if let Some(held) = self.people[who].held.as_ref().filter(|_| !self.people[who].orphaned) {
            let owner = self.crew.owner(held.relayed).expect("it is there");
            let astray = place.listener != TCP_LISTENER && self.crew.steered(place) != owner;
            totals.moved += 1;
            totals.astray += u64::from(astray);
        }
    }

    /// Whoever lost its connection comes back from another place.
    fn come_back(&mut self, who: usize) {
        let place = self.new_place(who);
        self.bring(who, place);
    }

    /// Brings the ticket to a place.
    fn bring(&mut self, who: usize, place: FiveTuple) {
        let ticket = self.people[who].held.as_ref().expect("something to move").ticket.clone();
        let draft = Draft::refresh(LIFETIME).raw(kind::MOBILITY_TICKET, &ticket);
        let answer = self.ask(who, place, &draft);
        if self.people[who].orphaned {
            answer.expect_code(437);
            self.people[who].held = None;
            return self.open(who, place);
        }
        let ticket = answer.expect_success().value(kind::MOBILITY_TICKET).expect("another ticket");
        let held = self.people[who].held.as_mut().expect("it is there");
        held.ticket = ticket.to_vec();
        if held.at.is_none() {
            held.at = Some(place);
        } else {
            held.arriving = Some(place);
        }
    }

    /// The client sends from where it is, or from where it goes.
    fn talk(&mut self, who: usize, totals: &mut Totals) {
        let person = &self.people[who];
        let seats = person.seats();
        if seats.is_empty() {
            return;
        }
        let from = seats[self.crew.dice.index(seats.len())];
        let word = self.word();
        self.crew.client_says(from, &channel_data(CHANNEL, &word));
        if self.people[who].orphaned {
            return assert_eq!(self.crew.heard.pop_front(), None, "nobody knows it any more");
        }
        let held = self.people[who].held.as_mut().expect("it has a seat");
        let bob = BOB.parse().expect("an address");
        let expected = Heard::Peer(held.relayed, bob, word);
        assert_eq!(self.crew.heard.pop_front(), Some(expected), "{from:?}");
        totals.words += 1;
        if held.arriving == Some(from) {
            held.at = held.arriving.take();
        }
    }

    /// The peer sends; the client hears it where it is.
    fn peer_talks(&mut self, who: usize, totals: &mut Totals) {
        // What an orphan had may be another's by now.
        let Some(held) = self.people[who].held.as_ref().filter(|_| !self.people[who].orphaned)
        else {
            return;
        };
        let (relayed, to) = (held.relayed, held.at);
        let word = self.word();
        self.crew.peer_says(relayed, BOB.parse().expect("an address"), &word);
        let expected = to.map(|to| Heard::Client(to, channel_data(CHANNEL, &word)));
        totals.words += u64::from(expected.is_some());
        assert_eq!(self.crew.heard.pop_front(), expected);
    }

    /// One of the client's connections ends; its allocation waits for its ticket.
    fn break_off(&mut self, who: usize) {
        let seats = self.people[who].seats();
        let Some(&gone) = seats.iter().find(|seat| seat.listener == TCP_LISTENER) else { return };
        self.crew.hangs_up(gone);
        if self.people[who].orphaned {
            return;
        }
        let held = self.people[who].held.as_mut().expect("it has a seat");
        if held.arriving == Some(gone) {
            held.arriving = None;
        } else {
            held.at = held.arriving.take();
        }
    }

    /// The relay ends, and begins with another number of workers.
    fn begin_anew(&mut self) {
        let workers = 1 + u16::try_from(self.crew.dice.below(6)).expect("few");
        self.crew.begin_anew(workers);
        for person in &mut self.people {
            person.orphaned = person.held.is_some();
        }
        for caller in &mut self.callers {
            caller.forget();
        }
    }

    /// Bytes that were never said before.
    fn word(&mut self) -> Vec<u8> {
        self.words += 1;
        let len = self.crew.dice.index(40);
        let mut word = self.words.to_be_bytes().to_vec();
        word.extend(self.crew.dice.bytes(len));
        word
    }
}
