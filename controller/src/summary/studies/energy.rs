//! What the machine used while a study computed: over runs of batches, rounds of users, and the requests of
//! an arm.

use hexloop_workloads::study::TrialRecord;

use super::law;
use crate::energy::{Interval, idle_power, intervals, known_idle};
use crate::format::count_to_f64;
use crate::results::{PhaseResults, Results};
use crate::summary::{Quality, Quantity, derived_from, quantity, unavailable};

/// Spans of energy, short against the runs that they are summed over.
const SPAN_NS: u64 = 10_000_000;

/// What lasts shorter has no energy of its own: meters are renewed every tenth of a second or so.
const LEAST_SPAN_NS: u64 = 300_000_000;

/// The machine's energy over a phase, in short spans, or why it is not known.
pub(in crate::summary) struct Energy {
    spans: Result<Vec<Interval>, &'static str>,
    idle_w: Quantity,
    quality: Quality,
}

impl Energy {
    pub(in crate::summary) fn of(results: &Results, recorded: &PhaseResults) -> Energy {
        let channels = results.agent.as_ref().map(|agent| agent.meters.as_slice());
        let channels = channels.unwrap_or_default();
        let is_known = channels.iter().any(|channel| channel.counted);
        let spans = match is_known {
            false => Err("no meter can be summed up"),
            true => intervals(channels, &recorded.meters, SPAN_NS)
                .ok_or("a counted channel has no readings throughout the phase"),
        };
        let end = recorded.end.as_ref();
        let quality = end.map_or(Quality::Unavailable, |end| quantity(&end.energy_j).quality);
        let idle_w = match idle_power(&known_idle(&results.idle)) {
            Some((watts, _)) => derived_from(
                quality,
                watts,
                "power without jobs, before and after the phases",
            ),
            None => unavailable("the idle power was not measured"),
        };
        Energy {
            spans,
            idle_w,
            quality,
        }
    }

    /// Power without jobs, in watts.
    pub(super) const fn idle_w(&self) -> &Quantity {
        &self.idle_w
    }

    /// Energy over some spans of time, for each of so many things.
    pub(super) fn per(&self, times: impl Iterator<Item = (u64, u64)>, count: f64) -> Quantity {
        let times: Vec<(u64, u64)> = times.collect();
        match self.over(&times) {
            Ok(joules) => derived_from(
                self.quality,
                joules / count.max(1.0),
                "gross energy of the machine",
            ),
            Err(why) => unavailable(why),
        }
    }

    /// Energy for each token of some trials, gross, over the times in which those were under way. Arms take
    /// turns, so that each trial, or each group of them that was under way together, has to last long enough to
    /// be told from the next.
    pub(super) fn per_token(&self, trials: &[&TrialRecord]) -> Quantity {
        let groups = law::spans_ns(trials);
        let tokens: u64 = groups.values().map(|(_, _, tokens)| tokens).sum();
        match tokens {
            0 => unavailable("no token was made"),
            tokens => self.per(
                groups.values().map(|(begin, end, _)| (*begin, *end)),
                count_to_f64(tokens),
            ),
        }
    }

    /// Energy over some spans of time, in joules.
    pub(in crate::summary) fn over(&self, times: &[(u64, u64)]) -> Result<f64, &'static str> {
        let spans = self.spans.as_ref().map_err(|why| *why)?;
        let mut joules = 0.0;
        for (from, until) in times {
            if until.saturating_sub(*from) < LEAST_SPAN_NS {
                return Err("it is too short for what meters tell apart");
            }
            // Spans are in the order of time.
            let first = spans.partition_point(|span| span.to_ns <= *from);
            let within = spans.iter().skip(first);
            let mut covered = 0;
            for span in within.take_while(|span| span.from_ns < *until) {
                let shared = span
                    .to_ns
                    .min(*until)
                    .saturating_sub(span.from_ns.max(*from));
                let share = count_to_f64(shared) / count_to_f64((span.to_ns - span.from_ns).max(1));
                joules += share * span.energy_j;
                covered += shared;
            }
            if covered + 2 * SPAN_NS < until.saturating_sub(*from) {
                return Err("the meters have no readings throughout it");
            }
        }
        Ok(joules)
    }
}

#[cfg(test)]
mod tests;
