//! The HTTP API, asked as callers ask it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pool_key::PrivateKey;
use proto::addr::Side;
use proto::auth::credential::{Name, inspect};
use proto::auth::{Authority, KeyRing, TokenKey};
use proto::stun::integrity::{MessageKey, PasswordAlgorithm, equal};
use serde_json::{Value, json};

use crate::harness::{self, KEY, OTHER_KEY, Service, now};

/// Whether a relay that holds these keys takes the credential.
fn verifies(ring: &KeyRing, username: &str, password: &str) -> bool {
    let authority = Authority {
        ring: Some(ring.clone()),
        rest_secrets: Vec::new(),
        users: None,
        tokens: None,
        max_lifetime_s: 86_400,
    };
    let algorithm = PasswordAlgorithm::Md5;
    let signed = MessageKey::long_term(algorithm, username, "realm", password);
    let verified = authority
        .derive(username)
        .authenticate("realm", algorithm, |key| equal(key.bytes(), signed.bytes()));
    verified.is_ok_and(|verified| authority.in_time(&verified.identity, now()).is_ok())
}

fn text<'a>(answer: &'a Value, pointer: &str) -> &'a str {
    answer.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}: {answer}"))
}

#[test]
fn rest_001_nobody_mints_without_a_key() {
    let service = Service::start("[limits]\nfailures_burst = 100");
    let bearer = |key: &str| Some(("Authorization", format!("Bearer {key}")));
    for (case, header, error) in [
        ("no header", None, "missing_key"),
        ("empty key", bearer(""), "missing_key"),
        ("another scheme", Some(("Authorization", format!("Basic {KEY}"))), "missing_key"),
        ("wrong key", bearer("0123456789abcdefX"), "wrong_key"),
        ("beginning of the key", bearer(&KEY[..KEY.len() - 1]), "wrong_key"),
        ("key and more", bearer(&format!("{KEY}0")), "wrong_key"),
    ] {
        for path in ["/v1/credentials", "/turn?service=turn"] {
            let headers: Vec<_> =
                header.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = service.post(path, &headers, "{\"user\":\"u\"}");
            assert_eq!(answer.status, 401, "{case} {path}");
            assert_eq!(text(&answer.json, "/error"), error, "{case} {path}");
            assert!(answer.header("www-authenticate").starts_with("Bearer "), "{case} {path}");
        }
    }
}

#[test]
fn rest_002_the_turn_rest_form_answers_what_the_draft_says() {
    let service = Service::start("");
    let own = [("Authorization", service.bearer())];
    let form = [own[0], ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")];
    let escaped = KEY.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let with_key = format!("/turn?service=turn&username=u-1&ttl=600&key={escaped}");
    for (case, answer) in [
        ("GET", service.get("/turn?service=turn&username=u-1&ttl=600", &own)),
        ("POST, query", service.post("/turn?service=turn&username=u-1&ttl=600", &own, "")),
        ("POST, form", service.post("/turn", &form, "service=turn&username=u-1&ttl=600")),
        ("GET, key parameter", service.get(&with_key, &[])),
    ] {
        assert_eq!(answer.status, 200, "{case}: {}", answer.json);
        let members: BTreeSet<_> = answer.json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, ["password", "ttl", "uris", "username"].map(str::to_owned).into());
        assert_eq!(answer.json["ttl"], 600, "{case}");
        assert_eq!(answer.json["uris"], json!(["turn:192.0.2.1:3478?transport=udp"]), "{case}");
        let Ok(Name::Pool(name)) = inspect(text(&answer.json, "/username")) else {
            panic!("{case}: {}", answer.json)
        };
        assert_eq!((name.user, name.claims.side), ("u-1", None), "{case}");
        let password = text(&answer.json, "/password");
        assert!(verifies(&service.ring, text(&answer.json, "/username"), password), "{case}");
    }
}

