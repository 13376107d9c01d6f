//! What SIP itself wants: methods, headers, framing, errors without XML.

use super::client::{Client, TYPE, message, request, service};

#[test]
fn mras_004_what_belongs_to_the_transaction_comes_back_and_the_connection_stays() {
    let service = service();
    let mut client = Client::connect(&service);
    let text = message("SERVICE", &request("")).replace(
        "From: ",
        "Via: SIP/2.0/TCP 10.0.0.9;branch=z9hG4bKb;received=192.0.2.9\r\n\
         Record-Route: <sip:fe1.example.net;lr>\r\nRecord-Route: <sip:fe2.example.net;lr>\r\n\
         From: ",
    );
    for _ in 0..3 {
        client.send(&text);
        let response = client.response();
        assert!(response.head.starts_with("SIP/2.0 200 OK\r\n"), "{}", response.head);
        let vias = [
            "SIP/2.0/TLS fe1.example.net:50711;branch=z9hG4bK7a1;ms-received-cid=900",
            "SIP/2.0/TCP 10.0.0.9;branch=z9hG4bKb;received=192.0.2.9",
        ];
        assert_eq!(response.all("Via"), vias);
        let routes = ["<sip:fe1.example.net;lr>", "<sip:fe2.example.net;lr>"];
        assert_eq!(response.all("Record-Route"), routes);
        let from = ["<sip:alice@example.com>;tag=4711;epid=0a1b2c3d4e5f"];
        assert_eq!(response.all("From"), from);
        assert_eq!(response.all("Call-ID"), ["5d3c77a0c1"]);
        assert_eq!(response.all("CSeq"), ["1 SERVICE"]);
        let [to] = response.all("To")[..] else { panic!("one To") };
        let tag = to.strip_prefix("<sip:MRASLoc.edge1.example.com@example.com>;tag=");
        assert_eq!(tag.expect("a tag is added").len(), 8, "{to}");
    }
    client.send(
        text.replace("edge1.example.com@example.com>\r\nCall", "x@example.com>;tag=9\r\nCall"),
    );
    assert_eq!(client.response().all("To"), ["<sip:MRASLoc.x@example.com>;tag=9"]);
}

#[test]
fn mras_003_any_request_uri_is_served() {
    let service = service();
    let mut client = Client::connect(&service);
    let uri = "sip:MRASLoc.edge1.example.com@example.com SIP/2.0";
    for other in [
        "sip:edge.example.com@example.com;gruu;opaque=srvr:MRAS:4uXUHTSNKlGeb6rX SIP/2.0",
        "sip:10.0.0.1:5062 SIP/2.0",
    ] {
        client.send(message("SERVICE", &request("")).replacen(uri, other, 1));
        assert_eq!(client.response().reason(), "OK", "{other}");
    }
}

#[test]
fn mras_005_compact_headers_folded_lines_and_unknown_headers_are_read() {
    let service = service();
    let mut client = Client::connect(&service);
    let body = request("");
    client.send(format!(
        "SERVICE sip:x@example.com SIP/2.0\r\n\
         v: SIP/2.0/TLS fe1;branch=z9hG4bKc\r\n\
         f : <sip:a@example.com>;tag=1\r\n\
         t:\r\n <sip:x@example.com>\r\n\
         i:\tcall\r\n\
         cSeQ: 7 SERVICE\r\n\
         X-Whatever: \"a\r\n\tb\"\r\n\
         Proxy-Authorization: TLS-DSK qop=\"auth\"\r\n\
         c: APPLICATION/msrtc-media-relay-auth+XML ; charset=utf-8\r\n\
         l: {}\r\n\r\n{body}",
        body.len()
    ));
    let response = client.response();
    assert_eq!(response.reason(), "OK");
    assert_eq!(response.all("Via"), ["SIP/2.0/TLS fe1;branch=z9hG4bKc"]);
    assert_eq!(response.all("Call-ID"), ["call"]);
    assert!(response.all("To")[0].starts_with("<sip:x@example.com>;tag="));
}

#[test]
fn mras_005_keep_alives_are_answered() {
    let service = service();
    let mut client = Client::connect(&service);
    client.send("\r\n\r\n");
    client.expect(b"\r\n");
    client.send(format!("\r\n{}", message("OPTIONS", "")));
    let response = client.response();
    assert_eq!((response.status, response.body.as_str()), (200, ""));
    assert_eq!(response.all("Allow"), ["SERVICE, OPTIONS"]);
    assert_eq!(response.all("Accept"), [TYPE]);
    client.send("\r\n\r\n\r\n\r\n");
    client.expect(b"\r\n\r\n");
}

