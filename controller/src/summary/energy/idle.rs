//! How steady power was in the idle span before the phases: of the machine, and of every meter.

use hexloop_proto::{IdlePower, Measurement, MeterChannel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::meters::derived_from;
use crate::energy::{Interval, intervals};
use crate::format::{count_to_f64, length, rounded};
use crate::results::Results;
use crate::summary::compute::{quantity, unavailable};
use crate::summary::{Quality, Quantity};

/// Power is compared over pieces of this length.
const PIECE_NS: u64 = 500_000_000;

/// Fewest pieces that tell how far power varies.
const LEAST_PIECES: u64 = 8;

/// A counter has to be renewed so often in a piece on average: between two ticks its power is a straight line,
/// and nothing would vary.
const LEAST_TICKS_PER_PIECE: u64 = 2;

/// What a meter read in the idle span before the phases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IdleChannelSummary {
    /// The device.
    pub device: String,
    /// Which part of the machine it covers.
    pub scope: String,
    /// `energy counter`, `instantaneous power` or `average power`.
    pub quantity: String,
    /// Mean power, in watts.
    pub mean_w: Quantity,
    /// Standard deviation of power over half seconds, over their mean.
    pub variation: Quantity,
}

/// Power of the idle span, piece by piece.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::summary) struct Steadiness {
    /// How many pieces there were.
    pub(in crate::summary) pieces: u64,
    /// Their mean, in watts.
    pub(in crate::summary) mean_w: f64,
    /// Their standard deviation, in watts.
    pub(in crate::summary) deviation_w: f64,
}

impl Steadiness {
    /// The coefficient of variation: the deviation over the mean.
    pub(in crate::summary) fn variation(&self) -> f64 {
        self.deviation_w / self.mean_w
    }
}

/// How steady the machine's power was before the first phase.
///
/// # Errors
/// Why nobody knows.
pub(in crate::summary) fn before_phases(results: &Results) -> Result<Steadiness, String> {
    let agent = results.agent.as_ref().ok_or("the agent never started")?;
    let Some(idle) = results.idle.iter().find(|idle| idle.when == "before") else {
        return Err(match &agent.energy_j {
            Measurement::Unavailable { why } if agent.meters.is_empty() => why.clone(),
            _ => "the run did not get that far".to_owned(),
        });
    };
    if let Measurement::Unavailable { why } = &idle.power_w {
        return Err(why.clone());
    }
    steadiness(&agent.meters, idle)
}

/// The deviation of the sum of the counted channels.
fn steadiness(channels: &[MeterChannel], idle: &IdlePower) -> Result<Steadiness, String> {
    let readings = idle
        .readings
        .as_ref()
        .ok_or("the readings of the idle span were not recorded")?;
    let pieces = intervals(channels, std::slice::from_ref(readings), PIECE_NS)
        .ok_or("a meter was not read throughout the idle span, or its counter went back")?;
    let count = length(&pieces);
    if count < LEAST_PIECES {
        return Err(format!(
            "its readings reach over {count} half seconds; {LEAST_PIECES} are needed"
        ));
    }
    for (place, channel) in channels.iter().enumerate() {
        if !channel.counted || !channel.is_counter() {
            continue;
        }
        let values: Vec<u64> = readings
            .values
            .iter()
            .filter_map(|row| row.get(place).copied().flatten())
            .collect();
        let ticks = values.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
        if ticks < LEAST_TICKS_PER_PIECE * count {
            return Err(format!(
                "the counter of {} was renewed {ticks} times in {count} half seconds",
                channel.device
            ));
        }
    }
    let watts: Vec<f64> = pieces.iter().map(power_w).collect();
    let mean_w = watts.iter().sum::<f64>() / count_to_f64(count);
    if mean_w <= 0.0 {
        return Err("its meters show no power".to_owned());
    }
    let squares: f64 = watts.iter().map(|watts| (watts - mean_w).powi(2)).sum();
    Ok(Steadiness {
        pieces: count,
        mean_w,
        deviation_w: (squares / count_to_f64(count - 1)).sqrt(),
    })
}

fn power_w(piece: &Interval) -> f64 {
    piece.energy_j / piece.seconds()
}

fn variation(found: Result<Steadiness, String>) -> Quantity {
    match found {
        Ok(found) => derived_from(
            Quality::Derived,
            rounded(found.variation(), 6),
            "readings of the idle span before the phases, over half seconds",
        ),
        Err(why) => unavailable(&why),
    }
}

