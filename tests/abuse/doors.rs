//! T4 and T8: doors of operators and callers, which speak HTTP, and beside which calls go on.
//!
//! Strangers hold connections, drip heads of requests and ask as fast as they can; whoever has the
//! token, or the key, is answered all the same. coturn as it stands here has no such doors. What
//! a crowd of strangers from many addresses does to the credential service is not tried here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::calls::{self, Calls};
use super::exhaustion::is_closed;
use super::target::{ADMIN_TOKEN, ATTACKER, Kind, SOON, Setup, Target};
use super::{Attack, Outcome, judge, outcome};
use crate::edge::start_auth;
use crate::site::INTERNAL;
use rig::clock;

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "crowd the door of the relay's operators", run: operators },
    Attack { name: "crowd the door of the credential service", run: callers },
];

#[test]
fn sec_009_abuse_t4_doors_stay_open_for_those_they_are_for() {
    judge("T4 doors that speak HTTP", ATTACKS);
}

/// Where strangers reach the administration.
const ADMIN: &str = "10.25.1.1:9643";

/// What strangers do at a door, for a while.
struct Crowd {
    silent: Vec<TcpStream>,
    dripping: Vec<TcpStream>,
    asked: usize,
    refused: usize,
}

/// How long they ask.
const LENGTH: Duration = Duration::from_secs(2);

impl Crowd {
    fn gather(target: &Target, door: SocketAddr) -> Self {
        let lines = |count| (0..count).filter_map(|_| target.connection_to(ATTACKER, door).ok());
        let silent = lines(60).collect();
        Self { silent, dripping: lines(60).collect(), asked: 0, refused: 0 }
    }

    /// Asks without a right key, as often as can be.
    fn ask(&mut self, target: &Target, door: SocketAddr, request: &str) {
        let end = clock::now() + LENGTH;
        while clock::now() < end {
            for line in &mut self.dripping {
                drop(line.write_all(b"G"));
            }
            for _ in 0..20 {
                let Ok(mut line) = target.connection_to(ATTACKER, door) else { continue };
                self.asked += 1;
                let mut head = [0; 12];
                let answered = line.write_all(request.as_bytes()).is_ok()
                    && line.read_exact(&mut head).is_ok();
                let served = answered && head.ends_with(b" 200");
                self.refused += usize::from(!served);
            }
        }
    }

    /// How many connections of those who say nothing sensible are still there.
    fn held(&self) -> usize {
        self.silent.iter().chain(&self.dripping).filter(|line| !is_closed(line)).count()
    }
}

/// Visits while a crowd is at the door: whether each visit was answered, and how long the longest
/// took.
fn visit_beside(
    target: &Target,
    door: SocketAddr,
    request: &str,
    visit: impl Fn() -> bool + Sync,
) -> (Crowd, Vec<bool>, Duration) {
    let mut crowd = Crowd::gather(target, door);
    let end = clock::now() + LENGTH;
    let (answers, longest) = thread::scope(|scope| {
        let visits = scope.spawn(|| {
            let (mut answers, mut longest) = (Vec::new(), Duration::ZERO);
            while clock::now() < end {
                let begin = clock::now();
                answers.push(visit());
                longest = longest.max(clock::now() - begin);
                clock::rest_until(begin + SOON / 2);
            }
            (answers, longest)
        });
        crowd.ask(target, door, request);
        visits.join().expect("visits end")
    });
    (crowd, answers, longest)
}

fn operators(target: &mut Target) -> Outcome {
    if target.kind == Kind::Coturn {
        return Ok("there is none".to_owned());
    }
    let tables = format!("[admin]\naddress = \"{ADMIN}\"\ntoken_file = \"admin-token\"\n");
    let other = Target::start_as(target.kind, Setup { tables, ..Setup::default() });
    let door: SocketAddr = ADMIN.parse().expect("an address");
    let before = other.descriptors();
    let operator = || {
        other.site.relay.enter(|| {
            ureq::get(format!("http://{ADMIN}/v1/state"))
                .header("Authorization", &format!("Bearer {ADMIN_TOKEN}"))
                .config()
                .timeout_global(Some(Duration::from_secs(5)))
                .build()
                .call()
                .is_ok()
        })
    };
    let request = format!("GET /v1/allocations HTTP/1.1\r\nHost: {ADMIN}\r\n\r\n");
    let calls = Calls::through(&other);
    let work = || {
        let (crowd, answers, longest) = visit_beside(&other, door, &request, operator);
        let held = crowd.held();
        (crowd, held, answers, longest)
    };
    let ((crowd, held, answers, longest), lost) = calls::beside(calls, work);
    let (asked, refused) = (crowd.asked, crowd.refused);
    drop(crowd);
    // The call over UDP keeps its allocation.
    let gone = || (other.descriptors() <= before + 2).then_some(());
    let healed = clock::look_until(Duration::from_secs(5), gone).is_some();
    let answered = answers.iter().filter(|answer| **answer).count();
    outcome(
        answered >= 5 && answered == answers.len() && refused == asked && healed && lost.is_proof(),
        format!(
            "{refused} of {asked} requests without the token refused, {held} of 120 connections \
             held; the operator is answered {answered} times in {}, within {longest:.1?}; all \
             given back: {healed}; calls meanwhile: {lost}",
            answers.len()
        ),
    )
}

fn callers(target: &mut Target) -> Outcome {
    if target.kind == Kind::Coturn {
        return Ok("there is none".to_owned());
    }
    let auth = start_auth(&target.site, &target.home);
    let door: SocketAddr = format!("{INTERNAL}:8443").parse().expect("an address");
    let request = format!(
        "POST /v1/credentials HTTP/1.1\r\nHost: {door}\r\nAuthorization: Bearer wrong-key-0000000\r\n\
         Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{{\"user\":\"x\"}}"
    );
    // The application's server has another address than the crowd.
    let caller = || !auth.credential(&target.site.relay, "alice").password.is_empty();
    let calls = Calls::through(target);
    let work = || {
        let (crowd, answers, longest) = visit_beside(target, door, &request, caller);
        let held = crowd.held();
        (crowd, held, answers, longest)
    };
    let ((crowd, held, answers, longest), lost) = calls::beside(calls, work);
    outcome(
        answers.len() >= 5 && crowd.refused == crowd.asked && held <= 64 && lost.is_proof(),
        format!(
            "{} of {} requests with a wrong key refused, {held} of 120 connections held; the \
             caller is answered {} times, within {longest:.1?}; calls meanwhile: {lost}",
            crowd.refused,
            crowd.asked,
            answers.len()
        ),
    )
}
