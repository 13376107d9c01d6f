//! Clients of MS-TURN: one over UDP, one on streams. An Allocate with their connection brings their
//! allocation to wherever they are, at once.

use std::net::SocketAddr;

use proto::addr::{ClientAddr, FiveTuple, ListenerId};
use rig::client::Client;
use rig::crew::Heard;
use rig::ms::{ALLOCATE, DATA, DATA_INDICATION, RELAYED, REMOTE, SEQUENCE, VERSION, is_ms};
use rig::site::{BEGIN, TCP_LISTENER, pool_login};
use rig::{MsDraft, MsHeard};

use crate::{BOB, Play};

/// A client, and what the model knows of its allocation.
pub(crate) struct Caller {
    client: Client,
    listener: ListenerId,
    ports: u16,
    held: Option<Held>,
    /// Whether its connection is of an earlier life of the relay.
    orphaned: bool,
}

struct Held {
    relayed: SocketAddr,
    at: FiveTuple,
    /// Whether bob is the active destination.
    aims: bool,
}

impl Caller {
    pub(crate) fn all() -> Vec<Self> {
        let of = |(index, listener): (u8, ListenerId)| {
            let name = format!("caller-{index}");
            let address = SocketAddr::from(([81, 2, 69, 50 + index], 1));
            let client = Client::new(&name, address, pool_login(&name, BEGIN + 86_400));
            Self { client, listener, ports: 1_024, held: None, orphaned: false }
        };
        [(0, ListenerId(0)), (1, TCP_LISTENER)].map(of).into()
    }

    pub(crate) fn seat(&self) -> Option<FiveTuple> {
        self.held.as_ref().map(|held| held.at)
    }

    pub(crate) fn relayed(&self) -> Option<SocketAddr> {
        self.held.as_ref().map(|held| held.relayed)
    }

    /// The relay begins anew: it knows of nothing, and the client not of that.
    pub(crate) fn forget(&mut self) {
        self.orphaned |= self.held.take().is_some();
    }
}

impl Play {
    pub(crate) fn act_ms(&mut self) {
        let who = self.crew.dice.index(self.callers.len());
        match self.crew.dice.below(10) {
            _ if self.callers[who].held.is_none() => self.travel_ms(who),
            0..4 => self.talk_ms(who),
            4..6 => self.peer_talks_ms(who),
            6..9 => self.travel_ms(who),
            _ => self.refresh_ms(who),
        }
    }

    /// Brings what it has to a place where nobody was before, or opens what there is to bring.
    fn travel_ms(&mut self, who: usize) {
        let caller = &mut self.callers[who];
        caller.ports += 1;
        let (listener, ip) = (caller.listener, caller.client.address.ip());
        let client = ClientAddr::new(SocketAddr::new(ip, caller.ports));
        let place = FiveTuple { listener, client };
        let before = caller.held.take();
        let heard = self.allocate_ms(who, place);
        let relayed = heard.address(RELAYED).expect("a relayed address");
        let (connection, number) = heard.numbered().expect("a connection");
        let state = &mut self.callers[who].client.ms;
        let aims = before.as_ref().is_some_and(|held| held.aims);
        if let Some(before) = before {
            assert_eq!((relayed, connection), (before.relayed, state.connection));
            let owner = self.crew.owner(relayed).expect("it is there");
            let astray = listener != TCP_LISTENER && self.crew.steered(place) != owner;
            self.ms[0] += 1;
            self.ms[1] += u64::from(astray || listener == TCP_LISTENER);
            // Where it was there is nothing.
            self.crew.client_says(before.at, &[0x80, 1, 2]);
            assert_eq!(self.crew.heard.pop_front(), None);
        } else {
            (state.connection, state.number) = (connection, number);
        }
        let caller = &mut self.callers[who];
        self.ms[3] += u64::from(std::mem::take(&mut caller.orphaned));
        caller.held = Some(Held { relayed, at: place, aims });
    }

