//! SIGHUP: the configuration is read again, and no allocation ends by it.

use std::sync::Arc;

use guard::Reader;
use tokio::signal::unix::Signal;

use super::door::Desk;
use crate::config::Renewal;
use crate::service::Observer;

/// Obeys for ever.
pub(super) async fn obey(
    mut hangup: Signal,
    observer: Observer,
    reader: Reader,
    desk: Option<Arc<Desk>>,
) {
    while hangup.recv().await.is_some() {
        let own = observer.clone();
        let outcome = reader.run(move || own.config().read_again()).await;
        let good = match outcome {
            Some(Ok(renewal)) => {
                apply(renewal, &observer, desk.as_deref());
                true
            }
            Some(Err(error)) => {
                tracing::error!("{error} The configuration in force stays.");
                false
            }
            None => {
                tracing::error!("files can no longer be read; the configuration in force stays");
                false
            }
        };
        observer.count_reload(good);
    }
}

fn apply(Renewal { config, waiting }: Renewal, observer: &Observer, desk: Option<&Desk>) {
    if let (Some(desk), Some(metrics)) = (desk, &config.metrics) {
        desk.grant(metrics.access.clone());
    }
    observer.renew(&config);
    if !waiting.is_empty() {
        tracing::warn!("these changes wait for a restart: {}", waiting.join(", "));
    }
    tracing::info!("the configuration was read again: credentials, certificates, peers and limits");
}
