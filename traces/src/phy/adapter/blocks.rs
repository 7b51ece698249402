//! Transport blocks on their way: begun, sent, sent again, and what a new one can expect.

use super::super::harq::{Combined, HarqOutlook, MOST_ATTEMPTS};
use super::super::radio::RlcMode;
use super::super::rate_table::{allocation, ip_bits};
use super::super::transport_block::transport_block_bits;
use super::{Grant, LinkAdapter, Process, State, whole};

impl LinkAdapter {
    /// The process that sends in `slot`: the retransmission that waits longest, else a free one.
    pub(super) fn process(&self, slot: u64) -> Option<usize> {
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
    pub(super) fn begin(&mut self, at: usize, slot: u64, phase: usize, grant: &Grant<'_>) -> bool {
        let Some((rank, scheme)) = self.choice(grant.density) else {
            return false;
        };
        let block = *self.table.block(phase, rank, scheme);
        let ip_bits = if grant.share >= 1.0 {
            block.ip_bits
        } else {
            self.part(phase, rank, scheme, grant.share)
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
    pub(super) fn attempt(&mut self, at: usize, slot: u64, phase: usize, grant: &Grant<'_>) {
        let process = &mut self.processes[at];
        let rank = usize::from(process.rank) - 1;
        let mapping = self.table.mappings[rank][usize::from(process.scheme)];
        let effective = self.table.layer_parts[rank] * mapping.of_scaled(grant.sinr, grant.density);
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
            self.look_out(slot, outlook);
            let step_db = if fails {
                -self.settings.outer_loop.step_db
            } else {
                self.raise_db
            };
            let limit_db = self.settings.outer_loop.limit_db;
            self.offset_db = (self.offset_db + step_db).clamp(-limit_db, limit_db);
            self.offset = libm::exp(self.offset_db * (core::f64::consts::LN_10 / 10.0));
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

    /// Delay, jitter and loss that packets of now can expect.
    ///
    /// A block that HARQ gives up is sent again by RLC once the transmitter knows, tens of
    /// milliseconds later: whether that fails does not follow from the channel of now but from how
    /// often blocks were given up lately. Where every packet is lost there is no delay to expect:
    /// it is then told without retransmissions, for nothing is held back.
    fn look_out(&mut self, slot: u64, outlook: HarqOutlook) {
        // Mostly nothing is given up, and powers would cost as much as all the rest here.
        let (recovery_ns, again, again_variance, loss) = match self.settings.rlc {
            RlcMode::Unacknowledged => (0.0, 0.0, 0.0, outlook.residual),
            RlcMode::Acknowledged {
                recovery_ns,
                maximum_retransmissions,
            } => {
                #[expect(clippy::cast_precision_loss, reason = "times of less than 2^53 ns")]
                let (recovery_ns, slot_ns) = (
                    recovery_ns as f64,
                    self.settings.numerology.slot_ns() as f64,
                );
                let retries = f64::from(maximum_retransmissions);
                let memory_slots = (retries + 1.0) * recovery_ns / slot_ns;
                self.lately.update(slot, outlook.residual, memory_slots);
                let later = self.lately.failure;
                let loss = match outlook.residual * later > 1e-12 {
                    true => outlook.residual * libm::pow(later, retries),
                    false => 0.0,
                };
                // The first try fails now, each further one as often as lately.
                let again = outlook.residual / (1.0 - later).max(1e-3);
                let squares = again * (1.0 + later) / (1.0 - later).max(1e-3);
                (recovery_ns, again, (squares - again * again).max(0.0), loss)
            }
        };
        let loss_ppb = u32::try_from(whole(loss * 1e9)).unwrap_or(1_000_000_000);
        self.last.loss_ppb = loss_ppb;
        if loss_ppb >= 1_000_000_000 {
            self.last.delay_ns = whole(self.access.mean_ns);
            self.last.jitter_ns = whole(self.access.deviation_ns);
            return;
        }
        let round_trip_ns = self.mean_round_trip_ns;
        let delay_ns = self.access.mean_ns
            + outlook.mean_retransmissions * round_trip_ns
            + again * recovery_ns;
        let variance = self.access.deviation_ns * self.access.deviation_ns
            + outlook.variance * round_trip_ns * round_trip_ns
            + again_variance * recovery_ns * recovery_ns;
        self.last.delay_ns = whole(delay_ns);
        self.last.jitter_ns = whole(libm::sqrt(variance));
    }
}
