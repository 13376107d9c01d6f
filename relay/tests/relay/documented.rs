//! `deploy/relay.toml` documents every key, and what it says of defaults holds.

use relay::Config;

/// The documented configuration, with the two keys that need a host of its own replaced.
fn documented() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/relay.toml");
    std::fs::read_to_string(path)
        .unwrap()
        .replace("# [admin]", "[admin]")
        .replace("key = \"pool.pem\"", "")
        .replace("# rest_secrets = []", "rest_secrets = [\"0123456789abcdef\"]")
}

#[test]
fn the_documented_configuration_is_valid() {
    Config::from_toml(&documented(), "relay.toml", None).unwrap();
}

#[test]
fn every_documented_key_exists_and_every_default_is_in_range() {
    let text = documented();
    let shown: Vec<_> = text.lines().filter(|l| l.starts_with("# ") && l.contains(" = ")).collect();
    assert!(shown.len() >= 20, "{shown:?}");
    for line in shown {
        // What needs files or addresses of a host is tried with its subject.
        let elsewhere = [
            "advertise",
            "addresses",
            "rest_secret_file",
            "previous",
            "nat_discovery",
            "certificates",
            "pass_through",
            "users_file",
            "key_file",
            "token_file",
            "interfaces",
            "client_ca",
            "spool",
            "password_file",
        ];
        if elsewhere.iter().any(|key| line.contains(key)) {
            continue;
        }
        let mut altered = text.replace(line, line.trim_start_matches("# "));
        if line.contains("proxy_protocol_from") {
            altered = altered.replace("# transport = \"udp\"", "transport = \"tcp\"");
        }
        let outcome = Config::from_toml(&altered, "relay.toml", None);
        assert!(outcome.is_ok(), "{line}: {}", outcome.unwrap_err());
    }
}
