//! How long legs live, when they rest, and when somebody looks at what they counted.
//!
//! Legs live in spells of [`SPELL`], between which they [`REST`], and within a spell no longer than
//! [`LIFE`] from a look at their accounts: the kernel program ends them then by itself, however
//! late the follower is. So what a leg can count between two looks is bounded, and
//! [`Reading`](super::Reading) has room for it.

use std::time::{Duration, Instant};

/// How long legs live before they rest. The host's network stack learns that a neighbour is gone
/// from what it sends to it by itself, and it sends nothing of what legs carry.
const SPELL: Duration = Duration::from_secs(20);

/// How long they rest: so long packets go through the relay and the stack.
const REST: Duration = Duration::from_millis(100);

/// How long within a spell until somebody looks.
const LOOK: Duration = Duration::from_secs(10);

/// How long legs live from a look on: so late the next one may be without harm.
pub(super) const LIFE: Duration = Duration::from_secs(11);

/// The life of the legs of one route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    looked: Instant,
    rests: Instant,
}

/// What is due for legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A look at what they counted.
    Look,
    /// That too: they have rested.
    Spell,
}

impl Life {
    /// Begins with a look and a spell.
    pub(super) fn begin(now: Instant) -> Self {
        Self { looked: now, rests: now + SPELL }
    }

    /// When the legs end unless they live on.
    pub(super) fn ends(&self) -> Instant {
        self.rests.min(self.looked + LIFE)
    }

    /// When something is due.
    pub(super) fn next(&self) -> Instant {
        let look = self.looked + LOOK;
        if look < self.rests { look } else { self.rests + REST }
    }

    /// Goes on with what is due, if anything is.
    pub(super) fn go_on(&mut self, now: Instant) -> Option<Due> {
        if now < self.next() {
            return None;
        }
        if now < self.rests + REST {
            self.looked = now;
            return Some(Due::Look);
        }
        *self = Self::begin(now);
        Some(Due::Spell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::KernelClock;

    /// Times in milliseconds at which a life goes on that is asked after `lateness`, and why.
    fn lived(begin: Instant, lateness: u64) -> Vec<(u128, Due)> {
        let mut life = Life::begin(begin);
        let mut went_on = Vec::new();
        while went_on.len() < 4 {
            let now = life.next() + Duration::from_millis(lateness);
            let due = life.go_on(now).expect("something is due");
            went_on.push(((now - begin).as_millis(), due));
        }
        went_on
    }

    #[test]
    fn legs_are_looked_at_twice_a_spell_and_rest_between_two() {
        let begin = KernelClock::look().unwrap().made();
        for (lateness, expected) in [
            (0, [10_000, 20_100, 30_100, 40_200]),
            (100, [10_100, 20_200, 30_300, 40_400]),
            (900, [10_900, 21_000, 31_900, 42_000]),
        ] {
            let dues = [Due::Look, Due::Spell, Due::Look, Due::Spell];
            let expected: Vec<_> = expected.into_iter().zip(dues).collect();
            assert_eq!(lived(begin, lateness), expected, "{lateness} ms late");
        }
    }

    fn just_before(at: Instant) -> Instant {
        at.checked_sub(Duration::from_nanos(1)).unwrap()
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let begin = KernelClock::look().unwrap().made();
        let mut life = Life::begin(begin);
        assert_eq!(life.go_on(just_before(begin + LOOK)), None);
        assert_eq!(life.go_on(begin + LOOK), Some(Due::Look));
        let rested = begin + SPELL + REST;
        assert_eq!(life.go_on(just_before(rested)), None);
        assert_eq!(life.go_on(rested), Some(Due::Spell));
    }

    #[test]
    fn no_leg_lives_long_without_a_look_however_late_that_is() {
        let begin = KernelClock::look().unwrap().made();
        let (mut life, mut now, mut state) = (Life::begin(begin), begin, 1_u64);
        let mut looked = begin;
        for _ in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            now += Duration::from_millis((state >> 33) % 7_000);
            let ends = life.ends();
            assert!(ends <= looked + LIFE, "between looks a leg lives {:?}", ends - looked);
            if life.go_on(now).is_some() {
                looked = now;
            }
            assert!(life.next() < now + LIFE, "so the next look comes before its end");
        }
    }
}
