//! What is handed out: credentials that relays take, durations, relays, refusals by rule.

use proto::addr::Side;
use proto::auth::{Authority, KeyRing, Term, Verified};
use proto::stun::integrity::equal;
use proto::stun::{MessageKey, PasswordAlgorithm};

use super::client::{Client, Response, SETTINGS, message, request, service, xml};
use crate::harness::{Service, now};

const REALM: &str = "edge.example.com";
const PATH: &str = "credentialsResponse/credentials";
const RELAYS: &str = "credentialsResponse/mediaRelayList/mediaRelay";

fn authority(ring: &KeyRing) -> Authority {
    Authority {
        ring: Some(ring.clone()),
        rest_secrets: Vec::new(),
        users: None,
        tokens: None,
        max_lifetime_s: 86_400,
    }
}

/// What relays with these keys say to the first credential of a response.
fn present(ring: &KeyRing, response: &Response) -> Option<Verified> {
    let [username, password] =
        ["username", "password"].map(|name| response.texts(&format!("{PATH}/{name}")).remove(0));
    let algorithm = PasswordAlgorithm::Md5;
    let own = MessageKey::long_term(algorithm, &username, REALM, &password);
    let verify = |key: &MessageKey| equal(key.bytes(), own.bytes());
    let authority = authority(ring);
    let verified = authority.derive(&username).authenticate(REALM, algorithm, verify).ok()?;
    authority.in_time(&verified.identity, now()).is_ok().then_some(verified)
}

#[test]
fn mras_t1_the_request_of_pidgin_sipe_is_answered_as_it_expects() {
    let service = service();
    let mut client = Client::connect(&service);
    // Attributes in its order, an unused prefix, no declaration.
    let response = client.ask(
        "<request requestID=\"1804289383\" from=\"sip:alice@example.com\" version=\"1.0\" \
         to=\"sip:MRASLoc.edge1.example.com@example.com\" \
         xmlns=\"http://schemas.microsoft.com/2006/09/sip/mrasp\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\
         <credentialsRequest credentialsRequestID=\"1804289383\">\
         <identity>sip:alice@example.com</identity><location>internet</location>\
         <duration>480</duration></credentialsRequest></request>",
    );
    assert_eq!(response.reason(), "OK");
    assert_eq!(response.attribute("requestID").as_deref(), Some("1804289383"));
    assert_eq!(response.texts(&format!("{PATH}/duration")), ["480"]);
    assert_eq!(response.texts(&format!("{PATH}/realm")), [REALM]);
    assert_eq!(response.texts(&format!("{RELAYS}/hostName")), ["av.example.com"]);
    assert_eq!(response.texts(&format!("{RELAYS}/udpPort")), ["3478"]);
    assert_eq!(response.texts(&format!("{RELAYS}/tcpPort")), ["443"]);
    let Verified { identity, .. } = present(&service.ring, &response).expect("a good credential");
    assert_eq!(identity.side, Some(Side::External));
    let Term::Until(expires) = identity.term else { panic!("tokens expire") };
    assert!(expires.seconds_since(now()).abs_diff(480 * 60) < 30);
}

#[test]
fn mras_036_pidgin_sipe_finds_everything_by_local_names() {
    let service = service();
    let response = Client::connect(&service).ask(&request(""));
    assert_eq!(response.reason(), "OK", "exactly so");
    for path in ["username", "password", "duration", "realm"] {
        assert_eq!(response.texts(&format!("{PATH}/{path}")).len(), 1, "{path}");
    }
    for (path, count) in [("location", 2), ("hostName", 2), ("udpPort", 2), ("tcpPort", 1)] {
        assert_eq!(response.texts(&format!("{RELAYS}/{path}")).len(), count, "{path}");
    }
}

#[test]
fn mras_037_a_response_is_xml_of_the_same_type() {
    let service = service();
    let response = Client::connect(&service).ask(&request(""));
    assert_eq!(response.all("Content-Type"), ["application/msrtc-media-relay-auth+xml"]);
    assert!(response.body.starts_with("<?xml version=\"1.0\"?>"), "{}", response.body);
}

