//! The machine's energy over time, from the readings of a phase.

use hexloop_proto::{MeterChannel, MeterReadings};

use crate::format::{count_to_f64, median};

/// A step of a counter was seen late if more than so many times the median time between readings had passed.
const LATE: u64 = 3;

/// Energy of the machine over a short span.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Since T0, in nanoseconds.
    pub from_ns: u64,
    /// The same, exclusive.
    pub to_ns: u64,
    /// In joules, of all counted channels.
    pub energy_j: f64,
}

impl Interval {
    /// Its length in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        count_to_f64(self.to_ns - self.from_ns) / 1e9
    }
}

/// The energy of the counted channels in spans of `length_ns`, from the first to the last moment
/// at which all of them had a value.
///
/// A counter is taken to rise evenly between the moments at which it was seen to step; power is integrated by the
/// trapezoidal rule. A counter that went back, or a channel without values, gives no intervals: `None`.
#[must_use]
pub fn intervals(
    channels: &[MeterChannel],
    batches: &[MeterReadings],
    length_ns: u64,
) -> Option<Vec<Interval>> {
    let mut curves = Vec::new();
    for (index, channel) in channels.iter().enumerate() {
        if !channel.counted {
            continue;
        }
        let values = batches.iter().flat_map(|batch| {
            let of_channel = batch
                .values
                .iter()
                .map(move |row| row.get(index).copied().flatten());
            batch.at_ns.iter().copied().zip(of_channel)
        });
        let samples: Vec<(u64, u64)> = values
            .filter_map(|(at_ns, value)| Some((at_ns, value?)))
            .collect();
        curves.push(if channel.is_counter() {
            counted(&samples, channel.wraps_at_uj)?
        } else {
            integrated(&samples)
        });
    }
    let from_ns = curves
        .iter()
        .map(|curve| curve.first().map(|one| one.0))
        .max()??;
    let to_ns = curves
        .iter()
        .map(|curve| curve.last().map(|one| one.0))
        .min()??;
    let mut found = Vec::new();
    let mut at_ns = from_ns;
    while let Some(next_ns) = at_ns
        .checked_add(length_ns.max(1))
        .filter(|next| *next <= to_ns)
    {
        let energy_j = curves
            .iter()
            .map(|curve| value_at(curve, next_ns) - value_at(curve, at_ns))
            .sum();
        found.push(Interval {
            from_ns: at_ns,
            to_ns: next_ns,
            energy_j,
        });
        at_ns = next_ns;
    }
    Some(found)
}

/// A step of a counter, as it was seen.
struct Step {
    /// When it was last read without it.
    before_ns: u64,
    /// When it was first read with it.
    at_ns: u64,
    /// Energy since the step before the first sample.
    total_j: f64,
}

/// Joules since the counter's last step before the first sample: at the first sample, and at every moment at which
/// the counter was seen to step.
///
/// The first sample comes at some moment between two steps. Where the counter was then is told by its period, the
/// median time between its steps: without that the energy from the step before would be counted as used since the
/// sample. A step that was seen late, because its reader was kept from reading for more than [`LATE`] times the
/// median, tells how much was used but not by when, and is left out between two others.
fn counted(samples: &[(u64, u64)], wraps_at_uj: Option<u64>) -> Option<Vec<(u64, f64)>> {
    let &(first_ns, _) = samples.first()?;
    let mut steps: Vec<Step> = Vec::new();
    let mut total_uj = 0;
    for pair in samples.windows(2) {
        let ((before_ns, before_uj), (at_ns, value_uj)) = (pair[0], pair[1]);
        let moved_uj = match (value_uj.checked_sub(before_uj), wraps_at_uj) {
            (Some(moved_uj), _) => moved_uj,
            (None, Some(range_uj)) => range_uj.saturating_sub(before_uj) + value_uj,
            (None, None) => return None,
        };
        if moved_uj > 0 {
            total_uj += moved_uj;
            steps.push(Step {
                before_ns,
                at_ns,
                total_j: count_to_f64(total_uj) / 1e6,
            });
        }
    }
    let times = samples
        .windows(2)
        .map(|pair| pair[1].0.saturating_sub(pair[0].0));
    let late_ns = LATE * median(times).unwrap_or(0);
    let period_ns = median(
        steps
            .windows(2)
            .map(|pair| pair[1].at_ns.saturating_sub(pair[0].at_ns)),
    );
    let at_first_j = match (steps.first(), period_ns) {
        (Some(step), Some(period_ns)) => {
            let since =
                count_to_f64(step.at_ns.saturating_sub(first_ns)) / count_to_f64(period_ns.max(1));
            step.total_j * (1.0 - since).max(0.0)
        }
        _ => 0.0,
    };
    let last = steps.len().saturating_sub(1);
    let seen_in_time = steps.iter().enumerate().filter(|(place, step)| {
        *place == 0 || *place == last || step.at_ns.saturating_sub(step.before_ns) <= late_ns
    });
    let seen = seen_in_time.map(|(_, step)| (step.at_ns, step.total_j));
    Some([(first_ns, at_first_j)].into_iter().chain(seen).collect())
}

