//! T2: getting in, and getting in as somebody else.

use std::collections::BTreeSet;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use client::stun_rs::attributes::stun::{Nonce, Realm, UserName};
use client::stun_rs::attributes::turn::{LifeTime, RequestedTrasport};
use client::stun_rs::methods::{ALLOCATE, REFRESH};
use client::stun_rs::{
    Algorithm, AlgorithmId, HMACKey, MessageClass, MessageMethod, TransactionId,
};
use client::{AllocateOptions, ClientError, Credentials, Event, Transport, TurnClient, wire};

use super::raw::{self, Forger};
use super::target::{ATTACKER, SOON, Target, VICTIM, server, unix_s};
use super::{Attack, Outcome, judge, outcome};
use rig::clock;

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "find out which users exist", run: enumerate },
    Attack { name: "guess passwords as fast as can be", run: guess },
    Attack { name: "guess passwords of many users, one each", run: guess_widely },
    Attack { name: "use a challenge that was another's", run: stolen_nonce },
    Attack { name: "end another's allocation from an address of one's own", run: foreign_end },
    Attack { name: "end another's allocation with its forged address", run: forged_end },
    Attack { name: "append to a signed request", run: append },
    Attack { name: "replay a signed request", run: replay },
    Attack { name: "log in with an expired credential", run: expired },
];

#[test]
fn sec_015_abuse_t2_nobody_gets_in_as_somebody_else() {
    judge("T2 getting in as somebody else", ATTACKS);
}

fn refused_with(answer: Result<impl Sized, ClientError>) -> Option<u16> {
    answer.err().and_then(|error| error.code())
}

/// A Refresh as the client would send it now.
fn signed(client: &TurnClient, lifetime: Option<u32>) -> Vec<u8> {
    let lifetime: Vec<_> =
        lifetime.map(|seconds| LifeTime::new(seconds).into()).into_iter().collect();
    client.draft(REFRESH, &lifetime).expect("a message").0
}

/// Whether an allocation is still there.
fn lives(client: &mut TurnClient) -> bool {
    client.refresh(Duration::from_secs(600)).is_ok()
}

/// Who exists must not be seen in any part of an answer, nor in when it comes.
fn enumerate(target: &mut Target) -> Outcome {
    const CASES: [&str; 4] = ["wrong password", "unknown", "malformed", "expired"];
    let known = target.credentials("alice").username;
    let names = [&known, &format!("{}:nobody", unix_s() + 3600), "nobody", "12:x"];
    // All names from the same port: another may be another worker's, on another core.
    let guessers = [ATTACKER, VICTIM].map(|from| {
        let who = Credentials::new(&*known, "a wrong password");
        let mut client = target.with(from, who, Transport::Udp);
        drop(client.request(ALLOCATE, &[]));
        client
    });
    let tries = guessers.each_ref().map(|client| {
        let disguise = |name: &str| signed_as(client, (name, "a wrong password"), ALLOCATE);
        names.map(|name| disguise(name).expect("a challenge"))
    });
    let all = guessers.iter().zip(&tries);
    let codes: Vec<_> = all
        .flat_map(|(client, tries)| tries.each_ref().map(|guess| answer_to(client, guess)))
        .map(|answer| answer.as_deref().and_then(raw::code))
        .collect();
    let mut forms = BTreeSet::new();
    let first = interleaved(&guessers, &tries, &mut forms);
    let (mut odd, mut fewest) = (apart(&first), fewest_of(&first));
    // A difference that is one shows each time, between the same two; noise does not.
    for _ in 0..2 {
        if odd.is_empty() {
            break;
        }
        let times = interleaved(&guessers, &tries, &mut forms);
        let again = apart(&times);
        odd.retain(|(slow, fast, _)| again.iter().any(|it| (it.0, it.1) == (*slow, *fast)));
        fewest = fewest.min(fewest_of(&times));
    }
    let odd: Vec<_> = odd
        .iter()
        .map(|(one, other, by)| format!("{} from {} by {by:.1?}", CASES[*one], CASES[*other]))
        .collect();
    let same = codes.iter().all(|code| *code == Some(401)) && forms.len() == 1;
    outcome(
        same && odd.is_empty() && fewest >= 50,
        format!(
            "codes {codes:?}, {} form of answers; {fewest} of each told apart by time: {odd:?}",
            forms.len()
        ),
    )
}

fn answer_to(client: &TurnClient, request: &[u8]) -> Option<Vec<u8>> {
    let socket = client.socket().expect("over UDP");
    socket.set_read_timeout(Some(SOON)).expect("a timeout");
    raw::ask(socket, request)
}

