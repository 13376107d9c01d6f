//! Bad configuration: one message that names file, key, what was found and what would be right.

use relay::Config;

use crate::site::configuration;

/// The valid configuration with one piece replaced.
fn altered(from: &str, to: &str) -> String {
    let text = configuration(90, 2, "");
    assert!(text.contains(from), "{from:?} is not in the configuration");
    text.replacen(from, to, 1)
}

const REALM: &str = "realm = \"example.org\"";
const SECRETS: &str = "rest_secrets = [\"a secret of more than sixteen bytes\"]";
const LISTEN: &str = "address = \"127.0.0.1:21090\"";
const LOCAL: &str = "{ local = \"127.0.0.1\" }";
const PORTS: &str = "ports = \"39200-39399\"";
const ALLOW: &str = "allow = [\"127.0.0.0/8\"]";
const METRICS: &str = "address = \"127.0.0.1:21190\"";

/// Tables of NAT behaviour discovery with a mistake each, before the realm.
macro_rules! discovery {
    ($($name:ident = $tables:literal;)*) => {
        $(const $name: &str =
            concat!("features.nat_discovery = [", $tables, "]\nrealm = \"example.org\"");)*
    };
}
discovery! {
    DISCOVERY_1 = "{ alternate = \"127.0.0.2\" }";
    DISCOVERY_2 = "{ alternate = \"127.0.0.2:0\" }";
    DISCOVERY_3 = "{ alternate = \"192.0.2.77:3479\" }";
    DISCOVERY_4 = "{ alternate = \"127.0.0.1:3479\" }";
    DISCOVERY_5 = "{ primary = \"127.0.0.9:1\", alternate = \"127.0.0.2:3479\" }";
    DISCOVERY_6 = "{ primary = \"127.0.0.1:21090\", alternate = \"127.0.0.1:3479\" }";
    DISCOVERY_7 = "{ primary = \"127.0.0.1:21090\", alternate = \"127.0.0.2:21090\" }";
    DISCOVERY_8 = "{ primary = \"[::1]:21090\", alternate = \"127.0.0.2:3479\" }";
    DISCOVERY_9 = "{ alternate = \"127.0.0.2:3479\" }, { alternate = \"127.0.0.3:3479\" }";
    DISCOVERY_10 = "{ alternate = \"127.0.0.2:39200\" }";
    DISCOVERY_11 = "{ secondary = \"127.0.0.2:3479\" }";
}

