//! Bits of several rows, averaged so that a rate does not show whose slots were in the row.

/// What the last rows carried.
///
/// A row may be shorter than the duplex pattern, and hold downlink slots alone; the mean over a
/// multiple of the pattern is the rate that the link offers.
#[derive(Debug, Clone)]
pub(super) struct RateWindow {
    bits: Vec<u64>,
    next: usize,
    filled: usize,
    row_ns: u64,
}

/// The shortest time over which a rate is told.
const SHORTEST_NS: u64 = 5_000_000;

/// The most rows over which it is.
const MOST_ROWS: u64 = 4096;

impl RateWindow {
    /// A window over rows of `row_ns` for a pattern of `pattern_ns`: the fewest rows that are at
    /// least 5 ms together and a multiple of the pattern.
    pub(super) fn new(row_ns: u64, pattern_ns: u64) -> RateWindow {
        let whole = |rows: &u64| {
            let length_ns = rows * row_ns;
            length_ns >= SHORTEST_NS && length_ns.is_multiple_of(pattern_ns)
        };
        let rows = (1..=MOST_ROWS).find(whole).unwrap_or(MOST_ROWS);
        RateWindow {
            bits: vec![0; usize::try_from(rows).unwrap_or(1)],
            next: 0,
            filled: 0,
            row_ns,
        }
    }

    /// Takes what a row carried; the rate in bit/s over the window.
    pub(super) fn push(&mut self, bits: u64) -> u64 {
        self.bits[self.next] = bits;
        self.next = (self.next + 1) % self.bits.len();
        self.filled = (self.filled + 1).min(self.bits.len());
        let sum: u128 = self.bits.iter().map(|bits| u128::from(*bits)).sum();
        let length_ns = u128::from(self.row_ns) * self.filled as u128;
        u64::try_from(sum * 1_000_000_000 / length_ns).unwrap_or(u64::MAX - 1)
    }

    /// Forgets what was carried: nothing is carried any more.
    pub(super) fn clear(&mut self) {
        self.bits.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_does_not_show_the_pattern_and_keeps_the_bits() {
        // 2.5 ms of pattern in rows of 1 ms: five rows.
        let mut window = RateWindow::new(1_000_000, 2_500_000);
        let carried = [1_000, 1_000, 0, 1_000, 2_000];
        let rates: Vec<u64> = (0..20).map(|row| window.push(carried[row % 5])).collect();
        assert!(
            rates[4..].iter().all(|rate| *rate == 1_000_000),
            "{rates:?}"
        );
        assert_eq!(RateWindow::new(10_000_000, 2_500_000).bits.len(), 1);
        assert_eq!(RateWindow::new(1_000_000, 1_000_000).bits.len(), 5);
        window.clear();
        assert_eq!(window.push(0), 0);
    }
}
