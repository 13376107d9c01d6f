//! `[mras]`: what is refused, in which words.

use auth_service::Config;
use pool_key::PrivateKey;
use proto::auth::KeyRing;

/// Valid, one line an item, so that rows can replace one.
const GOOD: &str = "listen = \"127.0.0.1:0\"
uris = [\"turn:turn.example.org:3478\"]
callers = [{ name = \"web\", key = \"0123456789abcdef\" }]
[mras]
listen = \"127.0.0.1\"
max_lifetime_min = 480
realm = \"rtcmedia\"
identities = [\"*@example.com\"]
[[mras.relays]]
location = \"internet\"
host_name = \"av.example.com\"
direct_ip = \"192.0.2.10\"
udp_port = 3478
tcp_port = 443
";

fn read(text: &str) -> Result<Config, String> {
    let current = PrivateKey::generate_ed25519().pool_key();
    let ring = KeyRing { current, previous: Vec::new() };
    Config::from_toml(text, "auth.toml", Some(ring)).map_err(|error| error.to_string())
}

#[test]
fn mras_001_the_port_is_5062_unless_another_is_named() {
    let summary = |text: &str| read(text).expect("a valid text").summary().join("\n");
    assert!(summary(GOOD).contains("(MRAS) on 127.0.0.1:5062 over plain TCP"));
    let other = GOOD.replace("\"127.0.0.1\"", "\"[::1]:25062\"");
    assert!(summary(&other).contains("(MRAS) on [::1]:25062"));
}

#[test]
fn mras_032_lifetimes_are_from_a_minute_to_180_days() {
    for (minutes, good) in [(0, false), (1, true), (259_200, true), (259_201, false)] {
        let text = GOOD.replace("= 480", &format!("= {minutes}"));
        assert_eq!(read(&text).is_ok(), good, "{minutes}");
    }
}

#[test]
fn mistakes_are_named_with_what_would_be_right() {
    let ca = "tls = { certificate = \"a\", key = \"b\", client_ca = \"c\" }\n";
    let wild = format!("{ca}trusted_servers = [\"*.corp.example\"]\n");
    let files = format!("{ca}trusted_servers = [\"fe1.corp.example\"]\n");
    for (case, from, to, words) in [
        (
            "in clear",
            "listen = \"127.0.0.1\"\n",
            "listen = \"0.0.0.0\"\n",
            "mras.listen = 0.0.0.0:5062: anybody",
        ),
        (
            "no address",
            "listen = \"127.0.0.1\"\n",
            "listen = \"edge\"\n",
            "mras.listen = \"edge\": must be",
        ),
        (
            "no names",
            "max_lifetime_min",
            &format!("{ca}max_lifetime_min"),
            "mras.trusted_servers is missing",
        ),
        (
            "a wildcard",
            "max_lifetime_min",
            &format!("{wild}max_lifetime_min"),
            "mras.trusted_servers[0] = \"*.corp.example\": must be",
        ),
        (
            "no authority",
            "max_lifetime_min",
            &format!("{files}max_lifetime_min"),
            "mras.tls.client_ca = \"c\": cannot be read",
        ),
        (
            "too long",
            "= 480",
            "= 300000",
            "mras.max_lifetime_min = 300000: must be from 1 to 259200",
        ),
        ("empty realm", "\"rtcmedia\"", "\"\"", "mras.realm = \"\": must be"),
        (
            "no pattern",
            "\"*@example.com\"",
            "\"example.com\"",
            "mras.identities[0] = \"example.com\": must be",
        ),
        ("a relay nowhere", "\"internet\"", "\"moon\"", "mras.relays[0].location"),
        (
            "no host",
            "\"av.example.com\"",
            "\"av example\"",
            "mras.relays[0].host_name = \"av example\"",
        ),
        ("no address of a relay", "\"192.0.2.10\"", "\"192.0.2\"", "mras.relays[0].direct_ip"),
        ("port 0", "udp_port = 3478", "udp_port = 0", "mras.relays[0].udp_port"),
        ("no port", "udp_port = 3478\ntcp_port = 443\n", "", "mras.relays[0].udp_port is missing"),
        (
            "no rate",
            "max_lifetime_min",
            "limits = { server_per_s = 0.0 }\nmax_lifetime_min",
            "mras.limits.server_per_s = 0",
        ),
        (
            "no connection",
            "max_lifetime_min",
            "limits = { connections = 0 }\nmax_lifetime_min",
            "mras.limits.connections = 0",
        ),
        ("unknown key", "realm", "relam", "mras"),
    ] {
        assert!(GOOD.contains(from), "{case}: the row replaces nothing");
        let error = read(&GOOD.replacen(from, to, 1)).expect_err(case);
        assert!(error.starts_with("auth.toml: ") && error.contains(words), "{case}: {error}");
    }
    let (before, _) = GOOD.split_once("[[mras.relays]]").expect("it is there");
    assert!(read(before).expect_err("no relays").contains("no [[mras.relays]]"));
    assert!(read(GOOD).is_ok());
}
