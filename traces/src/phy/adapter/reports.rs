//! What the transmitter knows of the channel: measurements, reports, and the scheme it takes.

use super::{LinkAdapter, Report};

impl LinkAdapter {
    /// The user measures the channel: the rank and scheme with the most bits, and their SINR.
    pub(super) fn measure(&mut self, slot: u64, sinr: &[f64]) {
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
            let thresholds = &self.table.schemes_from[at];
            // Mostly: then the next slot need not wait for the answer.
            if thresholds.is_highest_reached(scheme, layer_sinr) {
                break;
            }
            let allowed = thresholds.reached(layer_sinr).saturating_sub(1);
            let same = self.table.schemes[allowed].modulation_order()
                == self.table.schemes[scheme].modulation_order();
            scheme = allowed;
            if same {
                break;
            }
        }
        (layer_sinr, scheme)
    }

    /// The rank and scheme that the transmitter takes for SINRs `density` times those measured; none
    /// out of range.
    #[inline]
    pub(super) fn choice(&self, density: f64) -> Option<(u8, usize)> {
        let report = self.current.filter(|report| report.indicator > 0)?;
        let thresholds = &self.table.schemes_from[usize::from(report.rank) - 1];
        let reached = thresholds.reached(report.sinr * self.offset * density);
        Some((report.rank, reached.saturating_sub(1)))
    }

    /// The effective linear SINR of a user with one layer, and the scheme of the MCS table that it
    /// allows: the inner loop alone, without reports or offset.
    #[must_use]
    pub fn inner_loop(&self, start: usize, sinr: &[f64]) -> (f64, usize) {
        self.effective(1, start.min(self.table.schemes.len() - 1), sinr)
    }
}
