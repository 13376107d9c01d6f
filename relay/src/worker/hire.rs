//! Which engine a worker gets.

use std::io;
use std::sync::Arc;

use super::{Desk, Hands, Worker};
use crate::engine::{Engine, Gear, MioEngine, RingEngine};
use crate::ledger::SharedLedger;
use crate::telemetry::block::Block;

/// What a worker's thread does, whatever its engine is.
pub(crate) trait Work: Send {
    /// [`Worker::run`].
    fn run(&mut self, drained: &dyn Fn()) -> io::Result<()>;
}

impl<E: Engine + Send> Work for Worker<SharedLedger, E> {
    fn run(&mut self, drained: &dyn Fn()) -> io::Result<()> {
        Worker::run(self, drained)
    }
}

/// A worker that has not begun, with rings around its sockets if there are some.
pub(crate) fn hire(
    gear: Option<Gear>,
    engine: MioEngine,
    (desk, hands, block): (Desk<SharedLedger>, Hands, Arc<Block>),
) -> io::Result<Box<dyn Work>> {
    Ok(match gear {
        Some(gear) => Box::new(Worker::new(desk, RingEngine::new(engine, gear)?, hands, block)),
        None => Box::new(Worker::new(desk, engine, hands, block)),
    })
}
