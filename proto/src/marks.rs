//! What the network header of a datagram says beside its addresses, and what is carried on.
//!
//! RFC 8656 §13–16. DSCP and ECN are kept bit by bit, between the families too (RFC 7915 §4, §5);
//! the hop limit is decremented as a router does, which ends loops between relays (§21.1.7). DF
//! is never carried on: user space does not see it, so an incoming one counts as 0 (§14, the
//! alternate behaviour), and a client asks for it with DONT-FRAGMENT.

use std::num::NonZeroU8;

/// The fields of an IPv4 or IPv6 header that a relay minds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Marks {
    /// TOS or traffic class: six bits of DSCP, two of ECN.
    pub class: u8,
    /// TTL or hop limit; `None` where no header was seen, and for the system's own default.
    pub hops: Option<NonZeroU8>,
    /// Nobody shall fragment it (IPv4).
    pub dont_fragment: bool,
}

impl Marks {
    /// Of a frame of a stream, and of the relay's own messages: best effort, Not-ECT.
    pub const PLAIN: Self = Self { class: 0, hops: None, dont_fragment: false };

    /// What the datagram carries behind the relay; `None` if it may go no further.
    #[must_use]
    pub fn carried(self) -> Option<Self> {
        let hops = match self.hops {
            None => None,
            Some(hops) => Some(NonZeroU8::new(hops.get() - 1)?),
        };
        Some(Self { class: self.class, hops, dont_fragment: false })
    }
}

/// A datagram, or a frame of a stream, as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// What its header said.
    pub marks: Marks,
    /// What UDP carried.
    pub bytes: &'a [u8],
}

/// Bytes whose header nobody saw.
impl<'a, B: AsRef<[u8]> + ?Sized> From<&'a B> for Datagram<'a> {
    fn from(bytes: &'a B) -> Self {
        Self { marks: Marks::PLAIN, bytes: bytes.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iphdr_009_each_relay_takes_a_hop_and_the_last_one_is_the_end() {
        let marks = |hops| Marks { class: 0xB9, hops: NonZeroU8::new(hops), dont_fragment: true };
        for (hops, left) in [(255, Some(254)), (64, Some(63)), (2, Some(1)), (1, None)] {
            let carried = marks(hops).carried();
            assert_eq!(carried.map(|it| it.hops.map(NonZeroU8::get)), left.map(Some), "{hops}");
            assert!(carried.is_none_or(|it| it.class == 0xB9 && !it.dont_fragment));
        }
        assert_eq!(Marks::PLAIN.carried(), Some(Marks::PLAIN), "the system's default stays");
    }
}