    /// Goes on, or begins again where the relay does not know it any more.
    pub(crate) fn refresh_ms(&mut self, who: usize) {
        let Some(held) = &self.callers[who].held else { return };
        let (place, relayed) = (held.at, held.relayed);
        let heard = self.allocate_ms(who, place);
        assert_eq!(heard.address(RELAYED), Some(relayed));
    }

    /// Allocate with the connection the caller has, if any, behind a challenge where one is due.
    fn allocate_ms(&mut self, who: usize, place: FiveTuple) -> MsHeard {
        for _ in 0..3 {
            let state = &self.callers[who].client.ms;
            let mut draft =
                MsDraft::new(ALLOCATE, self.crew.dice.bytes(16).try_into().expect("16"));
            draft = draft.number(VERSION, 1);
            if state.connection != [0; 20] {
                draft = draft.raw(SEQUENCE, &state.sequence(state.number));
            }
            if !state.nonce.is_empty() {
                draft = state.signed(draft);
            }
            let heard = self.ask_ms(place, &draft);
            if heard.code().is_none() {
                return heard;
            }
            assert!(matches!(heard.code(), Some(401 | 438)), "{heard:02x?}");
            self.callers[who].client.ms.learn(&heard);
        }
        panic!("the server calls every nonce stale")
    }

    fn ask_ms(&mut self, place: FiveTuple, draft: &MsDraft) -> MsHeard {
        self.crew.client_says(place, &draft.encode());
        match self.crew.heard.pop_front() {
            Some(Heard::Client(to, answer)) if to == place => MsHeard::read(&answer),
            other => panic!("an answer for {place:?}, not {other:?}"),
        }
    }

    /// Says a word to bob: bare, or by Send, or makes him the destination.
    fn talk_ms(&mut self, who: usize) {
        let bob: SocketAddr = BOB.parse().expect("an address");
        let (word, id) = (self.word(), self.crew.dice.bytes(16).try_into().expect("16"));
        let aims = self.crew.dice.one_in_thousand(200);
        let bare = self.crew.dice.one_in_thousand(500);
        let caller = &mut self.callers[who];
        let (state, Some(held)) = (&mut caller.client.ms, &mut caller.held) else { return };
        state.number += 1;
        let (at, relayed) = (held.at, held.relayed);
        if aims {
            held.aims = true;
            let draft = state.aim(id, state.number, bob);
            self.ask_ms(at, &draft).expect_success();
            return;
        }
        if bare && held.aims && at.listener == TCP_LISTENER {
            self.crew.client_pays(at, &word);
        } else if bare && held.aims {
            self.crew.client_says(at, &word);
        } else {
            let draft = state.send(id, state.number, bob, &word);
            self.crew.client_says(at, &draft.encode());
        }
        assert_eq!(self.crew.heard.pop_front(), Some(Heard::Peer(relayed, bob, word)), "{at:?}");
        self.ms[2] += 1;
    }

    /// Bob says a word, if the caller spoke to him before.
    fn peer_talks_ms(&mut self, who: usize) {
        let Some(Held { relayed, at, aims }) = self.callers[who].held else { return };
        if self.callers[who].client.ms.number == 0 {
            return;
        }
        let (word, bob) = (self.word(), BOB.parse().expect("an address"));
        self.crew.peer_says(relayed, bob, &word);
        let Some(Heard::Client(to, message)) = self.crew.heard.pop_front() else {
            panic!("the caller hears nothing")
        };
        assert_eq!(to, at);
        if aims {
            assert_eq!(message, word);
        } else {
            assert!(is_ms(&message), "{message:02x?}");
            let heard = MsHeard::read(&message);
            assert_eq!((heard.kind(), heard.address(REMOTE)), (DATA_INDICATION, Some(bob)));
            assert_eq!(heard.value(DATA), Some(&word[..]));
        }
        self.ms[2] += 1;
    }
}
