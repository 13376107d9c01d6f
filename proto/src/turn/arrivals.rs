//! When clients that were challenged came: how long a client waits for its allocation.
//!
//! A few places that newcomers overwrite, so a flood of strangers costs no memory; who is
//! overwritten is not measured.

use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use crate::addr::FiveTuple;

/// Clients that are remembered.
const PLACES: usize = 512;

/// Who takes longer has begun anew.
const PATIENCE: Duration = Duration::from_secs(30);

/// The places.
#[derive(Debug)]
pub(super) struct Arrivals(Box<[Option<(FiveTuple, Instant)>]>);

impl Default for Arrivals {
    fn default() -> Self {
        Self(vec![None; PLACES].into())
    }
}

impl Arrivals {
    /// A client is challenged; only the first time counts.
    pub(super) fn note(&mut self, hasher: &impl BuildHasher, client: FiveTuple, at: Instant) {
        let place = self.place(hasher, client);
        let waits = |(who, since): (FiveTuple, Instant)| {
            who == client && at.saturating_duration_since(since) < PATIENCE
        };
        if !place.is_some_and(waits) {
            *place = Some((client, at));
        }
    }

    /// How long a client has waited that gets its allocation now, if it was challenged before.
    pub(super) fn take(
        &mut self,
        hasher: &impl BuildHasher,
        client: FiveTuple,
        at: Instant,
    ) -> Option<Duration> {
        let (_, since) = self.place(hasher, client).take_if(|(who, _)| *who == client)?;
        Some(at.saturating_duration_since(since)).filter(|waited| *waited < PATIENCE)
    }

    fn place(
        &mut self,
        hasher: &impl BuildHasher,
        client: FiveTuple,
    ) -> &mut Option<(FiveTuple, Instant)> {
        let hash = usize::try_from(hasher.hash_one(client) % PLACES as u64).unwrap_or_default();
        &mut self.0[hash]
    }
}
