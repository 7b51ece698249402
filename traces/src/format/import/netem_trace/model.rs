//! The models of netem-trace's configuration files, and their values one after the other.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::value::{Bandwidth, Duration, bandwidth, duration};
use crate::generate::MOST_ROWS;

/// One model. The names are netem-trace's.
#[derive(Debug, Clone, Deserialize)]
pub(super) enum Model {
    #[serde(rename = "StaticBwConfig")]
    StaticBandwidth {
        bw: Option<Bandwidth>,
        duration: Option<Duration>,
    },
    #[serde(rename = "SawtoothBwConfig")]
    Sawtooth(Sawtooth),
    #[serde(rename = "NormalizedBwConfig")]
    NormalizedBandwidth(Normalized),
    #[serde(rename = "TraceBwConfig")]
    Table(TraceTable),
    #[serde(rename = "RepeatedBwPatternConfig")]
    RepeatedBandwidth {
        pattern: Vec<Model>,
        #[serde(default)]
        count: u64,
    },
    #[serde(rename = "StaticDelayConfig")]
    StaticDelay {
        delay: Option<Duration>,
        duration: Option<Duration>,
    },
    #[serde(rename = "RepeatedDelayPatternConfig")]
    RepeatedDelay {
        pattern: Vec<Model>,
        #[serde(default)]
        count: u64,
    },
    #[serde(rename = "StaticLossConfig")]
    StaticLoss {
        loss: Option<Vec<f64>>,
        duration: Option<Duration>,
    },
    #[serde(rename = "RepeatedLossPatternConfig")]
    RepeatedLoss {
        pattern: Vec<Model>,
        #[serde(default)]
        count: u64,
    },
}

/// A bandwidth that is drawn anew for every step.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Normalized {
    mean: Option<Bandwidth>,
    std_dev: Option<Bandwidth>,
    duration: Option<Duration>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Sawtooth {
    bottom: Option<Bandwidth>,
    top: Option<Bandwidth>,
    interval: Option<Duration>,
    duty_ratio: Option<f64>,
    duration: Option<Duration>,
    step: Option<Duration>,
    std_dev: Option<Bandwidth>,
}

/// Rows of a duration and the bandwidths that follow each other, each for that long.
#[derive(Debug, Clone)]
pub(super) struct TraceTable(Vec<(Duration, Vec<Bandwidth>)>);

impl<'de> Deserialize<'de> for TraceTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TraceTable, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            /// Milliseconds and Mbit/s.
            Numbers(Vec<(f64, Vec<f64>)>),
            Words(Vec<(String, Vec<String>)>),
            PatternOfNumbers {
                pattern: Vec<(f64, Vec<f64>)>,
            },
            PatternOfWords {
                pattern: Vec<(String, Vec<String>)>,
            },
        }
        let form = Form::deserialize(deserializer).map_err(|_error| {
            D::Error::custom(
                "expected rows such as [\"1ms\", [\"2Mbps\", \"4Mbps\"]] or [1.0, [2.0, 4.0]]",
            )
        })?;
        let mut rows = Vec::new();
        match form {
            Form::Numbers(numbers) | Form::PatternOfNumbers { pattern: numbers } => {
                for (ms, rates) in numbers {
                    let length = duration(&format!("{}ns", libm::round(ms * 1e6)));
                    let rates = rates.iter().map(|rate| bandwidth(&format!("{rate}Mbps")));
                    let rates: Result<Vec<_>, _> = rates.collect();
                    rows.push((
                        length.map_err(D::Error::custom)?,
                        rates.map_err(D::Error::custom)?,
                    ));
                }
            }
            Form::Words(words) | Form::PatternOfWords { pattern: words } => {
                for (length, rates) in words {
                    let rates: Result<Vec<_>, _> =
                        rates.iter().map(|rate| bandwidth(rate)).collect();
                    rows.push((
                        duration(&length).map_err(D::Error::custom)?,
                        rates.map_err(D::Error::custom)?,
                    ));
                }
            }
        }
        Ok(TraceTable(rows))
    }
}

/// What a model is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bandwidth,
    Delay,
    Loss,
}

/// One value for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) length_ns: u64,
    /// Bit/s, ns or parts per 10^9.
    pub(super) value: u64,
}