/// What is replaced, by what, how the message goes on behind the file, and what it says.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    (REALM, "", "realm", "missing"),
    (REALM, "realm = \"\"", "realm = \"\"", "1 to 40"),
    (
        REALM,
        "realm = \"a.realm.so.long.that.no.answer.may.repeat\"",
        "realm = \"a.realm.so.long.that.no.answer.may.repeat\"",
        "at most 40 bytes",
    ),
    (REALM, "realm = 7", "realm", "string"),
    (REALM, "realm =", "line 2", ""),
    (REALM, "realms = \"example.org\"", "realms", "Did you mean `realm`?"),
    ("workers = 2", "features.mobility = \"on\"", "features.mobility = \"on\"", "forbidden"),
    ("workers = 2", "features.mobility = 1", "features.mobility", "forbidden"),
    ("workers = 2", "limits.peer_connections = 0", "limits.peer_connections = 0", "1 to 4096"),
    (
        "workers = 2",
        "limits.peer_connections_total = 0",
        "limits.peer_connections_total = 0",
        "1 to 1000000",
    ),
    ("workers = 2", "features.udp_relays = 1", "features.udp_relays", "boolean"),
    ("workers = 2", "features.microsoft = \"on\"", "features.microsoft", "boolean"),
    ("workers = 2", "workers = 0", "workers = 0", "1 to 256"),
    ("workers = 2", "drain_s = 100000", "drain_s = 100000", "86400"),
    (SECRETS, "", "pool.key", "av-edge key generate"),
    (
        SECRETS,
        "rest_secrets = \"a secret of more than sixteen bytes\"",
        "auth.rest_secrets",
        "not shown",
    ),
    (SECRETS, "rest_secrets = [4711]", "auth.rest_secrets[0]", "not shown"),
    (SECRETS, "rest_secrets = [\"short\"]", "auth.rest_secrets[0]", "5 bytes"),
    (SECRETS, "rest_secret_file = \"/none\"", "auth.rest_secret_file = \"/none\"", "read"),
    (
        SECRETS,
        "max_lifetime_s = 1\nrest_secrets = [\"0123456789abcdef\"]",
        "auth.max_lifetime_s = 1",
        "60",
    ),
    (SECRETS, "users_file = \"/none\"", "auth.users_file = \"/none\"", "read"),
    (SECRETS, "server_name = \"\"", "auth.server_name = \"\"", "1 to 255"),
    (SECRETS, "pool_tokens = true", "auth.pool_tokens = true", "pool.key"),
    (SECRETS, "oauth = [{ kid = \"\", key = \"\" }]", "auth.oauth[0].kid = \"\"", "1 to 508"),
    (SECRETS, "oauth = [{ kid = \"a\" }]", "auth.oauth[0].key", "missing"),
    (SECRETS, "oauth = [{ kid = \"a\", key = \"AAAA\" }]", "auth.oauth[0].key", "32 bytes"),
    (
        SECRETS,
        "oauth = [{ kid = \"a\", key = \"AAAA\", key_file = \"a\" }]",
        "auth.oauth[0].key",
        "key_file",
    ),
    (SECRETS, "oauth = [{ kid = \"a\", key_file = \"/none\" }]", "auth.oauth[0].key_file", "read"),
    (
        SECRETS,
        "oauth = [{ kid = \"a\", key = \"AAAA\", cipher = \"A512GCM\" }]",
        "auth.oauth[0].cipher = \"A512GCM\"",
        "A256GCM",
    ),
    (
        SECRETS,
        "oauth = [{ kid = \"a\", cipher = \"A128GCM\", key = \"MDEyMzQ1Njc4OTAxMjM0NQ==\" }, \
         { kid = \"a\", cipher = \"A128GCM\", key = \"MDEyMzQ1Njc4OTAxMjM0NQ==\" }]",
        "auth.oauth[1].kid = \"a\"",
        "another key",
    ),
    (
        ALLOW,
        "[redirect]\nalternates = [\"192.0.2.1\"]",
        "redirect.alternates[0] = \"192.0.2.1\"",
        "port",
    ),
    (
        ALLOW,
        "[redirect]\nalternates = [\"192.0.2.1:0\"]",
        "redirect.alternates[0] = \"192.0.2.1:0\"",
        "no client",
    ),
    (
        ALLOW,
        "[redirect]\nalternates = [\"127.0.0.1:21090\"]",
        "redirect.alternates[0]",
        "this relay itself",
    ),
    (ALLOW, "[records]\nspool = \"/none\"", "records.spool = \"/none\"", "install -d"),
    (ALLOW, "[records]\nfile = \"/none/a\"", "records.file = \"/none/a\"", "install -d"),
    (ALLOW, "[records]\nfile = \"/tmp\"", "records.file = \"/tmp\"", "standard output"),
    (ALLOW, "[records]\ninterim_s = 90000", "records.interim_s = 90000", "86400"),
    (ALLOW, "[records]\naddresses = \"some\"", "records.addresses = \"some\"", "network"),
    (ALLOW, "[records]\nnode = \"\"", "records.node = \"\"", "1 to 255"),
    (
        ALLOW,
        "[records]\nhttp = { url = \"http://127.0.0.1/\" }",
        "records.spool: missing",
        "records wait",
    ),
    (ALLOW, "[records]\nhttp = { url = \"a.example\" }", "records.http.url", "not a URL"),
    (ALLOW, "[records]\nhttp = { url = \"ftp://a.example\" }", "records.http.url", "not a URL"),
    (
        ALLOW,
        "[records]\nhttp = { url = \"http://a:b@c.example\" }",
        "records.http.url:",
        "token_file",
    ),
    (
        ALLOW,
        "[records]\notlp = { url = \"http://127.0.0.1:4318/v1/traces\" }",
        "records.spool: missing",
        "records wait",
    ),
    (ALLOW, "[records]\notlp = { url = \"ftp://a.example\" }", "records.otlp.url", "not a URL"),
    (
        ALLOW,
        "[records]\nredis = { address = \"127.0.0.1\", stream = \"s\" }",
        "records.redis.address = \"127.0.0.1\"",
        "port",
    ),
    (
        ALLOW,
        "[records]\nredis = { address = \"127.0.0.1:6379\", stream = \"\" }",
        "records.redis.stream",
        "Name the stream",
    ),
    (
        ALLOW,
        "[records]\nredis = { address = \"127.0.0.1:6379\", stream = \"s\", user = \"a\" }",
        "records.redis.password_file: missing",
        "proves",
    ),
    (ALLOW, "[redirect]\nwhen = [\"always\"]", "redirect.when[0] = \"always\"", "overload"),
    (ALLOW, "[redirect]\ndomain = \"a b\"", "redirect.domain = \"a b\"", "DNS name"),
    (LISTEN, "address = \"127.0.0.1:21090\"\nanycast = true", "redirect.alternates", "anycast"),
    (LISTEN, "address = \"127.0.0.1\"", "listen[0].address = \"127.0.0.1\"", "port"),
    (LISTEN, "address = \"127.0.0.1:0\"", "listen[0].address", "port 0"),
    (LISTEN, "address = \"192.0.2.77:21090\"", "listen[0].address", "not an address of this host"),
    (LISTEN, "address = \"[::1]:21090\"", "listen[1].address", "listen[0] serves"),
    (
        LISTEN,
        "address = \"0.0.0.0:21090\"\n[[listen]]\naddress = \"127.0.0.1:21090\"",
        "listen[1].address",
        "listen[0] serves",
    ),
    (
        LISTEN,
        "address = \"127.0.0.1:21090\"\ntransport = \"sctp\"",
        "listen[0].transport = \"sctp\"",
        "udp",
    ),
    (LISTEN, "address = \"127.0.0.1:21090\"\ntransport = \"dtls\"", "tls.certificates", "missing"),
    (
        LISTEN,
        "address = \"127.0.0.1:21090\"\ntransport = \"tls\"",
        "tls.certificates: missing",
        "certificate = ",
    ),
    (ALLOW, "[tls]", "tls.certificates: empty", "first certificate"),
    (
        ALLOW,
        "[tls]\ncertificates = [{ certificate = \"/none\", key = \"/none\" }]",
        "tls.certificates[0].certificate = \"/none\"",
        "read",
    ),
    (
        LISTEN,
        "address = \"127.0.0.1:21090\"\nproxy_protocol_from = [\"127.0.0.1\"]",
        "listen[0].proxy_protocol_from",
        "\"tcp\"",
    ),
    (
        LISTEN,
        "address = \"127.0.0.1:21091\"\ntransport = \"tcp\"\nproxy_protocol_from = [\"ten\"]",
        "listen[0].proxy_protocol_from[0] = \"ten\"",
        "range",
    ),
    (ALLOW, "[limits]\nstream_queue_bytes = 1000", "limits.stream_queue_bytes = 1000", "65536"),
    (ALLOW, "[limits]\nconnections = 0", "limits.connections = 0", "1 to"),
    (
        ALLOW,
        "[limits]\nkbit_per_s_per_user = 0",
        "limits.kbit_per_s_per_user = 0",
        "1 to 4294967296",
    ),
    (
        ALLOW,
        "[limits]\npackets_per_s_per_allocation = 0",
        "limits.packets_per_s_per_allocation = 0",
        "1 to 1000000000",
    ),
    (ALLOW, "[limits]\nkbit_per_s = 0", "limits.kbit_per_s = 0", "1 to 4294967296"),
    (
        ALLOW,
        "[limits]\npackets_per_s_per_client = 0",
        "limits.packets_per_s_per_client = 0",
        "1 to",
    ),
    (ALLOW, "[limits]\nkbit_per_s_per_worker = 0", "limits.kbit_per_s_per_worker = 0", "1 to"),
    (ALLOW, "[limits]\nnew_peers_per_minute = 0", "limits.new_peers_per_minute = 0", "1 to"),
    (
        ALLOW,
        "[limits]\nnew_peers_per_minute_per_user = 0",
        "limits.new_peers_per_minute_per_user = 0",
        "1 to",
    ),
    (
        ALLOW,
        "[limits]\nnew_peers_per_minute_per_client = 0",
        "limits.new_peers_per_minute_per_client = 0",
        "1 to",
    ),
    (ALLOW, "[limits]\nstrangers_per_s = 0", "limits.strangers_per_s = 0", "1 to 1000000"),
    (ALLOW, "[limits]\nhandshakes_per_s = 0", "limits.handshakes_per_s = 0", "1 to 1000000"),
    (ALLOW, "[limits]\nhandshakes_burst = 0", "limits.handshakes_burst = 0", "1 to 1000000"),
    (ALLOW, "[quality]\nevery = 0", "quality.every = 0", "1 to 1000000"),
    (ALLOW, "[quality]\nmeasure = \"on\"", "quality.measure", "boolean"),
    (ALLOW, "[limits]\nmemory_mib = 1", "limits.memory_mib = 1", "64 to"),
    (ALLOW, "[limits]\nstrangers_burst = 0", "limits.strangers_burst = 0", "1 to 1000000"),
    (
        LISTEN,
        "address = \"127.0.0.1:21090\"\nside = \"left\"",
        "listen[0].side = \"left\"",
        "internal",
    ),
    (
        LISTEN,
        "address = \"127.0.0.1:21090\"\nadvertise = \"0.0.0.0\"",
        "listen[0].advertise",
        "NAT",
    ),
    (
        LISTEN,
        "address = \"127.0.0.1:21090\"\nadvertise = \"2001:db8::1\"",
        "listen[0].advertise",
        "family",
    ),
    (
        LISTEN,
        "address = \"127.0.0.1:21090\"\nadvertize = \"192.0.2.1\"",
        "listen[0].advertize",
        "`advertise`?",
    ),
    (REALM, DISCOVERY_1, "features.nat_discovery[0].alternate = \"127.0.0.2\"", "a port"),
    (REALM, DISCOVERY_2, "features.nat_discovery[0].alternate", "port 0"),
    (REALM, DISCOVERY_3, "features.nat_discovery[0].alternate", "not an address of this host"),
    (REALM, DISCOVERY_4, "features.nat_discovery[0].primary", "no UDP listener differs"),
    (
        REALM,
        DISCOVERY_5,
        "features.nat_discovery[0].primary = \"127.0.0.9:1\"",
        "no UDP listener of",
    ),
    (REALM, DISCOVERY_6, "features.nat_discovery[0].alternate", "the address of `primary`"),
    (REALM, DISCOVERY_7, "features.nat_discovery[0].alternate", "the port of `primary`"),
    (REALM, DISCOVERY_8, "features.nat_discovery[0].alternate", "the family of `primary`"),
    (REALM, DISCOVERY_9, "features.nat_discovery[1].alternate", "another table"),
    (REALM, DISCOVERY_10, "relay.ports", "39200"),
    (REALM, DISCOVERY_11, "features.nat_discovery[0].secondary", "Known here: primary, alternate"),
    (LOCAL, "{ local = \"0.0.0.0\" }", "relay.addresses[0].local = \"0.0.0.0\"", "one address"),
    (
        LOCAL,
        "{ local = \"192.0.2.77\" }",
        "relay.addresses[0].local",
        "not an address of this host",
    ),
    (LOCAL, "{ local = \"::1\" }", "relay.addresses[1].local", "twice"),
    (PORTS, "ports = \"all\"", "relay.ports = \"all\"", "range"),
    (PORTS, "ports = \"39399-39200\"", "relay.ports", "not above"),
    (PORTS, "ports = \"39200-39202\"", "relay.ports = \"39200-39202\"", "2 worker(s) need 4 ports"),
    (PORTS, "ports = \"21000-21200\"", "relay.ports", "21090"),
    (ALLOW, "allow_ports = [\"0-99999\"]", "peers.allow_ports[0] = \"0-99999\"", "\"0-1023\""),
    (ALLOW, "nat64 = [\"2001:db8::/95\"]", "peers.nat64[0] = \"2001:db8::/95\"", "96 bits"),
    (ALLOW, "nat64 = [\"10.0.0.0/8\"]", "peers.nat64[0] = \"10.0.0.0/8\"", "IPv6"),
    (ALLOW, "hairpins = \"no\"", "peers.hairpins", "boolean"),
    (ALLOW, "[peers.internal]\nallow = [\"ten\"]", "peers.internal.allow[0] = \"ten\"", "range"),
    (ALLOW, "[peers.outside]", "peers.outside", "Known here"),
    (
        ALLOW,
        "pool = [{ address = \"relay2\" }]",
        "peers.pool[0].address = \"relay2\"",
        "IP address",
    ),
    (ALLOW, "pool = [{ address = \"0.0.0.0\" }]", "peers.pool[0].address", "no relay"),
    (ALLOW, "pool = [{ address = \"127.0.0.1\" }]", "peers.pool[0].address", "this relay itself"),
    (
        ALLOW,
        "pool = [{ address = \"192.0.2.1\" }, { address = \"192.0.2.1\" }]",
        "peers.pool[1].address",
        "twice",
    ),
    (
        ALLOW,
        "pool = [{ address = \"192.0.2.1\", local = \"2001:db8::1\" }]",
        "peers.pool[0].local = \"2001:db8::1\"",
        "family",
    ),
    (
        ALLOW,
        "pool = [{ address = \"192.0.2.1\", ports = \"9-1\" }]",
        "peers.pool[0].ports = \"9-1\"",
        "50000-59999",
    ),
    (ALLOW, "deny_ports = [\"1023-1\"]", "peers.deny_ports[0] = \"1023-1\"", "\"0-1023\""),
    (ALLOW, "deny_ports = [\"domain\"]", "peers.deny_ports[0] = \"domain\"", "not a port"),
    (ALLOW, "allow = [\"10.0.0.0/33\"]", "peers.allow[0] = \"10.0.0.0/33\"", "range"),
    (
        ALLOW,
        "allow = []\n[limits]\nallocations_per_user = 0",
        "limits.allocations_per_user = 0",
        "1 to",
    ),
    (ALLOW, "[limits]\nalocations = 5", "limits.alocations", "Did you mean `allocations`?"),
    (ALLOW, "[timers]\nlifetime_max_s = 7200", "timers.lifetime_max_s = 7200", "600 to 3600"),
    (METRICS, "address = \"127.0.0.1:21090\"", "metrics.address", "clients are served"),
    (METRICS, "address = \"localhost\"", "metrics.address = \"localhost\"", "port"),
    (METRICS, "address = \"0.0.0.0:21190\"", "metrics.address = \"0.0.0.0:21190\"", "token_file"),
    (METRICS, "address = \"0.0.0.0:21190\"", "metrics.address = \"0.0.0.0:21190\"", "client_ca"),
    (METRICS, "tls = { certificate = \"/none\" }", "metrics.tls", "key"),
    (
        METRICS,
        "tls = { certificate = \"/none\", key = \"/none\" }",
        "metrics.tls.certificate = \"/none\"",
        "read",
    ),
    (METRICS, "[control]\nmode = \"0666\"", "control.mode = \"0666\"", "everybody"),
    (METRICS, "[control]\nmode = \"rw\"", "control.mode = \"rw\"", "\"0660\""),
    (METRICS, "[control]\nmode = \"+600\"", "control.mode = \"+600\"", "\"0660\""),
    (METRICS, "[control]\ngroup = \"none-such\"", "control.group = \"none-such\"", "groupadd"),
    (METRICS, "[control]\npaths = \"/x\"", "control.paths", "Did you mean `path`?"),
    (METRICS, "token_file = \"/none\"", "metrics.token_file = \"/none\"", "read"),
    (METRICS, "token_file = \"/etc/passwd\"", "metrics.token_file = \"/etc/passwd\"", "chmod"),
    (METRICS, "hosts = [\"relay:1\"]", "metrics.hosts[0] = \"relay:1\"", "without a port"),
    ("workers = 2", "hardening.seccomp = 1", "hardening.seccomp", "boolean"),
    ("workers = 2", "offload.mode = \"fast\"", "offload.mode = \"fast\"", "\"native\""),
    (
        "workers = 2",
        "offload.interfaces = [\"nowhere7\"]",
        "offload.interfaces[0] = \"nowhere7\"",
        "ip link",
    ),
    ("workers = 2", "offload.routes = 1", "offload.routes = 1", "16 to 4000000"),
    ("workers = 2", "offload.engine = \"dpdk\"", "offload.engine = \"dpdk\"", "\"af_xdp\""),
    ("workers = 2", "offload.engine = \"af_xdp\"", "offload.engine = \"af_xdp\"", "offload.mode"),
    (
        "workers = 2",
        "workers = 2\noffload.mode = \"tc\"\noffload.engine = \"af_xdp\"",
        "offload.engine = \"af_xdp\"",
        "Say \"native\"",
    ),
    ("workers = 2", "hardening.usr = \"a\"", "hardening.usr", "Did you mean `user`?"),
    (
        METRICS,
        "address = \"127.0.0.1:21190\"\nnames = \"clear\"",
        "metrics.names = \"clear\"",
        "hash",
    ),
];

