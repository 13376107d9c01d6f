//! What the kernel relays by itself: a call that goes on while the relay sleeps, counted to the packet.
//!
//! Senders compute checksums themselves here, and receivers poll (`gro`), as machines on a real network do: a
//! virtual cable carries neither unfinished checksums nor redirected frames otherwise.

use std::process::Command;
use std::time::Duration;

use client::Event;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::policy::bandwidth::BURST;
use serde_json::Value;

use crate::browser::Browser;
use crate::call::{assert_is_good, serve_page};
use crate::coturn::{RUNS, Run, for_coturn, start_peers};
use crate::edge::{
    Home, METRICS, REST_SECRET, RelayFile, av_edge, await_ready, http_get, start_auth, start_relay,
};
use crate::libnice;
use crate::line::Line;
use crate::mras::{by_sipp, start_mras};
use crate::netns::must;
use crate::process::Process;
use crate::site::Site;
use rig::clock::{self, now, rest_until};

/// Words of the call, each there and back.
const WORDS: u64 = 2_000;

/// A site whose cables carry what a kernel relays.
pub(crate) fn site() -> Site {
    let site = Site::new();
    for machine in [&site.client, &site.peer] {
        must(machine.command("ethtool").args(["-K", "relay", "tx", "off", "gro", "on"]));
    }
    site
}

/// What has the kernel relay.
pub(crate) const OFFLOAD: &str =
    "[offload]\nmode = \"native\"\ninterfaces = [\"internal\", \"external\"]\n";

/// A relay that has the kernel relay.
fn offloading(file: RelayFile) -> RelayFile {
    RelayFile { tables: OFFLOAD.to_owned(), ..file }
}

fn start(site: &Site, home: &Home) -> Process {
    start_relay(site, home, &offloading(RelayFile::default()))
}

/// The values of a metric in all series that have these labels.
pub(crate) fn values<'p>(page: &'p str, name: &str, labels: &[&str]) -> Vec<&'p str> {
    let rows = page.lines().filter(|row| {
        let rest = row.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']));
        rest.is_some() && labels.iter().all(|label| row.contains(label))
    });
    rows.filter_map(|row| row.rsplit(' ').next()).collect()
}

/// Their sum.
pub(crate) fn metric(page: &str, name: &str, labels: &[&str]) -> u64 {
    let values = values(page, name, labels);
    values.iter().map(|it| it.parse::<u64>().unwrap_or_else(|_| panic!("{name} {it}"))).sum()
}

pub(crate) fn page(site: &Site) -> String {
    let page = site.relay.enter(|| http_get(&format!("http://{METRICS}/metrics")));
    page.expect("metrics")
}

#[test]
fn offload_carries_a_call_of_which_every_packet_is_counted() {
    let site = site();
    let home = Home::with_pool_key();
    let relay = start(&site, &home);
    let mut line = Line::open(&site, &home);
    // The first words may find neighbours unknown: they go through the relay, and teach them.
    for word in 0..WORDS {
        line.demand_echo(&format!("word {word:04}"));
    }
    let found = page(&site);
    let value = |name, labels: &[&str]| metric(&found, name, labels);
    for interface in ["internal", "external"] {
        let label = format!("interface=\"{interface}\"");
        assert_eq!(value("av_edge_relay_offload", &[&label, "mode=\"native\""]), 1, "{found}");
    }
    for direction in ["direction=\"to_peer\"", "direction=\"to_client\""] {
        let kernel = value("av_edge_relay_offloaded_packets_total", &[direction]);
        assert!(kernel * 100 > 95 * WORDS, "{kernel} of {WORDS} {direction}: {found}");
        for all in [
            "av_edge_relay_relayed_packets_total",
            "av_edge_relay_framed_packets_total",
            "av_edge_relay_allocation_packets_total",
        ] {
            assert_eq!(value(all, &[direction]), WORDS, "{all} {direction}");
        }
        // Each word has nine octets.
        let bytes = value("av_edge_relay_allocation_bytes_total", &[direction]);
        assert_eq!(bytes, 9 * WORDS, "{direction}");
    }
    let ratio = values(&found, "av_edge_relay_offloaded_ratio", &[]);
    assert!(
        ratio.first().is_some_and(|it| it.parse::<f64>().is_ok_and(|it| it > 0.95)),
        "{ratio:?}"
    );
    drop(relay);
}

