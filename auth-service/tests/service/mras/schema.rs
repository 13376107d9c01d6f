//! The XML: what is malformed, and in which order faults are found.

use super::client::{Client, NAMESPACE, Response, TYPE, request, service, xml};

const ALICE: &str = "<identity>sip:alice@example.com</identity>";

/// Asserts a refusal that tells nothing of the request (MRAS-12).
fn assert_malformed(response: &Response, case: &str) {
    assert_eq!(response.reason(), "Request Malformed", "{case}");
    assert_eq!(response.attribute("version").as_deref(), Some("3.0"), "{case}");
    assert_eq!(response.attribute("serverVersion").as_deref(), Some("3.0"), "{case}");
    for absent in ["requestID", "to", "from"] {
        assert_eq!(response.attribute(absent), None, "{case}: {absent}");
    }
    assert!(response.texts("credentialsResponse").is_empty(), "{case}");
}

#[test]
fn mras_012_what_breaks_the_schema_is_malformed() {
    let service = service();
    let mut client = Client::connect(&service);
    let good = request("<location>internet</location><duration>480</duration>");
    assert_eq!(client.ask(&good).reason(), "OK");
    let long = format!("requestID=\"{}\"", "x".repeat(65));
    for (case, from, to) in [
        ("not well-formed", "</request>", "</reques>"),
        ("cut off", "</request>", ""),
        ("two roots", "</request>", "</request><request/>"),
        ("text behind", "</request>", "</request>x"),
        ("an unknown entity", "alice", "&alice;"),
        ("an attribute twice", "requestID=\"77\"", "requestID=\"77\" requestID=\"77\""),
        ("another namespace", NAMESPACE, "http://example.com/mrasp"),
        ("no namespace", "xmlns=", "xmlns:m="),
        ("another root", "request ", "response "),
        ("no requestID", "requestID=\"77\"", ""),
        ("a qualified requestID", "requestID=", "xmlns:m=\"urn:m\" m:requestID="),
        ("a long requestID", "requestID=\"77\"", &long),
        ("no version", "version=\"1.0\"", ""),
        ("version without a point", "version=\"1.0\"", "version=\"1\""),
        ("version with a sign", "version=\"1.0\"", "version=\"-1.0\""),
        ("version with three numbers", "version=\"1.0\"", "version=\"1.0.0\""),
        ("no to", "to=\"sip:MRASLoc.x@example.com\"", ""),
        ("no from", "from=\"sip:bob@example.com\"", ""),
        ("an unknown route", "version=\"1.0\"", "version=\"1.0\" route=\"shortest\""),
        ("no entry's id", "credentialsRequestID=\"c0\"", ""),
        ("no identity", "<identity>sip:alice@example.com</identity>", ""),
        ("two identities", ALICE, "<identity>sip:a@b</identity><identity>sip:a@b</identity>"),
        ("an element in identity", "sip:alice", "<b/>sip:alice"),
        ("an unknown location", "internet", "moon"),
        ("a blank in location", "internet", "internet "),
        ("duration 0", "480", "0"),
        ("negative duration", "480", "-480"),
        ("duration with a point", "480", "480.0"),
        ("no number", "480", "PT8H"),
        ("empty duration", "480", ""),
        ("an unknown element", "<duration>", "<extra/><duration>"),
        ("an unknown element at the end", "</duration>", "</duration><extra/>"),
        ("text between", "<duration>", "text<duration>"),
        (
            "another order",
            "<location>internet</location><duration>480</duration>",
            "<duration>480</duration><location>internet</location>",
        ),
        ("another element for an entry", "credentialsRequest", "credentialRequest"),
    ] {
        assert!(good.contains(from), "{case}: the row replaces nothing");
        assert_malformed(&client.ask(&good.replace(from, to)), case);
    }
    assert_malformed(&client.ask(""), "empty");
    assert_malformed(&client.ask(&xml("version=\"1.0\"", &[])), "no entry");
    let long = format!("<identity>sip:{}@b</identity>", "a".repeat(64 * 1024));
    assert_malformed(&client.ask(&xml("version=\"1.0\"", &[&long])), "a long identity");
}

