//! How long the MAC takes beside queueing: access, and the round trip of a retransmission.
//!
//! Everything is counted in slots of a duplex pattern, from the arrival of a packet at any moment,
//! all moments alike.

use super::error::PhyError;
use super::numerology::{DuplexPattern, Numerology, SYMBOLS_PER_SLOT};
use crate::Direction;

/// How an uplink user gets to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UplinkAccess {
    /// It asks: a scheduling request, a first grant for the buffer status report, and a grant for
    /// the data (TS 38.321, 5.4.4 and 5.4.5). What the first packet of a burst waits for.
    Request {
        /// Slots from one opportunity for a request to the next.
        period_slots: u32,
        /// The first grant is large enough for the packet too.
        first_grant_carries_data: bool,
    },
    /// A grant recurs unasked (TS 38.321, 5.8.2).
    ConfiguredGrant {
        /// Slots from one grant to the next.
        period_slots: u32,
    },
    /// Grants come all the time, as while the buffer never empties.
    Continuous,
}

/// Processing times and the access scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Slots in which the base station prepares a transmission or a grant.
    pub base_station_slots: u32,
    /// Slots from the end of data to its acknowledgement at the earliest (N1, K1).
    pub feedback_slots: u32,
    /// Slots from a grant to the data in the uplink at the earliest (N2, K2).
    pub grant_slots: u32,
    /// Time in which a transport block is decoded, in nanoseconds.
    pub decoding_ns: u64,
    /// Time of flight there and back, in nanoseconds: of a satellite, say. It lengthens every
    /// exchange, not the one-way delay of the data, which the geometry gives.
    pub round_trip_ns: u64,
    /// How the uplink is accessed.
    pub uplink_access: UplinkAccess,
}

impl Default for Timing {
    /// Two slots each and 100 us of decoding (the defaults of the 5G-LENA simulator), and a
    /// request every 10 slots.
    fn default() -> Timing {
        Timing {
            base_station_slots: 2,
            feedback_slots: 2,
            grant_slots: 2,
            decoding_ns: 100_000,
            round_trip_ns: 0,
            uplink_access: UplinkAccess::Request {
                period_slots: 10,
                first_grant_carries_data: false,
            },
        }
    }
}

/// A delay whose cause is the phase of the arrival.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccessDelay {
    /// Mean in nanoseconds.
    pub mean_ns: f64,
    /// Standard deviation in nanoseconds.
    pub deviation_ns: f64,
    /// The shortest, in nanoseconds.
    pub least_ns: f64,
    /// The longest, in nanoseconds.
    pub greatest_ns: f64,
}

/// A slot with fewer symbols than this in a direction carries control there, not data.
pub(super) const LEAST_DATA_SYMBOLS: u8 = 4;

impl Timing {
    /// An error if a period is 0 or a time longer than 2 s.
    pub(super) fn check(&self) -> Result<(), PhyError> {
        match self.uplink_access {
            UplinkAccess::Request { period_slots, .. }
            | UplinkAccess::ConfiguredGrant { period_slots } => {
                PhyError::check(
                    "period of the uplink access in slots",
                    period_slots,
                    1,
                    10_000,
                )?;
            }
            UplinkAccess::Continuous => {}
        }
        PhyError::check("decoding time in ns", self.decoding_ns, 0, 2_000_000_000)?;
        PhyError::check("round trip in ns", self.round_trip_ns, 0, 2_000_000_000)?;
        for slots in [
            self.base_station_slots,
            self.feedback_slots,
            self.grant_slots,
        ] {
            PhyError::check("processing time in slots", slots, 0, 1000)?;
        }
        Ok(())
    }