#[test]
fn offload_carries_a_long_call_that_nobody_asks_about_until_its_end() {
    let site = site();
    let home = Home::with_pool_key();
    let _relay = start(&site, &home);
    let mut line = Line::open(&site, &home);
    // Past a look at its accounts, and a rest of its legs.
    let (begin, mut words) = (now(), 0_u32);
    while now() - begin < Duration::from_secs(24) {
        line.demand_echo("a word");
        words += 1;
        rest_until(begin + words * Duration::from_millis(10));
    }
    let found = page(&site);
    assert_mostly_offloaded("a long call", [0, 0], &found);
    assert_eq!(relayed(&found)[0], u64::from(2 * words), "{found}");
    let expired = metric(&found, "av_edge_relay_offload_passed_total", &["reason=\"expired\""]);
    assert!((1..60).contains(&expired), "{expired} went up while the legs rested: {found}");
}

#[test]
fn offload_carries_a_call_behind_the_driver() {
    // Nobody has vouched for cables whose interfaces are not named, so what suits is behind them.
    for (case, tables, mode) in [
        ("generic", OFFLOAD.replace("native", "generic"), "generic"),
        ("TC", OFFLOAD.replace("native", "tc"), "tc"),
        ("what suits cables", "[offload]\nmode = \"auto\"\n".to_owned(), "tc"),
        ("what suits interfaces", OFFLOAD.replace("native", "auto"), "native"),
    ] {
        let site = site();
        let home = Home::with_pool_key();
        let _relay = start_relay(&site, &home, &RelayFile { tables, ..RelayFile::default() });
        let mut line = Line::open(&site, &home);
        for word in 0..500 {
            line.demand_echo(&format!("word {word}"));
        }
        let found = page(&site);
        let label = format!("mode=\"{mode}\"");
        assert_eq!(metric(&found, "av_edge_relay_offload", &[&label]), 2, "{case}: {found}");
        assert_mostly_offloaded(case, [0, 0], &found);
    }
}

#[test]
fn offload_is_foretold_by_the_doctor() {
    let site = site();
    let home = Home::with_pool_key();
    let file = home.write("relay.toml", &offloading(RelayFile::default()).toml());
    let mut doctor = site.relay.command(av_edge().to_str().expect("a path in UTF-8"));
    let said = must(doctor.args(["doctor", "--config"]).arg(file)).stdout;
    let said = String::from_utf8(said).expect("it prints text");
    for interface in ["internal", "external"] {
        let line = said.lines().find(|line| line.contains(&format!("{interface} (")));
        let line = line.unwrap_or_else(|| panic!("nothing of {interface}: {said}"));
        assert!(line.starts_with("good "), "{said}");
        assert!(line.contains("the kernel relays here, in the driver"), "{said}");
    }
}