#[test]
fn mras_010_other_methods_are_refused_without_xml() {
    let service = service();
    let mut client = Client::connect(&service);
    for (method, status) in [
        ("INVITE", 405),
        ("REGISTER", 405),
        ("BYE", 405),
        ("CANCEL", 405),
        ("MESSAGE", 405),
        ("BENOTIFY", 501),
        ("service", 501),
        ("X", 501),
    ] {
        client.send(message(method, &request("")));
        let response = client.response();
        assert_eq!((response.status, response.body.as_str()), (status, ""), "{method}");
        assert_eq!(response.all("Allow"), ["SERVICE, OPTIONS"], "{method}");
        assert_eq!(response.all("CSeq"), [format!("1 {method}")], "{method}");
    }
    // Neither of these is ever answered; what follows is.
    client.send(message("ACK", ""));
    client.send(message("SERVICE", "").replacen("SERVICE sip:", "SIP/2.0 200 sip:", 1));
    client.send(message("OPTIONS", ""));
    assert_eq!(client.response().all("CSeq"), ["1 OPTIONS"]);
}

#[test]
fn mras_011_other_types_are_refused_without_xml() {
    let service = service();
    let mut client = Client::connect(&service);
    let good = message("SERVICE", &request(""));
    let header = format!("Content-Type: {TYPE}\r\n");
    for (case, other) in [
        ("another", "Content-Type: application/sdp\r\n".to_owned()),
        ("none", String::new()),
        ("longer", format!("Content-Type: {TYPE}x\r\n")),
        ("two", header.repeat(2)),
        ("compressed", format!("{header}Content-Encoding: gzip\r\n")),
    ] {
        client.send(good.replace(&header, &other));
        let response = client.response();
        assert_eq!((response.status, response.body.as_str()), (415, ""), "{case}");
        assert_eq!(response.all("Accept"), [TYPE], "{case}");
    }
    assert_eq!(client.ask(&request("")).reason(), "OK", "the connection is as good as before");
}

#[test]
fn mras_005_a_request_that_lacks_what_all_have_is_bad() {
    let service = service();
    let mut client = Client::connect(&service);
    let good = message("SERVICE", &request(""));
    for (case, from, to, status) in [
        ("no From", "From: ", "Fr-om: ", 400),
        ("no To", "To: ", "Too: ", 400),
        ("no Call-ID", "Call-ID: ", "Call: ", 400),
        ("no CSeq", "CSeq: ", "Seq: ", 400),
        ("another method in CSeq", "1 SERVICE", "1 INVITE", 400),
        ("CSeq too high", "1 SERVICE", "2147483648 SERVICE", 400),
        ("a sign in CSeq", "1 SERVICE", "+1 SERVICE", 400),
        ("two Call-IDs", "Call-ID: ", "Call-ID: 1\r\nCall-ID: ", 400),
        ("another version", "SIP/2.0\r\n", "SIP/3.0\r\n", 505),
    ] {
        assert!(good.contains(from), "{case}");
        client.send(good.replacen(from, to, 1));
        let response = client.response();
        assert_eq!((response.status, response.body.as_str()), (status, ""), "{case}");
    }
    assert_eq!(client.ask(&request("")).reason(), "OK", "the connection is as good as before");
}

#[test]
fn mras_057_every_outcome_is_counted() {
    let service = service();
    let mut client = Client::connect(&service);
    let entry = "<identity>sip:alice@example.com</identity>";
    client.ask(&super::client::xml("version=\"2.0\"", &[entry; 3]));
    client.ask("no XML");
    client.ask(&super::client::xml("version=\"9.0\"", &[entry]));
    client.send(message("INVITE", ""));
    client.response();
    client.send(message("SERVICE", "").replace("msrtc", "other"));
    client.response();
    let metrics = service.metrics();
    for line in [
        "av_edge_mras_credentials_issued_total 3",
        "av_edge_mras_bad_requests_received_total 3",
        "av_edge_mras_current_requests_serviced 0",
        "av_edge_mras_responses_total{reason=\"OK\"} 1",
        "av_edge_mras_responses_total{reason=\"Request Malformed\"} 1",
        "av_edge_mras_responses_total{reason=\"Version Mismatch\"} 1",
        "av_edge_mras_responses_total{reason=\"Time Out\"} 0",
        "av_edge_mras_sip_refusals_total{status=\"405\"} 1",
        "av_edge_mras_sip_refusals_total{status=\"415\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in {metrics}");
    }
    let table = include_str!("../../../../deploy/prometheus/lync-counters.md");
    let named: Vec<_> = table.split('`').filter(|word| word.starts_with("av_edge_mras_")).collect();
    assert!(named.len() >= 3, "{named:?}");
    for name in named {
        assert!(
            metrics.contains(&format!("# TYPE {name} ")),
            "no {name}, which an operator looks for"
        );
    }
}
