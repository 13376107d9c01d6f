//! Who gets in: named users and access tokens, with coturn's tools on the other side.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::coturn::{RUNS, for_coturn, start_peers};
use crate::edge::{Home, RelayFile, av_edge, start_relay};
use crate::netns::must;
use crate::site::Site;

/// The keys that `turnutils_uclient -J` seals its tokens with, by chance one of the three.
const KEYS_OF_UCLIENT: [(&str, &str, &[u8]); 3] = [
    ("north", "A256GCM", b"01234567890123456789012345678901"),
    ("union", "A128GCM", b"1234567890123456"),
    ("oldempire", "A256GCM", b"12345678901234567890123456789012"),
];

/// What tokens are sealed for.
const SERVER_NAME: &str = "turn.example.org";

#[test]
fn oauth_007_turnutils_uclient_relays_without_loss_with_access_tokens() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let key = |(kid, cipher, key): (&str, &str, &[u8])| {
        format!("{{ kid = \"{kid}\", cipher = \"{cipher}\", key = \"{}\" }}", STANDARD.encode(key))
    };
    let keys = KEYS_OF_UCLIENT.map(key).join(", ");
    let file = RelayFile { auth: format!("oauth = [{keys}]"), ..for_coturn() };
    let _relay = start_relay(&site, &home, &file);
    let _peers = start_peers(&site);
    for run in RUNS {
        run.demand_all_back(&site.client, &["-J", "-u", "nobody", "-w", "nothing"]);
    }
}

#[test]
fn auth_014_turnutils_uclient_relays_without_loss_as_a_named_user() {
    let site = Site::new();
    let home = Home::with_pool_key();
    let derived = with_input(
        &["credential", "derive", "--realm", "turn.example.org", "--user", "alice"],
        "a long password\n",
    );
    assert_eq!(derived.lines().count(), 2, "{derived}");
    home.write("users", &format!("{derived}bob:another password\n"));
    let file = RelayFile { auth: "users_file = \"users\"".to_owned(), ..for_coturn() };
    let _relay = start_relay(&site, &home, &file);
    let _peers = start_peers(&site);
    let plain = RUNS.iter().filter(|run| ["channels", "indications"].contains(&run.case));
    for (run, credential) in plain.zip([["alice", "a long password"], ["bob", "another password"]])
    {
        let [user, password] = credential;
        run.demand_all_back(&site.client, &["-u", user, "-w", password]);
    }
}

#[test]
fn oauth_010_turnutils_oauth_reads_our_tokens_and_we_read_its() {
    let home = Home::with_pool_key();
    let path = home.path("pool.pem");
    let path = path.to_str().expect("a path in UTF-8");
    let minted = must(Command::new(av_edge()).args([
        "credential",
        "mint",
        "--json",
        "--oauth",
        "--server-name",
        SERVER_NAME,
        "--key",
        path,
        "--lifetime",
        "1800",
        // What is taken away stands where coturn does not look.
        "--peers",
        "192.0.2.0/24",
        "--limit",
        "kbit_per_s=64",
    ]));
    let minted: Value = serde_json::from_slice(&minted.stdout).expect("JSON");
    let text = |name: &str| minted[name].as_str().unwrap_or_else(|| panic!("{name}: {minted}"));
    let kid = text("kid");
    let secret = pool_key::load(path.as_ref()).expect("a key").pool_key().tokens;
    let key = STANDARD.encode(secret.bytes());
    let common = ["-v", "-i", SERVER_NAME, "-j", kid, "-k", &key, "-l", "1", "-m", "4000000000"];
    let tool = |more: &[&str]| {
        let mut command = Command::new("turnutils_oauth");
        must(command.args(common).args(["-n", "A256GCM"]).args(more))
    };
    let output = tool(&["-d", "-t", text("access_token")]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("1800"), "the lifetime is not in:\n{said}");

    // The tool writes the key of a token into its JSON as it is.
    let [nonce, mac_key] =
        [&b"twelve bytes"[..], b"twenty bytes of key!"].map(|b| STANDARD.encode(b));
    let output = tool(&["-e", "-o", &nonce, "-p", &mac_key, "-r", "900"]);
    let sealed = String::from_utf8_lossy(&output.stdout).into_owned();
    let sealed: Value =
        serde_json::from_str(sealed.get(sealed.find('{').expect("JSON")..).expect("a text"))
            .unwrap_or_else(|error| panic!("{error}: {sealed}"));
    let token = sealed["access_token"].as_str().expect("a token");
    let read = must(Command::new(av_edge()).args([
        "credential",
        "inspect",
        kid,
        "--key",
        path,
        "--server-name",
        SERVER_NAME,
        "--token",
        token,
    ]));
    let said = String::from_utf8_lossy(&read.stdout).into_owned();
    assert!(said.contains("mac key      20 bytes"), "{said}");
    assert!(said.contains("in 14 minutes") || said.contains("in 15 minutes"), "{said}");
}

/// What `av-edge` prints when it is given this on standard input.
fn with_input(words: &[&str], input: &str) -> String {
    let mut child = Command::new(av_edge())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("av-edge runs");
    let mut pipe = child.stdin.take().expect("it is piped");
    pipe.write_all(input.as_bytes()).expect("av-edge reads");
    drop(pipe);
    let output = child.wait_with_output().expect("av-edge ends");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}
