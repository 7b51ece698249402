//! Rows of the KPI tables while their link follows its trace: what the trace carries of each transmission in time, and
//! which were in time.

use std::collections::BTreeMap;

use hexloop_topologies::plan::{Plan, StudyPlan};
use hexloop_traces::{CapacityCurve, Direction, Trace};
use hexloop_workloads::study::Arm;
use hexloop_workloads::study::kpi::{Flow, KpiRow, Way, payload_frame_bytes};
use hexloop_workloads::study::traced::TracedTrial;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Times, took_ns};
use crate::format::{count_to_f64, length, rounded};
use crate::summary::studies::Findings;

/// A trace that carries so much of what is needed, in percent, is to have it there in time. The rest is for the headers of
/// TCP and IP, and for what sender and receiver take.
pub(in crate::summary) const ENOUGH_PERCENT: u64 = 125;

/// One that carries no more than so much of it is not.
pub(in crate::summary) const SHORT_PERCENT: u64 = 90;

/// A row of 3GPP TS 22.261 clause 7.10 on its link's trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KpiOnTrace {
    /// The trace.
    pub trace: String,
    /// How often it was sent.
    pub sent: u64,
    /// How often it was in time.
    pub in_time: u64,
    /// From the first byte's sending to the last one's arrival, the median, in milliseconds.
    pub median_ms: f64,
    /// The longest.
    pub longest_ms: f64,
    /// What the median leaves of the latency, as a share of it; negative if it was late.
    pub margin: f64,
    /// `pass` if all were in time, `fail` if none was, else `mixed`.
    pub verdict: String,
    /// What the trace says of them; null where it is not recorded.
    pub by_trace: Option<KpiByTrace>,
}

/// What a trace says of the transmissions of a row, each from when it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KpiByTrace {
    /// Of what is needed, the share that the trace carries within the latency: the least, the median and the most.
    pub carried_over_needed: [f64; 3],
    /// Those of which it carries at least 1.25.
    pub enough: u64,
    /// Those of them that were in time.
    pub enough_in_time: u64,
    /// Those of which it carries at most 0.9.
    pub short: u64,
    /// Those of them that were in time.
    pub short_in_time: u64,
    /// Those between, of which nothing is claimed.
    pub between: u64,
}

/// The trace of a study's link, prepared for both directions.
pub(in crate::summary) struct LinkTrace(BTreeMap<Direction, CapacityCurve>);

/// What a trace says of a transmission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::summary) enum Says {
    /// It is to be in time.
    InTime,
    /// It is to be late.
    Late,
    /// Neither.
    Nothing,
}

/// Bits that have to arrive within the latency of a transmission, and those that the trace carries in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Carried {
    needed: u64,
    carried: u64,
}

/// A transmission.
struct Sent {
    took_ns: u64,
    is_in_time: bool,
    /// `None` where the trace is not recorded.
    carried: Option<Carried>,
}

/// The transmissions of a row.
pub(in crate::summary) struct RowSent {
    pub(in crate::summary) row: &'static KpiRow,
    latency_ns: u64,
    sent: Vec<Sent>,
}

impl LinkTrace {
    /// That of a study's first link, which is the only one of such studies; `None` where it is not recorded.
    pub(in crate::summary) fn of(
        plan: &Plan,
        traces: &BTreeMap<String, Trace>,
        study: &StudyPlan,
    ) -> Option<LinkTrace> {
        let trace = traces.get(name_of(plan, study)?)?;
        let curve = |direction| (direction, CapacityCurve::new(trace, direction));
        Some(LinkTrace(Direction::BOTH.into_iter().map(curve).collect()))
    }

    fn curve(&self, way: Way) -> Option<&CapacityCurve> {
        self.0.get(&match way {
            Way::Up => Direction::Up,
            Way::Down => Direction::Down,
        })
    }
}

impl Carried {
    /// Of a payload that is sent so long after the trace began, on an empty queue.
    fn of(curve: &CapacityCurve, at_ns: u64, flow: Flow) -> Carried {
        Carried {
            needed: payload_frame_bytes(flow.payload_bytes).saturating_mul(8),
            carried: curve.bits_within(at_ns, flow.latency_ns),
        }
    }

    fn over_needed(self) -> f64 {
        count_to_f64(self.carried) / count_to_f64(self.needed.max(1))
    }

    fn says(self) -> Says {
        let carried = u128::from(self.carried) * 100;
        let needed = |percent: u64| u128::from(self.needed) * u128::from(percent);
        match () {
            () if carried >= needed(ENOUGH_PERCENT) => Says::InTime,
            () if carried <= needed(SHORT_PERCENT) => Says::Late,
            () => Says::Nothing,
        }
    }
}

impl Sent {
    fn of(one: &TracedTrial, way: Way, flow: Flow, trace: Option<&LinkTrace>) -> Sent {
        let took_ns = took_ns(&one.trial);
        // It may have begun later than it was due.
        let at_ns = one.trial.started_ns.saturating_sub(one.from_ns);
        let curve = trace.and_then(|trace| trace.curve(way));
        Sent {
            took_ns,
            is_in_time: took_ns <= flow.latency_ns,
            carried: curve.map(|curve| Carried::of(curve, at_ns, flow)),
        }
    }

    /// What the trace says of it; `None` where that is not recorded.
    fn says(&self) -> Option<Says> {
        self.carried.map(Carried::says)
    }
}

impl RowSent {
    /// How many there are of which the trace says that, and how many of these were in time.
    pub(in crate::summary) fn count(&self, says: Says) -> (u64, u64) {
        let meant = || self.sent.iter().filter(|sent| sent.says() == Some(says));
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let in_time = meant().filter(|sent| sent.is_in_time).count();
        (count(meant().count()), count(in_time))
    }