#[test]
fn rest_002_bad_parameters_are_refused() {
    let service = Service::start("");
    let own = [("Authorization", service.bearer())];
    for (case, path, error) in [
        ("no service", "/turn?username=u", "bad_parameters"),
        ("another service", "/turn?service=stun", "bad_parameters"),
        ("ttl no number", "/turn?service=turn&ttl=soon", "bad_parameters"),
        ("negative ttl", "/turn?service=turn&ttl=-1", "bad_parameters"),
        ("ttl overflows", "/turn?service=turn&ttl=18446744073709551616", "bad_parameters"),
        ("parameter twice", "/turn?service=turn&username=a&username=b", "bad_parameters"),
        ("unknown side", "/turn?service=turn&side=middle", "bad_parameters"),
        ("ttl zero", "/turn?service=turn&ttl=0", "bad_lifetime"),
        ("ttl too long", "/turn?service=turn&ttl=86401", "bad_lifetime"),
        ("control character", "/turn?service=turn&username=a%0Ab", "bad_user"),
    ] {
        let answer = service.get(path, &own);
        assert_eq!(answer.status, 400, "{case}");
        assert_eq!(text(&answer.json, "/error"), error, "{case}");
    }
}

#[test]
fn rest_001_users_without_a_name_are_strangers_to_each_other() {
    let service = Service::start("");
    let own = [("Authorization", service.bearer())];
    let users: BTreeSet<String> = (0..5)
        .map(|_| {
            let answer = service.get("/turn?service=turn", &own);
            let username = text(&answer.json, "/username").to_owned();
            let Ok(Name::Pool(name)) = inspect(&username) else { panic!("{username}") };
            name.user.to_owned()
        })
        .collect();
    assert_eq!(users.len(), 5);
}

#[test]
fn rest_002_the_json_form_is_an_rtc_configuration() {
    let service = Service::start(
        "uris_internal = [\"turn:198.51.100.1:3478\"]\nuris_external = [\"turn:203.0.113.1:3478\"]",
    );
    for (case, request, urls, side, allocations) in [
        ("both sides", json!({"user": "u"}), "turn:192.0.2.1:3478?transport=udp", None, None),
        (
            "internal",
            json!({"user": "u", "side": "internal", "allocations": 3}),
            "turn:198.51.100.1:3478",
            Some(Side::Internal),
            Some(3),
        ),
        (
            "external",
            json!({"user": "u", "side": "external", "lifetime_s": 86_400}),
            "turn:203.0.113.1:3478",
            Some(Side::External),
            None,
        ),
    ] {
        let before = now();
        let answer = service.mint(&request);
        assert_eq!(answer.status, 200, "{case}: {}", answer.json);
        assert_eq!(answer.header("content-type"), "application/json");
        let server = &answer.json["iceServers"];
        assert_eq!(server.as_array().unwrap().len(), 1, "{case}");
        assert_eq!(server[0]["urls"], json!([urls]), "{case}");
        let username = text(&answer.json, "/iceServers/0/username");
        assert!(verifies(&service.ring, username, text(&answer.json, "/iceServers/0/credential")));
        let Ok(Name::Pool(name)) = inspect(username) else { panic!("{case}: {username}") };
        assert_eq!(
            (name.user, name.claims.side, name.claims.limits.allocations),
            ("u", side, allocations),
            "{case}"
        );
        let ttl = answer.json["ttl"].as_u64().unwrap();
        assert_eq!(answer.json["expires"], name.expires.0, "{case}");
        let issued = name.expires.0 - ttl;
        assert!((before.0..=now().0).contains(&issued), "{case}: issued at {issued}");
    }
}