/// How far the machine's power varied before the first phase, over its mean.
pub(super) fn machine_variation(results: &Results) -> Quantity {
    variation(before_phases(results))
}

/// The same of every meter, with its mean power; empty where the span was not metered.
pub(super) fn channels(results: &Results) -> Vec<IdleChannelSummary> {
    let before = results.idle.iter().find(|idle| idle.when == "before");
    let (Some(agent), Some(idle)) = (&results.agent, before) else {
        return Vec::new();
    };
    let all = agent.meters.iter().zip(&idle.channels_w).enumerate();
    all.map(|(place, (channel, mean_w))| {
        let alone: Vec<MeterChannel> = agent
            .meters
            .iter()
            .enumerate()
            .map(|(other, channel)| MeterChannel {
                counted: other == place,
                ..channel.clone()
            })
            .collect();
        IdleChannelSummary {
            device: channel.device.clone(),
            scope: channel.scope.clone(),
            quantity: channel.quantity.clone(),
            mean_w: quantity(mean_w),
            variation: variation(steadiness(&alone, idle)),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use hexloop_proto::MeterReadings;

    use super::*;

    const MS: u64 = 1_000_000;

    fn channel(quantity: &str, counted: bool) -> MeterChannel {
        MeterChannel {
            device: "a".to_owned(),
            scope: "GPU".to_owned(),
            quantity: quantity.to_owned(),
            average_window_ns: None,
            wraps_at_uj: None,
            source: "a test".to_owned(),
            estimated: false,
            counted,
            stub: true,
        }
    }

    /// 5 s of a counter that is renewed every `renewed_ms`, and of the same power.
    fn idle(renewed_ms: u64, power_w: impl Fn(u64) -> u64) -> IdlePower {
        let (mut readings, mut total_uj) = (MeterReadings::default(), 0);
        let mut shown_uj = 0;
        for at_ms in 0..=5_000_u64 {
            if at_ms.is_multiple_of(renewed_ms) {
                shown_uj = total_uj;
            }
            if at_ms.is_multiple_of(10) {
                let power_uw = power_w(at_ms) * 1_000_000;
                readings.at_ns.push(at_ms * MS);
                readings.values.push(vec![Some(shown_uj), Some(power_uw)]);
            }
            total_uj += power_w(at_ms) * 1_000;
        }
        IdlePower {
            when: "before".to_owned(),
            span_ns: 5_000 * MS,
            power_w: Measurement::Unavailable { why: String::new() },
            uncertainty_w: None,
            channels_w: Vec::new(),
            readings: Some(readings),
        }
    }

    fn meters() -> [MeterChannel; 2] {
        [
            channel("energy counter", true),
            channel("instantaneous power", false),
        ]
    }

    #[test]
    fn steady_power_does_not_vary_and_power_that_alternates_does() {
        let steady = steadiness(&meters(), &idle(100, |_| 70)).unwrap();
        assert!(
            (steady.mean_w - 70.0).abs() < 1e-6 && steady.variation() < 1e-6,
            "{steady:?}"
        );
        assert_eq!(steady.pieces, 10);
        // 60 and 80 W in turn, a second each: six pieces of the one and four of the other.
        let turns = |at_ms: u64| 60 + 20 * (at_ms / 1_000 % 2);
        let found = steadiness(&meters(), &idle(100, turns)).unwrap();
        assert!((found.mean_w - 68.0).abs() < 0.1, "{found:?}");
        let deviation_w = (960.0_f64 / 9.0).sqrt();
        assert!((found.deviation_w - deviation_w).abs() < 0.1, "{found:?}");
    }

    #[test]
    fn a_counter_that_is_renewed_too_seldom_tells_nothing_of_steadiness() {
        let why = steadiness(&meters(), &idle(1_000, |_| 70)).unwrap_err();
        assert!(
            why.contains("was renewed 5 times in 10 half seconds"),
            "{why}"
        );
        let without = IdlePower {
            readings: None,
            ..idle(100, |_| 70)
        };
        assert!(steadiness(&meters(), &without).is_err());
        let none = [channel("energy counter", false)];
        assert!(steadiness(&none, &idle(100, |_| 70)).is_err());
    }
}
