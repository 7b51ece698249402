//! A scripted GPU as a function of time: pure arithmetic.

use crate::{GpuScript, Recording};

impl GpuScript {
    /// Reads its recording, if it has one.
    pub(crate) fn load(&mut self) -> Result<(), String> {
        if let Some(path) = &self.recording {
            let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
            self.recorded = Some(Recording::parse(&text)?);
        }
        Ok(())
    }

    /// What a call shows: by the recording, where it has the column, else by the script; `None`
    /// where the call failed when it was recorded.
    pub(crate) fn shown(&self, column: &str, at_ms: u64) -> Option<u64> {
        let recorded = self.recorded.as_ref();
        if let Some(value) = recorded.and_then(|recorded| recorded.at(column, at_ms)) {
            return value.ok();
        }
        match column {
            "counter_mj" => Some(self.counter_mj(at_ms)),
            "average_mw" => Some(self.average_mw(at_ms)),
            "instant_mw" => Some(self.instant_mw(at_ms)),
            "temperature_c" => Some(u64::from(self.temperature_c)),
            _ => None,
        }
    }

    /// Its name, with the mark of a stub and where a recording comes from.
    pub(crate) fn shown_name(&self) -> String {
        let source = self
            .recorded
            .as_ref()
            .and_then(|one| one.about.get("source"));
        match source {
            Some(source) => format!("{} (stub, {source} samples)", self.name),
            None => format!("{} (stub)", self.name),
        }
    }

    /// The share of a span in which it drew more than at first.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a test")]
    pub(crate) fn busy_share(&self, from_ms: u64, to_ms: u64) -> f64 {
        let idle_mw = self.power_mw.first().map_or(0, |first| first.1);
        let ends = self.power_mw.iter().skip(1).map(|(from_ms, _)| *from_ms);
        let busy_ms: u64 = self
            .power_mw
            .iter()
            .zip(ends.chain([u64::MAX]))
            .filter(|((_, power_mw), _)| *power_mw > idle_mw)
            .map(|((begin_ms, _), end_ms)| {
                end_ms.min(to_ms).saturating_sub((*begin_ms).max(from_ms))
            })
            .sum();
        busy_ms as f64 / to_ms.saturating_sub(from_ms).max(1) as f64
    }

    /// Energy since the start, in microjoules (milliwatts times milliseconds).
    pub(crate) fn energy_uj(&self, at_ms: u64) -> u64 {
        let ends = self.power_mw.iter().skip(1).map(|(from_ms, _)| *from_ms);
        self.power_mw
            .iter()
            .zip(ends.chain([u64::MAX]))
            .map(|(&(from_ms, power_mw), to_ms)| {
                let length_ms = to_ms.min(at_ms).saturating_sub(from_ms);
                power_mw.saturating_mul(length_ms)
            })
            .sum()
    }

    /// What the counter shows, in millijoules.
    pub(crate) fn counter_mj(&self, at_ms: u64) -> u64 {
        let renewed_ms = last_renewal(at_ms, self.counter_period_ms);
        match self.reset_at_ms {
            Some(reset_ms) if renewed_ms >= reset_ms => {
                (self.energy_uj(renewed_ms) - self.energy_uj(reset_ms)) / 1_000
            }
            _ => self.counter_start_mj + self.energy_uj(renewed_ms) / 1_000,
        }
    }

    /// The instantaneous power shown, in milliwatts.
    pub(crate) fn instant_mw(&self, at_ms: u64) -> u64 {
        let renewed_ms = last_renewal(at_ms, self.instant_period_ms);
        value_at(&self.power_mw, renewed_ms).unwrap_or(0)
    }

    /// The average power shown, in milliwatts; before a whole window has passed, over what there
    /// is of it.
    pub(crate) fn average_mw(&self, at_ms: u64) -> u64 {
        let to_ms = last_renewal(at_ms, self.average_period_ms);
        let from_ms = to_ms.saturating_sub(self.average_window_ms);
        if to_ms == from_ms {
            return self.instant_mw(at_ms);
        }
        (self.energy_uj(to_ms) - self.energy_uj(from_ms)) / (to_ms - from_ms)
    }

    pub(crate) fn throttle_reasons(&self, at_ms: u64) -> u64 {
        value_at(&self.throttle, at_ms).unwrap_or(0)
    }

    pub(crate) fn is_lost(&self, at_ms: u64) -> bool {
        self.lost_at_ms.is_some_and(|lost_ms| at_ms >= lost_ms)
    }

    pub(crate) fn processes(&self, at_ms: u64) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.processes
            .iter()
            .filter(move |(from_ms, to_ms, ..)| {
                at_ms >= *from_ms && (*to_ms == 0 || at_ms < *to_ms)
            })
            .map(|&(.., pid, bytes)| (pid, bytes))
    }
}

fn last_renewal(at_ms: u64, period_ms: u64) -> u64 {
    at_ms / period_ms.max(1) * period_ms.max(1)
}

fn value_at(steps: &[(u64, u64)], at_ms: u64) -> Option<u64> {
    let after = steps.partition_point(|(from_ms, _)| *from_ms <= at_ms);
    Some(steps.get(after.checked_sub(1)?)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu() -> GpuScript {
        GpuScript {
            power_mw: vec![(0, 100_000), (1_000, 300_000), (1_500, 50_000)],
            ..GpuScript::default()
        }
    }

    #[test]
    fn energy_is_the_area_under_the_steps() {
        assert_eq!(gpu().energy_uj(500), 50_000_000);
        assert_eq!(
            gpu().energy_uj(2_000),
            100_000_000 + 150_000_000 + 25_000_000
        );
        assert_eq!(gpu().counter_mj(1_099), 1_000_000 + 100_000);
        assert_eq!(gpu().counter_mj(1_100), 1_000_000 + 130_000);
    }

    #[test]
    fn the_average_lags_behind_the_instant() {
        assert_eq!(gpu().instant_mw(1_010), 300_000);
        assert_eq!(gpu().average_mw(1_010), 100_000);
        assert_eq!(gpu().average_mw(1_500), 200_000);
    }

    #[test]
    fn a_reset_counter_begins_at_nothing() {
        let gpu = GpuScript {
            reset_at_ms: Some(1_000),
            ..gpu()
        };
        assert_eq!(gpu.counter_mj(999), 1_000_000 + 90_000);
        assert_eq!(gpu.counter_mj(1_100), 30_000);
    }
}
