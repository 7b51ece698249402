//! Analytic controls: every value can be worked out by hand. They stand for no radio channel.

use serde::{Deserialize, Serialize};

use crate::units::{BitRate, ByteSize, TimeSpan};
use crate::{Diagnostics, LinkState, TraceRow};

/// A rate that follows a formula, the same in both directions unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// How the rate changes.
    pub shape: Shape,
    /// The rate: the whole time, or the high one.
    pub rate: BitRate,
    /// The uplink's; the same as the downlink's, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink_rate: Option<BitRate>,
    /// The low rate of `step` and `sawtooth`, in both directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_rate: Option<BitRate>,
    /// How long a step lasts, or a tooth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<TimeSpan>,
    /// One-way delay.
    pub delay: TimeSpan,
    /// Queue before the bottleneck; without it the link's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<ByteSize>,
}

/// How a control's rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Not at all.
    Constant,
    /// High, low, high, low, each for a period.
    Step,
    /// From low to high within a period, linearly, and down at once.
    Sawtooth,
}

impl Control {
    /// What is wrong with it: the key and why.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let found = |key, problem: &str| Some((key, problem.to_owned()));
        if self
            .queue
            .is_some_and(|queue| u32::try_from(queue.bytes).is_err())
        {
            return found("queue", "a trace can say at most 4294967295 B");
        }
        if self.shape == Shape::Constant {
            return match (self.low_rate, self.period) {
                (None, None) => None,
                (Some(_), _) => found("low_rate", "shape `constant` has one rate"),
                _ => found("period", "shape `constant` does not change"),
            };
        }
        match (self.low_rate, self.period) {
            (None, _) => found("low_rate", "shapes `step` and `sawtooth` need a `low_rate`"),
            (_, None) => found("period", "shapes `step` and `sawtooth` need a `period`"),
            (_, Some(period)) if period.ns == 0 => found("period", "a period is longer than 0 s"),
            _ => None,
        }
    }

    fn state(&self, rate_bps: u64) -> LinkState {
        LinkState {
            rate_bps,
            delay_ns: self.delay.ns,
            queue_bytes: self
                .queue
                .map_or(0, |queue| u32::try_from(queue.bytes).unwrap_or(u32::MAX)),
            ..LinkState::TRANSPARENT
        }
    }

    /// The high rate of each direction, down and up.
    fn high_bps(&self) -> [u64; 2] {
        [self.rate.bps, self.uplink_rate.unwrap_or(self.rate).bps]
    }

    /// The row that begins at `t_ns`, and when the next one does. `step_ns` is the time between
    /// rows of a sawtooth.
    pub(super) fn row(&self, t_ns: u64, step_ns: u64) -> (TraceRow, u64) {
        let period_ns = self.period.map_or(u64::MAX, |period| period.ns);
        let low_bps = self.low_rate.map_or(0, |rate| rate.bps);
        let (rates, next_ns) = match self.shape {
            Shape::Constant => (self.high_bps(), u64::MAX),
            Shape::Step => {
                let high = (t_ns / period_ns).is_multiple_of(2);
                let rates = self
                    .high_bps()
                    .map(|high_bps| if high { high_bps } else { low_bps });
                (rates, (t_ns / period_ns + 1).saturating_mul(period_ns))
            }
            Shape::Sawtooth => {
                let within_ns = t_ns % period_ns;
                let rates = self
                    .high_bps()
                    .map(|high_bps| between(low_bps, high_bps, within_ns, period_ns));
                let tooth_ns = t_ns - within_ns;
                let step_ns = (within_ns + step_ns).min(period_ns);
                (rates, tooth_ns.saturating_add(step_ns))
            }
        };
        let row = TraceRow {
            t_ns,
            down: self.state(rates[0]),
            up: self.state(rates[1]),
            diagnostics: Diagnostics::default(),
        };
        (row, next_ns)
    }
}

/// The rate `part` of `whole` on the way from one to the other.
fn between(from: u64, to: u64, part: u64, whole: u64) -> u64 {
    let (low, high) = (from.min(to), from.max(to));
    let way = u128::from(high - low) * u128::from(part) / u128::from(whole);
    let way = u64::try_from(way).unwrap_or(u64::MAX);
    if from <= to { low + way } else { high - way }
}