#[test]
fn mras_030_relays_of_the_location_or_of_all_are_told() {
    let service = service();
    let mut client = Client::connect(&service);
    for (location, side, names, locations) in [
        (
            "<location>internet</location>",
            Some(Side::External),
            &["av.example.com"][..],
            &["internet"][..],
        ),
        (
            "<location>intranet</location>",
            Some(Side::Internal),
            &["edge.corp.example"],
            &["intranet"],
        ),
        ("", None, &["av.example.com", "edge.corp.example"], &["internet", "intranet"]),
    ] {
        let response = client.ask(&request(location));
        assert_eq!(response.texts(&format!("{RELAYS}/hostName")), names);
        assert_eq!(response.texts(&format!("{RELAYS}/location")), locations);
        assert_eq!(present(&service.ring, &response).expect("good").identity.side, side);
    }
}

#[test]
fn mras_031_relays_are_named_one_by_one_where_that_is_asked() {
    let service = service();
    let mut client = Client::connect(&service);
    let entries = [
        "<identity>sip:mcu@example.net</identity><location>intranet</location>",
        "<identity>sip:bob@example.com</identity><location>internet</location>\
         <duration>60</duration>",
    ];
    let response = client.ask(&xml("version=\"2.0\" route=\"directip\"", &entries));
    assert_eq!(response.reason(), "OK");
    assert_eq!(response.texts(&format!("{PATH}/duration")), ["480", "60"]);
    let direct = ["172.25.33.10", "192.0.2.10", "2001:db8::10"];
    assert_eq!(response.texts(&format!("{RELAYS}/directIPAddress")), direct);
    assert!(response.texts(&format!("{RELAYS}/hostName")).is_empty());
}

#[test]
fn mras_032_the_duration_is_cut_to_what_is_allowed() {
    let settings = SETTINGS.replace("[mras]", "[mras]\nmax_lifetime_min = 90");
    let service = Service::start(&settings);
    let mut client = Client::connect(&service);
    for (asked, granted) in [
        ("", 90),
        ("<duration>1</duration>", 1),
        ("<duration>90</duration>", 90),
        ("<duration>91</duration>", 90),
        ("<duration>99999999999999999999999</duration>", 90),
    ] {
        let response = client.ask(&request(asked));
        assert_eq!(response.texts(&format!("{PATH}/duration")), [granted.to_string()], "{asked}");
        let identity = present(&service.ring, &response).expect("good").identity;
        let Term::Until(expires) = identity.term else { panic!("tokens expire") };
        assert!(expires.seconds_since(now()).abs_diff(granted * 60) < 30, "{asked}");
    }
}

#[test]
fn mras_033_an_address_may_stand_for_a_host_name() {
    let service = Service::start(&SETTINGS.replace("av.example.com", "192.0.2.10"));
    let response = Client::connect(&service).ask(&request("<location>internet</location>"));
    assert_eq!(response.texts(&format!("{RELAYS}/hostName")), ["192.0.2.10"]);
}

#[test]
fn mras_034_a_port_that_is_not_offered_is_not_told() {
    let service = service();
    let response = Client::connect(&service).ask(&request("<location>intranet</location>"));
    assert_eq!(response.texts(&format!("{RELAYS}/udpPort")), ["3478"]);
    assert!(response.texts(&format!("{RELAYS}/tcpPort")).is_empty());
}

#[test]
fn mras_016_identities_that_no_rule_allows_are_forbidden() {
    let rule = "[mras]\nidentities = [\"*@example.com\", \"carol@example.net\"]";
    let service = Service::start(&SETTINGS.replace("[mras]", rule));
    let mut client = Client::connect(&service);
    let entry = |uri: &str| format!("<identity>{uri}</identity>");
    for (case, uris, reason) in [
        ("of the host", &["sip:alice@example.com"][..], "OK"),
        ("of the host, in capitals", &["SIP:ALICE@EXAMPLE.COM"], "OK"),
        ("the one of the other host", &["sip:carol@example.net"], "OK"),
        ("another of the other host", &["sip:dave@example.net"], "Forbidden"),
        ("one of two", &["sip:alice@example.com", "sip:dave@example.net"], "Forbidden"),
    ] {
        let entries: Vec<_> = uris.iter().map(|uri| entry(uri)).collect();
        let entries: Vec<_> = entries.iter().map(String::as_str).collect();
        let response = client.ask(&xml("version=\"1.0\"", &entries));
        assert_eq!(response.reason(), reason, "{case}");
        assert_eq!(response.attribute("requestID").as_deref(), Some("77"), "{case}");
        let count = if reason == "OK" { uris.len() } else { 0 };
        assert_eq!(response.texts(&format!("{PATH}/username")).len(), count, "{case}");
    }
}