impl Model {
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Model::StaticBandwidth { .. }
            | Model::Sawtooth(_)
            | Model::NormalizedBandwidth(_)
            | Model::Table(_)
            | Model::RepeatedBandwidth { .. } => Kind::Bandwidth,
            Model::StaticDelay { .. } | Model::RepeatedDelay { .. } => Kind::Delay,
            Model::StaticLoss { .. } | Model::RepeatedLoss { .. } => Kind::Loss,
        }
    }

    /// Whether it begins again for ever after its end.
    pub(super) const fn repeats(&self) -> bool {
        matches!(
            self,
            Model::RepeatedBandwidth { count: 0, .. }
                | Model::RepeatedDelay { count: 0, .. }
                | Model::RepeatedLoss { count: 0, .. }
        )
    }

    /// Its values, once through.
    ///
    /// # Errors
    /// What of it cannot be imported.
    pub(super) fn steps(&self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        self.add(&mut steps, true)?;
        Ok(steps)
    }

    fn add(&self, steps: &mut Vec<Step>, outermost: bool) -> Result<(), String> {
        let second = |duration: &Option<Duration>| duration.map_or(1_000_000_000, |ns| ns.0);
        match self {
            Model::StaticBandwidth { bw, duration } => push(
                steps,
                second(duration),
                bw.map_or(12_000_000, |bandwidth| bandwidth.0),
            ),
            Model::StaticDelay { delay, duration } => push(
                steps,
                second(duration),
                delay.map_or(10_000_000, |delay| delay.0),
            ),
            Model::StaticLoss { loss, duration } => push(
                steps,
                second(duration),
                mean_loss_ppb(loss.as_deref().unwrap_or(&[]))?,
            ),
            Model::Sawtooth(sawtooth) => sawtooth.add(steps),
            Model::NormalizedBandwidth(normal) => {
                if normal.std_dev.is_some_and(|deviation| deviation.0 > 0) {
                    return Err(
                        "NormalizedBwConfig draws random numbers that only netem-trace can make; \
                         write its values out as a TraceBwConfig"
                            .to_owned(),
                    );
                }
                push(
                    steps,
                    second(&normal.duration),
                    normal.mean.map_or(12_000_000, |mean| mean.0),
                )
            }
            Model::Table(TraceTable(rows)) => rows.iter().try_for_each(|(length, rates)| {
                let mut rates = rates.iter();
                rates.try_for_each(|rate| push(steps, length.0, rate.0))
            }),
            Model::RepeatedBandwidth { pattern, count }
            | Model::RepeatedDelay { pattern, count }
            | Model::RepeatedLoss { pattern, count } => {
                if *count == 0 && !outermost {
                    return Err(
                        "a pattern that repeats for ever stands inside another; nothing after it \
                         is ever played"
                            .to_owned(),
                    );
                }
                let mut once = Vec::new();
                for model in pattern {
                    if model.kind() != self.kind() {
                        return Err(format!(
                            "a pattern of {:?} holds a model of {:?}",
                            self.kind(),
                            model.kind()
                        ));
                    }
                    model.add(&mut once, false)?;
                }
                let length = u64::try_from(once.len()).unwrap_or(u64::MAX);
                let repeats = (*count).max(1);
                if length.saturating_mul(repeats) > MOST_ROWS {
                    return Err(format!("more than {MOST_ROWS} steps"));
                }
                if once.is_empty() {
                    return Ok(());
                }
                for _ in 0..repeats {
                    for step in &once {
                        push(steps, step.length_ns, step.value)?;
                    }
                }
                Ok(())
            }
        }
    }
}

fn push(steps: &mut Vec<Step>, length_ns: u64, value: u64) -> Result<(), String> {
    if length_ns > 0 {
        steps.push(Step { length_ns, value });
    }
    if u64::try_from(steps.len()).is_ok_and(|steps| steps <= MOST_ROWS) {
        Ok(())
    } else {
        Err(format!("more than {MOST_ROWS} steps"))
    }
}

