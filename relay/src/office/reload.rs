//! The configuration is read again, by SIGHUP or by control, and no allocation ends by it.

use std::future;
use std::sync::Arc;

use guard::Reader;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::entry::Entry;
use super::levers::Outcome;
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

/// Obeys for ever.
pub(super) async fn obey(
    mut hangup: Option<Signal>,
    mut pulled: mpsc::Receiver<Outcome>,
    observer: Observer,
    reader: Reader,
    doors: Doors,
) {
    loop {
        let asked = tokio::select! {
            Some(()) = next(hangup.as_mut()) => None,
            Some(asked) = pulled.recv() => Some(asked),
            // Neither signals nor control.
            else => return future::pending().await,
        };
        // A rotated log of records is no matter of whether the configuration is good.
        observer.reopen_records();
        let outcome = once(&observer, &reader, &doors).await;
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
async fn once(observer: &Observer, reader: &Reader, doors: &Doors) -> Result<Vec<String>, String> {
    let own = observer.clone();
    let outcome = reader.run(move || own.config().read_again()).await;
    let renewal = outcome.ok_or("files can no longer be read.")?;
    Ok(apply(renewal.map_err(|error| error.to_string())?, observer, doors))
}

fn apply(Renewal { config, waiting }: Renewal, observer: &Observer, doors: &Doors) -> Vec<String> {
    doors.grant(&config);
    observer.renew(&config);
    if !waiting.is_empty() {
        tracing::warn!("these changes wait for a restart: {}", waiting.join(", "));
    }
    tracing::info!("the configuration was read again: credentials, certificates, peers and limits");
    waiting
}
