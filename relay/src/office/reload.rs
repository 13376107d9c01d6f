//! The configuration is read again, by SIGHUP or by control, and no allocation ends by it. It also
//! follows the addresses of this host.

use std::sync::Arc;

use guard::Reader;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::entry::Entry;
use super::levers::Outcome;
use super::surroundings::Ear;
use crate::config::{Config, Renewal};
use crate::service::Observer;

/// The doors whose access changes with the configuration.
#[derive(Debug, Default)]
pub(super) struct Doors {
    pub(super) metrics: Option<Arc<Entry>>,
    pub(super) admin: Option<Arc<Entry>>,
}

impl Doors {
    fn grant(&self, config: &Config) {
        if let (Some(entry), Some(metrics)) = (&self.metrics, &config.metrics) {
            entry.grant(metrics.access.clone());
        }
        if let (Some(entry), Some(admin)) = (&self.admin, &config.admin) {
            entry.grant(admin.access.clone());
        }
    }
}

/// What has the configuration renewed.
#[derive(Debug)]
pub(super) struct Prompts {
    /// SIGHUP, if it is obeyed.
    pub(super) hangup: Option<Signal>,
    /// Those who ask by control.
    pub(super) pulled: mpsc::Receiver<Outcome>,
    /// The host has other addresses.
    pub(super) surroundings: Ear,
}

/// Obeys for ever.
pub(super) async fn obey(prompts: Prompts, observer: Observer, reader: Reader, doors: Doors) {
    let Prompts { mut hangup, mut pulled, mut surroundings } = prompts;
    let mut in_force = observer.config().clone();
    // Some may have come before anybody listened.
    follow(&mut in_force, &observer);
    loop {
        let asked = tokio::select! {
            Some(()) = next(hangup.as_mut()) => None,
            Some(asked) = pulled.recv() => Some(asked),
            () = surroundings.news() => {
                follow(&mut in_force, &observer);
                continue;
            }
        };
        // A rotated log of records is no matter of whether the configuration is good.
        observer.reopen_records();
        let outcome = once(&observer, &reader, &doors, &mut in_force).await;
        observer.count_reload(outcome.is_ok());
        if let Err(error) = &outcome {
            tracing::error!("{error} The configuration in force stays.");
        }
        // Who asked may be gone.
        if let Some(asked) = asked {
            drop(asked.send(outcome));
        }
    }
}

async fn next(hangup: Option<&mut Signal>) -> Option<()> {
    match hangup {
        Some(hangup) => hangup.recv().await,
        None => None,
    }
}

/// Reads it once; the keys that wait for a restart, or what is wrong.
async fn once(
    observer: &Observer,
    reader: &Reader,
    doors: &Doors,
    in_force: &mut Config,
) -> Result<Vec<String>, String> {
    let own = observer.clone();
    let outcome = reader.run(move || own.config().read_again()).await;
    let renewal = outcome.ok_or("files can no longer be read.")?;
    let Renewal { config, waiting } = renewal.map_err(|error| error.to_string())?;
    doors.grant(&config);
    observer.renew(&config);
    *in_force = config;
    if !waiting.is_empty() {
        tracing::warn!("these changes wait for a restart: {}", waiting.join(", "));
    }
    tracing::info!("the configuration was read again: credentials, certificates, peers and limits");
    Ok(waiting)
}

/// Keeps peers off the addresses that this host has now.
fn follow(in_force: &mut Config, observer: &Observer) {
    match in_force.moved() {
        Ok(None) => {}
        Ok(Some(config)) => {
            observer.renew(&config);
            *in_force = config;
            tracing::info!("this host has other addresses: peers are judged by them");
        }
        Err(error) => tracing::error!("{error} Peers are judged by those it had."),
    }
}
