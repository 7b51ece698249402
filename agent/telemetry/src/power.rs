//! Integrating samples of power.

use crate::{MINIMUM_REFRESHES, Trouble, WindowEnergy};

/// Longer gaps between two samples are not bridged, as a multiple of the sampling period...
const LONGEST_GAP_PERIODS: u64 = 10;
/// ...or of the time in which the source renews its value, whichever is longer: where it is renewed
/// ten times a second, nothing can be missed between two values.
const LONGEST_GAP_REFRESHES: u64 = 2;

/// Follows one channel of power: its samples, their integral by the trapezoidal rule, and how
/// often the source renews its value.
#[derive(Debug, Clone)]
pub struct PowerTrack {
    device: String,
    period_ns: u64,
    /// Moments and microwatts.
    samples: Vec<(u64, u64)>,
}

impl PowerTrack {
    /// A track of the power of `device`, sampled about every `period_ns`.
    #[must_use]
    pub fn new(device: impl Into<String>, period_ns: u64) -> PowerTrack {
        PowerTrack {
            device: device.into(),
            period_ns,
            samples: Vec::new(),
        }
    }

    /// Takes a sample, in microwatts; moments must not go back.
    pub fn push(&mut self, at_ns: u64, power_uw: u64) {
        self.samples.push((at_ns, power_uw));
    }

    /// Energy between two moments, by the trapezoidal rule between samples and linear
    /// interpolation at the edges.
    ///
    /// # Errors
    /// The samples do not reach over the window, or leave a gap of more than ten sampling periods
    /// and two refreshes in it (a gap is not bridged), or it spans fewer than [`MINIMUM_REFRESHES`] refreshes.
    pub fn window_energy(&self, from_ns: u64, to_ns: u64) -> Result<WindowEnergy, Trouble> {
        let failed = |reason: String| Trouble::Failed {
            what: format!("the power of {}", self.device),
            reason,
        };
        let first = self.samples.partition_point(|sample| sample.0 <= from_ns);
        let last = self.samples.partition_point(|sample| sample.0 < to_ns);
        let refresh_ns = self.refresh_period_ns().unwrap_or(0);
        let longest_gap_ns = self
            .period_ns
            .saturating_mul(LONGEST_GAP_PERIODS)
            .max(refresh_ns.saturating_mul(LONGEST_GAP_REFRESHES));
        let Some(before) = first.checked_sub(1) else {
            return Err(failed("it was not sampled before the window".to_owned()));
        };
        // The last sample may lie a little before the window's end: its value is held until then.
        let held = match (self.samples.get(last), self.samples.last()) {
            (Some(_), _) | (None, None) => None,
            (None, Some(&(_, power_uw))) => Some((to_ns, power_uw)),
        };
        let reach = self
            .samples
            .get(before..=last)
            .unwrap_or(&self.samples[before..]);
        let points = reach.iter().copied().chain(held);
        // In microwatts times nanoseconds, twice: the rule's halves stay whole.
        let mut doubled: u128 = 0;
        let mut previous: Option<(u64, u64)> = None;
        for (at_ns, power_uw) in points {
            if let Some((last_ns, last_uw)) = previous {
                if at_ns.saturating_sub(last_ns) > longest_gap_ns {
                    let gap_ms = (at_ns - last_ns) / 1_000_000;
                    return Err(failed(format!(
                        "no sample for {gap_ms} ms within the window"
                    )));
                }
                let (begin_ns, end_ns) = (last_ns.max(from_ns), at_ns.min(to_ns));
                let power_at =
                    |moment_ns| between((last_ns, last_uw), (at_ns, power_uw), moment_ns);
                if end_ns > begin_ns {
                    let sum_uw = u128::from(power_at(begin_ns)) + u128::from(power_at(end_ns));
                    doubled += sum_uw * u128::from(end_ns - begin_ns);
                }
            }
            previous = Some((at_ns, power_uw));
        }
        let refresh_period_ns = self.refresh_period_ns().unwrap_or(self.period_ns).max(1);
        let refreshes = to_ns.saturating_sub(from_ns) / refresh_period_ns;
        if refreshes < MINIMUM_REFRESHES {
            return Err(Trouble::TooShort {
                device: self.device.clone(),
                refreshes,
                needed: MINIMUM_REFRESHES,
                period_ns: refresh_period_ns,
            });
        }
        let edges_uw = [reach.first(), reach.last()].map(|sample| sample.map_or(0, |one| one.1));
        let energy_j = joules(doubled) / 2.0;
        let uncertainty_j: f64 = edges_uw
            .map(|power_uw| joules(u128::from(power_uw) * u128::from(refresh_period_ns)))
            .iter()
            .sum();
        // A microwatt for the length of the window, in joules: what makes watts of joules.
        let one_uw_j = joules(u128::from(to_ns.saturating_sub(from_ns)));
        Ok(WindowEnergy {
            energy_j,
            uncertainty_j,
            refreshes,
            refresh_period_ns,
            power_w: energy_j / one_uw_j / 1e6,
            power_uncertainty_w: uncertainty_j / one_uw_j / 1e6,
            ticks: None,
        })
    }

    /// How often the source renews its value, by the median gap between changes.
    #[must_use]
    pub fn refresh_period_ns(&self) -> Option<u64> {
        let changes = self
            .samples
            .windows(2)
            .filter(|pair| pair[0].1 != pair[1].1)
            .map(|pair| pair[1].0);
        crate::refresh_period_ns(changes)
    }

