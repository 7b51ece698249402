//! The cell as the user finds it: its other users, and what the other cells are doing.

use crate::phy::{PhyError, Scheduler, SharedCell, SharingSettings};
use crate::scenario::settings::{RadioLink, SchedulerName};
use crate::tr38901::SPEED_OF_LIGHT_M_PER_S;
use crate::{CounterRng, TraceError};

/// How fast the other users walk, in m/s: 3 km/h.
const OTHERS_M_PER_S: f64 = 3.0 / 3.6;

/// Time constant of proportional fairness, and the time without anything that doubles a user's
/// weight, in seconds.
const AVERAGING_S: f64 = 0.2;
const PATIENCE_S: f64 = 0.003;

/// The other users of the serving cell, and who makes new ones for another cell.
#[derive(Debug, Clone)]
pub(super) struct Sharing {
    settings: SharingSettings,
    seed: u64,
    cell: SharedCell,
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn error(problem: PhyError) -> TraceError {
    TraceError::Generator {
        setting: "radio",
        problem: problem.to_string(),
    }
}

impl Sharing {
    pub(super) fn new(
        radio: &RadioLink,
        (slot_ns, report_slots): (u64, u32),
        seed: u64,
        cell: u32,
    ) -> Result<Sharing, TraceError> {
        let wavelength_m = SPEED_OF_LIGHT_M_PER_S / (radio.carrier.as_ghz_f64() * 1e9);
        #[expect(clippy::cast_precision_loss, reason = "slots of at most 1 ms")]
        let slot_s = slot_ns as f64 / 1e9;
        // 0.423 over the Doppler shift, the coherence time of T. S. Rappaport (2002), eq. 5.40.c.
        let coherence_s = 0.423 * wavelength_m / OTHERS_M_PER_S;
        let settings = SharingSettings {
            scheduler: match radio.scheduler {
                SchedulerName::ProportionalFair => Scheduler::ProportionalFair,
                SchedulerName::RoundRobin => Scheduler::RoundRobin,
            },
            activity: radio.background_activity.as_f64(),
            mean_burst_slots: radio.background_burst.as_seconds_f64() / slot_s,
            report_slots,
            coherence_slots: coherence_s / slot_s,
            averaging_slots: AVERAGING_S / slot_s,
            patience_slots: PATIENCE_S / slot_s,
            ..SharingSettings::full_buffer(radio.background_users)
        };
        Ok(Sharing {
            cell: of(settings, seed, cell)?,
            settings,
            seed,
        })
    }

    /// The scheduler of the serving cell.
    pub(super) const fn cell(&mut self) -> &mut SharedCell {
        &mut self.cell
    }

    /// Another cell serves, with users of its own.
    pub(super) fn change(&mut self, cell: u32, slot: u64) -> Result<(), TraceError> {
        self.cell = of(self.settings, self.seed, cell)?;
        self.cell.advance(slot);
        Ok(())
    }
}

fn of(settings: SharingSettings, seed: u64, cell: u32) -> Result<SharedCell, TraceError> {
    SharedCell::new(settings, seed, &format!("cell {cell}")).map_err(error)
}

/// Which of the other cells transmit: each by turns does for a while and does not, so that it has
/// its load in the long run.
#[derive(Debug, Clone)]
pub(super) struct Neighbours {
    cells: Vec<Transmitter>,
    load: f64,
    /// Mean length of a transmission; without it each cell disturbs with its mean load.
    mean_ns: Option<f64>,
    next_ns: u64,
}

#[derive(Debug, Clone)]
struct Transmitter {
    random: CounterRng,
    on: bool,
    until_ns: u64,
    spans: u64,
}

impl Neighbours {
    pub(super) fn new(cells: usize, load: f64, mean_s: f64, seed: u64) -> Neighbours {
        let changes = mean_s > 0.0 && load > 0.0 && load < 1.0 && cells > 1;
        let transmitter = |cell: usize| {
            let random = CounterRng::new(seed, &format!("cell {cell}"), "load");
            Transmitter {
                // It changes at once.
                on: random.uniform(u64::MAX) >= load,
                random,
                until_ns: 0,
                spans: 0,
            }
        };
        let mut neighbours = Neighbours {
            cells: (0..cells).map(transmitter).collect(),
            load,
            mean_ns: changes.then_some(mean_s * 1e9),
            next_ns: 0,
        };
        neighbours.advance(0);
        neighbours
    }

    /// Goes on to a moment; whether anything has changed.
    pub(super) fn advance(&mut self, now_ns: u64) -> bool {
        let Some(mean_ns) = self.mean_ns else {
            return false;
        };
        if now_ns < self.next_ns {
            return false;
        }
        let silence_ns = mean_ns * (1.0 - self.load) / self.load;
        self.next_ns = u64::MAX;
        for cell in &mut self.cells {
            while now_ns >= cell.until_ns {
                cell.on = !cell.on;
                let mean_ns = if cell.on { mean_ns } else { silence_ns };
                let length_ns = -mean_ns * libm::log(1.0 - cell.random.uniform(cell.spans));
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the cast saturates; a logarithm of less than 1 is negative"
                )]
                let length_ns = libm::round(length_ns) as u64;
                cell.until_ns = cell.until_ns.saturating_add(length_ns.max(1));
                cell.spans += 1;
            }
            self.next_ns = self.next_ns.min(cell.until_ns);
        }
        true
    }

    /// How much of its power a cell transmits now.
    pub(super) fn share(&self, cell: usize) -> f64 {
        match self.mean_ns {
            None => self.load,
            Some(_) => f64::from(u8::from(self.cells[cell].on)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_cells_transmit_for_their_share_of_the_time_and_by_turns() {
        let mut cells = Neighbours::new(20, 0.3, 0.02, 1);
        let (mut sum, mut changes) = (0.0, 0);
        for ms in 0..20_000_u64 {
            changes += u32::from(cells.advance(ms * 1_000_000));
            sum += (0..20).map(|cell| cells.share(cell)).sum::<f64>();
        }
        let mean = sum / 20_000.0 / 20.0;
        assert!((mean - 0.3).abs() < 0.01, "{mean}");
        assert!(changes > 5_000, "{changes}");
    }

    #[test]
    fn a_steady_load_is_the_mean_power() {
        for (load, burst_s) in [(0.4, 0.0), (1.0, 0.02), (0.0, 0.02)] {
            let mut cells = Neighbours::new(3, load, burst_s, 1);
            assert!(!cells.advance(1_000_000_000));
            assert!((cells.share(1) - load).abs() < 1e-12);
        }
    }
}
