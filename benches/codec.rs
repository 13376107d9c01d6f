//! What one message costs the codec: parsing, verifying, answering.
//!
//! The Allocate is the one a browser sends after the challenge. stun-rs reads the same bytes for
//! comparison: it is our tests' oracle, and too dear for what strangers may send.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proto::channel_data::ChannelData;
use proto::demux::Kind;
use proto::stun::attribute::{
    Lifetime, Nonce, PROTOCOL_UDP, PasswordAlgorithms, Realm, RequestedTransport, Software,
    Username, XorMappedAddress, XorRelayedAddress,
};
use proto::stun::{
    Class, Integrity, Message, MessageKey, Method, PasswordAlgorithm, TransactionId, Writer,
};

const USERNAME: &str = "1767225600:0a1b2c3d:s=e:5f0c9a7be1d2";
const REALM: &str = "turn.example.org";
const PASSWORD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NONCE: &[u8] = b"obMatJos2AAABMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";
const TRANSACTION: TransactionId = TransactionId(*b"codec bench!");

fn key() -> MessageKey {
    MessageKey::long_term(PasswordAlgorithm::Md5, USERNAME, REALM, PASSWORD)
}

/// An authenticated Allocate request.
fn allocate(integrity: Integrity) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::ALLOCATE, TRANSACTION);
    writer.add(&RequestedTransport(PROTOCOL_UDP)).add(&Lifetime(600));
    writer.add(&Username(USERNAME)).add(&Realm(REALM)).add(&Nonce(NONCE));
    if integrity == Integrity::Sha256 {
        writer.add(&PasswordAlgorithms::OFFERED);
    }
    writer.sign(&key(), integrity).fingerprint();
    writer.finish().expect("fits into the buffer").to_vec()
}

/// A signed success response to it.
fn success<'b>(buffer: &'b mut [u8], key: &MessageKey, integrity: Integrity) -> &'b [u8] {
    let relayed = SocketAddr::from(([198, 51, 100, 7], 50_000));
    let mapped = SocketAddr::from(([203, 0, 113, 9], 40_000));
    let mut writer = Writer::new(buffer, Class::Success, Method::ALLOCATE, TRANSACTION);
    writer.add(&XorRelayedAddress(relayed)).add(&XorMappedAddress(mapped)).add(&Lifetime(600));
    writer.add(&Software("av-edge")).sign(key, integrity).fingerprint();
    writer.finish().expect("fits into the buffer")
}

fn parsing(c: &mut Criterion) {
    let bytes = allocate(Integrity::Sha1);
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("allocate/view", |b| b.iter(|| Message::parse(black_box(&bytes))));
    group.bench_function("allocate/view and every value", |b| {
        b.iter(|| {
            let message = Message::parse(black_box(&bytes)).expect("a valid request");
            (
                message.read::<RequestedTransport>(),
                message.read::<Lifetime>(),
                message.read::<Username<'_>>(),
                message.read::<Realm<'_>>(),
                message.read::<Nonce<'_>>(),
                message.integrity(),
                message.fingerprint(),
            )
        });
    });
    group.bench_function("allocate/stun-rs", |b| {
        b.iter(|| client::wire::read(black_box(&bytes)).expect("a valid request"));
    });
    let mut truncated = bytes.clone();
    truncated.truncate(bytes.len() - 3);
    group.bench_function("allocate/refused: cut short", |b| {
        b.iter(|| Message::parse(black_box(&truncated)));
    });
    group.finish();

    let mut group = c.benchmark_group("channel_data");
    for payload in [160, 1200] {
        let mut bytes = proto::channel_data::header(
            proto::channel_data::ChannelNumber::new(0x4000).expect("the first channel"),
            payload,
        )
        .to_vec();
        bytes.resize(bytes.len() + usize::from(payload), 7);
        group.bench_function(format!("demux and parse/{payload}"), |b| {
            b.iter(|| (Kind::of(black_box(&bytes)), ChannelData::parse(black_box(&bytes))));
        });
    }
    group.finish();
}

fn integrity(c: &mut Criterion) {
    let mut group = c.benchmark_group("integrity");
    let key = key();
    for (name, integrity) in [("sha1", Integrity::Sha1), ("sha256", Integrity::Sha256)] {
        let bytes = allocate(integrity);
        let message = Message::parse(&bytes).expect("a valid request");
        assert!(message.verify(&key, integrity), "the request verifies");
        group.bench_function(format!("verify/{name}"), |b| {
            b.iter(|| black_box(&message).verify(&key, integrity));
        });
    }
    for (name, algorithm) in
        [("md5", PasswordAlgorithm::Md5), ("sha256", PasswordAlgorithm::Sha256)]
    {
        group.bench_function(format!("key/{name}"), |b| {
            b.iter(|| MessageKey::long_term(algorithm, black_box(USERNAME), REALM, PASSWORD));
        });
    }
    group.finish();
}

fn writing(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    let key = key();
    for (name, integrity) in [("sha1", Integrity::Sha1), ("sha256", Integrity::Sha256)] {
        group.bench_function(format!("allocate success/{name}"), |b| {
            let mut buffer = [0; 1024];
            b.iter(|| success(black_box(&mut buffer), &key, integrity).len());
        });
    }
    group.finish();
}

criterion_group!(benches, parsing, integrity, writing);
criterion_main!(benches);