#[test]
fn a_credential_carries_what_narrows_it() {
    let service = Service::start("");
    let answer = service.mint(&json!({
        "user": "u", "allocations": 2, "kbit_per_s": 3_000, "packets_per_s": 500,
        "peers": ["10.0.0.0/8", "2001:db8::1"], "ports": ["53", "1024-65535"],
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }));
    assert_eq!(answer.status, 200, "{}", answer.json);
    let username = text(&answer.json, "/iceServers/0/username");
    let Ok(Name::Pool(name)) = inspect(username) else { panic!("{username}") };
    let limits = name.claims.limits;
    assert_eq!(limits.allocations, Some(2));
    assert_eq!(limits.rates.bytes.map(u64::from), Some(375_000));
    assert_eq!(limits.rates.packets.map(u64::from), Some(500));
    let peers = name.claims.peers();
    let ranges: Vec<_> = peers.ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.0.0.0/8", "2001:db8::1/128"]);
    assert_eq!(peers.ports, [53..=53, 1024..=65_535]);
    assert_eq!(
        name.claims.trace.unwrap().to_string(),
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    );
    for (case, request) in [
        ("no range", json!({"user": "u", "peers": ["ten"]})),
        ("too many", json!({"user": "u", "peers": vec!["10.0.0.0/8"; 17]})),
        ("no port", json!({"user": "u", "ports": ["80-"]})),
        ("no trace", json!({"user": "u", "traceparent": "00-0-0-00"})),
        ("no rate", json!({"user": "u", "kbit_per_s": 0})),
        ("too high a rate", json!({"user": "u", "kbit_per_s": 100_000_001})),
        ("too long", json!({"user": "u".repeat(255), "peers": vec!["2001:db8::1"; 16]})),
    ] {
        let answer = service.mint(&request);
        assert_eq!(answer.status, 400, "{case}: {}", answer.json);
        assert_eq!(answer.json["error"], "bad_body", "{case}: {}", answer.json);
    }
}

#[test]
fn rest_009_a_roll_of_the_pool_key_fails_no_credential() {
    let [old, new, foreign] = std::array::from_fn(|_| PrivateKey::generate().pool_key());
    let ring = |current: &proto::auth::PoolKey, previous: &[&proto::auth::PoolKey]| KeyRing {
        current: current.clone(),
        previous: previous.iter().map(|&key| key.clone()).collect(),
    };
    let before = Service::with_ring("", ring(&old, &[]));
    let after = Service::with_ring("", ring(&new, &[&old]));
    let (relay_early, relay_late) = (ring(&old, &[&new]), ring(&new, &[&old]));
    for (case, service, minter) in [("old", &before, &old), ("new", &after, &new)] {
        let answer = service.mint(&json!({"user": "u"}));
        let username = text(&answer.json, "/iceServers/0/username");
        let password = text(&answer.json, "/iceServers/0/credential");
        let Ok(Name::Pool(name)) = inspect(username) else { panic!("{username}") };
        assert_eq!(name.key, minter.id, "{case}: the current key mints");
        assert!(verifies(&relay_early, username, password), "{case}: relay not rolled yet");
        assert!(verifies(&relay_late, username, password), "{case}: relay rolled");
        assert!(!verifies(&ring(&foreign, &[]), username, password), "{case}: another pool");
        let rest = if minter.id == old.id { &new } else { &old };
        assert!(!verifies(&ring(rest, &[]), username, password), "{case}: relay without the key");
        assert!(!verifies(&relay_late, username, &format!("{password}A")), "{case}: password");
        let renamed = username.replace(":u", ":v");
        assert!(!verifies(&relay_late, &renamed, password), "{case}: another user's name");
    }
}

#[test]
fn rest_011_lifetimes_have_a_default_and_a_maximum() {
    for (case, settings, lifetime, expected) in [
        ("default", "", None, Ok(86_400)),
        ("shortest", "", Some(1), Ok(1)),
        ("longest", "", Some(86_400), Ok(86_400)),
        ("zero", "", Some(0), Err(())),
        ("too long", "", Some(86_401), Err(())),
        ("far too long", "", Some(u64::MAX), Err(())),
        ("own default", "lifetime_default_s = 60\nlifetime_max_s = 120", None, Ok(60)),
        ("own maximum", "lifetime_default_s = 60\nlifetime_max_s = 120", Some(121), Err(())),
    ] {
        let service = Service::start(settings);
        let mut request = json!({"user": "u"});
        if let Some(lifetime) = lifetime {
            request["lifetime_s"] = json!(lifetime);
        }
        let answer = service.mint(&request);
        if let Ok(ttl) = expected {
            assert_eq!(answer.json["ttl"], ttl, "{case}");
        } else {
            assert_eq!(answer.status, 400, "{case}");
            assert_eq!(text(&answer.json, "/error"), "bad_lifetime", "{case}");
        }
    }
}

