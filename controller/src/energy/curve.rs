//! The machine's energy over time, from the readings of a phase.

use hexloop_proto::{MeterChannel, MeterReadings};

use crate::format::count_to_f64;

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
/// A counter is taken to rise evenly between the moments at which it was seen to move; power is
/// integrated by the trapezoidal rule. A counter that went back, or a channel without values,
/// gives no intervals: `None`.
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

/// Joules since the first sample, at every moment at which the counter moved.
fn counted(samples: &[(u64, u64)], wraps_at_uj: Option<u64>) -> Option<Vec<(u64, f64)>> {
    let mut curve: Vec<(u64, f64)> = Vec::new();
    let mut total_uj = 0;
    let mut last: Option<u64> = None;
    for &(at_ns, value_uj) in samples {
        let moved_uj = match last {
            None => 0,
            Some(before_uj) => match (value_uj.checked_sub(before_uj), wraps_at_uj) {
                (Some(moved_uj), _) => moved_uj,
                (None, Some(range_uj)) => range_uj.saturating_sub(before_uj) + value_uj,
                (None, None) => return None,
            },
        };
        if last.is_none() || moved_uj > 0 {
            total_uj += moved_uj;
            curve.push((at_ns, count_to_f64(total_uj) / 1e6));
        }
        last = Some(value_uj);
    }
    Some(curve)
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

    #[test]
    fn a_counter_that_was_reset_gives_no_curve() {
        let channels = [channel("energy counter", true, None)];
        let batches = readings(|at_ms| vec![Some(if at_ms < 500 { 1_000 + at_ms } else { at_ms })]);
        assert_eq!(intervals(&channels, &batches, 100 * MS), None);
        let none = readings(|_| vec![None]);
        assert_eq!(intervals(&channels, &none, 100 * MS), None);
    }
}