#[test]
fn every_mistake_is_told_with_its_key() {
    for &(from, to, key, words) in MISTAKES {
        let error = Config::from_toml(&altered(from, to), "edge.toml", None)
            .expect_err(&format!("{to:?} was accepted"));
        let message = error.to_string();
        assert_eq!(error.exit_code(), 2);
        assert!(message.starts_with(&format!("edge.toml: {key}")), "{to}: {message}");
        assert!(message.contains(words), "{to}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(!message.contains("sixteen"), "a secret is shown: {message}");
    }
}

#[test]
fn ed_020_the_external_side_alone_may_be_behind_a_nat() {
    let on = |side: &str| {
        let keys = format!("{LISTEN}\nside = \"{side}\"\nadvertise = \"192.0.2.1\"");
        Config::from_toml(&altered(LISTEN, &keys), "edge.toml", None)
    };
    assert!(on("external").is_ok());
    let message = on("internal").unwrap_err().to_string();
    let begin = "edge.toml: listen[0].advertise = \"192.0.2.1\": the internal side";
    assert!(message.starts_with(begin), "{message}");
}

#[test]
fn a_wildcard_listens_on_every_address_of_the_host() {
    let text = altered("address = \"127.0.0.1:21090\"", "address = \"0.0.0.0:21090\"");
    let config = Config::from_toml(&text, "edge.toml", None).unwrap();
    let relay = relay::start(config).unwrap();
    let listeners = relay.listeners();
    assert!(listeners.iter().all(|(addr, ..)| !addr.local.ip().is_unspecified()));
    assert!(listeners.iter().any(|(addr, ..)| addr.local == "127.0.0.1:21090".parse().unwrap()));
    relay.stop();
    relay.wait().unwrap();
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::from_file("/nowhere/relay.toml".as_ref()).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/relay.toml: cannot be read"), "{error}");
}

#[test]
fn auth_032_a_relay_without_credentials_does_not_start() {
    let error = Config::from_toml(&altered(SECRETS, ""), "edge.toml", None).unwrap_err();
    assert!(error.to_string().contains("pool.key"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

/// A configuration file beside another file, of this mode, that replaces the shared secrets.
fn beside(name: &str, content: &str, mode: u32, keys: &str) -> Result<Config, String> {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    let file = directory.path().join("relay.toml");
    std::fs::write(&file, altered(SECRETS, keys)).unwrap();
    Config::from_file(&file).map_err(|error| error.to_string())
}

#[test]
fn rest_016_a_secret_file_that_others_may_read_is_refused() {
    let user = "alice:a long password";
    let token = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n";
    for (content, keys) in [
        ("a secret of more than sixteen bytes\n", "rest_secret_file = \"secret\""),
        (user, "users_file = \"secret\""),
        (token, "oauth = [{ kid = \"a\", key_file = \"secret\" }]"),
    ] {
        for (mode, accepted) in [(0o644, false), (0o640, true), (0o600, true)] {
            let outcome = beside("secret", content, mode, keys);
            assert_eq!(outcome.is_ok(), accepted, "{mode:o}, {keys}: {:?}", outcome.err());
        }
    }
}

#[test]
fn auth_035_a_line_of_a_user_that_is_wrong_is_told_by_its_number() {
    let (md5, sha256) = ("0f".repeat(16), "A0".repeat(32));
    for (case, text, expected) in [
        ("nobody", "# nobody yet\n\n".to_owned(), "no user"),
        ("no colon", "\nalice".to_owned(), "line 2: there is no colon"),
        ("no name", ":a long password".to_owned(), "line 1: the user name"),
        ("a name with a tab in it", "a\tb:a long password".to_owned(), "line 1: the user name"),
        ("a long name", format!("{}:a long password", "u".repeat(509)), "508"),
        ("no password", "alice:".to_owned(), "line 1: the password"),
        ("a short password", "alice:1234567".to_owned(), "7 bytes"),
        ("a short key", "alice:sha256:00ff".to_owned(), "64 hexadecimal digits"),
        ("a key of the other length", format!("alice:sha256:{md5}"), "64 hexadecimal digits"),
        ("a key that is none", format!("alice:md5:{}", "xy".repeat(16)), "32 hexadecimal digits"),
        ("the same again", format!("alice:md5:{md5}\nalice:md5:{md5}"), "line 2: the user has"),
        (
            "a password beside a key",
            format!("alice:sha256:{sha256}\nalice:a long password"),
            "line 2: the user has",
        ),
    ] {
        let error = beside("users", &text, 0o600, "users_file = \"users\"").expect_err(case);
        assert!(error.contains("auth.users_file = "), "{case}: {error}");
        assert!(error.contains(expected), "{case}: {error}");
        assert!(!error.contains("a long password"), "{case}: the password is shown");
    }
}

#[test]
fn users_and_keys_of_tokens_are_counted_in_the_summary() {
    let users = format!("bob:a:long:password\nalice:md5:{}\n", "0f".repeat(16))
        + &format!("  # a comment\nalice:sha256:{}\n", "0f".repeat(32));
    let keys = "users_file = \"users\"\nserver_name = \"turn.test\"\noauth = [{ kid = \"north\", \
                key = \"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\" }]";
    let summary = beside("users", &users, 0o600, keys).unwrap().summary();
    for line in [
        "knows 2 users by name",
        "takes access tokens for \"turn.test\", sealed with keys \"north\"",
    ] {
        assert!(summary.iter().any(|found| found == line), "{line:?} is not in {summary:?}");
    }
}

#[test]
fn dtls_needs_a_certificate_it_can_use() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    for (algorithm, accepted) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, true),
        (&rcgen::PKCS_ECDSA_P384_SHA384, true),
        (&rcgen::PKCS_ED25519, false),
    ] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let names = ["turn.example.org".to_owned()];
        let made = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let file = |name: &str, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            path
        };
        let (certificate, key) = (file("c.pem", made.pem()), file("k.pem", key.serialize_pem()));
        let tls = format!(
            "[tls]\ncertificates = [{{ certificate = '{}', key = '{}' }}]\n\
             [[listen]]\naddress = \"127.0.0.1:21091\"\ntransport = \"dtls\"\n[peers]",
            certificate.display(),
            key.display()
        );
        let outcome = Config::from_toml(&altered("[peers]", &tls), "test.toml", None);
        assert_eq!(outcome.is_ok(), accepted, "{algorithm:?}: {:?}", outcome.err());
        if let Err(error) = outcome {
            let text = error.to_string();
            assert!(text.starts_with("test.toml: tls.certificates: none has a key"), "{text}");
        }
    }
}

