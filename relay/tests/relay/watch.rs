//! What operators see of calls, against what was sent: the API of a whole relay.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use client::{AllocateOptions, Event, TurnClient};
use serde_json::Value;

use crate::admin::{Office, TOKEN, bearer};
use crate::site::{client_of, peer};

/// A packet of RTP: 100 bytes of PCMU.
fn rtp(number: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(number.to_be_bytes());
    packet.extend((u32::from(number) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.resize(100, 0x55);
    packet
}

fn get(office: &Office, path: &str) -> Value {
    let (status, _, body) = office.ask(&format!("GET {path}"), "");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// A call whose client loses one packet of ten before the relay.
pub(crate) struct Call {
    pub(crate) client: TurnClient,
    peer: UdpSocket,
    channel: u16,
    number: u16,
    came: u64,
}

impl Call {
    pub(crate) fn begin(office: &Office) -> Self {
        let mut client = client_of(office.server, "alice");
        client.allocate(&AllocateOptions::default()).unwrap();
        let peer = peer();
        let channel = client.bind_channel(peer.local_addr().unwrap()).unwrap();
        Self { client, peer, channel, number: 0, came: 0 }
    }

    /// Twenty milliseconds of it.
    pub(crate) fn go_on(&mut self) {
        self.number += 1;
        if !self.number.is_multiple_of(10) {
            self.client.send_channel(self.channel, &rtp(self.number, 0xA11CE)).unwrap();
            let mut buffer = [0; 200];
            let (_, from) = self.peer.recv_from(&mut buffer).unwrap();
            self.came += 1;
            let answer = rtp(u16::try_from(self.came).unwrap(), 0xB0B);
            self.peer.send_to(&answer, from).unwrap();
            let event = self.client.recv(Duration::from_secs(2)).unwrap();
            assert!(matches!(event, Some(Event::Data { .. })), "{event:?}");
        }
        let more = self.client.recv(Duration::from_millis(20)).unwrap();
        assert!(more.is_none(), "nothing else comes meanwhile: {more:?}");
    }
}

/// What is said of loss before the relay. A busy host may be said to be slow beside it.
fn problem(overview: &Value) -> Option<&Value> {
    overview["problems"].as_array().unwrap().iter().find(|it| it["id"] == "loss_client")
}

/// What a line says of it, in every order.
fn check_rows(office: &Office, id: &str) {
    for sort in ["throughput", "loss", "age", "expiry", "bytes", "id"] {
        let page = get(office, &format!("/v1/allocations?sort={sort}"));
        let row = &page["allocations"][0];
        assert_eq!((row["id"].as_str(), &page["total"]), (Some(id), &1.into()), "{sort}");
        let loss = row["loss_client"].as_f64().unwrap();
        // A look may fall between any two packets.
        assert!((0.06..=0.15).contains(&loss), "{sort}: {row}");
        assert_eq!(row["loss_peer"], 0.0, "{sort}: {row}");
        let rate = row["rate_to_peer"].as_f64().unwrap();
        assert!((100.0..6_000.0).contains(&rate), "{sort}: 45 packets of 100 bytes: {row}");
        assert!(row["spark"].as_array().is_some_and(|it| !it.is_empty()), "{sort}: {row}");
    }
}

/// What is said of it when somebody looks closely.
fn check_detail(office: &Office, id: &str, call: &Call) {
    let detail = get(office, &format!("/v1/allocations/{id}"));
    let streams = detail["streams"].as_array().unwrap();
    let stream = |leg: &str| streams.iter().find(|it| it["leg"] == leg).unwrap();
    let lost = u64::from(call.number / 10);
    for (leg, ssrc, came, lost) in
        [("client", 0xA11CE, call.came, lost), ("peer", 0xB0B, call.came, 0)]
    {
        let stream = stream(leg);
        assert_eq!(stream["kind"], "rtp", "{stream}");
        assert_eq!((&stream["ssrc"], &stream["payload_type"]), (&ssrc.into(), &0.into()));
        assert_eq!(stream["packets"], came, "{stream}");
        // The one that is lost last is not missed before the next one came.
        let found = stream["lost"].as_u64().unwrap();
        assert!(found == lost || found + 1 == lost, "{lost}: {stream}");
    }
    let peers = detail["peers"].as_array().unwrap();
    let address = call.peer.local_addr().unwrap().to_string();
    assert_eq!((peers.len(), peers[0]["address"].as_str()), (1, Some(&*address)));
    assert_eq!((&peers[0]["via"], &peers[0]["channel"]), (&"channel".into(), &call.channel.into()));
    assert!(detail["samples"].as_array().is_some_and(|it| !it.is_empty()), "{detail}");
    assert_eq!((&detail["dialect"], &detail["measured"]), (&"turn".into(), &true.into()));
}

#[test]
fn a_call_that_loses_packets_is_found_by_its_leg() {
    let office = Office::open(70, "127.0.0.1:22070", "token_file = \"token\"");
    let mut call = Call::begin(&office);
    #[expect(clippy::disallowed_methods, reason = "it gives up by the clock")]
    let begun = Instant::now();
    let overview = loop {
        (0..20).for_each(|_| call.go_on());
        let overview = get(&office, "/v1/overview");
        if problem(&overview).is_some() {
            break overview;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing was found: {overview}");
    };
    let problem = problem(&overview).unwrap();
    assert_eq!(problem["text"], "1 call loses packets between client and relay");
    let id = problem["allocations"][0].as_str().unwrap();
    assert_eq!(
        (&overview["allocations"], &overview["packets"]),
        (&1.into(), &(2 * call.came).into())
    );
    assert_eq!(overview["media"]["peer"]["expected"], overview["media"]["peer"]["received"]);

    check_rows(&office, id);
    check_detail(&office, id, &call);
    let samples = get(&office, "/v1/samples");
    let last = samples["samples"].as_array().unwrap().last().unwrap();
    assert_eq!(last["allocations"], 1, "{last}");
    assert!(last["packets_per_s"].as_f64().is_some_and(|it| it > 3.0), "{last}");
    let newer = get(&office, &format!("/v1/samples?since_ms={}", last["time_ms"]));
    assert!(newer["samples"].as_array().unwrap().len() <= 1, "{newer}");

    let (status, ..) = office.ask(&format!("DELETE /v1/allocations/{id}"), &bearer(TOKEN));
    assert_eq!(status, 204);
    let (status, _, body) = office.ask(&format!("GET /v1/allocations/{id}"), "");
    assert!(status == 404 && body.contains("it is over"), "{body}");
    office.close();
}

#[test]
fn orders_and_pages_are_asked_for_in_words_that_exist() {
    let office = Office::open(71, "127.0.0.1:22071", "");
    for (query, word) in [
        ("sort=name", "throughput"),
        ("sort=loss&behind=0-0-1", "leave sort away"),
        ("behind=x", "WORKER-SLOT-GENERATION"),
        ("limit=0", "1 to 1000"),
        ("page=2", "unknown field"),
    ] {
        let (status, _, body) = office.ask(&format!("GET /v1/allocations?{query}"), "");
        assert!(status == 400 && body.contains(word), "{query}: {body}");
    }
    assert_eq!(office.ask("GET /v1/samples?since=5", "").0, 400);
    assert_eq!(office.ask("GET /v1/allocations/x", "").0, 400);
    assert_eq!(office.ask("GET /v1/allocations/0-0-1", "").0, 404);
    office.close();
}
