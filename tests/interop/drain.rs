//! SIGTERM: what runs goes on, what is new is refused, the end is clean.

use std::time::Duration;

use client::AllocateOptions;

use crate::edge::{Home, METRICS, RelayFile, connect, http_get, mint, start_relay};
use crate::line::Line;
use crate::process::Process;
use crate::site::{INTERNAL, Site};
use rig::clock;

/// How long an end may take that nobody has to wait for.
const SOON: Duration = Duration::from_secs(5);

/// A relay with a call on it.
struct Call {
    line: Line,
    relay: Process,
    site: Site,
    home: Home,
}

#[test]
fn drain_keeps_the_call_refuses_new_ones_and_ends_with_the_last() {
    let mut call = Call::start();
    call.drain();
    call.line.client.release().expect("a drained relay still obeys its allocations");
    let status = call.relay.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", call.relay.output());
}

#[test]
fn drain_is_cut_short_by_a_second_sigterm() {
    let mut call = Call::start();
    call.drain();
    assert!(call.relay.ended().is_none(), "it drains for 60 s, unless told twice");
    call.relay.terminate();
    let status = call.relay.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", call.relay.output());
}

#[test]
fn drain_without_a_call_ends_at_once() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let mut relay = start_relay(&site, &home, &RelayFile::default());
    relay.terminate();
    let status = relay.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", relay.output());
}

impl Call {
    fn start() -> Self {
        let site = Site::new();
        let home = Home::with_pool_key();
        let relay = start_relay(&site, &home, &RelayFile::default());
        let mut line = Line::open(&site, &home);
        line.demand_echo("before SIGTERM");
        Self { line, relay, site, home }
    }

    /// Sends SIGTERM and sees the relay drain.
    fn drain(&mut self) {
        self.relay.terminate();
        clock::await_some(SOON, "/readyz to say no", || {
            let page = self.site.relay.enter(|| http_get(&format!("http://{METRICS}/readyz")));
            page.is_err().then_some(())
        });
        let credential = mint(&self.home.path("pool.pem"), "bob");
        let mut late = self.site.client.enter(|| connect(INTERNAL, &credential));
        let refused = late.allocate(&AllocateOptions::default()).expect_err("it drains");
        assert_eq!(refused.code(), Some(403), "{refused}");
        self.line.demand_echo("while it drains");
        let lifetime =
            self.line.client.refresh(Duration::from_secs(600)).expect("the call may go on");
        assert!(!lifetime.is_zero());
        self.line.demand_echo("after a refresh");
    }
}