    /// Slots from the start of data in `slot` to the start of its retransmission at the earliest.
    #[must_use]
    pub fn round_trip_slots(
        &self,
        numerology: Numerology,
        pattern: &DuplexPattern,
        direction: Direction,
        slot: u64,
    ) -> u64 {
        let decoded = 1 + self.decoding_ns.div_ceil(numerology.slot_ns());
        let flight = self.round_trip_ns.div_ceil(numerology.slot_ns());
        let again = match direction {
            Direction::Down => {
                let wait = decoded.max(1 + u64::from(self.feedback_slots));
                let feedback = pattern.next(Direction::Up, slot + wait, 1);
                let ready = feedback + 1 + flight + u64::from(self.base_station_slots);
                pattern.next(Direction::Down, ready, LEAST_DATA_SYMBOLS)
            }
            Direction::Up => {
                let ready = slot + decoded + u64::from(self.base_station_slots);
                let grant = pattern.next(Direction::Down, ready, 1);
                let ready = grant + flight + u64::from(self.grant_slots);
                pattern.next(Direction::Up, ready, LEAST_DATA_SYMBOLS)
            }
        };
        again - slot
    }

    /// The delay from a packet's arrival to its being decoded, without queueing, retransmissions
    /// and time of flight.
    #[must_use]
    pub fn access(
        &self,
        numerology: Numerology,
        pattern: &DuplexPattern,
        direction: Direction,
    ) -> AccessDelay {
        let period = match (direction, self.uplink_access) {
            (Direction::Down, _) | (Direction::Up, UplinkAccess::Continuous) => 1,
            (
                Direction::Up,
                UplinkAccess::Request { period_slots, .. }
                | UplinkAccess::ConfiguredGrant { period_slots },
            ) => u64::from(period_slots),
        };
        let phases = pattern.period() * period;
        let (mut sum, mut squares) = (0.0, 0.0);
        let (mut least, mut greatest) = (u64::MAX, 0);
        for arrival in 0..phases {
            // Arrivals within slot `arrival` are seen at its end.
            let sent = match direction {
                Direction::Down => {
                    let ready = arrival + 1 + u64::from(self.base_station_slots);
                    pattern.next(Direction::Down, ready, LEAST_DATA_SYMBOLS)
                }
                Direction::Up => self.uplink_slot(numerology, pattern, arrival + 1),
            };
            let slots = sent + 1 - arrival;
            least = least.min(slots);
            greatest = greatest.max(slots);
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let slots = slots as f64 - 0.5;
            sum += slots;
            squares += slots * slots;
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let (count, slot_ns, decoding_ns, least, greatest) = (
            phases as f64,
            numerology.slot_ns() as f64,
            self.decoding_ns as f64,
            least as f64,
            greatest as f64,
        );
        let mean = sum / count;
        // The moment within the slot is uniform: a variance of 1/12.
        let variance = (squares / count - mean * mean).max(0.0) + 1.0 / 12.0;
        AccessDelay {
            mean_ns: mean * slot_ns + decoding_ns,
            deviation_ns: libm::sqrt(variance) * slot_ns,
            least_ns: (least - 1.0) * slot_ns + decoding_ns,
            greatest_ns: greatest * slot_ns + decoding_ns,
        }
    }

    /// The slot in which data that waits at the start of `slot` is sent in the uplink.
    fn uplink_slot(&self, numerology: Numerology, pattern: &DuplexPattern, slot: u64) -> u64 {
        let flight = self.round_trip_ns.div_ceil(numerology.slot_ns());
        let data = |ready| pattern.next(Direction::Up, ready, LEAST_DATA_SYMBOLS);
        // What was sent in `asked` is answered by a grant, and the grant by data.
        let granted = |asked: u64| {
            let ready = asked + 1 + u64::from(self.base_station_slots);
            let grant = pattern.next(Direction::Down, ready, 1);
            data(grant + flight + u64::from(self.grant_slots))
        };
        match self.uplink_access {
            UplinkAccess::Continuous => data(slot + u64::from(self.grant_slots)),
            UplinkAccess::ConfiguredGrant { period_slots } => {
                data(slot.next_multiple_of(u64::from(period_slots)))
            }
            UplinkAccess::Request {
                period_slots,
                first_grant_carries_data,
            } => {
                let opportunity = slot.next_multiple_of(u64::from(period_slots));
                let first = granted(pattern.next(Direction::Up, opportunity, 1));
                if first_grant_carries_data {
                    first
                } else {
                    granted(first)
                }
            }
        }
    }
}

/// Symbols for data in `slot`: what the direction has less `control` symbols, 0 if too few remain.
pub(super) fn data_symbols(
    pattern: &DuplexPattern,
    direction: Direction,
    slot: u64,
    control: u8,
) -> u8 {
    let symbols = pattern.symbols(direction, slot).min(SYMBOLS_PER_SLOT);
    if symbols < LEAST_DATA_SYMBOLS {
        0
    } else {
        symbols.saturating_sub(control)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tdd() -> DuplexPattern {
        DuplexPattern::time_division("DDDSU", 10, 2).unwrap()
    }

    #[test]
    fn a_downlink_retransmission_waits_for_the_uplink_and_back() {
        let timing = Timing::default();
        let mu = Numerology::new(1).unwrap();
        let round = |slot| timing.round_trip_slots(mu, &tdd(), Direction::Down, slot);
        // Sent in 0: the acknowledgement may go from 3 on, and slot 3 has uplink symbols; the
        // base station is ready at 3 + 1 + 2 = 6, a downlink slot.
        assert_eq!(round(0), 6);
        // Sent in 2: from 5 on, so in 8; ready at 11.
        assert_eq!(round(2), 9);
        let fdd = DuplexPattern::frequency_division();
        assert_eq!(timing.round_trip_slots(mu, &fdd, Direction::Down, 7), 6);
    }

    #[test]
    fn an_uplink_retransmission_waits_for_a_grant() {
        let mu = Numerology::new(1).unwrap();
        // Sent in 4, decoded by 6 (100 us is within a slot), granted in 8, and two slots later,
        // in 10, the next uplink slot is 14.
        let round = Timing::default().round_trip_slots(mu, &tdd(), Direction::Up, 4);
        assert_eq!(round, 10);
    }

    #[test]
    fn a_satellites_round_trip_lengthens_a_retransmission() {
        let timing = Timing {
            round_trip_ns: 25_770_000,
            ..Timing::default()
        };
        let mu = Numerology::new(0).unwrap();
        let fdd = DuplexPattern::frequency_division();
        assert_eq!(
            timing.round_trip_slots(mu, &fdd, Direction::Down, 0),
            6 + 26
        );
    }

    #[test]
    fn downlink_access_is_processing_alignment_and_the_slot() {
        let timing = Timing::default();
        let mu = Numerology::new(1).unwrap();
        let fdd = DuplexPattern::frequency_division();
        let access = timing.access(mu, &fdd, Direction::Down);
        // Half a slot to its end, two slots of processing, the slot itself, decoding.
        assert!((access.mean_ns - (3.5 * 500_000.0 + 100_000.0)).abs() < 1e-6);
        assert!((access.deviation_ns - 500_000.0 / libm::sqrt(12.0)).abs() < 1e-6);
        assert!((access.greatest_ns - access.least_ns - 500_000.0).abs() < 1e-6);
    }

    #[test]
    fn asking_for_a_grant_takes_longer_than_having_one() {
        let mu = Numerology::new(1).unwrap();
        let mean = |uplink_access| {
            let timing = Timing {
                uplink_access,
                ..Timing::default()
            };
            timing.access(mu, &tdd(), Direction::Up).mean_ns
        };
        let asked = mean(UplinkAccess::Request {
            period_slots: 10,
            first_grant_carries_data: false,
        });
        let carried = mean(UplinkAccess::Request {
            period_slots: 10,
            first_grant_carries_data: true,
        });
        let configured = mean(UplinkAccess::ConfiguredGrant { period_slots: 5 });
        let down = Timing::default()
            .access(mu, &tdd(), Direction::Down)
            .mean_ns;
        assert!(
            asked > carried && carried > configured,
            "{asked} {carried} {configured}"
        );
        assert!(asked > 2.0 * down);
        // Requests go in slots 3, 13, ...: a request from slot 13 is granted in 16 (three slots
        // later a downlink slot), its data go in 19, granted again in 22, sent in 24. From
        // arrivals in slots 0 to 9 that is 24 + 1 - arrival - 1/2 slots at 0.5 ms.
        let timing = Timing::default();
        let access = timing.access(mu, &tdd(), Direction::Up);
        assert!(access.greatest_ns > access.least_ns + 4.0 * 500_000.0);
    }
}