#[test]
fn rest_014_user_ids_are_checked() {
    let service = Service::start("");
    let long = "x".repeat(255);
    let wide = "ü".repeat(127);
    for good in ["a:b", "a", "ü☎", ":", "a b", &long, &wide] {
        let answer = service.mint(&json!({"user": good}));
        assert_eq!(answer.status, 200, "{good:?}: {}", answer.json);
        let username = text(&answer.json, "/iceServers/0/username");
        assert!(username.ends_with(&format!("::{good}")), "{username}");
        assert!(username.len() < 509, "{username}");
    }
    let (long, wide) = ("x".repeat(256), "ü".repeat(128));
    for bad in ["", "a\nb", "\u{7f}", "\u{85}", "a\0", &long, &wide] {
        let answer = service.mint(&json!({"user": bad}));
        assert_eq!((answer.status, text(&answer.json, "/error")), (400, "bad_user"), "{bad:?}");
    }
}

#[test]
fn bad_requests_get_the_right_status_and_a_reason() {
    let service = Service::start("");
    let bearer = ("Authorization", service.bearer());
    let json_type = ("Content-Type", "application/json");
    let big = format!("{{\"user\":\"{}\"}}", "x".repeat(5000));
    let user = "{\"user\":\"u\"}";
    let path = "/v1/credentials";
    for (case, method, path, headers, body, expected) in [
        ("no JSON", "POST", path, &[bearer, json_type][..], "user=u", (400, "bad_body")),
        ("empty", "POST", path, &[bearer, json_type], "", (400, "bad_body")),
        ("no user", "POST", path, &[bearer, json_type], "{}", (400, "bad_body")),
        ("user no text", "POST", path, &[bearer, json_type], "{\"user\":1}", (400, "bad_body")),
        ("a list", "POST", path, &[bearer, json_type], "[[[[[[[[", (400, "bad_body")),
        (
            "unknown member",
            "POST",
            path,
            &[bearer, json_type],
            "{\"user\":\"u\",\"lifetime\":5}",
            (400, "bad_body"),
        ),
        (
            "unknown side",
            "POST",
            path,
            &[bearer, json_type],
            "{\"user\":\"u\",\"side\":\"top\"}",
            (400, "bad_body"),
        ),
        (
            "no allocation at all",
            "POST",
            path,
            &[bearer, json_type],
            "{\"user\":\"u\",\"allocations\":0}",
            (400, "bad_body"),
        ),
        (
            "fractional lifetime",
            "POST",
            path,
            &[bearer, json_type],
            "{\"user\":\"u\",\"lifetime_s\":1.5}",
            (400, "bad_body"),
        ),
        ("no type", "POST", path, &[bearer], user, (415, "media_type")),
        (
            "form",
            "POST",
            path,
            &[bearer, ("Content-Type", "text/plain")],
            user,
            (415, "media_type"),
        ),
        ("too long", "POST", path, &[bearer, json_type], &big, (413, "body_too_large")),
        ("unknown path", "GET", "/v1/credential", &[bearer], "", (404, "not_found")),
        ("metrics are elsewhere", "GET", "/metrics", &[bearer], "", (404, "not_found")),
        ("GET", "GET", path, &[bearer], "", (405, "method")),
        ("preflight", "OPTIONS", path, &[("Origin", "https://x.example")], "", (405, "method")),
        ("DELETE", "DELETE", "/turn", &[bearer], "", (405, "method")),
    ] {
        let answer = service.ask(method, path, headers, body);
        assert_eq!((answer.status, text(&answer.json, "/error")), expected, "{case}");
        assert!(!text(&answer.json, "/message").is_empty(), "{case}");
        if answer.status == 405 {
            assert!(!answer.header("allow").is_empty(), "{case}: Allow is missing");
        }
    }
}