/// What a client that was challenged would send as somebody else.
fn signed_as(
    client: &TurnClient,
    (username, password): (&str, &str),
    method: MessageMethod,
) -> Option<Vec<u8>> {
    let (realm, nonce) = (client.realm()?, client.nonce()?);
    let parts = [
        UserName::new(username).expect("a name").into(),
        Realm::new(realm).expect("a realm").into(),
        Nonce::new(nonce).expect("a nonce").into(),
        RequestedTrasport::default().into(),
    ];
    let algorithm = Algorithm::from(AlgorithmId::MD5);
    let key = HMACKey::new_long_term(username, realm, password, algorithm).expect("a key");
    let tail = (Some(&wire::Signature::Sha1(key)), false);
    let (class, transaction) = (MessageClass::Request, TransactionId::default());
    Some(wire::write(method, class, transaction, &parts, tail).expect("a message"))
}

/// Guesses by turns, so that what else happens here slows all of them: how long each answer took, by
/// the name that was guessed. Their forms are noted, without what is another in each answer.
fn interleaved(
    guessers: &[TurnClient; 2],
    tries: &[[Vec<u8>; 4]; 2],
    forms: &mut BTreeSet<Vec<u8>>,
) -> [Vec<Duration>; 4] {
    /// So that no source is answered less often than others.
    const PACE: Duration = Duration::from_millis(11);
    const ROUNDS: usize = 40;
    let mut times = [const { Vec::new() }; 4];
    let mut due = clock::now();
    for number in 0..ROUNDS * 8 {
        // No name is always asked for behind the same other one.
        let (guesser, name) = (number / 4 % 2, (number + number / 8 * (1 + number / 32 % 3)) % 4);
        let asked = clock::now();
        if let Some(answer) = answer_to(&guessers[guesser], &tries[guesser][name]) {
            times[name].push(clock::now() - asked);
            forms.insert(raw::timeless(&answer));
        }
        due = (due + PACE).max(clock::now());
        clock::rest_until(due);
    }
    times
}

fn fewest_of(times: &[Vec<Duration>; 4]) -> usize {
    times.iter().map(Vec::len).min().unwrap_or_default()
}

/// Which medians differ, the slower one first, by more than three times their standard error, and by more than what bytes
/// of a longer name may cost.
fn apart(times: &[Vec<Duration>; 4]) -> Vec<(usize, usize, Duration)> {
    const LEAST: Duration = Duration::from_micros(8);
    let middle = |of: &[Duration]| {
        let mut sorted = of.to_vec();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(Duration::MAX)
    };
    let medians = times.each_ref().map(|of| middle(of));
    let errors = [0, 1, 2, 3].map(|case| {
        let off: Vec<_> = times[case].iter().map(|time| time.abs_diff(medians[case])).collect();
        let count = u32::try_from(off.len().max(1)).expect("a number of samples");
        // Of the normal distribution: 1.4826 makes a standard deviation of it, 1.2533 that of medians.
        middle(&off).as_secs_f64() * 1.4826 * 1.2533 / f64::from(count).sqrt()
    });
    let pairs = (0..4).flat_map(|one| (0..4).map(move |other| (one, other)));
    pairs
        .filter_map(|(one, other)| {
            let by = medians[one].saturating_sub(medians[other]);
            let noise = 3.0 * errors[one].hypot(errors[other]);
            (by > LEAST && by.as_secs_f64() > noise).then_some((one, other, by))
        })
        .collect()
}

fn guess(target: &mut Target) -> Outcome {
    const GUESSES: u32 = 3_000;
    let _victim = target.tenant(ATTACKER, "victim");
    let who = Credentials::new(target.credentials("victim").username, "wrong");
    let mut guesser = target.with(VICTIM, who, Transport::Udp);
    drop(guesser.request(ALLOCATE, &[]));
    let socket = guesser.socket().expect("over UDP").try_clone().expect("a second handle");
    let begin = clock::now();
    for _ in 0..GUESSES {
        socket.send(&signed(&guesser, None)).expect("it is sent");
    }
    let (answers, _) = raw::drain(&socket);
    let took = clock::now() - begin;
    let most = 100.0 + 50.0 * took.as_secs_f64() + 20.0;
    // Who knows the password gets in meanwhile, and from the same address.
    let welcome = target.applicant(VICTIM, "victim", &AllocateOptions::default()).1.is_ok();
    let limited = f64::from(u32::try_from(answers).unwrap_or(u32::MAX)) <= most;
    outcome(
        limited && welcome,
        format!(
            "{answers} of {GUESSES} guesses answered in {took:.1?}; the right one then: {welcome}"
        ),
    )
}

