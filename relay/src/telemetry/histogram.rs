//! Distributions: counts by upper bound, as plain integers a worker adds to.
//!
//! What a value means (its unit, its bounds) is a [`Scale`]; a [`Histogram`] only counts, so that it
//! is published with the other counters, word by word. A value costs a search among few bounds, and
//! is added once for an allocation or a turn, never for a packet.

/// The most bounds a scale has.
pub(super) const BOUNDS: usize = 15;

/// What values are counted by.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    /// Upper bounds, rising.
    pub(super) bounds: &'static [u64],
    /// How many of them make one of the unit that is shown.
    pub(super) per_unit: u64,
}

/// Counts by upper bound, the last one without, and the sum of the values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    pub(super) counts: [u64; BOUNDS + 1],
    pub(super) sum: u64,
}

impl Histogram {
    /// Adds a value.
    pub(crate) fn add(&mut self, scale: &Scale, value: u64) {
        let place = scale.bounds.partition_point(|bound| *bound < value);
        // Behind the bounds of a shorter scale comes the place without a bound.
        self.counts[place.min(BOUNDS)] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// How many values were added.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl Scale {
    /// Upper bounds as text, each with how many values are not above it.
    pub(super) fn buckets(&self, of: &Histogram) -> impl Iterator<Item = (String, u64)> {
        let mut below = 0;
        let counts = of.counts;
        self.bounds.iter().zip(counts).map(move |(bound, count)| {
            below += count;
            (self.show(*bound), below)
        })
    }

    /// A value in the unit that is shown.
    #[expect(clippy::cast_precision_loss, reason = "sums that large need no last digit")]
    pub(super) fn show(&self, value: u64) -> String {
        (value as f64 / self.per_unit as f64).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale { bounds: &[0, 10, 25, 1_000], per_unit: 10 };

    #[test]
    fn values_are_counted_up_to_their_bound_and_it_included() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 10, 11, 25, 26, 1_000, 1_001, 9_999] {
            histogram.add(&SCALE, value);
        }
        let buckets: Vec<_> = SCALE.buckets(&histogram).collect();
        let expected = [("0", 1), ("1", 3), ("2.5", 5), ("100", 7)];
        assert_eq!(buckets, expected.map(|(bound, count)| (bound.to_owned(), count)));
        assert_eq!(histogram.count(), 9);
        assert_eq!(SCALE.show(histogram.sum), "1207.3");
    }
}