#[test]
fn offload_goes_on_while_the_relay_sleeps_and_ends_with_the_allocation() {
    let site = site();
    let home = Home::with_pool_key();
    let mut relay = start(&site, &home);
    let mut line = Line::open(&site, &home);
    for word in 0..20 {
        line.demand_echo(&format!("awake {word}"));
    }
    // `ip netns exec` becomes the program it runs: the process is the relay.
    let pid = Pid::from_raw(i32::try_from(relay.id()).expect("a pid fits"));
    kill(pid, Signal::SIGSTOP).expect("it stops");
    for word in 0..20 {
        line.demand_echo(&format!("asleep {word}"));
    }
    kill(pid, Signal::SIGCONT).expect("it goes on");
    line.client.release().expect("the allocation ends");
    assert_eq!(metric(&page(&site), "av_edge_relay_offload_routes", &[]), 0);
    line.client.send_channel(line.channel, b"late").expect("it is sent");
    line.peer.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    assert!(line.peer.recv_from(&mut [0; 64]).is_err(), "nothing passes without an allocation");
    let heard = line.client.recv(Duration::from_millis(50)).expect("the socket works");
    assert!(!matches!(heard, Some(Event::Data { .. })), "{heard:?}");

    // What the kernel held ends with the process, however that ends.
    let mut line = Line::open(&site, &home);
    line.demand_echo("before");
    relay.kill();
    line.client.send_channel(line.channel, b"dead").expect("it is sent");
    line.peer.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    assert!(line.peer.recv_from(&mut [0; 64]).is_err(), "nothing outlives the relay");
}

/// Datagrams of a second of the limited call, twice what its limit lets pass; and their octets.
const OFFERED_PER_S: u32 = 1_000;
const OCTETS: usize = 750;

#[test]
fn offload_holds_the_limit_of_an_allocation_together_with_the_relay() {
    is_held("kbit_per_s_per_allocation", "allocation_bandwidth");
}

#[test]
fn offload_holds_the_limit_of_a_user_together_with_the_relay() {
    is_held("kbit_per_s_per_user", "user_bandwidth");
}

/// A limit of half of what is offered holds, to within two in a hundred.
fn is_held(limit: &str, reason: &str) {
    let site = site();
    let home = Home::with_pool_key();
    let file = offloading(RelayFile::default());
    let tables = format!("{}[limits]\n{limit} = 3000\n", file.tables);
    let _relay = start_relay(&site, &home, &RelayFile { tables, ..file });
    let mut line = Line::open(&site, &home);
    for word in 0..20 {
        line.demand_echo(&format!("word {word}"));
    }
    let [_, before] = relayed(&page(&site));
    assert!(before > 20, "the kernel relays in spite of the limit");
    let to = line.peer.local_addr().expect("it is bound");
    for (case, indications) in [("channel", 0), ("half of it indications", 2)] {
        // Until a burst may pass.
        rest_until(now() + Duration::from_millis(500));
        let [all_before, kernel_before] = relayed(&page(&site));
        let dropped = |page: &str| metric(page, "av_edge_relay_dropped_total", &[reason]);
        let dropped_before = dropped(&page(&site));
        let (begin, seconds) = (now(), 5);
        for number in 0..OFFERED_PER_S * seconds {
            rest_until(begin + Duration::from_secs(1) / OFFERED_PER_S * number);
            let payload = [0x80; OCTETS];
            if indications > 0 && number % indications == 0 {
                line.client.send_indication(to, &payload).expect("it is sent");
            } else {
                line.client.send_channel(line.channel, &payload).expect("it is sent");
            }
        }
        let took = now() - begin;
        rest_until(now() + Duration::from_millis(200));
        let found = page(&site);
        let [all, kernel] = relayed(&found);
        let passed = all - all_before;
        // What a pause has saved passes as well: one every two milliseconds.
        let allowed = (took + BURST).as_millis() / 2;
        println!("{case}: {passed} passed, {allowed} were allowed");
        let off = u128::from(passed).abs_diff(allowed);
        assert!(off * 50 < allowed, "{case}: {passed} of {allowed}: {found}");
        let lost = u64::from(OFFERED_PER_S * seconds) - passed;
        assert_eq!(dropped(&found) - dropped_before, lost, "{case}: the rest is counted");
        let percent = (kernel - kernel_before) * 100 / passed;
        let least = if indications == 0 { 95 } else { 30 };
        assert!(percent > least, "{case}: {percent} of a hundred by the kernel");
    }
}