#[test]
fn mras_012_what_the_schema_allows_is_taken() {
    let service = service();
    let mut client = Client::connect(&service);
    let good = request("<location>internet</location><duration>480</duration>");
    let long = format!("requestID=\"{}\"", "ü".repeat(64));
    for (case, from, to) in [
        (
            "an XML declaration",
            "<request ",
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<request ",
        ),
        ("a byte order mark", "<request ", "\u{feff}<request "),
        ("blanks and comments", "<location>", "\r\n\t<!-- here --> <location>"),
        ("unknown attributes", "requestID=", "xmlns:x=\"urn:x\" x:y=\"1\" z=\"2\" requestID="),
        (
            "a prefix",
            "<identity>sip:alice@example.com</identity>",
            "<m:identity xmlns:m=\"http://schemas.microsoft.com/2006/09/sip/mrasp\">sip:a@b</m:identity>",
        ),
        ("64 characters", "requestID=\"77\"", &long),
        ("CDATA", "sip:alice@example.com", "<![CDATA[sip:alice@example.com]]>"),
        ("a character reference", "sip:alice", "sip&#x3A;alice"),
        ("blanks around a number", "480", " +0480\n"),
        ("no location", "<location>internet</location>", ""),
        ("no duration", "<duration>480</duration>", ""),
        ("the default route", "version=\"1.0\"", "version=\"1.0\" route=\"loadbalanced\""),
    ] {
        assert!(good.contains(from), "{case}: the row replaces nothing");
        assert_eq!(client.ask(&good.replacen(from, to, 1)).reason(), "OK", "{case}");
    }
}

#[test]
fn mras_t3_a_hundred_credentials_are_the_most() {
    let service = service();
    let mut client = Client::connect(&service);
    let response = client.ask(&xml("version=\"2.0\"", &[ALICE; 100]));
    assert_eq!(response.reason(), "OK");
    assert_eq!(response.texts("credentialsResponse/credentials/username").len(), 100);
    let positions: Vec<_> = (0..100)
        .map(|index| {
            response.body.find(&format!("credentialsRequestID=\"c{index}\"")).expect("its id")
        })
        .collect();
    assert!(positions.is_sorted(), "in the order of the request");
}

#[test]
fn mras_013_more_than_a_hundred_are_too_large_and_named() {
    let service = service();
    let mut client = Client::connect(&service);
    for (case, attributes, entry, expected) in [
        ("of a good version", "version=\"2.0\"", ALICE, "Request Too Large"),
        ("before the version", "version=\"9.0\"", ALICE, "Request Too Large"),
        ("after the schema", "version=\"2.0\"", "<identity/><x/>", "Request Malformed"),
    ] {
        let response = client.ask(&xml(attributes, &[entry; 101]));
        assert_eq!(response.reason(), expected, "{case}");
        let echoed = (expected == "Request Too Large").then(|| "77".to_owned());
        assert_eq!(response.attribute("requestID"), echoed, "{case}");
    }
}

#[test]
fn mras_014_another_version_gets_the_nearest_one_below() {
    let service = service();
    let mut client = Client::connect(&service);
    for (asked, told) in [
        ("9.0", "3.0"),
        ("3.1", "3.0"),
        ("2.9", "2.0"),
        ("1.5", "1.0"),
        ("0.9", "1.0"),
        ("99999999999999999999999999.0", "3.0"),
    ] {
        let response = client.ask(&xml(&format!("version=\"{asked}\""), &[ALICE]));
        assert_eq!(response.reason(), "Version Mismatch", "{asked}");
        assert_eq!(response.attribute("version").as_deref(), Some(told), "{asked}");
        for (name, value) in [
            ("requestID", "77"),
            ("to", "sip:MRASLoc.x@example.com"),
            ("from", "sip:bob@example.com"),
        ] {
            assert_eq!(response.attribute(name).as_deref(), Some(value), "{asked}");
        }
    }
    for version in ["1.0", "2.0", "3.0"] {
        let response = client.ask(&xml(&format!("version=\"{version}\""), &[ALICE]));
        assert_eq!(response.reason(), "OK", "{version}");
        assert_eq!(response.attribute("version").as_deref(), Some(version));
        assert_eq!(response.attribute("serverVersion").as_deref(), Some("3.0"));
    }
}

