//! `av-edge check`: says what a configuration file would start, or what is wrong with it; or of a
//! peer whether it may be reached, and why.
//!
//! Nothing is opened but the files that the configuration names.

use std::fs;
use std::path::Path;

use proto::auth::credential::{Name, inspect};
use proto::policy::{Asker, Edge, PeerAcl};
use toml::{Table, Value};

use crate::cli::{CheckArgs, PeerName, ServiceKind};
use crate::failure::Failure;
use crate::output::print;

/// Checks a file.
pub(crate) fn run(args: &CheckArgs) -> Result<(), Failure> {
    if let Some(peer) = args.peer {
        return judge(args, peer);
    }
    let Some(config) = &args.config else { return Err(Failure::setup("--config is missing")) };
    let kind = match args.kind {
        Some(kind) => kind,
        None => recognise(config)?,
    };
    let mut lines = match kind {
        ServiceKind::Relay => relay::Config::from_file(config).map_err(Failure::setup)?.summary(),
        ServiceKind::Auth => {
            auth_service::Config::from_file(config).map_err(Failure::setup)?.summary()
        }
    };
    lines.insert(0, format!("{}: valid", config.display()));
    print(&lines)
}

/// Says whether a peer may be reached: the exit status tells, too.
fn judge(args: &CheckArgs, PeerName { ip, port }: PeerName) -> Result<(), Failure> {
    let name = args.username.as_deref().map(inspect).transpose();
    let sealed = match name.map_err(|error| Failure::setup(format!("--username: {error}")))? {
        Some(Name::Pool(name)) => Some(name.claims.peers()),
        Some(Name::Rest(_)) | None => None,
    };
    let asker = Asker { side: args.side, peers: sealed.as_ref() };
    let explanation = if let Some(config) = &args.config {
        let config = relay::Config::from_file(config).map_err(Failure::setup)?;
        config.explain_peer(asker, ip, port)
    } else {
        let edge = Edge::new(Vec::new(), Vec::new(), Vec::new());
        PeerAcl::default().explain(&edge, asker, ip, port)
    };
    print(&[explanation.words])?;
    if explanation.allowed { Ok(()) } else { Err(Failure::No) }
}

/// Which service a file configures, by its keys.
fn recognise(config: &Path) -> Result<ServiceKind, Failure> {
    let name = config.display();
    let text = fs::read_to_string(config)
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
