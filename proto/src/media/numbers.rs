//! The packets of one source, counted by their numbers (RFC 3550 A.1, A.3).
//!
//! Numbers have 16 bits and begin anywhere. A packet whose number is near the highest one belongs to
//! the row; two in a row that are far from it begin a new row, as a source does that was started
//! again. Unlike A.3, where a duplicate makes up for a loss, packets are counted once: what is
//! lost is what never came.

/// How far a number may be ahead: a minute of voice (`MAX_DROPOUT`).
const DROPOUT: u16 = 3_000;

/// How far a number may be behind (`MAX_MISORDER`): as many as are remembered.
const MISORDER: u16 = 100;

/// Packets of one source. What every packet changes stands together, first.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Numbers {
    /// Which of the last 128 numbers were here; bit 0 is the highest.
    window: u128,
    /// The highest number, with the rounds before it.
    highest: u64,
    received: u64,
    /// The number that would begin a new row.
    stray: Option<u16>,
    /// How often a row began anew.
    restarts: u32,
    /// The lowest one of this row.
    lowest: u64,
    /// Expected in rows before this one.
    before: u64,
    duplicates: u64,
    late: u64,
}

/// What a packet was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// The first one of the source, or behind the highest number: as many numbers on.
    Next(u16),
    /// Before one with a higher number.
    Late,
    /// Here already.
    Duplicate,
    /// Far from the row, and perhaps the first of another.
    Stray,
    /// The second of another row, which has begun.
    Restart,
}

impl Numbers {
    /// The first packet of a source.
    pub fn new(first: u16) -> Self {
        // A round ahead, because what was sent before may come later.
        let first = u64::from(first) + (1 << 16);
        Self {
            window: 1,
            highest: first,
            lowest: first,
            before: 0,
            received: 1,
            duplicates: 0,
            late: 0,
            restarts: 0,
            stray: None,
        }
    }

    /// The number behind the highest.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "takes the lower half")]
    pub fn next(&self) -> u16 {
        (self.highest as u16).wrapping_add(1)
    }

    /// So many packets more, each with the next number: what [`Numbers::add`] does then.
    #[inline]
    pub fn add_next(&mut self, packets: u32) {
        self.window = !(!self.window).checked_shl(packets).unwrap_or(0);
        self.highest += u64::from(packets);
        self.received += u64::from(packets);
        self.stray = None;
    }

    /// Another packet.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "takes the lower half")]
    pub fn add(&mut self, number: u16) -> Arrived {
        let ahead = number.wrapping_sub(self.highest as u16);
        if ahead != 0 && ahead < DROPOUT {
            self.window = self.window.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
            self.highest += u64::from(ahead);
            self.received += 1;
            self.stray = None;
            return Arrived::Next(ahead);
        }
        let behind = ahead.wrapping_neg();
        if behind <= MISORDER { self.add_behind(behind) } else { self.add_stray(number) }
    }

    fn add_behind(&mut self, behind: u16) -> Arrived {
        let place = 1 << behind;
        if self.window & place != 0 {
            self.duplicates += 1;
            return Arrived::Duplicate;
        }
        self.window |= place;
        self.lowest = self.lowest.min(self.highest - u64::from(behind));
        self.received += 1;
        self.late += 1;
        Arrived::Late
    }

    /// RFC 3550 A.1: two packets in a row with numbers far away are believed.
    fn add_stray(&mut self, number: u16) -> Arrived {
        if self.stray != Some(number) {
            self.stray = Some(number.wrapping_add(1));
            return Arrived::Stray;
        }
        let before = self.expected();
        let second = Self::new(number);
        *self = Self {
            window: 0b11,
            lowest: second.lowest - 1,
            before,
            received: self.received + 2,
            duplicates: self.duplicates,
            late: self.late,
            restarts: self.restarts.saturating_add(1),
            ..second
        };
        Arrived::Restart
    }

    /// A packet behind some that went another way and say nothing: a row of its own begins.
    pub fn resume(&mut self, number: u16) {
        let before = self.expected();
        let Self { received, duplicates, late, restarts, .. } = *self;
        let row = Self::new(number);
        *self = Self { before, received: received + 1, duplicates, late, restarts, ..row };
    }

    /// How many packets were sent, as far as numbers tell (A.3).
    #[inline]
    pub fn expected(&self) -> u64 {
        self.before + (self.highest - self.lowest) + 1
    }

    /// How many came, each counted once.
    #[inline]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many did not come.
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    /// How many came that were here already.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// How many came behind one with a higher number.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// How often the numbers began anew.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }
}
