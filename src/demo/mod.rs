//! `av-edge demo`: a call through a relay of its own, in one command.
//!
//! [`services`] starts relay and credential service with a pool key made for the occasion;
//! [`call`] sends the [`voice`] clip as [`srtp`] through two allocations and back, and compares
//! every packet by its [`ledger`]; [`words`] says what happened. Then [`page`] serves a browser
//! page that does the same with WebRTC, until somebody ends it. [`host`] finds addresses and
//! ports, so that nothing needs to be configured.

mod call;
mod host;
mod ledger;
mod page;
mod services;
mod srtp;
mod voice;
mod words;

use call::{Call, CallError, Outcome};
use page::Page;
use relay::Observer;
use services::Services;
use words::Live;

use crate::cli::DemoArgs;
use crate::failure::Failure;

/// Runs the demonstration.
pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    let page = if args.once { None } else { Some(Page::bind(args.page)?) };
    let services = Services::start(args.port, args.metrics)?;
    words::introduce(&services);
    let finding = self_call(&services)?;
    words::tell(&finding);
    let Some(page) = page else {
        services.stop()?;
        return finding.verdict();
    };
    let guest = services.minter().guest().map_err(Failure::job)?;
    words::offer(&services, &page, &guest);
    page.serve_until_told(&services, &finding)?;
    words::farewell();
    services.stop()
}

/// What the call showed, at its ends and inside the relay.
struct Finding {
    outcome: Outcome,
    relayed: Relayed,
}

/// What the relay counted for the call's two allocations together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Relayed {
    /// Packets taken from the clients.
    packets_in: u64,
    /// Their payload bytes.
    bytes_in: u64,
    /// Packets given to the clients.
    packets_out: u64,
    /// Their payload bytes.
    bytes_out: u64,
}

impl Finding {
    /// Whether the relay counted what the ends sent and received, neither more nor less.
    fn relay_agrees(&self) -> bool {
        let (there, back) = (&self.outcome.there, &self.outcome.back);
        let (packets, bytes) = ((there.sent + back.sent) as u64, there.bytes + back.bytes);
        let Relayed { packets_in, bytes_in, packets_out, bytes_out } = self.relayed;
        [packets_in, packets_out] == [packets; 2] && [bytes_in, bytes_out] == [bytes; 2]
    }

    fn is_perfect(&self) -> bool {
        self.outcome.is_perfect() && self.relay_agrees()
    }

    fn verdict(&self) -> Result<(), Failure> {
        if self.is_perfect() {
            Ok(())
        } else {
            Err(Failure::job("the call did not come through unharmed; see above"))
        }
    }
}

/// Makes the call and looks at the relay's own figures before it ends.
fn self_call(services: &Services) -> Result<Finding, Failure> {
    let minter = services.minter();
    let caller = minter.credentials("caller").map_err(Failure::job)?;
    let far_end = minter.credentials("far-end").map_err(Failure::job)?;
    let server = services.server();
    let mut call = Call::set_up(server, [caller, far_end]).map_err(|error| failed(&error))?;
    words::ring(&call);
    let mut live = Live::new();
    let outcome = call.talk(|progress| live.show(progress)).map_err(|error| failed(&error))?;
    live.end();
    let relayed = relayed(&services.observer(), &call);
    call.hang_up().map_err(|error| failed(&error))?;
    Ok(Finding { outcome, relayed })
}

/// The relay's counters for both ends of a call.
fn relayed(observer: &Observer, call: &Call) -> Relayed {
    let ends = [call.caller().relayed(), call.far_end().relayed()];
    let mut sum = Relayed { packets_in: 0, bytes_in: 0, packets_out: 0, bytes_out: 0 };
    for session in observer.sessions() {
        let ours = session.view.relayed.iter().flatten().any(|relayed| ends.contains(relayed));
        if ours {
            let usage = session.view.usage;
            sum.packets_in += usage.to_peer.packets;
            sum.bytes_in += usage.to_peer.bytes;
            sum.packets_out += usage.to_client.packets;
            sum.bytes_out += usage.to_client.bytes;
        }
    }
    sum
}

fn failed(error: &CallError) -> Failure {
    Failure::job(format!("the call failed: {error}"))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_call_comes_through_unharmed_without_any_configuration() {
        let args = DemoArgs { once: true, port: None, page: None, metrics: None };
        assert_eq!(run(&args), Ok(()));
    }

    #[test]
    fn a_port_that_was_asked_for_and_cannot_be_had_is_wrong_usage() {
        let range = services::RELAYED_PORTS;
        let (taken, port) = loop {
            let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
            let port = taken.local_addr().unwrap().port();
            if !range.contains(&port) {
                break (taken, port);
            }
        };
        for (case, port) in [("occupied", port), ("for relaying", *range.start())] {
            let args = DemoArgs { once: true, port: Some(port), page: None, metrics: None };
            let failure = run(&args).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{case}");
            assert!(failure.to_string().contains(&format!("--port {port}")), "{case}: {failure}");
        }
        drop(taken);
    }

    #[test]
    fn the_relay_must_have_counted_exactly_what_the_ends_did() {
        let mut ledger = ledger::Ledger::default();
        ledger.add(b"one packet");
        let comparison = ledger.compare(&ledger);
        let finding = |relayed| Finding {
            outcome: Outcome {
                there: comparison.clone(),
                back: comparison.clone(),
                far_end_heard_clip: true,
                caller_heard_clip: true,
                rejected: 0,
                round_trips: Vec::new(),
            },
            relayed,
        };
        let exact = Relayed { packets_in: 2, bytes_in: 20, packets_out: 2, bytes_out: 20 };
        assert!(finding(exact).is_perfect());
        for (case, relayed) in [
            ("a packet more came in", Relayed { packets_in: 3, ..exact }),
            ("a byte less went out", Relayed { bytes_out: 19, ..exact }),
        ] {
            assert_eq!(finding(relayed).verdict().unwrap_err().exit_code(), 1, "{case}");
        }
    }
}
