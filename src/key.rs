//! `av-edge key`: makes and shows the private keys of pools.

use pool_key::PrivateKey;

use crate::cli::{GenerateArgs, KeyCommand, KeyType, ShowArgs};
use crate::failure::Failure;
use crate::output::print;

/// Runs a subcommand.
pub(crate) fn run(command: &KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::Generate(args) => generate(args),
        KeyCommand::Show(args) => show(args),
    }
}

fn generate(args: &GenerateArgs) -> Result<(), Failure> {
    let key = match args.kind {
        KeyType::P256 => PrivateKey::generate(),
        KeyType::Ed25519 => PrivateKey::generate_ed25519(),
    };
    match &args.out {
        Some(path) => {
            key.save(path).map_err(Failure::setup)?;
            print(&[format!("{}: new pool key, {}", path.display(), describe(&key))])
        }
        None => print(&[key.to_pem().trim_end()]),
    }
}

fn show(args: &ShowArgs) -> Result<(), Failure> {
    let key = pool_key::load(&args.file).map_err(Failure::setup)?;
    print(&[
        format!("kind         {}", key.kind()),
        format!("key id       {}", key.pool_key().id),
        format!("fingerprint  {}", key.fingerprint()),
    ])
}

fn describe(key: &PrivateKey) -> String {
    format!("{}, key id {}", key.kind(), key.pool_key().id)
}
