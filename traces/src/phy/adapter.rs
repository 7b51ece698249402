//! Link adaptation of one user in one direction, slot by slot.

mod blocks;
mod reports;

use std::collections::VecDeque;

use super::error::PhyError;
use super::harq::{BlockCode, Combined, MOST_ATTEMPTS};
use super::radio::RadioSettings;
use super::rate_table::RateTable;
use super::service::SlotService;
use super::timing::AccessDelay;
use crate::CounterRng;

/// A report on its way to the transmitter.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Report {
    usable_from: u64,
    rank: u8,
    /// 0 to 15.
    indicator: u8,
    /// Linear.
    sinr: f64,
}

/// What the scheduler gives of a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grant<'a> {
    /// The part of the slot's resource blocks, 0 to 1.
    pub share: f64,
    /// The linear SINR of each subband within it.
    pub sinr: &'a [f64],
    /// By how much the SINR is raised against what is measured, linear: a user whose power does not
    /// depend on how much of the band it fills.
    pub density: f64,
}

/// A HARQ process.
#[derive(Debug, Clone, Copy)]
struct Process {
    /// The transmitter knows the fate of the last attempt from this slot on.
    known_from: u64,
    state: State,
    code: BlockCode,
    combined: Combined,
    /// Probability that all attempts so far fail.
    failure: f64,
    ip_bits: u64,
    rank: u8,
    scheme: u8,
    first_slot: u64,
}

/// How often all attempts for a block fail, over the blocks begun lately: what RLC's next tries
/// meet, between which the channel changes.
#[derive(Debug, Clone, Copy, Default)]
struct Lately {
    failure: f64,
    slot: u64,
}

impl Lately {
    /// Takes in a block begun in `slot` of which all attempts fail with that probability. What is
    /// `memory_slots` old counts for 1/e.
    fn update(&mut self, slot: u64, failure: f64, memory_slots: f64) {
        #[expect(clippy::cast_precision_loss, reason = "differences far below 2^53")]
        let age = (slot - self.slot) as f64 / memory_slots;
        self.slot = slot;
        self.failure += (failure - self.failure) * age / (1.0 + age);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Free, from `known_from` on.
    Done,
    /// To be sent again, from `known_from` on.
    Failed,
}

/// What becomes of one user's direction, slot by slot: scheme, rank, block errors,
/// retransmissions, and the bits of IP packets that arrive.
///
/// A pure function of the settings, the random numbers and the SINRs given so far. Slots must be
/// given in order; slots may be left out (a sleeping user), which is as if they had not been granted.
/// Nothing is allocated per slot. The outer loop moves when a block is sent: the time that its
/// acknowledgement takes is left out there, though not in retransmissions.
///
/// ```
/// use hexloop_traces::phy::{DuplexPattern, LinkAdapter, Numerology, RadioSettings, linear};
/// use hexloop_traces::{CounterRng, Direction};
///
/// let numerology = Numerology::new(1)?;
/// let pattern = DuplexPattern::time_division("DDDSU", 10, 2)?;
/// let settings = RadioSettings::new(Direction::Down, numerology, pattern);
/// let mut link = LinkAdapter::new(settings, CounterRng::new(1, "user 0", "down"))?;
/// let mut bits = 0;
/// for slot in 0..2000 {
///     // 18 subbands of 20 dB; the user has the whole slot.
///     let service = link.step(slot, &[linear(20.0); 18], 1.0);
///     bits += service.bits;
/// }
/// // 2000 slots are a second.
/// assert!(bits > 100_000_000 && bits < link.peak_rate_bps(), "{bits}");
/// # Ok::<(), hexloop_traces::phy::PhyError>(())
/// ```
#[derive(Debug, Clone)]
pub struct LinkAdapter {
    settings: RadioSettings,
    table: RateTable,
    rng: CounterRng,
    access: AccessDelay,
    /// Slots to the retransmission, for each slot of the pattern.
    round_trips: Vec<u64>,
    mean_round_trip_ns: f64,
    reports: VecDeque<Report>,
    current: Option<Report>,
    offset_db: f64,
    /// The offset as a factor.
    offset: f64,
    /// What a success raises the offset by, in dB.
    raise_db: f64,
    processes: Vec<Process>,
    /// What came of the blocks begun lately.
    lately: Lately,
    /// Blocks by the number of attempts that they took; the last place is those given up.
    attempts: [u64; MOST_ATTEMPTS + 1],
    last: SlotService,
}

impl LinkAdapter {
    /// An adapter that knows nothing of the channel yet.
    ///
    /// # Errors
    /// A setting is out of its range; the error names it.
    pub fn new(settings: RadioSettings, rng: CounterRng) -> Result<LinkAdapter, PhyError> {
        settings.check()?;
        let table = RateTable::new(&settings)?;
        let (numerology, pattern) = (settings.numerology, &settings.pattern);
        let access = settings
            .timing
            .access(numerology, pattern, settings.direction);
        let round_trip = |slot| {
            let timing = settings.timing;
            timing.round_trip_slots(numerology, pattern, settings.direction, slot)
        };
        let round_trips: Vec<u64> = (0..pattern.period()).map(round_trip).collect();
        let of_data = round_trips
            .iter()
            .enumerate()
            .filter(|(at, _)| table.symbols(*at) > 0);
        let (count, sum) = of_data.fold((0_u64, 0), |(count, sum), (_, slots)| {
            (count + 1, sum + slots)
        });
        #[expect(clippy::cast_precision_loss, reason = "times of less than 2^53 ns")]
        let mean_round_trip_ns = (sum * numerology.slot_ns()) as f64 / count.max(1) as f64;
        let target = settings.outer_loop.target;
        let in_flight = settings.reports.age_slots / settings.reports.period_slots + 2;
        let idle = Process {
            known_from: 0,
            state: State::Done,
            code: table.block(data_phase(&table), 1, 0).code,
            combined: Combined::default(),
            failure: 1.0,
            ip_bits: 0,
            rank: 1,
            scheme: 0,
            first_slot: 0,
        };
        Ok(LinkAdapter {
            rng,
            access,
            round_trips,
            mean_round_trip_ns,
            reports: VecDeque::with_capacity(usize::try_from(in_flight).unwrap_or(2)),
            current: None,
            offset_db: 0.0,
            offset: 1.0,
            raise_db: settings.outer_loop.step_db * target / (1.0 - target),
            processes: vec![idle; usize::from(settings.harq.processes)],
            lately: Lately::default(),
            attempts: [0; MOST_ATTEMPTS + 1],
            last: SlotService::idle(access),
            table,
            settings,
        })
    }

