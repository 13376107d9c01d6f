//! `av-edge check`: says what a configuration file would start, or what is wrong with it.
//!
//! Nothing is opened but the files that the configuration names.

use std::fs;

use toml::{Table, Value};

use crate::cli::{CheckArgs, ServiceKind};
use crate::failure::Failure;
use crate::output::print;

/// Checks a file.
pub(crate) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let kind = match args.kind {
        Some(kind) => kind,
        None => recognise(args)?,
    };
    let mut lines = match kind {
        ServiceKind::Relay => {
            relay::Config::from_file(&args.config).map_err(Failure::setup)?.summary()
        }
        ServiceKind::Auth => {
            auth_service::Config::from_file(&args.config).map_err(Failure::setup)?.summary()
        }
    };
    lines.insert(0, format!("{}: valid", args.config.display()));
    print(&lines)
}

/// Which service a file configures, by its keys.
fn recognise(args: &CheckArgs) -> Result<ServiceKind, Failure> {
    let name = args.config.display();
    let text = fs::read_to_string(&args.config)
        .map_err(|error| Failure::setup(format!("{name}: cannot be read: {error}")))?;
    let table = text
        .parse::<Table>()
        .map_err(|error| Failure::setup(format!("{name}: not TOML: {}", error.message().trim())))?;
    kind_of(&table).ok_or_else(|| {
        Failure::setup(format!(
            "{name}: configures neither a relay ([[listen]], realm) nor a credential service \
             (listen = \"…\", [[callers]]) for certain; say which with --kind"
        ))
    })
}

/// `listen` is a list of tables for a relay, a text for the credential service; without it, keys
/// that only one of them has decide.
fn kind_of(table: &Table) -> Option<ServiceKind> {
    match table.get("listen") {
        Some(Value::Array(_)) => return Some(ServiceKind::Relay),
        Some(Value::String(_)) => return Some(ServiceKind::Auth),
        _ => {}
    }
    let any = |keys: &[&str]| keys.iter().any(|&key| table.contains_key(key));
    let relay = any(&["realm", "relay", "peers", "timers", "compat", "workers", "auth"]);
    let auth = any(&["callers", "uris", "uris_internal", "uris_external", "tls"]);
    match (relay, auth) {
        (true, false) => Some(ServiceKind::Relay),
        (false, true) => Some(ServiceKind::Auth),
        (true, true) | (false, false) => None,
    }
}
