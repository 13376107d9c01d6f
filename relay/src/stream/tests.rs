//! Streams on real sockets, with a clock that is told.

mod passages;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use proto::now::UnixTime;
use proto::turn::Action;

use super::*;
use crate::Config;
use crate::clock::Clock;
use crate::engine::{Engine, MioEngine};

/// A Binding request with nothing in it.
const BINDING: [u8; 20] =
    [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// Bytes of its answer: a header and an IPv4 address.
const ANSWER: usize = 20 + 12;

/// One worker's streams and server, turned by hand.
struct Stage {
    engine: MioEngine,
    streams: Streams,
    server: Server<SharedLedger>,
    batch: Batch,
    now: Now,
    door: SocketAddr,
}

impl Stage {
    fn new(limits: &str) -> Self {
        Self::beside(limits, None)
    }

    /// One that passes on what is for another server, if there is one.
    fn beside(limits: &str, pass_through: Option<PassThrough>) -> Self {
        let text = format!(
            "realm = \"r\"\nworkers = 1\n[auth]\nrest_secrets = [\"0123456789abcdef\"]\n\
             [limits]\n{limits}\n[[listen]]\naddress = \"127.0.0.1:3478\"\ntransport = \"tcp\""
        );
        let config = Config::from_toml(&text, "test", None).unwrap();
        let engine = MioEngine::new(Vec::new()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let door = listener.local_addr().unwrap();
        let ledger = SharedLedger::new([]);
        let tls = pass_through.is_some().then_some(ListenerId(0));
        let plan = DoorPlan { plain: Some(ListenerId(0)), tls, ..DoorPlan::default() };
        let doors = vec![(plan, listener)];
        let registry = engine.registry().unwrap();
        Self {
            streams: Streams::new(
                StreamConfig { pass_through, ..config.streams() },
                registry,
                doors,
                ledger.clone(),
            )
            .unwrap(),
            server: Server::new(Arc::new(config.server(0)), ledger, [7; 32]),
            batch: Batch::new(),
            now: Now { mono: Clock::new().last().mono, unix: UnixTime(1_800_000_000) },
            engine,
            door,
        }
    }

    /// A client that is connected and taken, or turned away.
    fn client(&mut self) -> std::net::TcpStream {
        let client = std::net::TcpStream::connect(self.door).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let seen = |tally: StreamTally| tally.accepted + tally.refused.iter().sum::<u64>();
        let before = seen(self.streams.tally());
        while seen(self.streams.tally()) == before {
            self.turn();
        }
        client
    }

    /// One turn of a worker's loop.
    fn turn(&mut self) {
        let streams = &mut self.streams;
        let patience = streams.patience(self.now.mono);
        let at_most =
            patience.map_or(Duration::from_millis(20), |it| it.min(Duration::from_millis(20)));
        self.engine.wait(Some(at_most), &mut |event| streams.wake(event)).unwrap();
        streams.turn(self.now, &mut self.server, &mut self.batch);
        while let Some(action) = self.server.poll_action() {
            if let Action::Send { to, bytes } = action {
                streams.reply(to, &bytes);
            }
        }
        self.engine.send(&mut self.batch);
        streams.flush();
    }

    /// Turns until a client has got so many bytes or its end.
    fn until(&mut self, client: &mut std::net::TcpStream, bytes: usize) -> Vec<u8> {
        client.set_nonblocking(true).unwrap();
        let (mut got, mut buffer) = (Vec::new(), [0; 1_024]);
        for _ in 0..200 {
            self.turn();
            match client.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => got.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
            if got.len() >= bytes {
                break;
            }
        }
        client.set_nonblocking(false).unwrap();
        got
    }

    fn pass(&mut self, seconds: u64) {
        self.now.mono += Duration::from_secs(seconds);
        self.turn();
    }

    fn closed(&self, ending: Ending) -> u64 {
        self.streams.tally().closed[ending as usize]
    }

    fn open(&self) -> u64 {
        self.streams.tally().open.iter().sum()
    }
}

#[test]
fn stun_025_a_request_in_pieces_and_three_in_one_are_answered() {
    let mut stage = Stage::new("");
    let mut client = stage.client();
    for byte in BINDING {
        client.write_all(&[byte]).unwrap();
        stage.turn();
    }
    assert_eq!(stage.until(&mut client, ANSWER).len(), ANSWER);
    client.write_all(&BINDING.repeat(3)).unwrap();
    assert_eq!(stage.until(&mut client, 3 * ANSWER).len(), 3 * ANSWER);
    assert_eq!(stage.streams.tally().writes, 2, "answers of a turn leave in one write");
}

#[test]
fn sec_011_nothing_a_stranger_sends_prolongs_its_stay() {
    let mut stage = Stage::new("");
    let mut client = stage.client();
    for _ in 0..2 {
        stage.pass(10);
        client.write_all(&BINDING).unwrap();
        assert_eq!(stage.until(&mut client, ANSWER).len(), ANSWER);
    }
    stage.pass(9);
    client.write_all(&BINDING[..7]).unwrap();
    stage.turn();
    assert_eq!(stage.open(), 1);
    stage.pass(1);
    assert_eq!(stage.until(&mut client, 1).len(), 0);
    assert_eq!((stage.closed(Ending::Idle), stage.open()), (1, 0));
}

#[test]
fn sec_011_little_waits_for_a_stranger_that_does_not_read() {
    let mut stage = Stage::new("stream_queue_bytes = 65536");
    let mut client = stage.client();
    client.write_all(&BINDING.repeat(STRANGER_QUEUE / ANSWER)).unwrap();
    assert_eq!(stage.until(&mut client, 1).len() % ANSWER, 0);
    assert_eq!(stage.open(), 1, "as much as that is answered");
    client.write_all(&BINDING.repeat(STRANGER_QUEUE / ANSWER + 1)).unwrap();
    stage.until(&mut client, usize::MAX);
    assert_eq!((stage.closed(Ending::QueueFull), stage.open()), (1, 0));
}

#[test]
fn sec_011_a_half_frame_is_not_waited_for() {
    let mut stage = Stage::new("");
    let mut client = stage.client();
    client.write_all(&BINDING[..7]).unwrap();
    stage.turn();
    let (key, now) = (stage.streams.roster.keys()[0], stage.now.mono);
    let connection = stage.streams.roster.find(key).unwrap();
    assert_eq!(connection.begun, BINDING[..7]);
    for (after, served, expected) in [
        (29, true, Overdue::Nothing),
        (30, true, Overdue::End(Ending::HalfFrame)),
        (30, false, Overdue::End(Ending::HalfFrame)),
    ] {
        let then = now + Duration::from_secs(after);
        assert_eq!(connection.overdue(then, served), expected, "{after} s, {served}");
    }
    // More of the frame changes nothing, its end does.
    stage.now.mono += Duration::from_secs(10);
    client.write_all(&BINDING[7..9]).unwrap();
    stage.turn();
    assert_eq!(stage.streams.roster.find(key).unwrap().since, now);
    client.write_all(&[&BINDING[9..], &BINDING[..1]].concat()).unwrap();
    assert_eq!(stage.until(&mut client, ANSWER).len(), ANSWER);
    assert_eq!(stage.streams.roster.find(key).unwrap().since, stage.now.mono);
}

#[test]
fn an_allocation_keeps_its_stream_and_its_end_grants_a_strangers_time_once() {
    let mut stage = Stage::new("");
    let client = stage.client();
    let key = stage.streams.roster.keys()[0];
    let begin = stage.now.mono;
    let connection = stage.streams.roster.find(key).unwrap();
    for (at, served, expected) in [
        (30, true, Overdue::Nothing),
        (60, true, Overdue::Nothing),
        (90, false, Overdue::Nothing),
        (119, false, Overdue::Nothing),
        (120, false, Overdue::End(Ending::Idle)),
    ] {
        let now = begin + Duration::from_secs(at);
        assert_eq!(connection.overdue(now, served), expected, "{at} s, {served}");
    }
    drop(client);
}

#[test]
fn stun_027_what_starts_no_frame_closes_the_stream_behind_what_was_answered() {
    for (case, bytes, ending) in [
        ("no first byte of a frame", &[0xFF; 20][..], Ending::Garbled),
        ("TLS", &[22, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3], Ending::Garbled),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n", Ending::FrameTooLong),
        ("HTTP that changes", b"POST / HTTP/1.1\r\n\r\n", Ending::Garbled),
        ("STUN without the cookie", &[0; 20], Ending::Garbled),
        ("STUN of no length", &[0, 1, 0, 3], Ending::Garbled),
        ("a channel of RFC 5766", &[0x50, 0, 0, 0], Ending::Garbled),
        ("a long frame of a stranger", &[0x40, 0, 0xFF, 0], Ending::FrameTooLong),
    ] {
        let mut stage = Stage::new("");
        let mut client = stage.client();
        let mut other = stage.client();
        client.write_all(&[&BINDING, bytes].concat()).unwrap();
        assert_eq!(stage.until(&mut client, 1_000).len(), ANSWER, "{case}");
        assert_eq!((stage.closed(ending), stage.open()), (1, 1), "{case}");
        other.write_all(&BINDING).unwrap();
        assert_eq!(stage.until(&mut other, ANSWER).len(), ANSWER, "{case}");
    }
}

#[test]
fn stun_026_a_request_is_answered_although_the_client_sends_no_more() {
    let mut stage = Stage::new("");
    let mut client = stage.client();
    client.write_all(&BINDING).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stage.until(&mut client, 1_000).len(), ANSWER);
    assert_eq!((stage.closed(Ending::ByClient), stage.open()), (1, 0));
}

#[test]
fn sec_009_strangers_are_counted_by_client_by_network_and_in_all() {
    for (limits, refusal) in [
        ("connections_per_client = 3", Refusal::PerClient),
        ("connections_per_network = 3", Refusal::PerNetwork),
        ("connections = 3", Refusal::InAll),
    ] {
        let mut stage = Stage::new(limits);
        let mut clients: Vec<_> = (0..5).map(|_| stage.client()).collect();
        assert_eq!(stage.streams.tally().refused[refusal as usize], 2, "{limits}");
        for refused in &mut clients[3..] {
            assert_eq!(refused.read(&mut [0; 1]).unwrap(), 0, "{limits}");
        }
        // Whoever leaves, or is no stranger any more, makes room.
        clients.remove(0);
        while stage.open() == 3 {
            stage.turn();
        }
        stage.client();
        assert_eq!(stage.streams.tally().accepted, 4, "{limits}");
    }
}

#[test]
fn a_client_that_does_not_read_answers_is_disconnected() {
    let mut stage = Stage::new("stream_queue_bytes = 65536");
    let mut client = stage.client();
    client.set_nonblocking(true).unwrap();
    let requests = BINDING.repeat(1_000);
    let mut sent = 0;
    for _ in 0..10_000 {
        // A stream knows no messages: what was cut off goes on with the next write.
        if let Ok(len) = client.write(&requests[sent % BINDING.len()..]) {
            sent += len;
        }
        stage.turn();
        if stage.open() == 0 {
            break;
        }
    }
    assert_eq!(stage.closed(Ending::QueueFull), 1);
}

#[test]
fn keys_survive_the_token_and_stale_ones_find_nothing() {
    let mut stage = Stage::new("");
    let first = stage.client();
    let key = stage.streams.roster.keys()[0];
    assert_eq!(Key::from_token(key.to_token()), key);
    drop(first);
    while stage.open() == 1 {
        stage.turn();
    }
    let _second = stage.client();
    assert_ne!(stage.streams.roster.keys()[0], key, "the slot is used again");
    assert!(stage.streams.roster.find(key).is_none());
}

/// The limits of a relay that speaks the Microsoft dialect.
const MICROSOFT: &str = "[features]\nmicrosoft = true";

/// The record that opens pseudo-TLS.
const DISGUISE: &[u8] = include_bytes!("../../../tests/fuzz/corpus/sniff/pseudo_tls");

/// A message as a control frame.
fn framed(message: &[u8]) -> Vec<u8> {
    let len = u8::try_from(message.len()).unwrap();
    [&[2, 0, 0, len], message].concat()
}

#[test]
fn mst_006_control_frames_in_pieces_and_in_one_are_answered_in_frames() {
    let mut stage = Stage::new(MICROSOFT);
    let mut client = stage.client();
    for byte in framed(&BINDING) {
        client.write_all(&[byte]).unwrap();
        stage.turn();
    }
    let answer = stage.until(&mut client, 4 + ANSWER);
    assert_eq!(answer.len(), 4 + ANSWER);
    assert_eq!(answer[..6], [2, 0, 0, 32, 1, 1], "MST-3: in both directions");
    client.write_all(&framed(&BINDING).repeat(3)).unwrap();
    assert_eq!(stage.until(&mut client, 3 * (4 + ANSWER)).len(), 3 * (4 + ANSWER));
    // Whoever comes with ordinary TURN is answered so.
    let mut other = stage.client();
    other.write_all(&BINDING).unwrap();
    assert_eq!(stage.until(&mut other, ANSWER)[..2], [1, 1]);
}

#[test]
fn mst_021_pseudo_tls_is_answered_in_one_write_and_frames_follow() {
    for pieces in [DISGUISE.len(), 7, 1] {
        let mut stage = Stage::new(MICROSOFT);
        let mut client = stage.client();
        for piece in DISGUISE.chunks(pieces) {
            assert_eq!(stage.streams.tally().writes, 0, "nothing is said to half a record");
            client.write_all(piece).unwrap();
            stage.turn();
        }
        let answer = stage.until(&mut client, 83);
        assert_eq!((answer.len(), stage.streams.tally().writes), (83, 1));
        assert_eq!(answer[..5], [22, 3, 1, 0, 78]);
        client.write_all(&framed(&BINDING)).unwrap();
        assert_eq!(stage.until(&mut client, 4 + ANSWER).len(), 4 + ANSWER);
        assert_eq!(stage.streams.tally().pseudo_tls, 1);
        // Where it begins in frames, ordinary TURN may not go on.
        client.write_all(&BINDING).unwrap();
        assert_eq!(stage.until(&mut client, 1).len(), 0);
        assert_eq!((stage.closed(Ending::FrameType), stage.open()), (1, 0));
    }
}

#[test]
fn mst_004_a_frame_of_another_type_closes_that_connection() {
    for (case, bytes, ending) in [
        ("type 1", &[1, 0, 0, 4, 0, 0, 0, 0][..], Ending::FrameType),
        ("type 4", &[4], Ending::FrameType),
        ("a byte that is not zero", &[2, 7, 0, 0], Ending::FrameType),
        ("a long frame of a stranger", &[2, 0, 0xFF, 0], Ending::FrameTooLong),
        ("a message of nothing", &[2, 0, 0, 0], Ending::Garbled),
    ] {
        let mut stage = Stage::new(MICROSOFT);
        let (mut client, mut other) = (stage.client(), stage.client());
        client.write_all(&[&framed(&BINDING), bytes].concat()).unwrap();
        assert_eq!(stage.until(&mut client, 1_000).len(), 4 + ANSWER, "{case}");
        assert_eq!((stage.closed(ending), stage.open()), (1, 1), "{case}");
        other.write_all(&framed(&BINDING)).unwrap();
        assert_eq!(stage.until(&mut other, 4 + ANSWER).len(), 4 + ANSWER, "{case}");
    }
}

#[test]
fn mst_010_without_the_feature_nothing_of_the_dialect_is_known() {
    for (case, bytes, ending) in [
        ("control frames", framed(&BINDING).repeat(2), Ending::Garbled),
        ("pseudo-TLS", DISGUISE.to_vec(), Ending::Garbled),
    ] {
        let mut stage = Stage::new("");
        let mut client = stage.client();
        client.write_all(&bytes).unwrap();
        assert_eq!(stage.until(&mut client, 1).len(), 0, "{case}");
        assert_eq!((stage.closed(ending), stage.open()), (1, 0), "{case}");
    }
}
