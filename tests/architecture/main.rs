//! The shape of the house: arrows, sizes, names. Cheap to keep, dear to restore.

mod requirements;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proto::reject::{DropReason, Why};

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("tests/ lies in the workspace").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Path relative to the workspace, with forward slashes.
fn name(path: &Path) -> String {
    path.strip_prefix(root()).expect("inside the workspace").display().to_string()
}

/// Every Rust file of ours, sorted.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let file = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() {
                if file != "target" && !file.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() > 40, "only {} Rust files found", found.len());
    found
}

/// The packages of the workspace: name, folder, manifest.
fn packages() -> BTreeMap<String, (PathBuf, toml::Table)> {
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().expect("TOML");
    let members = manifest["workspace"]["members"].as_array().expect("a list").clone();
    let folders = members.iter().map(|member| root().join(member.as_str().expect("a folder")));
    folders
        .chain([root()])
        .map(|folder| {
            let manifest: toml::Table = read(&folder.join("Cargo.toml")).parse().expect("TOML");
            let name = manifest["package"]["name"].as_str().expect("a name").to_owned();
            (name, (folder, manifest))
        })
        .collect()
}

/// Names in the dependency tables `kinds` of a manifest, of every target.
fn dependencies(manifest: &toml::Table, kinds: &[&str]) -> BTreeSet<String> {
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let per_target = targets.into_iter().flat_map(toml::Table::values);
    let tables = per_target.filter_map(toml::Value::as_table).chain([manifest]);
    tables
        .flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)))
        .filter_map(toml::Value::as_table)
        .flat_map(toml::Table::keys)
        .cloned()
        .collect()
}

/// Which packages of ours each package may use; tests and benches may use all.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("pool-key", &["proto"]),
    ("guard", &[]),
    ("relay", &["dtls-crypto", "guard", "pool-key", "proto"]),
    ("auth-service", &["guard", "pool-key", "proto"]),
    ("dtls-crypto", &[]),
    ("client", &["dtls-crypto"]),
    ("av-edge", &["auth-service", "client", "pool-key", "proto", "relay"]),
];

/// What `proto` may stand on: hashes, ciphers, encodings, number types. Nothing here can open a
/// socket, read a clock or start a thread. Of `ring` it takes the ciphers, never the random numbers.
const PURE: &[&str] = &[
    "base64",
    "chacha20",
    "crc32fast",
    "foldhash",
    "hmac",
    "ipnet",
    "md-5",
    "ring",
    "sha1",
    "sha2",
    "subtle",
    "zeroize",
];

#[test]
fn arrows_between_packages_point_one_way() {
    let packages = packages();
    let ours: BTreeSet<&String> = packages.keys().collect();
    for (package, (_, manifest)) in &packages {
        let used = dependencies(manifest, &["dependencies", "build-dependencies"]);
        let used: BTreeSet<_> = used.iter().filter(|name| ours.contains(name)).collect();
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| name == package) else {
            assert!(matches!(&**package, "rig" | "benches"), "{package} has no place in ARROWS");
            continue;
        };
        for name in used {
            assert!(allowed.contains(&&**name), "{package} must not depend on {name}");
        }
    }
    for (package, (_, manifest)) in &packages {
        if !matches!(&**package, "rig" | "benches") {
            let used = dependencies(manifest, &["dependencies", "build-dependencies"]);
            assert!(!used.contains("rig") && !used.contains("benches"), "{package} uses tests");
        }
    }
}

#[test]
fn proto_stands_on_nothing_that_does_input_or_output() {
    let (_, manifest) = &packages()["proto"];
    for name in dependencies(manifest, &["dependencies", "build-dependencies"]) {
        assert!(PURE.contains(&&*name), "proto depends on {name}: is it pure? then say so in PURE");
    }
    let is_core =
        |path: &&PathBuf| name(path).starts_with("proto/src/") && !path.ends_with("tests.rs");
    for path in sources().iter().filter(is_core) {
        for (number, line) in code_lines(&read(path)) {
            for forbidden in [
                "std::net::UdpSocket",
                "std::net::Tcp",
                "std::thread",
                "std::fs",
                "std::env",
                "std::io",
            ] {
                assert!(!line.contains(forbidden), "{}:{number}: {forbidden}", name(path));
            }
        }
    }
}

/// Which modules of `proto` each module may name.
const LAYERS: &[(&str, &[&str])] = &[
    ("addr", &[]),
    ("now", &[]),
    ("reject", &[]),
    ("demux", &[]),
    ("marks", &[]),
    ("flow", &[]),
    ("media", &["flow", "now"]),
    ("stun", &["addr"]),
    ("channel_data", &["demux", "stun"]),
    ("request", &["addr"]),
    ("dialect", &["addr", "channel_data", "demux", "reject", "request", "stun"]),
    ("framing", &["channel_data", "demux", "stun"]),
    ("policy", &["addr", "flow", "now", "reject"]),
    ("auth", &["addr", "now", "policy", "reject", "stun"]),
    (
        "turn",
        &[
            "addr",
            "auth",
            "channel_data",
            "demux",
            "dialect",
            "flow",
            "marks",
            "media",
            "now",
            "policy",
            "reject",
            "request",
            "stun",
        ],
    ),
];

/// Below `conduct` and its gates, where messages become procedures, what differs is data.
#[test]
fn no_procedure_asks_which_dialect_it_serves() {
    for path in sources() {
        let file = name(&path);
        let Some(inside) = file.strip_prefix("proto/src/turn/") else { continue };
        if inside.starts_with("conduct/") || inside.starts_with("gate/") {
            continue;
        }
        for (number, line) in code_lines(&read(&path)) {
            for variant in ["Dialect::", "Call::", "dialect::ms"] {
                assert!(!line.contains(variant), "{file}:{number}: asks for the dialect");
            }
        }
    }
}