#[test]
fn rest_013_no_answer_is_cached_or_offered_to_other_sites() {
    let service = Service::start("");
    let own = [("Authorization", service.bearer()), ("Origin", "https://x.example")];
    for (case, answer) in [
        ("credential", service.get("/turn?service=turn&username=u", &own)),
        ("refusal", service.get("/turn?service=turn", &[("Origin", "https://x.example")])),
        ("unknown path", service.get("/nothing", &own)),
        ("health", service.get("/healthz", &own)),
    ] {
        assert_eq!(answer.header("cache-control"), "no-store", "{case}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{case}");
    }
}

#[test]
fn rest_013_each_caller_has_a_rate_of_its_own() {
    let service = Service::start("");
    let ask = |key: &str| {
        let bearer = format!("Bearer {key}");
        service.get("/turn?service=turn&username=u", &[("Authorization", &bearer)])
    };
    // The other caller: one request every 1000 s, two at once.
    assert_eq!([ask(OTHER_KEY).status, ask(OTHER_KEY).status], [200, 200]);
    let refused = ask(OTHER_KEY);
    assert_eq!((refused.status, text(&refused.json, "/error")), (429, "caller_rate"));
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((990..=1000).contains(&wait), "Retry-After: {wait}");
    assert_eq!(ask(KEY).status, 200, "the first caller is not concerned");
}

#[test]
fn rest_013_guessing_is_throttled_where_it_comes_from_only() {
    let service = Service::start(
        "trusted_proxies = [\"127.0.0.0/8\", \"192.0.2.200\"]\n\
         [limits]\nfailures_per_s = 0.001\nfailures_burst = 3",
    );
    let ask = |from: &str, key: &str| {
        let bearer = format!("Bearer {key}");
        let headers = [("Authorization", bearer.as_str()), ("X-Forwarded-For", from)];
        service.get("/turn?service=turn&username=u", &headers)
    };
    for _ in 0..3 {
        assert_eq!(ask("192.0.2.7", "not-the-key-of-anybody").status, 401);
    }
    let refused = ask("192.0.2.7", "not-the-key-of-anybody");
    assert_eq!((refused.status, text(&refused.json, "/error")), (429, "too_many_failures"));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 900);
    for (case, from, status) in [
        ("a right guess is not even looked at", "192.0.2.7", 429),
        ("nor behind another proxy of ours", "192.0.2.7, 192.0.2.200", 429),
        ("what the client itself wrote counts for nothing", "192.0.2.9, 192.0.2.7", 429),
        ("elsewhere", "192.0.2.8", 200),
        ("elsewhere, IPv6", "2001:db8::1", 200),
    ] {
        assert_eq!(ask(from, KEY).status, status, "{case}");
    }
}

#[test]
fn rest_013_a_stranger_cannot_say_who_it_is() {
    let service = Service::start("[limits]\nfailures_per_s = 0.001\nfailures_burst = 3");
    let statuses: Vec<_> = (0..5)
        .map(|index| {
            let from = format!("192.0.2.{index}");
            service.get("/turn?service=turn", &[("X-Forwarded-For", &from)]).status
        })
        .collect();
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
}

