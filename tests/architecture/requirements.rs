//! Rows of the list of requirements, and where each is proved: `tests/requirements.md` is made here.
//!
//! A test proves the row its name begins with (`stun_001_…` is STUN-001). A row without a test has
//! a line in `tests/unmet.txt` that says why; one that is met but for a detail has a line in
//! `tests/deviations.txt`. `GENERATE=1` writes the page; otherwise the test
//! fails when page and code disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{name, read, root, sources};

/// `ID LEVEL` per line, in the order of the list.
const LIST: &str = include_str!("../fixtures/requirements.txt");

/// The same for MS-TURN. Its rows 024, 040, 064, 067, 110 and 122 are facts about clients and other
/// servers, and 113 is a rumour: no duty of ours, so they are left out.
const MS_TURN: &str = include_str!("../fixtures/ms-turn.txt");

/// The same for the deployment of an A/V Edge. Left out are facts about the product and about
/// networks around it, and what rows of MS-TURN and MRAS say as well.
const EDGE: &str = include_str!("../fixtures/edge.txt");

/// Where the page lies.
const PAGE: &str = "tests/requirements.md";

/// What the groups of ids are about.
const GROUPS: &[(&str, &str)] = &[
    ("STUN", "Messages of STUN, on every transport"),
    ("OLD", "Clients of RFC 3489 and RFC 5389"),
    ("AUTH", "Credentials, integrity, nonces, TLS"),
    ("ALLOC", "Allocate"),
    ("REFR", "Refresh"),
    ("PERM", "Permissions"),
    ("DATA", "Send and Data indications"),
    ("CHAN", "Channels"),
    ("ICMP", "ICMP toward relayed addresses"),
    ("IPHDR", "Fields of the IP header"),
    ("TCPA", "TCP relays (RFC 6062)"),
    ("MOB", "Mobility (RFC 8016)"),
    ("OAUTH", "Access tokens (RFC 7635)"),
    ("REST", "Credentials limited in time"),
    ("DISC", "URIs, ports, ALPN, first bytes"),
    ("NATB", "NAT behaviour discovery (RFC 5780)"),
    ("MEDIA", "Media"),
    ("SEC", "Abuse and operation"),
    ("ATTR", "Attributes"),
    ("MRAS", "A/V authentication ([MS-AVEDGEA])"),
    ("MST", "MS-TURN"),
    ("ED", "Deployment of an A/V Edge"),
];

/// Id and level of every row, in order.
fn list() -> Vec<(&'static str, &'static str)> {
    LIST.lines()
        .chain(MS_TURN.lines())
        .chain(EDGE.lines())
        .map(|line| line.split_once(' ').expect("ID LEVEL"))
        .collect()
}

fn group(id: &str) -> &str {
    id.split('-').next().unwrap_or_default()
}

/// The id a test function is named after: `stun_001_only_sound…` is STUN-001.
fn id_of(function: &str) -> Option<String> {
    let (group, rest) = function.split_once('_')?;
    let (number, _) = rest.split_once('_')?;
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    // Acceptance tests of a list are rows as well: `mras_t1_…` is MRAS-T1.
    let row = digits(number, 3) || number.strip_prefix('t').is_some_and(|rest| digits(rest, 1));
    row.then(|| format!("{group}-{number}").to_ascii_uppercase())
}

/// Ids that tests of the workspace are named after, with the files they stand in.
fn tested() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for path in sources() {
        let text = read(&path);
        let lines: Vec<_> = text.lines().map(str::trim_start).collect();
        for (index, line) in lines.iter().enumerate() {
            let line = line.strip_prefix("async ").unwrap_or(line);
            let Some(function) = line.strip_prefix("fn ").and_then(|l| l.split('(').next()) else {
                continue;
            };
            let attributes = lines[..index].iter().rev().take_while(|l| l.starts_with("#["));
            let is_test =
                attributes.into_iter().any(|l| l.contains("test]") || l.contains("test("));
            if let Some(id) = id_of(function).filter(|_| is_test) {
                found.entry(id).or_default().insert(name(&path));
            }
        }
    }
    found
}

/// Rows of `tests/unmet.txt`: id and reason.
fn unmet() -> BTreeMap<String, String> {
    reasons("tests/unmet.txt")
}

/// Rows of `tests/deviations.txt`: id and what is different.
fn deviations() -> BTreeMap<String, String> {
    reasons("tests/deviations.txt")
}

fn reasons(file: &str) -> BTreeMap<String, String> {
    let text = read(&root().join(file));
    let rows = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let mut found = BTreeMap::new();
    for row in rows {
        let (id, reason) = row.split_once(' ').expect("ID REASON");
        assert!(reason.split_whitespace().count() >= 3, "{id}: {reason:?} is no reason");
        assert!(found.insert(id.to_owned(), reason.to_owned()).is_none(), "{id} has two rows");
    }
    found
}