/// Every thirtieth guess is right: how many of these tell whether they are?
fn guess_widely(target: &mut Target) -> Outcome {
    const GUESSES: u32 = 3_000;
    const RIGHT: u32 = GUESSES / 30;
    let who = Credentials::new(target.credentials("user").username, "wrong");
    let mut guesser = target.with(ATTACKER, who, Transport::Udp);
    drop(guesser.request(ALLOCATE, &[]));
    if guesser.nonce().is_none() {
        return Err("no challenge".to_owned());
    }
    let guess = |number: u32| {
        let mut who = target.credentials(&format!("user{number}"));
        let right = number.is_multiple_of(30);
        if !right {
            "wrong".clone_into(&mut who.password);
        }
        // It needs no allocation: 437 tells as much.
        signed_as(&guesser, (&who.username, &who.password), REFRESH).expect("a challenge")
    };
    let socket = guesser.socket().expect("over UDP");
    let begin = clock::now();
    for number in 0..GUESSES {
        socket.send(&guess(number)).expect("it is sent");
    }
    let told = raw::answers(socket).filter(|answer| raw::code(answer) == Some(437)).count();
    let took = clock::now() - begin;
    let told = u32::try_from(told).unwrap_or(u32::MAX);
    // What a source may try, and a share of luck.
    let share = (400.0 + 200.0 * took.as_secs_f64()) / f64::from(GUESSES);
    let slowed = f64::from(told) <= 1.5 * share * f64::from(RIGHT);
    // Others behind the same address get in meanwhile.
    let welcome = target.applicant(ATTACKER, "good", &AllocateOptions::default()).1.is_ok();
    outcome(
        slowed && welcome,
        format!(
            "{told} answers in {took:.1?} told what only right guesses hear, of which {RIGHT} are \
             among {GUESSES}; another login then: {welcome}"
        ),
    )
}

fn stolen_nonce(target: &mut Target) -> Outcome {
    let (mut client, _) = target.tenant(ATTACKER, "nonce");
    let request = signed(&client, None);
    let elsewhere = target.socket(VICTIM);
    let answer = raw::ask(&elsewhere, &request);
    let code = answer.as_deref().and_then(raw::code);
    outcome(
        matches!(code, Some(438)) && lives(&mut client),
        format!("answered with {code:?} at another address"),
    )
}

fn foreign_end(target: &mut Target) -> Outcome {
    let (mut client, _) = target.tenant(ATTACKER, "owner");
    let mut thief = target.guest(VICTIM, "thief");
    let code = refused_with(thief.refresh(Duration::ZERO));
    let alive = lives(&mut client);
    outcome(code == Some(437) && alive, format!("refused with {code:?}; it lives: {alive}"))
}

/// The thief's credential is good, and the address is the owner's; only the user is another.
fn forged_end(target: &mut Target) -> Outcome {
    let (mut client, _) = target.tenant(ATTACKER, "owner");
    let (thief, _) = target.tenant(ATTACKER, "thief");
    let forged = signed(&thief, Some(0));
    let SocketAddr::V4(owner) = client.local_addr().expect("it is bound") else {
        return Err("no IPv4".to_owned());
    };
    Forger::of(&target.site.client).send(owner, server(), &forged);
    let answer = client.recv(SOON).expect("the socket works");
    let code = match answer {
        Some(Event::Other(bytes)) => raw::code(&bytes),
        _ => None,
    };
    let alive = lives(&mut client);
    outcome(alive, format!("answered with {code:?}; it lives: {alive}"))
}

/// Who is on the path adds LIFETIME 0 behind the signature of a harmless Refresh.
fn append(target: &mut Target) -> Outcome {
    let (mut client, _) = target.tenant(ATTACKER, "append");
    let harmless = signed(&client, None);
    let altered = raw::appended(&harmless, raw::LIFETIME, &0_u32.to_be_bytes());
    client.send_raw(&altered).expect("it is sent");
    drop(client.recv(SOON));
    let alive = lives(&mut client);
    outcome(alive, format!("what stands behind the signature ended it: {}", !alive))
}

fn replay(target: &mut Target) -> Outcome {
    let (mut client, _) = target.tenant(ATTACKER, "replay");
    let end = signed(&client, Some(0));
    let SocketAddr::V4(own) = client.local_addr().expect("it is bound") else {
        return Err("no IPv4".to_owned());
    };
    // Sent by somebody else's machine, to end an allocation of the same user elsewhere.
    let (mut other, _) = target.tenant(VICTIM, "replay");
    let elsewhere = SocketAddrV4::new(VICTIM.parse().expect("an address"), port(&other));
    Forger::of(&target.site.client).send(elsewhere, server(), &end);
    drop(other.recv(SOON));
    let alive = lives(&mut other) && lives(&mut client);
    outcome(alive, format!("a request of {own} ended another allocation: {}", !alive))
}

fn port(client: &TurnClient) -> u16 {
    client.local_addr().expect("it is bound").port()
}

fn expired(target: &mut Target) -> Outcome {
    let username = format!("{}:late", unix_s() - 1);
    let who = client::conformance::rest_credentials(crate::edge::REST_SECRET, &username);
    let answer = target.with(ATTACKER, who, Transport::Udp).request(ALLOCATE, &[]);
    let code = refused_with(answer);
    outcome(code == Some(401), format!("refused with {code:?}"))
}