#[test]
fn arrows_inside_proto_point_one_way() {
    let mut seen = BTreeSet::new();
    for path in sources() {
        let file = name(&path);
        let Some(inside) = file.strip_prefix("proto/src/") else { continue };
        let module = inside.split(['/', '.']).next().expect("a first part");
        if module == "lib" {
            continue;
        }
        let layer = LAYERS.iter().find(|(name, _)| *name == module);
        let (_, allowed) =
            layer.unwrap_or_else(|| panic!("{file}: {module} has no place in LAYERS"));
        seen.insert(module.to_owned());
        for (number, line) in code_lines(&read(&path)) {
            for named in line.split("crate::").skip(1) {
                let used = named.split(|c: char| !c.is_alphanumeric() && c != '_').next();
                let used = used.expect("a first part");
                let permitted = used == module || allowed.contains(&used) || !is_module(used);
                assert!(permitted, "{file}:{number}: {module} must not use {used}");
                let only_integrity =
                    module != "auth" || used != "stun" || named.contains("integrity");
                assert!(only_integrity, "{file}:{number}: auth uses nothing of stun but integrity");
            }
        }
    }
    assert!(seen.len() >= LAYERS.len(), "LAYERS names a module that is gone: {seen:?}");
}

fn is_module(name: &str) -> bool {
    LAYERS.iter().any(|(module, _)| *module == name)
}

/// Lines that are neither comment nor unit test, with their numbers.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn files_are_short_enough_to_be_read_whole() {
    const LIMIT: usize = 600;
    for path in sources().into_iter().filter(|path| is_product(&name(path))) {
        let text = read(&path);
        let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        assert!(lines <= LIMIT, "{} has {lines} lines, more than {LIMIT}", name(&path));
    }
}

/// Whether a file is more than tests: those may be as long as their tables.
fn is_product(file: &str) -> bool {
    file.starts_with("src/") || file.contains("/src/")
}

#[test]
fn modules_have_names_that_mean_something() {
    for path in sources() {
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let parent = path.parent().and_then(Path::file_name).unwrap_or_default();
        for part in [&*stem, &*parent.to_string_lossy()] {
            assert!(
                !matches!(part, "utils" | "util" | "helpers" | "common" | "misc" | "types"),
                "{}: find the idea's name",
                name(&path)
            );
        }
    }
}

#[test]
fn unsafe_code_lives_in_relay_sys_only_and_is_on_the_map() {
    let words = ["{", "fn", "impl", "extern", "trait"].map(|next| format!("{} {next}", "unsafe"));
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for path in sources() {
        let file = name(&path);
        for (number, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let here: usize = words.iter().map(|word| code.matches(&**word).count()).sum();
            if here > 0 {
                assert!(file.starts_with("relay/src/sys/"), "{file}:{}: {line}", number + 1);
                *found.entry(file.clone()).or_default() += here;
            }
        }
    }
    assert!(!found.is_empty(), "the test no longer recognises what it looks for");
    let map = read(&root().join("ARCHITECTURE.md"));
    let (_, section) = map.split_once("## What is unsafe").expect("the map has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let listed: BTreeMap<String, usize> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let number = cells[2].parse().expect("how many there are");
            (cells[1].trim_matches('`').to_owned(), number)
        })
        .collect();
    assert_eq!(found, listed, "what is unsafe, and what ARCHITECTURE.md lists");
}

#[test]
fn every_path_in_the_map_exists() {
    let map = read(&root().join("ARCHITECTURE.md"));
    let quoted = map.split('`').skip(1).step_by(2);
    let paths: BTreeSet<_> = quoted.filter(|text| is_path(text)).collect();
    assert!(paths.len() > 10, "ARCHITECTURE.md names {} paths", paths.len());
    for path in paths {
        assert!(root().join(path).exists(), "ARCHITECTURE.md names {path}, which does not exist");
    }
}

/// Whether a quoted word is a path of this repository: it has a folder or a known ending.
fn is_path(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let ending = [".rs", ".md", ".toml", ".txt", ".c", ".o"].iter().any(|end| text.ends_with(end));
    plain && !text.starts_with('/') && !text.contains("//") && (ending || text.ends_with('/'))
}

#[test]
fn every_refusal_and_drop_is_explained_and_exported() {
    let telemetry: String = sources()
        .iter()
        .filter(|path| name(path).starts_with("relay/src/telemetry"))
        .map(|path| read(path))
        .collect();
    for (list, metric) in [("Why::ALL", "rejected_total"), ("DropReason::ALL", "dropped_total")] {
        assert!(telemetry.contains(list), "relay/src/telemetry exports all of {list}");
        assert!(telemetry.contains(metric), "relay/src/telemetry names {metric}");
    }
    let explained = Why::ALL.iter().map(|why| (why.name(), why.help(), why.advice()));
    let drops = DropReason::ALL.iter().map(|drop| (drop.name(), drop.help(), drop.advice()));
    for (name, help, advice) in explained.chain(drops) {
        assert!(help.split_whitespace().count() >= 4, "{name}: {help:?} explains nothing");
        assert!(advice.split_whitespace().count() >= 3, "{name}: {advice:?} says not what to do");
        assert!(!advice.ends_with('.') && !help.ends_with('.'), "{name}: others end the sentence");
    }
}