#[test]
fn tcp_relays_need_a_listener_for_connections() {
    let text = "realm = \"r\"\nfeatures.tcp_relays = true\n[auth]\n\
                rest_secrets = [\"0123456789abcdef\"]\n[[listen]]\naddress = \"127.0.0.1:3478\"\n";
    let error = Config::from_toml(text, "edge.toml", None).unwrap_err().to_string();
    assert!(error.starts_with("edge.toml: features.tcp_relays = true: "), "{error}");
    assert!(error.contains("[[listen]]"), "{error}");
    let text = format!("{text}transport = \"tcp\"\n");
    assert!(Config::from_toml(&text, "edge.toml", None).is_ok());
}

#[test]
fn natb_006_discovery_and_redirection_exclude_each_other() {
    let discovery = "features.nat_discovery = [{ alternate = \"127.0.0.2:3479\" }]";
    let text = altered(REALM, &format!("{discovery}\n{REALM}"));
    Config::from_toml(&text, "edge.toml", None).expect("discovery alone is fine");
    let both = text.replacen(ALLOW, "[redirect]\nalternates = [\"192.0.2.1:3478\"]", 1);
    let error = Config::from_toml(&both, "edge.toml", None).unwrap_err().to_string();
    assert!(error.contains("redirect.alternates") && error.contains("nat_discovery"), "{error}");
}
