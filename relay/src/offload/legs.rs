//! The legs in the kernel, and the ways out that they name.

use std::fmt;
use std::time::Instant;

use aya::maps::{Array, HashMap, MapData};

use super::entry::{Entry, Key};
use super::program::Unable;
use super::ways::{Held, Ways};
use crate::sys::{Key4, Key6, Leg, Way};

/// Both, as one thread changes them.
pub struct Legs {
    pub(super) v4: HashMap<MapData, Key4, Leg>,
    pub(super) v6: HashMap<MapData, Key6, Leg>,
    pub(super) table: Array<MapData, Way>,
    pub(super) ways: Ways,
}

impl fmt::Debug for Legs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Legs").field("ways", &self.ways).finish_non_exhaustive()
    }
}

impl Legs {
    /// Makes of a leg that stands, or of none, the one that is wanted, or none. Both are found by
    /// the same key, and no packet sees half of one. If that fails, none stands: so nothing goes on
    /// by a way that leads elsewhere by now.
    pub fn set(
        &mut self,
        now: Instant,
        stands: &mut Option<Entry>,
        wanted: Option<Entry>,
    ) -> Result<(), Unable> {
        let Some(entry) = wanted else { return self.remove(now, stands) };
        if let Err(error) = self.put(now, &entry) {
            self.remove(now, stands)?;
            return Err(error);
        }
        if let Some(before) = stands.replace(entry) {
            self.ways.release(now, &before.way);
        }
        Ok(())
    }

    fn put(&mut self, now: Instant, entry: &Entry) -> Result<(), Unable> {
        let held = self.ways.hold(now, &entry.way).ok_or(Unable::Ways)?;
        let put = self.put_by(held, entry);
        if put.is_err() {
            self.ways.release(now, &entry.way);
        }
        put
    }

    fn put_by(&mut self, held: Held, entry: &Entry) -> Result<(), Unable> {
        if held.is_new {
            self.table.set(held.index, entry.way, 0)?;
            self.ways.wrote(&entry.way);
        }
        let leg = entry.leg(held.index);
        match &entry.key {
            Key::V4(key) => self.v4.insert(key, leg, 0)?,
            Key::V6(key) => self.v6.insert(key, leg, 0)?,
        }
        Ok(())
    }

    fn remove(&mut self, now: Instant, stands: &mut Option<Entry>) -> Result<(), Unable> {
        let Some(entry) = stands.take() else { return Ok(()) };
        // Should it stay nevertheless, it ends before its way is written anew.
        self.ways.release(now, &entry.way);
        match &entry.key {
            Key::V4(key) => self.v4.remove(key)?,
            Key::V6(key) => self.v6.remove(key)?,
        }
        Ok(())
    }
}