    /// What the link is set to.
    #[must_use]
    pub const fn settings(&self) -> &RadioSettings {
        &self.settings
    }

    /// The delay of a packet beside queueing and retransmissions.
    #[must_use]
    pub const fn access(&self) -> AccessDelay {
        self.access
    }

    /// IP bits per second with the best scheme on all layers in every slot.
    #[must_use]
    pub fn peak_rate_bps(&self) -> u64 {
        let period_ns = self.settings.pattern.period() * self.settings.numerology.slot_ns();
        let bits = u128::from(self.table.most_bits_per_period()) * 1_000_000_000;
        u64::try_from(bits / u128::from(period_ns)).unwrap_or(u64::MAX)
    }

    /// The transmitter's buffer in bytes: what the peak rate empties in the time set.
    #[must_use]
    pub fn buffer_bytes(&self) -> u64 {
        let bits = u128::from(self.peak_rate_bps()) * u128::from(self.settings.buffer_ns);
        u64::try_from(bits / 8_000_000_000).unwrap_or(u64::MAX)
    }

    /// Blocks so far by the number of attempts that they took (the first place: one attempt), and
    /// last those given up.
    #[must_use]
    pub const fn attempts(&self) -> &[u64; MOST_ATTEMPTS + 1] {
        &self.attempts
    }

    /// The outer loop's offset in dB.
    #[must_use]
    pub const fn offset_db(&self) -> f64 {
        self.offset_db
    }

    /// Whether slot number `slot` carries data in this direction.
    #[must_use]
    pub fn carries(&self, slot: u64) -> bool {
        self.table.symbols(self.phase(slot)) > 0
    }

    /// Forgets reports, retransmissions and the outer loop's offset: a new cell.
    pub fn reset(&mut self) {
        self.reports.clear();
        self.current = None;
        self.offset_db = 0.0;
        self.offset = 1.0;
        self.lately.failure = 0.0;
        for process in &mut self.processes {
            process.state = State::Done;
            process.known_from = 0;
        }
    }

    /// Plays slot number `slot` with the linear SINR of each subband. `share` is the part of the
    /// slot's resource blocks that the scheduler gives the user, 0 to 1.
    ///
    /// Without any SINR nothing is measured and nothing arrives.
    pub fn step(&mut self, slot: u64, sinr: &[f64], share: f64) -> SlotService {
        let grant = Grant {
            share,
            sinr,
            density: 1.0,
        };
        self.step_in(slot, sinr, &grant)
    }

    /// The same where the user gets some of the subbands only: all of them, `sinr`, are measured.
    pub fn step_in(&mut self, slot: u64, sinr: &[f64], grant: &Grant<'_>) -> SlotService {
        if slot.is_multiple_of(u64::from(self.settings.reports.period_slots))
            || self.current.is_none()
        {
            self.measure(slot, sinr);
        }
        while let Some(report) = self
            .reports
            .front()
            .filter(|report| report.usable_from <= slot)
        {
            self.current = Some(*report);
            self.reports.pop_front();
        }
        self.last.bits = 0;
        self.last.sent = false;
        self.last.decoded = false;
        if let Some(report) = self.current {
            self.last.indicator = report.indicator;
        }
        let phase = self.phase(slot);
        if self.table.symbols(phase) == 0 || grant.share <= 0.0 || grant.sinr.is_empty() {
            return self.last;
        }
        if let Some(at) = self.process(slot) {
            let begun =
                self.processes[at].state == State::Failed || self.begin(at, slot, phase, grant);
            if begun {
                self.attempt(at, slot, phase, grant);
            }
        }
        self.last
    }

    #[inline]
    fn phase(&self, slot: u64) -> usize {
        usize::try_from(slot % self.settings.pattern.period()).unwrap_or(0)
    }
}

/// The first slot of the pattern that carries data.
fn data_phase(table: &RateTable) -> usize {
    (0..80).find(|&phase| table.symbols(phase) > 0).unwrap_or(0)
}

/// The nearest whole number; 0 for what is negative.
pub(super) fn whole(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, which is what is wanted of what is too large"
    )]
    let value = libm::round(value.max(0.0)) as u64;
    value
}

#[cfg(test)]
mod tests;
