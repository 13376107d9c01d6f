//! A map that keeps its first entries inside itself.
//!
//! A media session has one to four peers: they lie in the allocation, keys together, so that the
//! packet path finds one by a scan of a cache line. The fifth entry opens an ordered map.

use std::collections::BTreeMap;

/// How many entries lie inside.
const INLINE: usize = 4;

/// A small map; iteration follows the place of insertion inside, then the order of keys.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Few<K, V> {
    keys: [Option<K>; INLINE],
    values: [Option<V>; INLINE],
    more: BTreeMap<K, V>,
}

impl<K: Copy + Ord, V: Copy> Few<K, V> {
    pub(crate) fn new() -> Self {
        Self { keys: [None; INLINE], values: [None; INLINE], more: BTreeMap::new() }
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn find(&self, key: K) -> Option<&V> {
        match self.keys.iter().position(|inside| *inside == Some(key)) {
            Some(place) => self.values[place].as_ref(),
            None => self.more.get(&key),
        }
    }

    /// Sets the value of a key, and returns the one it had.
    pub(crate) fn set(&mut self, key: K, value: V) -> Option<V> {
        if let Some(old) = self.more.get_mut(&key) {
            return Some(std::mem::replace(old, value));
        }
        let place = self.keys.iter().position(|inside| *inside == Some(key));
        match place.or_else(|| self.keys.iter().position(Option::is_none)) {
            Some(place) => {
                self.keys[place] = Some(key);
                self.values[place].replace(value)
            }
            None => self.more.insert(key, value),
        }
    }

    /// Removes a key.
    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        if let Some(place) = self.keys.iter().position(|inside| *inside == Some(key)) {
            self.keys[place] = None;
            return self.values[place].take();
        }
        self.more.remove(&key)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.iter().flatten().count() + self.more.len()
    }

    /// Every entry.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        let inside = self.keys.iter().zip(&self.values);
        let inside = inside.filter_map(|(key, value)| Some(((*key)?, value.as_ref()?)));
        inside.chain(self.more.iter().map(|(key, value)| (*key, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_entries_behave_like_few() {
        let mut few = Few::new();
        let mut model = BTreeMap::new();
        for round in 0_u32..2_000 {
            let key = round.wrapping_mul(2_654_435_761) >> 28;
            match round % 3 {
                0 => assert_eq!(few.remove(key), model.remove(&key)),
                _ => assert_eq!(few.set(key, round), model.insert(key, round)),
            }
            assert_eq!(few.len(), model.len());
            assert_eq!(few.find(key), model.get(&key));
        }
        let mut seen: Vec<_> = few.iter().map(|(key, value)| (key, *value)).collect();
        seen.sort_unstable();
        assert_eq!(seen, model.into_iter().collect::<Vec<_>>());
    }
}