#[test]
fn offload_rests_while_somebody_captures_the_call() {
    let site = site();
    let home = Home::with_pool_key();
    let file = offloading(RelayFile::default());
    let control = format!("[control]\npath = \"{}\"\n", home.path("control.sock").display());
    let file = RelayFile { tables: file.tables + &control, ..file };
    let _relay = start_relay(&site, &home, &file);
    let mut line = Line::open(&site, &home);
    for word in 0..20 {
        line.demand_echo(&format!("before {word}"));
    }
    let [_, before] = relayed(&page(&site));
    assert!(before > 20, "the kernel relays");
    let (socket, out) = (home.path("control.sock"), home.path("call.pcapng"));
    let ids =
        must(Command::new(av_edge()).args(["control", "allocations", "--socket"]).arg(&socket));
    let ids = String::from_utf8(ids.stdout).expect("UTF-8");
    let id = ids.lines().last().and_then(|it| it.split_whitespace().next()).expect("an id");
    let mut capture = Process::start(
        Command::new(av_edge())
            .args(["capture", id, "--seconds", "2", "--payload", "whole", "--out"])
            .arg(&out)
            .arg("--socket")
            .arg(&socket),
    );
    capture.until(Duration::from_secs(5), "the capture to begin", |_| {
        std::fs::metadata(&out).is_ok_and(|it| it.len() > 0).then_some(())
    });
    for word in 0..20 {
        line.demand_echo(&format!("seen {word:02}"));
    }
    assert!(capture.wait(Duration::from_secs(10)).success());
    let bytes = std::fs::read(&out).expect("a file");
    let seen = bytes.windows(5).filter(|part| part == b"seen ").count();
    assert_eq!(seen, 80, "each word on both legs, both ways");
    let [_, meanwhile] = relayed(&page(&site));
    assert_eq!(meanwhile, before, "the kernel left it to the relay");
    for word in 0..20 {
        line.demand_echo(&format!("after {word}"));
    }
    let [_, after] = relayed(&page(&site));
    assert!(after > meanwhile + 20, "and relays again: {meanwhile} {after}");
}

#[test]
fn offload_says_that_nobody_measures_what_it_carries_and_keeps_off_where_measuring_comes_first() {
    for (key, by) in [("", "kernel"), ("keep_measured = true\n", "relay")] {
        let site = site();
        let home = Home::with_pool_key();
        let file = offloading(RelayFile::default());
        let file = RelayFile { tables: format!("{}{key}[admin]\n", file.tables), ..file };
        let _relay = start_relay(&site, &home, &file);
        let mut line = Line::open(&site, &home);
        let row = clock::look_until(Duration::from_secs(30), || {
            for word in 0..100 {
                line.demand_echo(&format!("word {word}"));
            }
            let url = "http://127.0.0.1:9643/v1/allocations?sort=throughput";
            let answer = site.relay.enter(|| http_get(url)).expect("an answer");
            let page: Value = serde_json::from_str(&answer).expect("JSON");
            let row = page["allocations"].get(0)?.clone();
            (row["rate_to_peer"].as_u64() > Some(0) && row["relayed_by"] == by).then_some(row)
        });
        let row = row.unwrap_or_else(|| panic!("it is relayed by the {by}"));
        let in_kernel = row["packets_in_kernel"].as_u64();
        assert_eq!(in_kernel > Some(0), by == "kernel", "{row}");
    }
}

/// Packets relayed so far, and those of them that the kernel relayed by itself.
pub(crate) fn relayed(page: &str) -> [u64; 2] {
    ["av_edge_relay_relayed_packets_total", "av_edge_relay_offloaded_packets_total"]
        .map(|name| metric(page, name, &[]))
}