    fn by_trace(&self) -> Option<KpiByTrace> {
        let carried = self.sent.iter().map(|sent| sent.carried);
        let mut shares: Vec<f64> = carried
            .map(|carried| carried.map(Carried::over_needed))
            .collect::<Option<_>>()?;
        shares.sort_by(f64::total_cmp);
        let middle = shares.get(shares.len() / 2)?;
        let spread = [shares.first()?, middle, shares.last()?];
        let (enough, enough_in_time) = self.count(Says::InTime);
        let (short, short_in_time) = self.count(Says::Late);
        Some(KpiByTrace {
            carried_over_needed: spread.map(|share| rounded(*share, 4)),
            enough,
            enough_in_time,
            short,
            short_in_time,
            between: self.count(Says::Nothing).0,
        })
    }

    /// What came of them; `None` if there are none.
    pub(super) fn summary(&self, trace: &str) -> Option<KpiOnTrace> {
        let took: Vec<u64> = self.sent.iter().map(|sent| sent.took_ns).collect();
        let times = Times::of(&took, self.latency_ns)?;
        Some(KpiOnTrace {
            trace: trace.to_owned(),
            sent: length(&took),
            in_time: times.in_time,
            median_ms: times.median_ms,
            longest_ms: times.longest_ms,
            margin: times.margin,
            verdict: times.verdict.to_owned(),
            by_trace: self.by_trace(),
        })
    }
}

/// Every row that was to be sent on the trace, in the order of the plan.
pub(in crate::summary) fn sent(findings: &Findings<'_>, trace: Option<&LinkTrace>) -> Vec<RowSent> {
    let study = &findings.plan.study;
    let of_arm = |arm: &Arm| {
        let Arm::KpiOnTrace { row } = *arm else {
            return None;
        };
        let spec = study.kpi.as_ref()?;
        let row = spec.rows().find(|(place, _)| *place == row)?.1;
        let flow = spec.flow(row).ok()?;
        let traced = findings.traced_of(arm).into_iter();
        Some(RowSent {
            row,
            latency_ns: flow.latency_ns,
            sent: traced
                .map(|one| Sent::of(one, row.way, flow, trace))
                .collect(),
        })
    };
    study.arms.iter().filter_map(of_arm).collect()
}

/// The name of the trace that a study's first link follows.
pub(super) fn name_of<'a>(plan: &'a Plan, study: &StudyPlan) -> Option<&'a String> {
    let link = plan.link(&study.hops.first()?.link)?;
    Some(&link.trace)
}

#[cfg(test)]
mod tests {
    use hexloop_traces::generate::control::{Link, constant, step};
    use hexloop_workloads::study::kpi::{KpiSpec, ROWS};

    use super::*;

    const MS: u64 = 1_000_000;

    /// 27 kB within 15 ms; with the frame's header 27,016 bytes or 216,128 bits.
    fn flow() -> Flow {
        let spec = KpiSpec {
            tables: Vec::new(),
            percents: Vec::new(),
            scale: 10,
            most_rate_bps: 100_000_000,
        };
        spec.flow(&ROWS[0]).unwrap()
    }

    fn carried(trace: &Trace, at_ns: u64) -> Carried {
        Carried::of(&CapacityCurve::new(trace, Direction::Up), at_ns, flow())
    }

    #[test]
    fn what_is_needed_is_the_frame_and_what_is_carried_the_rate_over_the_latency_less_the_delay() {
        // 14 ms at 20 Mbit/s.
        let trace = constant(20_000_000, MS, 0, 100 * MS).unwrap();
        let carried = carried(&trace, 3 * MS);
        assert_eq!((carried.needed, carried.carried), (216_128, 280_000));
        // 280,000 / 216,128.
        assert!((carried.over_needed() - 1.2955).abs() < 1e-4);
    }

    #[test]
    fn a_quarter_to_spare_is_in_time_a_tenth_short_is_late_and_between_nothing_is_said() {
        // 125 % are 270,160 bits in 14 ms, 90 % are 194,515.
        for (rate_bps, bits, says) in [
            (19_300_000, 270_200, Says::InTime),
            (19_290_000, 270_060, Says::Nothing),
            (13_900_000, 194_600, Says::Nothing),
            (13_890_000, 194_460, Says::Late),
            (0, 0, Says::Late),
        ] {
            let trace = constant(rate_bps, MS, 0, 100 * MS).unwrap();
            let carried = carried(&trace, 0);
            assert_eq!((carried.carried, carried.says()), (bits, says));
        }
    }

    #[test]
    fn the_same_payload_is_carried_or_not_by_when_it_begins() {
        // 30 Mbit/s until 50 ms, and 6 from then on.
        let link = Link::new(0, MS, 0);
        let trace = step(link, &[(50 * MS, 30_000_000), (50 * MS, 6_000_000)]).unwrap();
        // 14 ms at 30: 420,000.
        assert_eq!(carried(&trace, 36 * MS).carried, 420_000);
        // 6 ms at 30 and 8 at 6: 228,000, less than a quarter to spare.
        let across = carried(&trace, 44 * MS);
        assert_eq!(across.carried, 180_000 + 48_000);
        assert_eq!(across.says(), Says::Nothing);
        // 14 ms at 6: 84,000.
        let after = carried(&trace, 50 * MS);
        assert_eq!((after.carried, after.says()), (84_000, Says::Late));
    }

    #[test]
    fn a_delay_as_long_as_the_latency_lets_nothing_be_in_time() {
        let trace = constant(1_000_000_000, 15 * MS, 0, 100 * MS).unwrap();
        assert_eq!(carried(&trace, 0).carried, 0);
        assert_eq!(carried(&trace, 0).says(), Says::Late);
    }
}
