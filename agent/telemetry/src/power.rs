//! Integrating samples of power.

use crate::{MINIMUM_REFRESHES, Trouble, WindowEnergy};

/// Longer gaps between two samples are not bridged, as a multiple of the sampling period: machines with
/// few CPUs let a thread wait for a tenth of a second now and then...
const LONGEST_GAP_PERIODS: u64 = 20;
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

    /// The part of a load's pulse that a sensor's window sees. Both last 25 ms of every 100 ms, the
    /// window from 0 on, the pulse from `phase_ms` on.
    fn seen_share(phase_ms: u64) -> f64 {
        let is_on = |at_ms: u64| (at_ms + 100 - phase_ms) % 100 < 25;
        let seen = (0_u32..25).filter(|at_ms| is_on(u64::from(*at_ms))).count();
        f64::from(u32::try_from(seen).unwrap()) / 25.0
    }

    #[test]
    fn a_sensor_that_sees_a_quarter_of_the_time_is_biased_by_the_phase_of_the_load() {
        // 400 W for 25 ms of every 100 ms, averaged over 25 ms of every 100 ms (arXiv 2312.02741):
        // by their phase the integral is anything from nothing to four times the truth; over all
        // phases it is right, which is why runs are to be repeated.
        let truth_j = 400.0 * 0.25 * 10.0;
        let ratios: Vec<f64> = (0..100)
            .map(|phase_ms| {
                let seen_w = 400.0 * seen_share(phase_ms);
                energy_j(&sampled(100, 10_000, |_| seen_w), 0, 10_000) / truth_j
            })
            .collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let mean = ratios.iter().sum::<f64>() / 100.0;
        assert!(
            least.abs() < 1e-9 && (most - 4.0).abs() < 1e-9,
            "{ratios:?}"
        );
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
        assert!(
            (ratios[5] - 3.2).abs() < 1e-9,
            "20 of 25 ms are seen: {}",
            ratios[5]
        );
    }

    proptest::proptest! {
        /// Whatever the waveform and the window, the integral is the analytic energy, to what the
        /// trapezoidal rule leaves open: h^2/12 times the largest second derivative, over its length.
        #[test]
        fn the_integral_over_any_window_is_the_analytic_energy(
            mean_w in 50.0_f64..500.0,
            depth in 0.0_f64..1.0,
            frequency_hz in 0.1_f64..5.0,
            phase in 0.0_f64..6.0,
            from_us in 0_u64..1_000_000,
            length_us in 500_000_u64..3_000_000,
        ) {
            let rate = std::f64::consts::TAU * frequency_hz;
            let swing_w = mean_w * depth;
            let track = sampled(5, 4_500, |t| mean_w + swing_w * (rate * t + phase).sin());
            let to_us = from_us + length_us;
            let window = track.window_energy(from_us * 1_000, to_us * 1_000).unwrap();
            let at = |us: u64| f64::from(u32::try_from(us).unwrap()) / 1e6;
            let (from, to) = (at(from_us), at(to_us));
            let swings = (rate * from + phase).cos() - (rate * to + phase).cos();
            let analytic_j = mean_w * (to - from) + swing_w / rate * swings;
            let step_s: f64 = 5e-3;
            let left_open_j = (to - from) * swing_w * rate * rate * step_s * step_s / 12.0;
            // An edge between two samples cuts a chord, which is off by h^2/8 at most, for a step each;
            // and samples are whole microwatts.
            let edges_j = 2.0 * step_s * swing_w * rate * rate * step_s * step_s / 8.0;
            let bound_j = left_open_j + edges_j + 1e-5;
            proptest::prop_assert!(
                (window.energy_j - analytic_j).abs() <= bound_j,
                "{} against {analytic_j}, to {bound_j}", window.energy_j
            );
        }
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