/// The kernel relayed nearly everything since an earlier look.
pub(crate) fn assert_mostly_offloaded(case: &str, before: [u64; 2], page: &str) {
    let after = relayed(page);
    let [all, kernel] = [0, 1].map(|index| after[index] - before[index]);
    println!("{case}: the kernel relayed {kernel} of {all} packets");
    assert!(kernel * 100 > 95 * all, "{case}: {kernel} of {all}: {page}");
}

#[test]
fn offload_carries_the_channels_of_turnutils_uclient() {
    let site = site();
    let home = Home::with_pool_key();
    for tables in [OFFLOAD.to_owned(), OFFLOAD.replace("native", "tc")] {
        carries_uclient(&site, &home, &RelayFile { tables, ..for_coturn() });
    }
}

fn carries_uclient(site: &Site, home: &Home, file: &RelayFile) {
    let _relay = start_relay(site, home, file);
    let _peers = start_peers(site);
    let cases = ["channels", "IPv6 channels", "IPv4 client, IPv6 peer", "client to client"];
    let runs: Vec<&Run> = RUNS.iter().filter(|run| cases.contains(&run.case)).collect();
    assert_eq!(runs.len(), cases.len());
    for (number, run) in runs.iter().enumerate() {
        let before = relayed(&page(site));
        let user = format!("user-{number}");
        run.demand_all_back(&site.client, &["-u", &user, "-W", REST_SECRET]);
        assert_mostly_offloaded(run.case, before, &page(site));
    }
}

#[test]
fn offload_carries_a_call_of_libnice_in_the_microsoft_dialect() {
    let site = site();
    let home = Home::with_pool_key();
    // Its limits, of an allocation and of a user, are those that the original product has.
    let file = RelayFile { features: "microsoft = true", ..offloading(RelayFile::default()) };
    let _auth = start_mras(&site, &home);
    let tokens = by_sipp(&site, &home, "intranet", 2);
    let _relay = start_relay(&site, &home, &file);
    libnice::demand_whole_call(&site, &tokens);
    assert_mostly_offloaded("libnice", [0, 0], &page(&site));
}

#[test]
fn offload_carries_a_call_of_chromium_with_itself() {
    let site = site();
    let home = Home::with_pool_key();
    let _relay = start(&site, &home);
    let auth = start_auth(&site, &home);
    let servers = auth.ice_servers(&site.client, "alice");
    let mut browser = Browser::open(&site.client, &format!("http://{}/", serve_page(&site.client)));
    let ends = browser.value(&format!("call({servers}, 10)"), Duration::from_secs(100));
    for end in ends.as_array().expect("two ends") {
        assert_is_good(end);
    }
    assert_mostly_offloaded("Chromium", [0, 0], &page(&site));
}

/// A relay that was started without these capabilities, and a call of 20 words there and back.
pub(crate) fn serve_without(capabilities: &str, file: &RelayFile) -> (Site, Process, Line) {
    let site = site();
    let home = Home::with_pool_key();
    let path = home.write("relay.toml", &file.toml());
    let mut command = site.relay.command("setpriv");
    command.args([&format!("--bounding-set={capabilities}"), "--"]);
    command.arg(av_edge()).args(["relay", "--config"]).arg(path);
    let mut relay = Process::start(&mut command);
    await_ready(&site.relay, &mut relay, METRICS);
    let mut line = Line::open(&site, &home);
    for word in 0..20 {
        line.demand_echo(&format!("word {word}"));
    }
    (site, relay, line)
}

#[test]
fn offload_without_privilege_leaves_everything_to_the_relay_and_says_why() {
    let (site, relay, _line) =
        serve_without("-bpf,-net_admin,-sys_admin", &offloading(RelayFile::default()));
    let found = page(&site);
    assert_eq!(metric(&found, "av_edge_relay_offload", &[]), 0, "{found}");
    assert_eq!(relayed(&found), [40, 0]);
    let said = relay.output();
    let wanted = "the kernel relays nothing by itself: that wants CAP_BPF and CAP_NET_ADMIN";
    assert!(said.contains(wanted), "{said}");
}
