//! What the machine used while a study computed: over runs of batches, rounds of users, and the requests of
//! an arm; and what of that is known of each node alone.

mod nodes;

use hexloop_proto::MeterChannel;
use hexloop_workloads::study::TrialRecord;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::nodes::OfNode;
use super::law;
use crate::energy::{Interval, idle_power, intervals, known_idle};
use crate::format::{count_to_f64, length};
use crate::results::{PhaseResults, Results};
use crate::summary::{Quality, Quantity, derived_from, quantity, unavailable};

/// Spans of energy, short against the runs that they are summed over.
const SPAN_NS: u64 = 10_000_000;

/// What lasts shorter has no energy of its own: meters are renewed every tenth of a second or so.
const LEAST_SPAN_NS: u64 = 300_000_000;

/// Energy of an arm of a study, over the times in which its requests were under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyEnergy {
    /// Energy of the machine, all nodes of it together, for each request: gross, in joules.
    pub j_per_request: Quantity,
    /// The same less the power without jobs over the same times.
    pub above_idle_j_per_request: Quantity,
    /// Energy of the machine, all nodes of it together, for each token that came: gross, in joules.
    pub j_per_token: Quantity,
    /// What of it is known of each node of the path alone, in its order.
    #[serde(default)]
    pub node_energy: Vec<StudyNodeEnergy>,
}

/// Energy that is one node's alone: its GPU's, where no other node and nobody else computes on that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyNodeEnergy {
    /// The node.
    pub node: String,
    /// Energy for each request: gross, in joules.
    pub j_per_request: Quantity,
    /// Energy for each token that came: gross, in joules.
    pub j_per_token: Quantity,
}

/// What was done, and when: begins and ends that do not overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) times: Vec<(u64, u64)>,
    pub(super) requests: u64,
    pub(super) tokens: u64,
}

impl Work {
    /// Some trials. Arms take turns, so that each trial, or each group of them that was under way together, has to
    /// last long enough to be told from the next.
    pub(super) fn of_trials(trials: &[&TrialRecord]) -> Work {
        let groups = law::spans_ns(trials);
        let spans = groups.values();
        Work {
            times: spans
                .clone()
                .map(|(begin, end, _)| (*begin, *end))
                .collect(),
            requests: length(trials),
            tokens: spans.map(|(_, _, tokens)| tokens).sum(),
        }
    }

    fn seconds(&self) -> f64 {
        let times = self.times.iter();
        let lengths = times.map(|(from, until)| until.saturating_sub(*from));
        count_to_f64(lengths.sum()) / 1e9
    }
}

/// The energy of some devices over a phase, in short spans, or why it is not known.
struct Curve {
    spans: Result<Vec<Interval>, &'static str>,
    quality: Quality,
    source: String,
}

impl Curve {
    /// Of the counted channels.
    fn of(
        channels: &[MeterChannel],
        recorded: &PhaseResults,
        (quality, source): (Quality, &str),
    ) -> Curve {
        let is_known = channels.iter().any(|channel| channel.counted);
        Curve {
            spans: match is_known {
                false => Err("no meter can be summed up"),
                true => intervals(channels, &recorded.meters, SPAN_NS)
                    .ok_or("a counted channel has no readings throughout the phase"),
            },
            quality,
            source: source.to_owned(),
        }
    }

    /// Energy over some spans of time, for each of so many things.
    fn per(&self, times: &[(u64, u64)], count: f64) -> Quantity {
        match self.over(times) {
            Ok(joules) => derived_from(self.quality, joules / count.max(1.0), &self.source),
            Err(why) => unavailable(why),
        }
    }

    fn per_request(&self, work: &Work) -> Quantity {
        match work.requests {
            0 => unavailable("no request was answered"),
            requests => self.per(&work.times, count_to_f64(requests)),
        }
    }

    fn per_token(&self, work: &Work) -> Quantity {
        match work.tokens {
            0 => unavailable("no token was made"),
            tokens => self.per(&work.times, count_to_f64(tokens)),
        }
    }

    fn over(&self, times: &[(u64, u64)]) -> Result<f64, &'static str> {
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

/// The machine's energy over a phase, and what of it is known of nodes alone.
pub(in crate::summary) struct Energy {
    machine: Curve,
    idle_w: Quantity,
    nodes: Vec<OfNode>,
}

impl Energy {
    /// Of the machine; nothing is asked of nodes.
    pub(in crate::summary) fn of(results: &Results, recorded: &PhaseResults) -> Energy {
        let channels = results.agent.as_ref().map(|agent| agent.meters.as_slice());
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
        let about = (quality, "gross energy of the machine");
        Energy {
            machine: Curve::of(channels.unwrap_or_default(), recorded, about),
            idle_w,
            nodes: Vec::new(),
        }
    }

    /// Of the machine, and of the nodes of a path.
    pub(super) fn along(results: &Results, recorded: &PhaseResults, path: &[String]) -> Energy {
        Energy {
            nodes: nodes::along(results, recorded, path),
            ..Energy::of(results, recorded)
        }
    }

    /// Power without jobs, in watts.
    pub(super) const fn idle_w(&self) -> &Quantity {
        &self.idle_w
    }

    /// What the machine would have used in so many seconds without jobs, in joules.
    pub(super) fn idle_j(&self, seconds: f64) -> Quantity {
        match self.idle_w.value {
            Some(watts) => derived_from(
                self.idle_w.quality,
                watts * seconds,
                "idle power times length",
            ),
            None => self.idle_w.clone(),
        }
    }

    /// Energy over some spans of time, for each of so many things.
    pub(super) fn per(&self, times: &[(u64, u64)], count: f64) -> Quantity {
        self.machine.per(times, count)
    }

    /// What some requests used.
    pub(super) fn of_work(&self, work: &Work) -> StudyEnergy {
        let j_per_request = self.machine.per_request(work);
        StudyEnergy {
            above_idle_j_per_request: self.above_idle(&j_per_request, work),
            j_per_request,
            j_per_token: self.machine.per_token(work),
            node_energy: self.nodes.iter().map(|node| node.of_work(work)).collect(),
        }
    }

    /// What some trials used.
    pub(super) fn of_trials(&self, trials: &[&TrialRecord]) -> StudyEnergy {
        self.of_work(&Work::of_trials(trials))
    }

    fn above_idle(&self, j_per_request: &Quantity, work: &Work) -> Quantity {
        let idle_j = self.idle_j(work.seconds());
        match (j_per_request.value, idle_j.value) {
            (Some(gross_j), Some(idle_j)) => derived_from(
                self.machine.quality,
                gross_j - idle_j / count_to_f64(work.requests.max(1)),
                "gross energy of the machine less idle power times length",
            ),
            (Some(_), None) => idle_j,
            (None, _) => j_per_request.clone(),
        }
    }

    /// Energy over some spans of time, in joules.
    pub(in crate::summary) fn over(&self, times: &[(u64, u64)]) -> Result<f64, &'static str> {
        self.machine.over(times)
    }
}

#[cfg(test)]
mod tests;
