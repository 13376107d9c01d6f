//! What followers are told of an allocation that begins: how long its client waited, and in which
//! trace its credential was minted.

use super::*;
use crate::turn::Change;

/// What the opening said.
fn told(stage: &mut Stage) -> (Option<Duration>, Option<String>) {
    let opened = stage.others.drain(..).find_map(|action| match action {
        Action::Changed(Change::AllocationOpened { waited, trace, .. }) => Some((waited, trace)),
        _ => None,
    });
    let (waited, trace) = opened.expect("an allocation opened");
    (waited, trace.map(|trace| trace.to_string()))
}

/// The first request of a client, which is challenged.
fn knock(stage: &mut Stage) {
    let mut buffer = [0; 200];
    let id = TransactionId([9; 12]);
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, id);
    writer.add(&RequestedTransport(PROTOCOL_UDP));
    stage.server.client_input(stage.now, stage.client, writer.finish().unwrap());
    assert_eq!(code(&stage.carry_out().unwrap()), 401);
}

#[test]
fn a_client_waits_from_its_first_challenge_on() {
    let mut stage = Stage::alone();
    knock(&mut stage);
    stage.advance(1);
    // It asks again, as its first request seemed lost.
    knock(&mut stage);
    stage.advance(1);
    stage.opened(|_| {});
    assert_eq!(told(&mut stage).0, Some(Duration::from_secs(2)));
}

#[test]
fn who_was_not_challenged_or_long_ago_is_not_measured() {
    let mut stage = Stage::alone();
    stage.opened(|_| {});
    assert_eq!(told(&mut stage), (None, None), "it had a nonce");
    let mut stage = Stage::alone();
    knock(&mut stage);
    stage.advance(60);
    stage.opened(|_| {});
    assert_eq!(told(&mut stage).0, None, "it began anew");
}

#[test]
fn a_flood_of_strangers_costs_a_measurement_and_no_memory() {
    let mut stage = Stage::alone();
    let client = stage.client;
    knock(&mut stage);
    for port in 10_000..15_000 {
        stage.client.client = ClientAddr::new(SocketAddr::from(([81, 2, 70, 1], port)));
        knock(&mut stage);
    }
    stage.client = client;
    stage.opened(|_| {});
    assert_eq!(told(&mut stage).0, None, "others took its place");
}

#[test]
fn the_trace_of_the_credential_goes_along() {
    let mut stage = Stage::alone();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let grant =
        Grant { trace: trace.parse().ok(), ..Grant::new("alice", stage.now.unix.plus(3_600)) };
    stage.credential = mint(&PoolKey::of_test(1), &grant).unwrap();
    stage.opened(|_| {});
    assert_eq!(told(&mut stage).1.as_deref(), Some(trace));
}