impl Sawtooth {
    /// The wave rises for `duty_ratio` of its interval and falls for the rest.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "rates of at most 1 Tbit/s and shares of an interval"
    )]
    fn add(&self, steps: &mut Vec<Step>) -> Result<(), String> {
        if self.std_dev.is_some_and(|deviation| deviation.0 > 0) {
            return Err(
                "SawtoothBwConfig with noise draws random numbers that only netem-trace can make; \
                 write its values out as a TraceBwConfig"
                    .to_owned(),
            );
        }
        let bottom = self.bottom.map_or(0, |bandwidth| bandwidth.0);
        let top = self.top.map_or(12_000_000, |bandwidth| bandwidth.0);
        let interval_ns = self.interval.map_or(1_000_000_000, |interval| interval.0);
        let step_ns = self.step.map_or(1_000_000, |step| step.0);
        let duty = self.duty_ratio.unwrap_or(0.5);
        if bottom > top || interval_ns == 0 || step_ns == 0 || !(0.0..=1.0).contains(&duty) {
            return Err(
                "SawtoothBwConfig: expected bottom <= top, an interval and a step of more than 0, \
                 and a duty_ratio from 0 to 1"
                    .to_owned(),
            );
        }
        let mut left_ns = self.duration.map_or(1_000_000_000, |duration| duration.0);
        let change_ns = interval_ns as f64 * duty;
        let mut now_ns = 0_u64;
        while left_ns > 0 {
            let now = now_ns as f64;
            let share = if now < change_ns {
                now / change_ns
            } else {
                1.0 - (now - change_ns) / (interval_ns as f64 - change_ns)
            };
            let rise = libm::round((top - bottom) as f64 * share.clamp(0.0, 1.0)) as u64;
            let length_ns = step_ns.min(left_ns);
            push(steps, length_ns, bottom + rise)?;
            left_ns -= length_ns;
            now_ns = (now_ns + length_ns) % interval_ns;
        }
        Ok(())
    }
}

/// The mean loss of a chain in which the k-th packet in a row is lost with the k-th probability,
/// the last of them repeating: a burst has L = 1 + p2 + p2 p3 + ... packets, 1/p1 packets arrive
/// between two bursts, so that L / (L + 1/p1) are lost.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share times 10^9"
)]
fn mean_loss_ppb(chain: &[f64]) -> Result<u64, String> {
    if !chain.iter().all(|share| (0.0..=1.0).contains(share)) {
        return Err("losses are shares from 0 to 1".to_owned());
    }
    let burst = mean_burst(chain);
    let Some((&first, burst)) = chain.first().zip(burst) else {
        // Without an end to a burst everything is lost, once it began.
        let ever = chain.first().is_some_and(|&first| first > 0.0);
        return Ok(if ever { 1_000_000_000 } else { 0 });
    };
    if first <= 0.0 {
        return Ok(0);
    }
    let share = burst / (burst + 1.0 / first);
    Ok(libm::round(share * 1e9) as u64)
}

/// The mean length of a burst, if it ever ends.
fn mean_burst(chain: &[f64]) -> Option<f64> {
    let last = *chain.last()?;
    let mut length = 1.0;
    let mut reached = 1.0;
    for share in chain.iter().skip(1) {
        reached *= share;
        length += reached;
    }
    if reached <= 0.0 {
        return Some(length);
    }
    // The last probability goes on: reached x (last + last^2 + ...).
    (last < 1.0).then(|| length + reached * last / (1.0 - last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_loss_of_a_chain_is_that_of_its_bursts() {
        let close = |chain: &[f64], expected: f64| {
            let ppb = mean_loss_ppb(chain).unwrap();
            #[expect(clippy::cast_precision_loss, reason = "a test's bound")]
            let share = ppb as f64 / 1e9;
            assert!((share - expected).abs() < 1e-8, "{chain:?}: {share}");
        };
        close(&[0.1], 0.1);
        close(&[0.1, 0.1], 0.1);
        close(&[0.0, 0.5], 0.0);
        close(&[], 0.0);
        close(&[0.1, 1.0], 1.0);
        // Bursts of 1 + 0.5 packets, 10 packets apart.
        close(&[0.1, 0.5, 0.0], 1.5 / 11.5);
        assert!(mean_loss_ppb(&[1.5]).is_err());
    }
}