#[test]
fn mras_022_what_one_entry_fails_by_fails_all() {
    let outside = SETTINGS.split("[[mras.relays]]").next().unwrap_or_default();
    let relay = "[[mras.relays]]\nlocation = \"internet\"\nhost_name = \"a.example\"\nudp_port = 1";
    let service = Service::start(&format!("{outside}{relay}"));
    let mut client = Client::connect(&service);
    let [outside, inside] = ["internet", "intranet"]
        .map(|it| format!("<identity>sip:a@b</identity><location>{it}</location>"));
    for (case, attributes, entries, reason) in [
        ("both outside", "version=\"1.0\"", [&*outside, &outside], "OK"),
        ("one inside", "version=\"1.0\"", [&*outside, &inside], "Not Supported"),
        (
            "no address",
            "version=\"1.0\" route=\"directip\"",
            [&*outside, &outside],
            "Not Supported",
        ),
    ] {
        let response = client.ask(&xml(attributes, &entries));
        assert_eq!(response.reason(), reason, "{case}");
        let count = if reason == "OK" { 2 } else { 0 };
        assert_eq!(response.texts(&format!("{PATH}/username")).len(), count, "{case}");
    }
}

#[test]
fn mras_017_what_no_relay_is_configured_for_is_not_supported() {
    let inside = SETTINGS.replace("location = \"internet\"", "location = \"intranet\"");
    let service = Service::start(&inside);
    let mut client = Client::connect(&service);
    let response = client.ask(&request("<location>internet</location>"));
    assert_eq!(response.reason(), "Not Supported");
    assert_eq!(response.attribute("requestID").as_deref(), Some("77"));
    assert_eq!(client.ask(&request("")).reason(), "OK", "where the client is does not matter");
}

#[test]
fn mras_018_whoever_asks_too_often_is_told_that_we_are_busy() {
    let slow_user = SETTINGS.replace(
        "identity_per_s = 1e6, identity_burst = 1000000",
        "identity_per_s = 0.001, identity_burst = 2",
    );
    let service = Service::start(&slow_user);
    let mut client = Client::connect(&service);
    for reason in ["OK", "OK", "Server Busy", "Server Busy"] {
        let response = client.ask(&request(""));
        assert_eq!(response.reason(), reason);
        assert_eq!(response.attribute("requestID").as_deref(), Some("77"));
    }
    let bob = request("").replace("sip:alice", "sip:bob");
    assert_eq!(client.ask(&bob).reason(), "OK", "others never notice");

    let slow_server = SETTINGS.replace(
        "server_per_s = 1e6, server_burst = 1000000",
        "server_per_s = 0.001, server_burst = 2",
    );
    let service = Service::start(&slow_server);
    let mut client = Client::connect(&service);
    for reason in ["OK", "Request Malformed", "Server Busy"] {
        let body = if reason == "Request Malformed" { "x".to_owned() } else { request("") };
        assert_eq!(client.ask(&body).reason(), reason);
    }
    client.send(message("OPTIONS", ""));
    assert_eq!(client.response().status, 200, "a server is alive even when it is busy");
}

#[test]
fn mras_t4_credentials_are_good_on_the_relays_of_the_pool_alone() {
    let [service, other] = [service(), service()];
    let response = Client::connect(&service).ask(&request(""));
    assert!(present(&service.ring, &response).is_some());
    assert!(present(&other.ring, &response).is_none(), "another pool");
}

#[test]
fn mras_t5_the_current_key_mints() {
    let [old, new] = [service(), service()].map(|service| service.ring.current);
    let ring = KeyRing { current: new.clone(), previous: vec![old.clone()] };
    let service = Service::with_ring(SETTINGS, ring.clone());
    let response = Client::connect(&service).ask(&request(""));
    let only = |current| KeyRing { current, previous: Vec::new() };
    for (case, ring, good) in
        [("rolling", ring, true), ("new", only(new), true), ("old", only(old), false)]
    {
        assert_eq!(present(&ring, &response).is_some(), good, "{case}");
    }
}