#[test]
fn metrics_count_what_was_minted_and_refused() {
    let service = Service::start("[metrics]\naddress = \"127.0.0.1:0\"");
    for side in ["external", "external", "internal"] {
        assert_eq!(service.mint(&json!({"user": "u", "side": side})).status, 200);
    }
    assert_eq!(service.mint(&json!({"user": "u"})).status, 200);
    assert_eq!(service.mint(&json!({"user": ""})).status, 400);
    assert_eq!(service.get("/turn", &[]).status, 401);
    let metrics = service.metrics();
    for (series, expected) in [
        ("av_edge_auth_minted_total{caller=\"web\",side=\"external\"}", 2),
        ("av_edge_auth_minted_total{caller=\"web\",side=\"internal\"}", 1),
        ("av_edge_auth_minted_total{caller=\"web\",side=\"both\"}", 1),
        ("av_edge_auth_minted_total{caller=\"slow\",side=\"both\"}", 0),
        ("av_edge_auth_refused_total{reason=\"bad_user\"}", 1),
        ("av_edge_auth_refused_total{reason=\"missing_key\"}", 1),
        ("av_edge_auth_refused_total{reason=\"caller_rate\"}", 0),
        ("av_edge_auth_request_seconds_count", 6),
    ] {
        let line = format!("{series} {expected}");
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    let key = format!("key=\"{}\"", service.ring.current.id);
    assert!(metrics.contains(&key), "{metrics}");
    for secret in [KEY, OTHER_KEY] {
        assert!(!metrics.contains(secret));
    }
}

#[test]
fn health_and_readiness_are_told_without_a_key() {
    let service = Service::start("[metrics]\naddress = \"127.0.0.1:0\"");
    let doors: [SocketAddr; 2] = [service.auth.addr(), service.auth.metrics_addr().unwrap()];
    for door in doors {
        for path in ["/healthz", "/readyz"] {
            assert_eq!(harness::ask(&format!("http://{door}"), "GET", path, &[], "").status, 200);
        }
    }
}

#[test]
fn oauth_004_a_minted_token_opens_with_the_pools_key_for_the_relays_name() {
    let service = Service::start("token_server_name = \"turn.example.org\"");
    let headers = [("Authorization", service.bearer()), ("Content-Type", "application/json")];
    let answer = service.post("/v1/tokens", &headers, "{\"lifetime_s\": 600}");
    assert_eq!(answer.status, 200, "{}", answer.json);
    let key = TokenKey::of_pool(&service.ring.current).unwrap();
    assert_eq!(text(&answer.json, "/kid"), key.id());
    assert_eq!(answer.json["expires_in"], 600);
    let sealed = STANDARD.decode(text(&answer.json, "/access_token")).unwrap();
    let token = key.open("turn.example.org", &sealed).expect("the relays' name");
    assert!(key.open("turn.example.com", &sealed).is_none());
    assert_eq!(token.mac_key.bytes(), STANDARD.decode(text(&answer.json, "/key")).unwrap());
    assert!((600..=605).contains(&token.left(now()).expect("fresh").as_secs()));
    assert_eq!(token.claims, "");
    let body = "{\"side\": \"internal\", \"kbit_per_s\": 64, \"ports\": [\"53\"]}";
    let answer = service.post("/v1/tokens", &headers, body);
    let sealed = STANDARD.decode(text(&answer.json, "/access_token")).unwrap();
    let narrow = key.open("turn.example.org", &sealed).expect("the relays' name");
    assert_eq!(narrow.claims, "s=i,b=64,o=53");
    let again = service.post("/v1/tokens", &headers, "{}");
    assert_ne!(again.json["key"], answer.json["key"], "a key is never given twice");
    assert_eq!(again.json["expires_in"], 86_400);
}

#[test]
fn rest_001_tokens_need_a_key_and_a_name_of_the_relays() {
    let service = Service::start("token_server_name = \"turn.example.org\"");
    assert_eq!(service.post("/v1/tokens", &[], "{}").status, 401);
    let json = [("Authorization", service.bearer()), ("Content-Type", "application/json")];
    for (case, headers, body, status) in [
        ("no JSON", &json[..], "", 400),
        ("an unknown member", &json, "{\"user\": \"u\"}", 400),
        ("no range", &json, "{\"peers\": [\"x\"]}", 400),
        ("no side", &json, "{\"side\": \"x\"}", 400),
        ("no lifetime", &json, "{\"lifetime_s\": 0}", 400),
        ("too long", &json, "{\"lifetime_s\": 86401}", 400),
        ("another type", &json[..1], "{}", 415),
    ] {
        assert_eq!(service.post("/v1/tokens", headers, body).status, status, "{case}");
    }
    let without = Service::start("");
    let json = [("Authorization", without.bearer()), ("Content-Type", "application/json")];
    assert_eq!(without.post("/v1/tokens", &json, "{}").status, 404);
}