    /// Forgets samples before `at_ns` but the last of them, so that a long run stays small.
    pub fn forget_before(&mut self, at_ns: u64) {
        let keep_from = self.samples.partition_point(|sample| sample.0 < at_ns);
        self.samples.drain(..keep_from.saturating_sub(1));
    }
}

/// The power at a moment between two samples, on the line through them.
fn between(before: (u64, u64), after: (u64, u64), at_ns: u64) -> u64 {
    let length_ns = u128::from(after.0 - before.0).max(1);
    let into_ns = u128::from(at_ns.saturating_sub(before.0)).min(length_ns);
    let weighted = u128::from(before.1) * (length_ns - into_ns) + u128::from(after.1) * into_ns;
    u64::try_from(weighted / length_ns).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rounding of 2^-53 is far below a sensor's"
)]
fn joules(microwatt_nanoseconds: u128) -> f64 {
    microwatt_nanoseconds as f64 / 1e15
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn sampled(period_ms: u64, length_ms: u64, power_w: impl Fn(f64) -> f64) -> PowerTrack {
        let mut track = PowerTrack::new("a", period_ms * MS);
        for at_ms in (0..=length_ms).step_by(usize::try_from(period_ms).unwrap()) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a test's waveform"
            )]
            let power_uw = (power_w(at_ms as f64 / 1e3) * 1e6) as u64;
            track.push(at_ms * MS, power_uw);
        }
        track
    }

    fn energy_j(track: &PowerTrack, from_ms: u64, to_ms: u64) -> f64 {
        let window = track.window_energy(from_ms * MS, to_ms * MS);
        window.unwrap().energy_j
    }

    #[test]
    fn the_integral_of_a_waveform_is_its_analytic_energy() {
        // 200 W + 100 W sin(2 pi t): 10 whole periods have 2000 J.
        let track = sampled(1, 10_000, |t| {
            200.0 + 100.0 * (std::f64::consts::TAU * t).sin()
        });
        assert!((energy_j(&track, 0, 10_000) - 2_000.0).abs() < 0.01);
        // A ramp is what the trapezoidal rule is exact for, between samples too: from 2.5055 s to
        // 7.5 s, 10 W/s has (7.5^2 - 2.5055^2) / 2 x 10 J.
        let ramp = sampled(10, 10_000, |t| 10.0 * t);
        let window = ramp.window_energy(2_505_500_000, 7_500 * MS).unwrap();
        let truth_j = (7.5_f64 * 7.5 - 2.5055 * 2.5055) * 5.0;
        assert!((window.energy_j - truth_j).abs() < 1e-3, "{window:?}");
    }

    #[test]
    fn a_sensor_that_sees_a_quarter_of_the_time_is_biased_as_published() {
        // 400 W for 25 ms of every 100 ms, seen through a 25 ms window of every 100 ms that lies
        // wholly inside or wholly outside of it (arXiv 2312.02741): four times too much, or
        // nothing.
        let seen_j = |is_inside: bool| {
            let seen_w = if is_inside { 400.0 } else { 0.0 };
            energy_j(&sampled(100, 10_000, |_| seen_w), 0, 10_000)
        };
        let truth_j = 400.0 * 0.25 * 10.0;
        assert!((seen_j(true) / truth_j - 4.0).abs() < 1e-9);
        assert!(seen_j(false).abs() < 1e-9);
    }

    #[test]
    fn a_gap_in_which_the_source_was_renewed_but_once_is_bridged() {
        let mut track = PowerTrack::new("a", 10 * MS);
        for at_ms in (0..=2_000)
            .step_by(10)
            .filter(|at| !(1_010..1_130).contains(at))
        {
            track.push(at_ms * MS, 1_000_000 + at_ms / 100);
        }
        let energy_j = energy_j(&track, 0, 2_000);
        assert!((energy_j - 2.0).abs() < 1e-4, "{energy_j}");
    }

    #[test]
    fn a_gap_within_the_window_is_not_bridged() {
        let mut track = PowerTrack::new("a", 10 * MS);
        for at_ms in (0..=200).step_by(10).chain([1_200, 1_210]) {
            track.push(at_ms * MS, 1_000_000);
        }
        assert!((energy_j(&track, 0, 200) - 0.2).abs() < 1e-12);
        let short = track.window_energy(0, 90 * MS).unwrap_err();
        assert!(
            matches!(short, Trouble::TooShort { refreshes: 9, .. }),
            "{short}"
        );
        let trouble = track.window_energy(0, 1_210 * MS).unwrap_err().to_string();
        assert!(
            trouble.ends_with("no sample for 1000 ms within the window"),
            "{trouble}"
        );
        assert!(
            track.window_energy(0, 2_000 * MS).is_err(),
            "nor a missing end"
        );
        let empty = PowerTrack::new("a", 10 * MS);
        assert!(empty.window_energy(0, MS).is_err());
    }

    #[test]
    fn how_often_a_value_is_renewed_is_seen_from_its_changes() {
        let track = sampled(5, 1_000, |t| (t * 40.0).floor());
        assert_eq!(track.refresh_period_ns(), Some(25 * MS));
        assert_eq!(sampled(5, 1_000, |_| 7.0).refresh_period_ns(), None);
    }
}
