//! The four places that NAT behaviour discovery needs (RFC 5780 §6): two addresses with the same
//! two ports each.

use crate::addr::ListenerId;

/// Four UDP listeners of one family: two hosts, two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corners([ListenerId; 4]);

/// One of them, seen from where a request arrived.
#[derive(Clone, Copy, Debug)]
pub struct Corner {
    corners: Corners,
    index: usize,
}

/// What the answer shall leave from instead of where the request arrived (RFC 5780 §7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The other host.
    pub host: bool,
    /// The other port.
    pub port: bool,
}

impl Change {
    /// What OTHER-ADDRESS names.
    pub const BOTH: Self = Self { host: true, port: true };
}

impl Corners {
    /// `hosts[h][p]` is the listener of host `h` at port `p`.
    pub fn new(hosts: [[ListenerId; 2]; 2]) -> Self {
        let [[a, b], [c, d]] = hosts;
        Self([a, b, c, d])
    }

    /// The corner that is this listener.
    pub fn at(self, listener: ListenerId) -> Option<Corner> {
        let index = self.0.iter().position(|&corner| corner == listener)?;
        Some(Corner { corners: self, index })
    }

    /// All four.
    pub fn listeners(&self) -> &[ListenerId] {
        &self.0
    }
}

impl Corner {
    /// The listener that differs from this one in host, port, both or neither.
    pub fn changed(self, change: Change) -> ListenerId {
        let other = usize::from(change.host) << 1 | usize::from(change.port);
        self.corners.0[self.index ^ other]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natb_003_each_change_leads_to_another_corner_and_back() {
        let [a, b, c, d] = [3, 1, 4, 2].map(ListenerId);
        let corners = Corners::new([[a, b], [c, d]]);
        for (from, host, port, both) in [(a, c, b, d), (b, d, a, c), (c, a, d, b), (d, b, c, a)] {
            let corner = corners.at(from).unwrap();
            for (change, expected) in [
                (Change::default(), from),
                (Change { host: true, port: false }, host),
                (Change { host: false, port: true }, port),
                (Change::BOTH, both),
            ] {
                assert_eq!(corner.changed(change), expected, "{from:?} {change:?}");
            }
        }
        assert!(corners.at(ListenerId(7)).is_none());
    }
}
