//! Link adaptation of one user in one direction, slot by slot.

use std::collections::VecDeque;

use super::eesm::{decibel, linear};
use super::error::PhyError;
use super::harq::{BlockCode, Combined, HarqOutlook, MOST_ATTEMPTS};
use super::radio::{RadioSettings, RlcMode};
use super::rate_table::{RateTable, allocation, ip_bits};
use super::service::SlotService;
use super::timing::AccessDelay;
use super::transport_block::transport_block_bits;
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
/// Nothing is allocated per slot.
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
/// assert!(bits > 500_000_000 && bits < link.peak_rate_bps());
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

    /// IP bits that a whole data slot would carry now, by what the transmitter knows: what a
    /// scheduler compares.
    #[must_use]
    pub fn expected_bits(&self, slot: u64) -> u64 {
        let phase = self.phase(slot);
        if self.table.symbols(phase) == 0 {
            return 0;
        }
        self.choice().map_or(0, |(rank, scheme)| {
            self.table.block(phase, rank, scheme).ip_bits
        })
    }

    /// Forgets reports, retransmissions and the outer loop's offset: a new cell.
    pub fn reset(&mut self) {
        self.reports.clear();
        self.current = None;
        self.offset_db = 0.0;
        self.offset = 1.0;
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
        if self.table.symbols(phase) == 0 || share <= 0.0 || sinr.is_empty() {
            return self.last;
        }
        if let Some(at) = self.process(slot) {
            let begun =
                self.processes[at].state == State::Failed || self.begin(at, slot, phase, share);
            if begun {
                self.attempt(at, slot, phase, sinr);
            }
        }
        self.last
    }

    #[inline]
    fn phase(&self, slot: u64) -> usize {
        usize::try_from(slot % self.settings.pattern.period()).unwrap_or(0)
    }

    /// The user measures the channel: the rank and scheme with the most bits, and their SINR.
    fn measure(&mut self, slot: u64, sinr: &[f64]) {
        if sinr.is_empty() {
            return;
        }
        let first = self.current.is_none();
        let start = usize::from(self.last.mcs);
        let mut best = (0.0, 1, 0.0, 0);
        for rank in 1..=self.settings.maximum_rank {
            let (layer_sinr, _) = self.effective(rank, start, sinr);
            let at = usize::from(rank) - 1;
            let indicator = self.table.indicators_from[at].reached(layer_sinr);
            let scheme = self.table.schemes_from[at].reached(layer_sinr);
            let efficiency = self.table.efficiencies[scheme.saturating_sub(1)] * f64::from(rank);
            let worth = if indicator == 0 { 0.0 } else { efficiency };
            if rank == 1 || worth > best.0 {
                best = (worth, rank, layer_sinr, indicator);
            }
        }
        let (_, rank, measured, indicator) = best;
        let reported = match indicator.checked_sub(1) {
            Some(at) if self.settings.reports.quantised => {
                self.table.indicators_from[usize::from(rank) - 1].get(at)
            }
            _ => measured,
        };
        let age = if first {
            0
        } else {
            u64::from(self.settings.reports.age_slots)
        };
        self.reports.push_back(Report {
            usable_from: slot + age,
            rank,
            indicator: u8::try_from(indicator).unwrap_or(15),
            sinr: reported,
        });
    }

    /// The effective linear SINR of a layer, with the beta of the scheme that it allows, and that
    /// scheme. Starts from `scheme` and looks again once.
    #[inline]
    fn effective(&self, rank: u8, scheme: usize, sinr: &[f64]) -> (f64, usize) {
        let at = usize::from(rank) - 1;
        let part = self.table.layer_parts[at];
        let (mut scheme, mut layer_sinr) = (scheme, 0.0);
        for _ in 0..2 {
            layer_sinr = part * self.table.mappings[at][scheme].of(sinr);
            let reached = self.table.schemes_from[at].reached(layer_sinr);
            let allowed = reached.saturating_sub(1);
            let same = self.table.schemes[allowed].modulation_order()
                == self.table.schemes[scheme].modulation_order();
            scheme = allowed;
            if same {
                break;
            }
        }
        (layer_sinr, scheme)
    }

    /// The rank and scheme that the transmitter takes; none out of range.
    #[inline]
    fn choice(&self) -> Option<(u8, usize)> {
        let report = self.current.filter(|report| report.indicator > 0)?;
        let thresholds = &self.table.schemes_from[usize::from(report.rank) - 1];
        let reached = thresholds.reached(report.sinr * self.offset);
        Some((report.rank, reached.saturating_sub(1)))
    }

    /// The process that sends in `slot`: the retransmission that waits longest, else a free one.
    fn process(&self, slot: u64) -> Option<usize> {
        let known = self
            .processes
            .iter()
            .enumerate()
            .filter(|(_, p)| p.known_from <= slot);
        known
            .min_by_key(|(_, process)| (process.state == State::Done, process.known_from))
            .map(|(at, _)| at)
    }

    /// Fills a process with a new block; false if the channel is out of range.
    fn begin(&mut self, at: usize, slot: u64, phase: usize, share: f64) -> bool {
        let Some((rank, scheme)) = self.choice() else {
            return false;
        };
        let block = *self.table.block(phase, rank, scheme);
        let ip_bits = if share >= 1.0 {
            block.ip_bits
        } else {
            self.part(phase, rank, scheme, share)
        };
        self.processes[at] = Process {
            known_from: slot,
            state: State::Failed,
            code: block.code,
            combined: Combined::default(),
            failure: 1.0,
            ip_bits,
            rank,
            scheme: u8::try_from(scheme).unwrap_or(0),
            first_slot: slot,
        };
        true
    }

    /// IP bits of a block in a part of the resource blocks.
    fn part(&self, phase: usize, rank: u8, scheme: usize, share: f64) -> u64 {
        let mut allocation = allocation(&self.settings, rank, self.table.symbols(phase));
        let blocks = libm::floor(f64::from(allocation.resource_blocks) * share);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 275"
        )]
        let blocks = blocks.clamp(0.0, 275.0) as u32;
        allocation.resource_blocks = blocks.max(1);
        let bits = transport_block_bits(self.table.schemes[scheme], &allocation).unwrap_or(0);
        ip_bits(u64::from(bits) * u64::from(self.settings.carriers))
    }

    /// Sends the block of a process, once or again.
    fn attempt(&mut self, at: usize, slot: u64, phase: usize, sinr: &[f64]) {
        let process = &mut self.processes[at];
        let rank = usize::from(process.rank) - 1;
        let mapping = self.table.mappings[rank][usize::from(process.scheme)];
        let effective = self.table.layer_parts[rank] * mapping.of(sinr);
        let combining = self.settings.harq.combining;
        process.combined = process.combined.with(&process.code, combining, effective);
        let failure = process.code.failure(&process.combined).min(process.failure);
        // Who gets here has failed so far: the rest of that probability decides.
        let fails = self.rng.uniform(slot) * process.failure < failure;
        let attempts = process.combined.attempts();
        let first = attempts == 1;
        process.failure = failure;
        process.known_from = slot + self.round_trips[phase];
        let given_up = fails && attempts >= self.settings.harq.maximum_attempts;
        process.state = if fails && !given_up {
            State::Failed
        } else {
            State::Done
        };
        if !fails || given_up {
            let place = if given_up {
                MOST_ATTEMPTS
            } else {
                usize::from(attempts) - 1
            };
            self.attempts[place] += 1;
        }
        let process = *process;
        if first {
            let outlook = HarqOutlook::new(&process.code, &self.settings.harq, effective, failure);
            self.look_out(outlook);
            let step_db = if fails {
                -self.settings.outer_loop.step_db
            } else {
                self.raise_db
            };
            let limit_db = self.settings.outer_loop.limit_db;
            self.offset_db = (self.offset_db + step_db).clamp(-limit_db, limit_db);
            self.offset = linear(self.offset_db);
            self.last.bler = failure;
        }
        self.last.bits = if fails { 0 } else { process.ip_bits };
        self.last.sent = true;
        self.last.decoded = !fails;
        self.last.attempts = attempts;
        self.last.waited_slots = slot - process.first_slot;
        self.last.sinr = effective;
        self.last.mcs = process.scheme;
        self.last.rank = process.rank;
    }

    /// Delay, jitter and loss that blocks of now can expect.
    fn look_out(&mut self, outlook: HarqOutlook) {
        let (recovery_ns, loss) = match self.settings.rlc {
            RlcMode::Unacknowledged => (0.0, outlook.residual),
            RlcMode::Acknowledged {
                recovery_ns,
                maximum_retransmissions,
            } => {
                #[expect(clippy::cast_precision_loss, reason = "times of less than 2^53 ns")]
                let recovery_ns = recovery_ns as f64;
                let tries = f64::from(maximum_retransmissions) + 1.0;
                (recovery_ns, libm::pow(outlook.residual, tries))
            }
        };
        let round_trip_ns = self.mean_round_trip_ns;
        // A block is given up again and again with the same probability.
        let again = (outlook.residual / (1.0 - outlook.residual).max(1e-3)).min(100.0);
        let delay_ns = self.access.mean_ns
            + outlook.mean_retransmissions * round_trip_ns
            + again * recovery_ns;
        let variance = self.access.deviation_ns * self.access.deviation_ns
            + outlook.variance * round_trip_ns * round_trip_ns
            + again * (1.0 + again) * recovery_ns * recovery_ns;
        self.last.delay_ns = whole(delay_ns);
        self.last.jitter_ns = whole(libm::sqrt(variance));
        self.last.loss_ppb = u32::try_from(whole(loss * 1e9)).unwrap_or(1_000_000_000);
    }

    /// The effective linear SINR of a user with one layer, and the scheme of the MCS table that it
    /// allows: the inner loop alone, without reports or offset.
    #[must_use]
    pub fn inner_loop(&self, start: usize, sinr: &[f64]) -> (f64, usize) {
        self.effective(1, start.min(self.table.schemes.len() - 1), sinr)
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

impl SlotService {
    /// The effective SINR of a layer in dB.
    #[must_use]
    pub fn sinr_db(&self) -> f64 {
        decibel(self.sinr)
    }
}

/// Equal subbands of a SINR in dB.
#[cfg(test)]
pub(super) fn subbands(sinr_db: f64) -> [f64; 18] {
    [linear(sinr_db); 18]
}

#[cfg(test)]
mod tests;
