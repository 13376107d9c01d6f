//! Keys as operators have them: every form, every mistake.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pool_key::{Kind, PrivateKey, Problem, load, load_ring};
use proto::auth::{Grant, mint};
use proto::now::UnixTime;

macro_rules! key {
    ($name:literal) => {
        include_str!(concat!("keys/", $name, ".pem"))
    };
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)
}

/// A private copy of a fixture: checkouts make files that everybody can read.
fn private_copy(directory: &tempfile::TempDir, name: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::copy(fixture(name), &path).expect("a file of this test");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of this test");
    path
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[test]
fn secrets_equal_those_of_an_independent_derivation() {
    // Computed in Python: HKDF-SHA-256, salt "av-edge pool key v1", over the canonical numbers.
    for (case, pem, kind, fingerprint, credentials) in [
        (
            "RSA",
            key!("rsa.pkcs8"),
            Kind::Rsa(2048),
            "8de22072d285d545d1ed1ba29d4f1069",
            "febf16992bdd7078e87cc24e9f0a20053caf892f842789161f77c9954753698a",
        ),
        (
            "P-256",
            key!("p256.pkcs8"),
            Kind::P256,
            "957ca5d0ba3dc4fa15af824fe82a2857",
            "2f14c1e74af6e4f59473d7707c064f1686e5855eb39ed531f6db6ca0fd6f022d",
        ),
        (
            "Ed25519",
            key!("ed25519"),
            Kind::Ed25519,
            "5bd05a87e0feb0ac6510ea3811b5be75",
            "e9894fd08319a8c5f869bad904a8e4b452df45bffbcfb648aba694672f0d551c",
        ),
    ] {
        let key = PrivateKey::from_pem(pem).unwrap();
        assert_eq!(key.kind(), kind, "{case}");
        assert_eq!(key.fingerprint(), fingerprint, "{case}");
        let pool = key.pool_key();
        assert_eq!(hex(pool.credentials.bytes()), credentials, "{case}");
        assert_eq!(pool.id.to_string(), fingerprint[..8], "{case}");
        let secrets = [&pool.credentials, &pool.nonces, &pool.users].map(|s| s.bytes().to_vec());
        assert!(secrets.iter().all(|secret| secret.len() == 32), "{case}");
        assert!(secrets[0] != secrets[1] && secrets[1] != secrets[2], "{case}");
    }
}

#[test]
fn another_encoding_of_a_key_is_the_same_pool() {
    for (case, one, other) in [
        ("PKCS#1", key!("rsa.pkcs8"), key!("rsa.pkcs1")),
        ("SEC 1 behind its parameters", key!("p256.pkcs8"), key!("p256.sec1")),
        ("SEC 1 without public half", key!("p256.pkcs8"), key!("p256.private-only")),
    ] {
        let one = PrivateKey::from_pem(one).unwrap();
        let other = PrivateKey::from_pem(other).unwrap();
        assert_eq!(one.fingerprint(), other.fingerprint(), "{case}");
        let again = PrivateKey::from_pem(&other.to_pem()).unwrap();
        assert_eq!(one.fingerprint(), again.fingerprint(), "{case}, written and read");
    }
}

#[test]
fn a_certificate_beside_the_key_is_no_obstacle() {
    let both = [key!("certificate"), key!("p256.pkcs8")].concat();
    let key = PrivateKey::from_pem(&both).unwrap();
    assert_eq!(key.fingerprint(), PrivateKey::from_pem(key!("p256.sec1")).unwrap().fingerprint());
}

#[test]
fn generated_keys_differ_and_survive_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pool.pem");
    let key = PrivateKey::generate();
    assert_ne!(key.fingerprint(), PrivateKey::generate().fingerprint());
    key.save(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(load(&path).unwrap().fingerprint(), key.fingerprint());
    let error = key.save(&path).unwrap_err();
    assert!(matches!(error.problem, Problem::Unwritable(_)), "never overwritten: {error}");
}

#[test]
fn every_mistake_is_told_apart() {
    let twice = [key!("p256.pkcs8"), key!("ed25519")].concat();
    let cut = &key!("rsa.pkcs8")[..900];
    let flipped = key!("rsa.pkcs1").replacen("MII", "MIJ", 1);
    let scrambled = key!("p256.pkcs8").replace("MIG", "M*G");
    let swapped = {
        let rsa = key!("rsa.pkcs8");
        let at = rsa.len() / 2;
        let other = if &rsa[at..=at] == "A" { "B" } else { "A" };
        [&rsa[..at], other, &rsa[at + 1..]].concat()
    };
    for (case, pem, found) in [
        ("nothing", "", "an empty file"),
        ("no PEM", "hello", "no PEM block"),
        ("certificate only", key!("certificate"), "found CERTIFICATE, but no private key"),
        ("two keys", &twice, "found 2 private keys"),
        ("encrypted", key!("encrypted"), "is encrypted"),
        ("encrypted PKCS#1", key!("encrypted.pkcs1"), "is encrypted"),
        ("1024 bits", key!("weak"), "1024 bits, which is too weak"),
        ("P-384", key!("p384.pkcs8"), "another curve than P-256"),
        ("P-384 in SEC 1", key!("p384.sec1"), "another curve than P-256"),
        ("Ed448", key!("ed448"), "an Ed448 key"),
        ("cut off", cut, "its END line is missing"),
        ("broken base64", &scrambled, "its base64 text is broken"),
        ("broken DER", &flipped, "is damaged"),
        ("one digit changed", &swapped, "do not belong together"),
    ] {
        let error = PrivateKey::from_pem(pem).unwrap_err().to_string();
        assert!(error.contains(found), "{case}: {error}");
        assert!(error.starts_with("the PEM text: "), "{case}: {error}");
    }
}

#[test]
fn a_file_error_names_path_finding_and_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none.pem");
    let error = load(&missing).unwrap_err().to_string();
    assert!(error.starts_with(&missing.display().to_string()), "{error}");
    assert!(error.contains("av-edge key generate"), "{error}");

    let open = private_copy(&directory, "ed25519.pem");
    load(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o640)).unwrap();
    load(&open).expect("a group may share the key");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let error = load(&open).unwrap_err().to_string();
    assert!(error.contains("mode 0644") && error.contains("chmod"), "{error}");
}

#[test]
fn rest_009_a_ring_holds_current_and_previous_keys_once_each() {
    let directory = tempfile::tempdir().unwrap();
    let [rsa, p256, sec1, ed25519] =
        ["rsa.pkcs8.pem", "p256.pkcs8.pem", "p256.sec1.pem", "ed25519.pem"]
            .map(|name| private_copy(&directory, name));
    let ring = load_ring(&rsa, &[p256.clone(), ed25519]).unwrap();
    assert_eq!(ring.current.id, load(&rsa).unwrap().pool_key().id);
    assert_eq!(ring.previous.len(), 2);

    let error = load_ring(&rsa, &[p256.clone(), sec1.clone()]).unwrap_err().to_string();
    assert!(error.starts_with(&sec1.display().to_string()), "{error}");
    assert!(error.contains(&p256.display().to_string()), "{error}");
}

#[test]
fn no_secret_is_printed() {
    let key = PrivateKey::from_pem(key!("p256.pkcs8")).unwrap();
    let secret = hex(key.pool_key().credentials.bytes());
    let grant = Grant::new("u", UnixTime(9));
    let credential = mint(&key.pool_key(), &grant).unwrap();
    let printed = format!("{key:?} {:?} {credential:?}", key.pool_key());
    assert!(
        !printed.contains(&secret) && !printed.contains(credential.password.as_str()),
        "{printed}"
    );
}
