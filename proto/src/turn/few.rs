//! A map that keeps its first entry inside itself.
//!
//! Most calls have one peer: it lies in the allocation, where the packet path finds it without a
//! further fetch, and an allocation without peers pays for no more than one. The second entry opens a
//! list in the order of keys.

/// A small map, with no room to spare; iteration begins with the entry inside, the others follow in
/// the order of keys.
#[derive(Debug)]
pub(crate) struct Few<K, V> {
    first: Option<(K, V)>,
    more: Box<[(K, V)]>,
}

impl<K: Copy + Ord, V: Copy> Few<K, V> {
    pub(crate) fn new() -> Self {
        Self { first: None, more: Box::default() }
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn find(&self, key: K) -> Option<&V> {
        match &self.first {
            Some((inside, value)) if *inside == key => Some(value),
            _ => self.more.get(self.place(key).ok()?).map(|(_, value)| value),
        }
    }

    /// Sets the value of a key, and returns the one it had.
    pub(crate) fn set(&mut self, key: K, value: V) -> Option<V> {
        let place = self.place(key);
        match (&mut self.first, place) {
            (Some((inside, old)), _) if *inside == key => Some(std::mem::replace(old, value)),
            (_, Ok(place)) => Some(std::mem::replace(&mut self.more[place].1, value)),
            (Some(_), Err(place)) => {
                self.change(1, |more| more.insert(place, (key, value)));
                None
            }
            (None, Err(_)) => {
                self.first = Some((key, value));
                None
            }
        }
    }

    /// Removes a key.
    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        if self.first.is_some_and(|(inside, _)| inside == key) {
            let next = if self.more.is_empty() { None } else { self.change(0, Vec::pop) };
            return std::mem::replace(&mut self.first, next).map(|(_, value)| value);
        }
        let place = self.place(key).ok()?;
        Some(self.change(0, |more| more.remove(place)).1)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    /// Every entry.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.first.iter().chain(&*self.more).map(|(key, value)| (*key, value))
    }

    /// Changes the list, which may grow by so many entries.
    fn change<R>(&mut self, by: usize, change: impl FnOnce(&mut Vec<(K, V)>) -> R) -> R {
        let mut more = std::mem::take(&mut self.more).into_vec();
        more.reserve_exact(by);
        let result = change(&mut more);
        self.more = more.into_boxed_slice();
        result
    }

    /// Where a key is in the list, or would be.
    fn place(&self, key: K) -> Result<usize, usize> {
        self.more.binary_search_by_key(&key, |(key, _)| *key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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

    #[test]
    fn who_is_left_alone_lies_inside_and_nothing_else_is_kept() {
        let mut few = Few::new();
        for key in 0..100 {
            few.set(key, key);
        }
        for key in 0..99 {
            few.remove(key);
        }
        assert_eq!((few.first, few.more.len()), (Some((99, 99)), 0));
    }
}
