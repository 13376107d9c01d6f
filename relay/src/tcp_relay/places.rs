//! Places of sockets, found by the tokens of their events.
//!
//! A place is used again with a new generation, so that an event that comes late finds nothing.

use mio::Token;

use crate::engine::FOREIGN;

/// The bit of a foreign token's slot that makes it one of relayed TCP addresses: no worker has
/// that many streams. Passages and doors of streams have the next one set.
const OURS: usize = 1 << 29;

/// See [`OURS`].
const NOT_OURS: usize = 1 << 30;

/// Whether a foreign token is of a relayed TCP address.
pub(crate) fn is_ours(Token(token): Token) -> bool {
    token & OURS != 0 && token & NOT_OURS == 0
}

/// Names a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    place: u32,
    generation: u32,
}

/// Which of the two sockets of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The listener, or the peer's.
    Near,
    /// The client's.
    Far,
}

/// Places, most of them in use.
pub(super) struct Places<P> {
    places: Vec<Place<P>>,
    free: Vec<u32>,
}

struct Place<P> {
    generation: u32,
    queued: bool,
    what: Option<P>,
}

impl Key {
    /// The token of one of its sockets.
    pub(super) fn token(self, end: End) -> Token {
        let slot = OURS + 2 * self.place as usize + usize::from(end == End::Far);
        Token((self.generation as usize) << 32 | FOREIGN | slot)
    }

    /// The inverse.
    #[expect(clippy::cast_possible_truncation, reason = "takes the integer's halves apart")]
    pub(super) fn from_token(Token(token): Token) -> (Self, End) {
        let slot = token & (OURS - 1);
        let key = Self { place: (slot / 2) as u32, generation: (token >> 32) as u32 };
        (key, if slot.is_multiple_of(2) { End::Near } else { End::Far })
    }
}

impl<P> Default for Places<P> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<P> Places<P> {
    /// The key that the next insertion will have.
    pub(super) fn next_key(&mut self) -> Key {
        let place = self.free.last().copied().unwrap_or_else(|| {
            let place = u32::try_from(self.places.len()).expect("fewer than descriptors");
            self.places.push(Place { generation: 0, queued: false, what: None });
            self.free.push(place);
            place
        });
        Key { place, generation: self.places[place as usize].generation }
    }

    /// Takes something in, under the next key.
    pub(super) fn insert(&mut self, what: P) -> Key {
        let key = self.next_key();
        self.free.pop();
        self.places[key.place as usize].what = Some(what);
        key
    }

    /// What is at a place.
    pub(super) fn find(&mut self, key: Key) -> Option<&mut P> {
        self.place(key)?.what.as_mut()
    }

    /// Takes out what is at a place, for [`Places::put`].
    pub(super) fn take(&mut self, key: Key) -> Option<P> {
        self.place(key)?.what.take()
    }

    /// Puts something in the place of what was taken.
    pub(super) fn put(&mut self, key: Key, what: P) {
        if let Some(place) = self.place(key) {
            place.what = Some(what);
        }
    }

    /// Frees a place.
    pub(super) fn remove(&mut self, key: Key) -> Option<P> {
        let place = self.place(key)?;
        place.generation = place.generation.wrapping_add(1);
        place.queued = false;
        let what = place.what.take();
        self.free.push(key.place);
        what
    }

    /// Notes that a place waits to be looked at; false if it does already, or is free.
    pub(super) fn queue(&mut self, key: Key) -> bool {
        self.place(key).is_some_and(|place| !std::mem::replace(&mut place.queued, true))
    }

    /// It waits no more.
    pub(super) fn unqueue(&mut self, key: Key) {
        if let Some(place) = self.place(key) {
            place.queued = false;
        }
    }

    fn place(&mut self, key: Key) -> Option<&mut Place<P>> {
        let place = self.places.get_mut(key.place as usize)?;
        (place.generation == key.generation).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_token_and_old_ones_find_nothing() {
        let mut places = Places::default();
        let first = places.insert('a');
        let second = places.insert('b');
        for (key, end) in [(first, End::Near), (second, End::Far)] {
            assert!(is_ours(key.token(end)));
            assert_eq!(Key::from_token(key.token(end)), (key, end));
        }
        assert_eq!(places.remove(first), Some('a'));
        let third = places.insert('c');
        assert_eq!(places.find(first), None);
        assert_eq!(places.find(third), Some(&mut 'c'));
        assert!(places.queue(third) && !places.queue(third));
        assert!(!places.queue(first));
    }
}