/// Joules since the first sample.
fn integrated(samples: &[(u64, u64)]) -> Vec<(u64, f64)> {
    let mut total_j = 0.0;
    let mut curve = Vec::with_capacity(samples.len());
    let mut last: Option<(u64, u64)> = None;
    for &(at_ns, power_uw) in samples {
        if let Some((before_ns, before_uw)) = last {
            let mean_w = (count_to_f64(before_uw) + count_to_f64(power_uw)) / 2e6;
            total_j += mean_w * count_to_f64(at_ns.saturating_sub(before_ns)) / 1e9;
        }
        curve.push((at_ns, total_j));
        last = Some((at_ns, power_uw));
    }
    curve
}

/// The curve's value at a moment within it, on the line between its points.
fn value_at(curve: &[(u64, f64)], at_ns: u64) -> f64 {
    let after = curve.partition_point(|point| point.0 <= at_ns);
    let Some(&(from_ns, from_j)) = curve.get(after.saturating_sub(1)) else {
        return 0.0;
    };
    match curve.get(after) {
        Some(&(to_ns, to_j)) if to_ns > from_ns => {
            let share = count_to_f64(at_ns.saturating_sub(from_ns)) / count_to_f64(to_ns - from_ns);
            from_j + (to_j - from_j) * share
        }
        _ => from_j,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn channel(quantity: &str, counted: bool, wraps_at_uj: Option<u64>) -> MeterChannel {
        MeterChannel {
            device: "a".to_owned(),
            scope: "package".to_owned(),
            quantity: quantity.to_owned(),
            average_window_ns: None,
            wraps_at_uj,
            source: "a test".to_owned(),
            estimated: false,
            counted,
            stub: true,
        }
    }

    fn readings(value: impl Fn(u64) -> Vec<Option<u64>>) -> Vec<MeterReadings> {
        let mut batch = MeterReadings::default();
        for at_ms in (0..=1_000).step_by(10) {
            batch.at_ns.push(at_ms * MS);
            batch.values.push(value(at_ms));
        }
        vec![batch]
    }

    #[test]
    fn counters_and_powers_add_up_per_interval() {
        let channels = [
            channel("energy counter", true, Some(10_000_000)),
            channel("instantaneous power", true, None),
            channel("instantaneous power", false, None),
        ];
        // A counter at 20 W that turns over at 10 J, and 5 W.
        let batches = readings(|at_ms| {
            let counter = (9_000_000 + at_ms * 20_000) % 10_000_000;
            vec![Some(counter), Some(5_000_000), Some(77)]
        });
        let found = intervals(&channels, &batches, 100 * MS).unwrap();
        assert_eq!(found.len(), 10);
        for interval in &found {
            assert!((interval.energy_j - 2.5).abs() < 1e-9, "{interval:?}");
        }
    }

    /// A counter at 70 W that is renewed every 100 ms, read from `first_ms` on every 10 ms but where that is `missed`.
    fn slow_counter(first_ms: u64, missed: impl Fn(u64) -> bool) -> Vec<Interval> {
        let mut batch = MeterReadings::default();
        for at_ms in (first_ms..=first_ms + 2_000).step_by(10) {
            if !missed(at_ms) {
                batch.at_ns.push(at_ms * MS);
                batch.values.push(vec![Some(at_ms / 100 * 7_000_000)]);
            }
        }
        let channels = [channel("energy counter", true, None)];
        intervals(&channels, &[batch], 250 * MS).unwrap()
    }

    #[test]
    fn a_slow_counter_tells_power_from_its_first_reading_on_whenever_that_is() {
        for first_ms in [100, 110, 150, 190] {
            let found = slow_counter(first_ms, |_| false);
            assert_eq!(found.len(), 7 + usize::from(first_ms == 100));
            for interval in &found {
                assert!(
                    (interval.energy_j - 70.0 * 0.25).abs() < 1e-9,
                    "{first_ms}: {interval:?}"
                );
            }
        }
    }

    #[test]
    fn a_step_that_was_seen_late_shifts_no_energy() {
        // What is renewed at 1,000 ms is seen at 1,080 ms.
        let found = slow_counter(100, |at_ms| (1_000..1_080).contains(&at_ms));
        for interval in &found {
            assert!(
                (interval.energy_j - 70.0 * 0.25).abs() < 1e-9,
                "{interval:?}"
            );
        }
    }

    #[test]
    fn a_counter_that_was_reset_gives_no_curve() {
        let channels = [channel("energy counter", true, None)];
        let batches = readings(|at_ms| vec![Some(if at_ms < 500 { 1_000 + at_ms } else { at_ms })]);
        assert_eq!(intervals(&channels, &batches, 100 * MS), None);
        let none = readings(|_| vec![None]);
        assert_eq!(intervals(&channels, &none, 100 * MS), None);
    }
}