#[test]
fn every_requirement_has_a_test_or_a_reason() {
    let (list, tested, unmet) = (list(), tested(), unmet());
    let complete = 279 + 40 + 78 + 12;
    assert_eq!(list.len(), complete, "the lists of requirements (RFCs, MRAS, MS-TURN, Edge)");
    let known: BTreeSet<_> = list.iter().map(|(id, _)| *id).collect();
    let groups: BTreeSet<_> = list.iter().map(|(id, _)| group(id)).collect();
    let neither: Vec<_> =
        known.iter().filter(|id| !tested.contains_key(**id) && !unmet.contains_key(**id)).collect();
    assert!(neither.is_empty(), "neither a test nor a reason in unmet.txt: {neither:?}");
    let both: Vec<_> = unmet.keys().filter(|id| tested.contains_key(*id)).collect();
    assert!(both.is_empty(), "a test and a row in unmet.txt: {both:?}");
    let unknown: Vec<_> = unmet.keys().filter(|id| !known.contains(&***id)).collect();
    assert!(unknown.is_empty(), "rows of unmet.txt that the list lacks: {unknown:?}");
    let untested: Vec<_> = deviations().into_keys().filter(|id| !tested.contains_key(id)).collect();
    assert!(untested.is_empty(), "deviations of rows that no test is named after: {untested:?}");
    let misnamed: Vec<_> = tested
        .iter()
        .filter(|(id, _)| groups.contains(group(id)) && !known.contains(&***id))
        .collect();
    assert!(misnamed.is_empty(), "tests named after ids that the list lacks: {misnamed:?}");
}

#[test]
fn the_page_of_requirements_is_up_to_date() {
    let path = root().join(PAGE);
    let page = page();
    if std::env::var_os("GENERATE").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    assert!(
        read(&path) == page,
        "{PAGE} is old: run `GENERATE=1 cargo test -p rig --test architecture page`"
    );
}

/// The page as it should be.
fn page() -> String {
    let (list, tested, unmet) = (list(), tested(), unmet());
    let proved = list.iter().filter(|(id, _)| tested.contains_key(*id)).count();
    let mut page = format!(
        "# Requirements and their tests\n\n\
         Made by `GENERATE=1 cargo test -p rig --test architecture page`; edit `tests/unmet.txt`, \
         `tests/deviations.txt` and the tests instead.\n\n\
         A test is named after its row: search for `stun_001_` to find what proves STUN-001. \
         {proved} of {} rows have one.\n",
        list.len(),
    );
    page.push_str("\n## Not met, and why\n\n| ID | level | reason |\n|---|---|---|\n");
    for (id, level) in &list {
        if let Some(reason) = unmet.get(*id) {
            writeln!(page, "| {id} | {level} | {reason} |").expect("a string takes everything");
        }
    }
    page.push_str(
        "\n## Met but for a detail\n\n| ID | level | what is different |\n|---|---|---|\n",
    );
    for (id, level) in &list {
        if let Some(detail) = deviations().get(*id) {
            writeln!(page, "| {id} | {level} | {detail} |").expect("a string takes everything");
        }
    }
    for (prefix, about) in GROUPS {
        write!(page, "\n## {prefix}: {about}\n\n| ID | level | proved in |\n|---|---|---|\n")
            .expect("a string takes everything");
        for (id, level) in list.iter().filter(|(id, _)| group(id) == *prefix) {
            if let Some(files) = tested.get(*id) {
                let files: Vec<_> = files.iter().map(|file| format!("`{file}`")).collect();
                writeln!(page, "| {id} | {level} | {} |", files.join(", "))
                    .expect("a string takes everything");
            }
        }
    }
    page
}

#[test]
fn every_group_of_requirements_has_a_heading() {
    for (id, _) in list() {
        assert!(GROUPS.iter().any(|(prefix, _)| *prefix == group(id)), "{id} has no group");
    }
}

#[test]
fn disc_003_every_name_to_publish_is_documented() {
    let page = read(&root().join("deploy/dns.md"));
    for name in [
        "_stun._udp",
        "_stun._tcp",
        "_stuns._tcp",
        "_turn._udp",
        "_turn._tcp",
        "_turns._tcp",
        "_turns._udp",
        "RELAY:turn.udp",
        "RELAY:turn.tcp",
        "RELAY:turn.tls",
        "RELAY:turn.dtls",
    ] {
        assert!(page.contains(name), "deploy/dns.md lacks {name}");
    }
}

#[test]
fn conformance_cases_are_rows_at_their_level() {
    let levels: BTreeMap<_, _> = list().into_iter().collect();
    for case in client::conformance::cases() {
        let level = levels.get(case.id).unwrap_or_else(|| panic!("no row {}", case.id));
        let must = case.level == client::conformance::Level::Must;
        assert_eq!(must, *level == "MUST", "{} is {level}", case.id);
    }
}
