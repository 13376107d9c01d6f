//! What happens to a datagram between two sockets.

use std::time::Duration;

use crate::dice::Dice;

/// A path with faults. The default path is perfect: at once, exactly once, in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// Lost datagrams, in thousandths.
    pub loss: u16,
    /// Datagrams that arrive twice, in thousandths.
    pub duplication: u16,
    /// Time of flight.
    pub delay: Duration,
    /// At most this much is added to the delay, each time anew: what reorders.
    pub jitter: Duration,
}

impl Link {
    /// How long each copy of one datagram is under way; empty when it is lost.
    pub fn carry(&self, dice: &mut Dice) -> Vec<Duration> {
        if dice.one_in_thousand(self.loss) {
            return Vec::new();
        }
        let copies = if dice.one_in_thousand(self.duplication) { 2 } else { 1 };
        (0..copies).map(|_| self.delay + self.some_jitter(dice)).collect()
    }

    /// How long the next piece of a stream is under way: what is lost is sent again.
    pub(crate) fn delay_of_stream(&self, dice: &mut Dice) -> Duration {
        let again = if dice.one_in_thousand(self.loss) { 2 } else { 0 };
        self.delay * (1 + again) + self.some_jitter(dice)
    }

    fn some_jitter(&self, dice: &mut Dice) -> Duration {
        match u64::try_from(self.jitter.as_micros()).expect("jitter of less than an age") {
            0 => Duration::ZERO,
            micros => Duration::from_micros(dice.below(micros)),
        }
    }
}
