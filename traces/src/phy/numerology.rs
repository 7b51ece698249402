//! Slots and whose they are: numerology (TS 38.211, 4.2) and the duplex pattern (TS 38.213, 11.1).

use super::error::PhyError;
use crate::Direction;

/// Symbols of a slot with normal cyclic prefix.
pub const SYMBOLS_PER_SLOT: u8 = 14;

/// The subcarrier spacing, 15 kHz x 2^mu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Numerology(u8);

impl Numerology {
    /// mu = 0 (15 kHz) to 6 (960 kHz).
    ///
    /// # Errors
    /// There is no such numerology.
    pub fn new(mu: u8) -> Result<Numerology, PhyError> {
        PhyError::check("numerology", mu, 0, 6).map(Numerology)
    }

    /// mu.
    #[must_use]
    pub const fn mu(self) -> u8 {
        self.0
    }

    /// Length of a slot, 2^-mu ms: whole nanoseconds up to mu = 6.
    #[must_use]
    pub const fn slot_ns(self) -> u64 {
        1_000_000 >> self.0
    }

    /// Subcarrier spacing in Hz.
    #[must_use]
    pub const fn spacing_hz(self) -> u64 {
        15_000 << self.0
    }

    /// Resource blocks that a channel of `bandwidth_hz` holds if 95 % of it is occupied, as in
    /// most rows of TS 38.101-1 and -2, Table 5.3.2-1 (100 MHz at 30 kHz: 263 of 273 there).
    #[must_use]
    pub fn resource_blocks(self, bandwidth_hz: u64) -> u32 {
        let blocks = bandwidth_hz / 100 * 95 / (12 * self.spacing_hz());
        u32::try_from(blocks).unwrap_or(u32::MAX)
    }
}

/// What part of each slot belongs to which direction, repeated for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplexPattern {
    /// Symbols of the downlink and of the uplink.
    slots: Vec<[u8; 2]>,
}

impl DuplexPattern {
    /// Frequency division: both directions have every slot.
    #[must_use]
    pub fn frequency_division() -> DuplexPattern {
        DuplexPattern {
            slots: vec![[SYMBOLS_PER_SLOT; 2]],
        }
    }

    /// Time division by a string such as `DDDSU`, with the symbols that the downlink and the uplink
    /// have of a special slot.
    ///
    /// # Errors
    /// The string is empty, longer than 80 slots (10 ms at mu = 3), has other letters or lacks a
    /// direction; or the special slot is overfull.
    pub fn time_division(
        pattern: &str,
        special_down: u8,
        special_up: u8,
    ) -> Result<DuplexPattern, PhyError> {
        PhyError::check(
            "slots of the duplex pattern",
            pattern.chars().count(),
            1,
            80,
        )?;
        let special = u16::from(special_down) + u16::from(special_up);
        PhyError::check("symbols of the special slot", special, 0, 14)?;
        let slot = |letter: char| match letter {
            'D' => Ok([SYMBOLS_PER_SLOT, 0]),
            'U' => Ok([0, SYMBOLS_PER_SLOT]),
            'S' => Ok([special_down, special_up]),
            other => Err(PhyError::new(
                "duplex pattern",
                &other,
                "the letters D, S and U",
            )),
        };
        let slots = pattern.chars().map(slot).collect::<Result<Vec<_>, _>>()?;
        let has = |at: usize| slots.iter().any(|slot| slot[at] == SYMBOLS_PER_SLOT);
        if has(0) && has(1) {
            Ok(DuplexPattern { slots })
        } else {
            Err(PhyError::new(
                "duplex pattern",
                &pattern,
                "at least one D and one U",
            ))
        }
    }

    /// Slots until it repeats.
    #[must_use]
    pub fn period(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Symbols of slot number `slot` in a direction.
    #[must_use]
    #[inline]
    pub fn symbols(&self, direction: Direction, slot: u64) -> u8 {
        let at = usize::try_from(slot % self.period()).unwrap_or(0);
        self.slots[at][usize::from(direction == Direction::Up)]
    }

    /// The first slot from `slot` on with at least `symbols` in a direction; `slot` itself if there
    /// is none.
    #[must_use]
    pub fn next(&self, direction: Direction, slot: u64, symbols: u8) -> u64 {
        (slot..slot + self.period())
            .find(|&slot| self.symbols(direction, slot) >= symbols)
            .unwrap_or(slot)
    }

    /// The part of all symbols that a direction has.
    #[must_use]
    pub fn part(&self, direction: Direction) -> f64 {
        let symbols = (0..self.period()).map(|slot| u32::from(self.symbols(direction, slot)));
        let all = self.period() * u64::from(SYMBOLS_PER_SLOT);
        #[expect(clippy::cast_precision_loss, reason = "at most 80 slots")]
        let all = all as f64;
        f64::from(symbols.sum::<u32>()) / all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_whole_nanoseconds_in_every_numerology() {
        let lengths: Vec<u64> = (0..=6)
            .map(|mu| Numerology::new(mu).unwrap().slot_ns())
            .collect();
        assert_eq!(
            lengths,
            [1_000_000, 500_000, 250_000, 125_000, 62_500, 31_250, 15_625]
        );
        assert_eq!(Numerology::new(6).unwrap().spacing_hz(), 960_000);
        assert!(Numerology::new(7).is_err());
        // TS 38.101-2, Table 5.3.2-1: 264 blocks in 400 MHz at 120 kHz.
        assert_eq!(
            Numerology::new(3).unwrap().resource_blocks(400_000_000),
            263
        );
    }

    #[test]
    fn a_pattern_tells_the_symbols_of_each_slot_and_direction() {
        let pattern = DuplexPattern::time_division("DDDSU", 10, 2).unwrap();
        let of = |direction| -> Vec<u8> {
            (5..10)
                .map(|slot| pattern.symbols(direction, slot))
                .collect()
        };
        assert_eq!(of(Direction::Down), [14, 14, 14, 10, 0]);
        assert_eq!(of(Direction::Up), [0, 0, 0, 2, 14]);
        assert_eq!(pattern.next(Direction::Up, 5, 3), 9);
        assert_eq!(pattern.next(Direction::Up, 5, 1), 8);
        assert_eq!(pattern.next(Direction::Down, 4, 14), 5);
        assert!((pattern.part(Direction::Down) - 52.0 / 70.0).abs() < 1e-15);
        let both = DuplexPattern::frequency_division();
        assert_eq!(both.symbols(Direction::Up, 77), 14);
    }

    #[test]
    fn patterns_that_no_cell_has_are_refused() {
        assert!(DuplexPattern::time_division("", 10, 2).is_err());
        assert!(DuplexPattern::time_division("DDD", 10, 2).is_err());
        assert!(DuplexPattern::time_division("DXU", 10, 2).is_err());
        assert!(DuplexPattern::time_division("DSU", 10, 5).is_err());
    }
}
