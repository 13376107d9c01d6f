//! The checkup tells a relay that works from one that does not, and where it fails.

mod support;

use std::net::UdpSocket;
use std::time::Duration;

use client::Transport;
use client::checkup::{Finding, Plan, Step, run};
use client::{ClientError, Credentials};
use support::Coturn;

const PLAN: Plan =
    Plan { transport: Transport::Udp, count: 20, timeout: Duration::from_millis(500) };

#[test]
fn every_step_succeeds_on_a_working_relay() {
    let server = Coturn::start();
    let mut steps = Vec::new();
    let ok = run(server.addr, Some(&Credentials::new("user", "pass")), &PLAN, |outcome| {
        if let Ok(Finding::Relayed(path)) = &outcome.result {
            assert!(path.is_whole(), "{path:?}");
            assert_eq!((path.sent, path.reached, path.returned), (20, 20, 20));
            assert!(path.round_trip(0.0) <= path.round_trip(1.0));
        }
        steps.push((outcome.step, outcome.result.is_ok()));
    });
    assert!(ok, "{steps:?}");
    let expected = [
        Step::Binding,
        Step::Allocation,
        Step::Peer,
        Step::Permission,
        Step::Channel,
        Step::Relaying,
        Step::Release,
    ];
    assert_eq!(steps, expected.map(|step| (step, true)));
}

#[test]
fn the_checkup_ends_with_the_step_that_failed() {
    let server = Coturn::start();
    let mut last = None;
    let ok = run(server.addr, Some(&Credentials::new("user", "wrong")), &PLAN, |outcome| {
        let code = outcome.result.as_ref().err().and_then(ClientError::code);
        last = Some((outcome.step, code));
    });
    assert!(!ok);
    assert_eq!(last, Some((Step::Allocation, Some(401))));
}

#[test]
fn without_credentials_only_the_binding_is_tried() {
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut steps = Vec::new();
    let ok = run(mute.local_addr().unwrap(), None, &PLAN, |outcome| {
        steps.push((outcome.step, outcome.result.is_ok()));
    });
    assert!(!ok);
    assert_eq!(steps, [(Step::Binding, false)]);

    let server = Coturn::start();
    steps.clear();
    assert!(run(server.addr, None, &PLAN, |outcome| {
        steps.push((outcome.step, outcome.result.is_ok()));
    }));
    assert_eq!(steps, [(Step::Binding, true)]);
}