#[test]
fn mras_015_addresses_that_are_no_sip_uris_are_malformed() {
    let service = service();
    let mut client = Client::connect(&service);
    let good = request("");
    for (from, to) in [
        ("to=\"sip:", "to=\"http:"),
        ("from=\"sip:bob", "from=\"bob"),
        ("<identity>sip:", "<identity>tel:"),
        ("<identity>sip:alice@example.com", "<identity>"),
    ] {
        assert_malformed(&client.ask(&good.replace(from, to)), to);
    }
    let late = good.replace("<identity>sip:", "<identity>tel:").replace("1.0", "4.0");
    assert_eq!(client.ask(&late).reason(), "Version Mismatch", "the version is looked at first");
}

#[test]
fn mras_023_nothing_expands_and_nothing_takes_long() {
    let service = service();
    let mut client = Client::connect(&service);
    let good = request("");
    let laughs = "<!DOCTYPE r [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]>";
    let file = "<!DOCTYPE r [<!ENTITY f SYSTEM \"file:///etc/passwd\">]>";
    let attributes = |count: usize| {
        (0..count).fold(String::new(), |text, index| format!("{text}a{index}=\"\" "))
    };
    let namespaces = |count: usize| {
        (0..count).fold(String::new(), |text, index| format!("{text}<a xmlns:p{index}=\"u\"/>"))
    };
    for (case, body) in [
        ("entities", format!("{laughs}{}", good.replace("alice", "&b;"))),
        ("a file", format!("{file}{}", good.replace("alice", "&f;"))),
        ("an empty DTD", format!("<!DOCTYPE request>{good}")),
        ("depth", "<a>".repeat(80_000)),
        ("depth that closes", format!("{}{}", "<a>".repeat(30_000), "</a>".repeat(30_000))),
        ("elements", format!("<a>{}</a>", "<b/>".repeat(60_000))),
        ("attributes", good.replace("requestID", &format!("{}requestID", attributes(20_000)))),
        ("namespaces", format!("<a>{}</a>", namespaces(10_000))),
        ("a control character", good.replace("alice", "\u{0}")),
    ] {
        assert!(body.len() <= 256 * 1024, "{case}: {}", body.len());
        assert_malformed(&client.ask(&body), case);
    }
}

#[test]
fn mras_012_values_come_back_as_they_were_and_escaped() {
    let service = service();
    let mut client = Client::connect(&service);
    let odd = "&lt;&quot;&amp;&apos;&#9;&#10;&gt;ü";
    let body = request("")
        .replace("requestID=\"77\"", &format!("requestID=\"{odd}\""))
        .replace("credentialsRequestID=\"c0\"", &format!("credentialsRequestID=\"{odd}\""))
        .replace("sip:bob@example.com", "sip:bob@example.com;a=&amp;b");
    let response = client.ask(&body);
    assert_eq!(response.reason(), "OK");
    assert_eq!(response.attribute("requestID").as_deref(), Some("<\"&'\t\n>ü"));
    assert_eq!(response.attribute("from").as_deref(), Some("sip:bob@example.com;a=&b"));
    assert_eq!(response.all("Content-Type"), [TYPE]);
    let document = roxmltree::Document::parse(&response.body).expect("well-formed XML");
    let entry = document.root_element().first_element_child().expect("one entry");
    assert_eq!(entry.attribute("credentialsRequestID"), Some("<\"&'\t\n>ü"));
}
