//! Configurations: what is refused, in which words, and what the documented file says.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use auth_service::{Config, StartError};
use pool_key::PrivateKey;

/// A valid configuration, one line an item, so that rows can replace one.
const GOOD: &str = "listen = \"127.0.0.1:22600\"
uris = [\"turn:turn.example.org:3478\"]
[pool]
key = \"pool.pem\"
[[callers]]
name = \"web\"
key = \"0123456789abcdef\"
";

/// Writes a file that only we can read.
fn write(directory: &Path, name: &str, text: &str, mode: u32) {
    let path = directory.join(name);
    fs::write(&path, text).expect("a writable directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
}

/// A directory with a pool key, and what else rows refer to.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a writable directory");
    let (at, key) = (directory.path(), PrivateKey::generate());
    write(at, "pool.pem", &key.to_pem(), 0o600);
    write(at, "same.pem", &key.to_pem(), 0o600);
    write(at, "old.pem", &PrivateKey::generate_ed25519().to_pem(), 0o600);
    write(at, "shown.pem", &PrivateKey::generate().to_pem(), 0o604);
    write(at, "text.pem", "no key at all\n", 0o600);
    write(at, "web.key", "0123456789abcdef\n", 0o600);
    write(at, "shown.key", "0123456789abcdef\n", 0o644);
    write(at, "short.key", "0123\n", 0o600);
    write(at, "metrics-token", "0123456789abcdef\n", 0o600);
    let tls = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a name");
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let (certificate, private) = tls("localhost");
    write(at, "cert.pem", &certificate, 0o644);
    write(at, "cert.key", &private, 0o600);
    write(at, "cert-shown.key", &private, 0o644);
    write(at, "other.key", &tls("localhost").1, 0o600);
    directory
}

fn error_of(directory: &Path, text: &str) -> Option<String> {
    write(directory, "auth.toml", text, 0o600);
    Config::from_file(&directory.join("auth.toml")).err().map(|error| {
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    })
}

#[test]
fn good_configurations_are_taken() {
    let directory = directory();
    for (case, from, to) in [
        ("as it is", "", ""),
        ("key in a file", "key = \"0123456789abcdef\"", "key_file = \"web.key\""),
        ("previous keys", "key = \"pool.pem\"", "key = \"pool.pem\"\nprevious = [\"old.pem\"]"),
        ("IPv6 loopback", "127.0.0.1:22600", "[::1]:22600"),
        ("clear text by choice", "\"127.0.0.1:22600\"", "\"0.0.0.0:22600\"\ninsecure_http = true"),
        (
            "TLS",
            "\"127.0.0.1:22600\"\n",
            "\"0.0.0.0:22600\"\ntls = { certificate = \"cert.pem\", key = \"cert.key\" }\n",
        ),
        (
            "lists by side",
            "uris = [\"turn:turn.example.org:3478\"]",
            "uris_internal = [\"turn:a.example\"]\nuris_external = [\"turn:b.example\"]",
        ),
    ] {
        assert!(from.is_empty() || GOOD.contains(from), "{case}: the row replaces nothing");
        let text = if from.is_empty() { GOOD.to_owned() } else { GOOD.replacen(from, to, 1) };
        assert_eq!(error_of(directory.path(), &text), None, "{case}");
    }
}

#[test]
fn bad_configurations_are_refused_with_file_key_and_cure() {
    let directory = directory();
    let listen = "listen = \"127.0.0.1:22600\"";
    let uris = "uris = [\"turn:turn.example.org:3478\"]";
    let pool = "key = \"pool.pem\"";
    let key = "key = \"0123456789abcdef\"";
    let name = "name = \"web\"";
    for (from, to, expected) in [
        (listen, "listen = 127.0.0.1:8443", &["line 1", "TOML"][..]),
        (listen, "", &["listen", "missing"]),
        (listen, "listen = \"localhost\"", &["listen = \"localhost\"", "127.0.0.1:8443"]),
        (listen, "listen = 8443", &["listen", "string"]),
        (listen, "listen = \"127.0.0.1:0\"", &["listen", "port 0"]),
        (
            listen,
            "listen = \"0.0.0.0:22600\"",
            &["listen = 0.0.0.0:22600", "[tls]", "insecure_http"],
        ),
        (listen, "lisen = \"127.0.0.1:1\"", &["lisen", "listen"]),
        (uris, "", &["uris", "turn:turn.example.org:3478?transport=udp"]),
        (uris, "uris = []", &["uris", "missing"]),
        (uris, "uris_external = [\"turn:a.example\"]", &["uris_internal"]),
        (uris, "uris = [\"http://x\"]", &["uris[0] = \"http://x\"", "turn:"]),
        (uris, "uris = [\"turn:a.example\", \"turns:192.0.2.1\"]", &["uris[1]", "DNS name"]),
        ("[pool]\nkey = \"pool.pem\"\n", "", &["[pool]", "key generate"]),
        (pool, "key = \"nowhere.pem\"", &["nowhere.pem", "cannot be read"]),
        (pool, "key = \"text.pem\"", &["text.pem", "no private key"]),
        (pool, "key = \"shown.pem\"", &["shown.pem", "0604", "chmod"]),
        (pool, "key = \"pool.pem\"\nprevious = [\"same.pem\"]", &["same.pem", "same key"]),
        (pool, "keys = \"pool.pem\"", &["pool", "keys", "key"]),
        ("[[callers]]\nname = \"web\"\nkey = \"0123456789abcdef\"\n", "", &["[[callers]]"]),
        (key, "", &["callers[0].key", "key_file"]),
        (key, "key = \"0123456789abcdef\"\nkey_file = \"web.key\"", &["callers[0]", "one of"]),
        (key, "key = \"0123456789abcde\"", &["callers[0].key", "15", "16"]),
        (key, "key = \"0123456789 abcdef\"", &["callers[0].key", "letters"]),
        (key, "key_file = \"nowhere.key\"", &["callers[0].key_file", "nowhere.key"]),
        (key, "key_file = \"shown.key\"", &["callers[0].key_file", "chmod"]),
        (key, "key_file = \"short.key\"", &["callers[0].key_file", "4 characters"]),
        (key, "key = \"0123456789abcdef\"\nrate_per_s = 0", &["callers[0].rate_per_s", "0.001"]),
        (key, "key = \"0123456789abcdef\"\nburst = 0", &["callers[0].rate_per_s", "burst"]),
        (key, "key = \"0123456789abcdef\"\nburst = -1", &["callers[0].burst"]),
        (key, "key = \"0123456789abcdef\"\nrate = 1", &["rate", "rate_per_s"]),
        (name, "name = \"\"", &["callers[0].name", "1 to 64"]),
        (name, "name = \"a\\\"b\"", &["callers[0].name", "letters"]),
        (uris, "uris = [\"turn:a.example\"]\nlifetime_max_s = 0", &["lifetime_max_s = 0"]),
        (uris, "uris = [\"turn:a.example\"]\nlifetime_max_s = 60", &["lifetime_default_s = 86400"]),
        (uris, "uris = [\"turn:a.example\"]\nlifetime_default_s = 86401", &["86401", "86400"]),
        (uris, "uris = [\"turn:a.example\"]\ntrusted_proxies = [\"x\"]", &["trusted_proxies[0]"]),
    ] {
        expect_refusal(directory.path(), from, to, expected);
    }
}

#[test]
fn bad_tables_are_refused_with_file_key_and_cure() {
    let directory = directory();
    for (from, to, expected) in [
        ("[pool]", "[limits]\nconnections = 0\n[pool]", &["limits.connections = 0"][..]),
        ("[pool]", "[limits]\nconnections_per_client = 0\n[pool]", &["connections_per_client"]),
        ("[pool]", "[limits]\nfailures_per_s = -1\n[pool]", &["limits.failures_per_s"]),
        ("[pool]", "[metrics]\naddress = \"x\"\n[pool]", &["metrics.address = \"x\""]),
        (
            "[pool]",
            "[metrics]\naddress = \"0.0.0.0:22602\"\n[pool]",
            &["metrics.address = 0.0.0.0:22602", "token_file"],
        ),
        ("[pool]", "[hardening]\nuser = \"nosuchuser\"\n[pool]", &["hardening.user", "useradd"]),
        ("[pool]", "[metrics]\naddress = \"127.0.0.1:22600\"\n[pool]", &["metrics.address"]),
        (
            "[pool]",
            "[tls]\ncertificate = \"nowhere\"\nkey = \"cert.key\"\n[pool]",
            &["tls.certificate", "nowhere"],
        ),
        (
            "[pool]",
            "[tls]\ncertificate = \"text.pem\"\nkey = \"cert.key\"\n[pool]",
            &["tls.certificate", "no certificate"],
        ),
        (
            "[pool]",
            "[tls]\ncertificate = \"cert.pem\"\nkey = \"cert-shown.key\"\n[pool]",
            &["tls.key", "chmod"],
        ),
        (
            "[pool]",
            "[tls]\ncertificate = \"cert.pem\"\nkey = \"other.key\"\n[pool]",
            &["tls.key", "does not go with the certificate"],
        ),
        ("[pool]", "[tls]\ncertificate = \"cert.pem\"\n[pool]", &["tls", "key"]),
    ] {
        expect_refusal(directory.path(), from, to, expected);
    }
}

/// Puts a mistake into the good configuration; the message must hold all parts.
fn expect_refusal(directory: &Path, from: &str, to: &str, expected: &[&str]) {
    let text = GOOD.replacen(from, to, 1);
    assert_ne!(text, GOOD, "{to}: the row replaces nothing");
    let message = error_of(directory, &text).unwrap_or_else(|| panic!("{to}: taken"));
    assert!(message.contains("auth.toml: "), "{message}");
    assert!(!message.contains("0123456789"), "a key is shown: {message}");
    assert!(!message.contains('\n'), "more than one line: {message}");
    for part in expected {
        assert!(message.contains(part), "{to}: {part:?} is missing in: {message}");
    }
}

#[test]
fn callers_are_told_apart() {
    let directory = directory();
    let second =
        |name: &str, key: &str| format!("{GOOD}[[callers]]\nname = \"{name}\"\nkey = \"{key}\"\n");
    for (case, text, expected) in [
        ("two", second("app", "another-key-of-16"), None),
        ("name twice", second("web", "another-key-of-16"), Some("callers[1].name")),
        ("key twice", second("app", "0123456789abcdef"), Some("callers[1].key")),
    ] {
        match (error_of(directory.path(), &text), expected) {
            (None, None) => {}
            (Some(message), Some(part)) => assert!(message.contains(part), "{case}: {message}"),
            (found, _) => panic!("{case}: {found:?}"),
        }
    }
}

#[test]
fn an_occupied_or_foreign_address_is_a_configuration_error() {
    let ring =
        proto::auth::KeyRing { current: PrivateKey::generate().pool_key(), previous: Vec::new() };
    let occupied = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let occupied = occupied.local_addr().map(|addr| (addr, occupied)).expect("it is bound");
    let foreign = "192.0.2.1:22601".parse().expect("an address");
    for (case, key, addr, expected) in [
        ("occupied", "listen", occupied.0, "another process listens there"),
        ("occupied metrics", "metrics.address", occupied.0, "another process listens there"),
        ("foreign", "listen", foreign, "not an address of this host"),
    ] {
        let text = if key == "listen" {
            GOOD.replace("\"127.0.0.1:22600\"", &format!("\"{addr}\"\ninsecure_http = true"))
        } else {
            let free = GOOD.replace("127.0.0.1:22600", "127.0.0.1:0");
            format!("{free}[metrics]\naddress = \"{addr}\"\n")
        };
        let config = Config::from_toml(&text, "test.toml", Some(ring.clone())).expect(case);
        let error = auth_service::start(config).expect_err(case);
        assert!(matches!(error, StartError::Config(_)), "{case}: {error}");
        assert_eq!(error.exit_code(), 2, "{case}");
        let message = error.to_string();
        assert!(message.contains(&format!("{key} = \"{addr}\"")), "{case}: {message}");
        assert!(message.contains(expected), "{case}: {message}");
    }
}

/// Every key that `deploy/auth.toml` must show.
const KEYS: &[&str] = &[
    "listen",
    "insecure_http",
    "uris",
    "uris_internal",
    "uris_external",
    "lifetime_default_s",
    "lifetime_max_s",
    "trusted_proxies",
    "key",
    "previous",
    "certificate",
    "name",
    "key_file",
    "rate_per_s",
    "burst",
    "connections",
    "connections_per_network",
    "connections_per_client",
    "failures_per_s",
    "failures_burst",
    "handshakes_per_s",
    "handshakes_burst",
    "token_file",
    "hosts",
    "user",
    "seccomp",
    "landlock",
    "address",
    "trusted_servers",
    "realm",
    "max_lifetime_min",
    "identities",
    "client_ca",
    "location",
    "host_name",
    "direct_ip",
    "udp_port",
    "tcp_port",
    "connections_per_server",
    "server_per_s",
    "server_burst",
    "identity_per_s",
    "identity_burst",
];

#[test]
fn the_documented_file_is_valid_and_its_defaults_are_the_defaults() {
    let directory = directory();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/auth.toml");
    let text = fs::read_to_string(path).expect("deploy/auth.toml exists");
    assert_eq!(error_of(directory.path(), &text), None, "as it is");

    let read = |text: &str| {
        assert_eq!(error_of(directory.path(), text), None);
        let config = Config::from_file(&directory.path().join("auth.toml"));
        format!("{:?}", config.expect("it was valid a moment ago"))
    };
    let uncomment = |text: &str, wanted: &dyn Fn(&str) -> bool| -> String {
        let line = |line| match str::strip_prefix(line, "#") {
            Some(key) if !key.starts_with(char::is_whitespace) && wanted(key) => key,
            _ => line,
        };
        text.lines().map(line).flat_map(|line| [line, "\n"]).collect()
    };
    // Numbers and booleans in comments are defaults, so saying them changes nothing.
    let is_default = |line: &str| {
        let value = line.split_once(" = ").map_or("", |(_, value)| value);
        value.parse::<f64>().is_ok() || value.parse::<bool>().is_ok()
    };
    let (before, mras) = text.split_once("#[mras]").expect("it is the last table");
    let defaults =
        uncomment(before, &|line| matches!(line, "[limits]" | "[hardening]") || is_default(line));
    assert_ne!(defaults, before);
    assert_eq!(read(&defaults), read(before));
    // Ports of relays have no default; without certificates only loopback will do.
    let is_tls = |line: &str| {
        ["[mras.tls]", "certificate", "key", "client_ca"].iter().any(|key| line.starts_with(key))
    };
    let clear = mras.replace("10.0.0.5:5062", "127.0.0.1:5062");
    let [mras, bare] = [true, false].map(|all| {
        let wanted = |line: &str| all || line.contains("_port") || !is_default(line);
        uncomment(&format!("#[mras]{clear}"), &|line| wanted(line) && !is_tls(line))
    });
    assert_ne!(mras, bare);
    assert_eq!(read(&format!("{before}{mras}")), read(&format!("{before}{bare}")));

    // With every key that is a comment in force; the certificates' names are placeholders.
    let every = uncomment(&text, &|line| !line.is_empty())
        .replace("\"mras.pem\"\nkey = \"pool.pem\"", "\"cert.pem\"\nkey = \"cert.key\"")
        .replace("corp-ca.pem", "cert.pem")
        .replace("user = \"av-edge\"", "user = \"root\"")
        .replace("fullchain.pem", "cert.pem")
        .replace("scrapers.pem", "cert.pem")
        .replace("metrics.pem", "cert.pem")
        .replace("metrics.key", "cert.key")
        .replace("privkey.pem", "cert.key");
    assert_eq!(error_of(directory.path(), &every), None, "with every key in force");
    for key in KEYS {
        let documented = every.lines().any(|line| line.starts_with(&format!("{key} = ")));
        assert!(documented, "{key} is not documented");
    }
}
