//! Two workers of one relay, and a client that moves from one to the other.

use super::*;
use crate::turn::mobility::MOST_DIVERTED;

/// Two workers of one relay; the client of the second is steered there.
fn colleagues() -> (Stage, Stage) {
    let ledger = Shared::default();
    let port = |worker| {
        let client = |port| ClientAddr::new(SocketAddr::from(([81, 2, 69, 1], port)));
        (5000..6000).find(|port| steer(client(*port), 2) == worker).unwrap()
    };
    let stage = |index| Stage::new(&ledger, Share { index, of: 2 }, port(index));
    (stage(0), stage(1))
}

#[test]
fn mob_006_a_client_moves_to_where_another_worker_hears_it() {
    let (mut home, mut away) = colleagues();
    let response = home.opened(|writer| {
        writer.add(&MobilityTicket(&[]));
    });
    assert!(home.others.iter().all(|action| !matches!(action, Action::Divert(_))));
    let ticket = |response: &[u8]| {
        let MobilityTicket(ticket) = Message::parse(response).unwrap().require().unwrap();
        ticket.to_vec()
    };
    let first = ticket(&response);
    away.ask(Method::REFRESH, |writer| {
        writer.add(&MobilityTicket(&first));
    });
    assert_eq!(away.carry_out(), None, "the other worker answers");
    let [Action::HandOver { client, worker: 0, bytes }] = &away.others[..] else {
        panic!("{:?}", away.others)
    };
    assert_eq!(*client, away.client);
    for repeated in [false, true] {
        home.others.clear();
        home.server.client_input(home.now, *client, bytes);
        let response = home.carry_out().unwrap();
        assert_eq!(Message::parse(&response).unwrap().class(), Class::Success);
        assert_ne!(ticket(&response), first);
        let diverted = home.others.contains(&Action::Divert(*client));
        assert_eq!(diverted, !repeated, "datagrams of the new address come here, once asked for");
    }
    // Released from the new address: steering rules again.
    home.others.clear();
    home.client = *client;
    home.ask(Method::REFRESH, |writer| {
        writer.add(&Lifetime(0));
    });
    home.carry_out();
    assert!(home.others.contains(&Action::EndDiversion(*client)));
    assert_eq!(home.server.tally().allocations, 0);
}

#[test]
fn mob_006_who_cannot_be_heard_at_a_new_address_is_told_so_and_keeps_the_old_one() {
    let (mut home, away) = colleagues();
    let response = home.opened(|writer| {
        writer.add(&MobilityTicket(&[]));
    });
    let MobilityTicket(ticket) = Message::parse(&response).unwrap().require().unwrap();
    let others = (0..).map(|n: u32| {
        let client = ClientAddr::new(SocketAddr::from((n.to_be_bytes(), 5_000)));
        FiveTuple { client, ..home.client }
    });
    home.server.diverted.extend(others.take(MOST_DIVERTED));
    let old = std::mem::replace(&mut home.client, away.client);
    let bring = |home: &mut Stage| {
        home.ask(Method::REFRESH, |writer| {
            writer.add(&MobilityTicket(ticket));
        });
        home.carry_out().unwrap()
    };
    assert_eq!(code(&bring(&mut home)), 508);
    assert_eq!(home.server.tally().rejected[Why::TooManyMoved.index()], 1);
    assert!(home.server.serves(old) && !home.server.serves(away.client));
    // Somebody else is gone: there is room.
    let other = *home.server.diverted.iter().next().unwrap();
    home.server.end_diversion(other);
    assert_eq!(Message::parse(&bring(&mut home)).unwrap().class(), Class::Success);
    assert!(home.others.contains(&Action::Divert(away.client)));
}

#[test]
fn mob_006_a_client_with_an_allocation_is_not_handed_over() {
    let (mut home, mut away) = colleagues();
    let response = home.opened(|writer| {
        writer.add(&MobilityTicket(&[]));
    });
    let MobilityTicket(ticket) = Message::parse(&response).unwrap().require().unwrap();
    away.opened(|_| {});
    away.others.clear();
    away.ask(Method::REFRESH, |writer| {
        writer.add(&MobilityTicket(ticket));
    });
    assert_eq!(code(&away.carry_out().unwrap()), 437);
    assert_eq!(away.others, []);
}

#[test]
fn mob_003_a_worker_that_does_not_exist_has_no_allocation() {
    let ledger = Shared::default();
    let mut many = Stage::new(&ledger, Share { index: 6, of: 7 }, 5000);
    let response = many.opened(|writer| {
        writer.add(&MobilityTicket(&[]));
    });
    let MobilityTicket(ticket) = Message::parse(&response).unwrap().require().unwrap();
    let mut few = Stage::new(&ledger, Share { index: 0, of: 2 }, 5001);
    few.ask(Method::REFRESH, |writer| {
        writer.add(&MobilityTicket(ticket));
    });
    assert_eq!(code(&few.carry_out().unwrap()), 437);
}
