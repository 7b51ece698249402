//! The claims about rows of the KPI tables: at set rates, and on their link's trace.

mod on_trace;

pub(super) use on_trace::holds_by_trace;

use super::{Evidence, Judgement, unjudged, with_numbers};
use crate::format::{count_to_f64, length};
use crate::summary::studies::Findings;
use crate::summary::studies::kpi::{Sent, sent};

/// Fewest transmissions of a row at a rate that it is judged by.
const LEAST_SENT: usize = 3;

/// The share of them that must agree: what a busy machine does to one of them is not the link's.
const MOST: f64 = 0.8;

/// The share of late transmissions at which more than are let pass of so many are late in nineteen of twenty
/// runs: the largest `q` with `sum_{i=0}^{k} C(n, i) q^i (1-q)^(n-i) > 0.05`, where `k` of `n` are let pass.
fn share_that_shows(transmissions: u64) -> f64 {
    let passing = (0..=transmissions)
        .take_while(|late| {
            let in_time = count_to_f64(transmissions - late) / count_to_f64(transmissions.max(1));
            in_time >= MOST
        })
        .count();
    let chance_of_passing = |share: f64| -> f64 {
        let (mut term, mut sum) = (1.0_f64, 0.0_f64);
        for late in 0..passing {
            let late = count_to_f64(u64::try_from(late).unwrap_or(u64::MAX));
            let others = count_to_f64(transmissions) - late;
            sum += term * share.powf(late) * (1.0 - share).powf(others);
            term *= others / (late + 1.0);
        }
        sum
    };
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if chance_of_passing(middle) > 0.05 {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Above payload * 8 / latency a row is in time, and below it late.
pub(super) fn holds_by_rate(findings: &Findings<'_>) -> Judgement {
    let all = sent(findings);
    let judged: Vec<&Sent<'_>> = all
        .iter()
        .filter(|sent| sent.trials.len() >= LEAST_SENT && sent.percent != 100)
        .collect();
    let share = |sent: &Sent<'_>| {
        count_to_f64(sent.in_time()) / count_to_f64(length(&sent.trials)).max(1.0)
    };
    let differs = |sent: &&&Sent<'_>| match sent.percent > 100 {
        true => share(sent) < MOST,
        false => share(sent) > 1.0 - MOST,
    };
    let wrong: Vec<String> = judged
        .iter()
        .filter(differs)
        .map(|sent| {
            format!(
                "{} at {} %: {} of {} in time",
                sent.row.use_case,
                sent.percent,
                sent.in_time(),
                sent.trials.len()
            )
        })
        .collect();
    let both = judged.iter().any(|it| it.percent > 100) && judged.iter().any(|it| it.percent < 100);
    let transmissions: usize = judged.iter().map(|sent| sent.trials.len()).sum();
    let mut detail = format!(
        "{} rows and rates, {transmissions} transmissions: {} are not as their rate says",
        judged.len(),
        wrong.len()
    );
    if !wrong.is_empty() {
        detail = format!("{detail} ({})", wrong.join("; "));
    }
    if !both {
        let few = format!("{detail}; rates above and below 100 % are needed");
        return unjudged(&[("judged", length(&judged))], few);
    }
    let numbers = [
        ("judged", count_to_f64(length(&judged))),
        ("differing", count_to_f64(length(&wrong))),
        (
            "transmissions",
            count_to_f64(u64::try_from(transmissions).unwrap_or(u64::MAX)),
        ),
    ];
    let fewest = judged.iter().map(|sent| length(&sent.trials)).min();
    let fewest = fewest.unwrap_or(0);
    let effect = format!(
        "at 95 % a share of {:.0} % of late ones",
        share_that_shows(fewest) * 100.0
    );
    let evidence = Evidence::new(fewest, "transmissions of a row at a rate at least", effect);
    with_numbers(Some(wrong.is_empty()), &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests {
    use hexloop_topologies::plan::StudyClaim;
    use hexloop_workloads::study::kpi::{KpiSpec, hop_bytes};
    use hexloop_workloads::study::{Arm, Grid, StudyFinding, StudySpec, TrialRecord};

    use super::super::judge;
    use crate::fixture;
    use crate::summary::ExpectationOutcome::{self, Held, NotHeld};

    /// Times of a transmission over what its rate says, in thousandths, and bytes beside the formula's.
    fn outcome(times: u64, more_bytes: u64, claim: StudyClaim) -> (ExpectationOutcome, String) {
        let kpi = KpiSpec {
            tables: vec!["7.10.1-1".to_owned()],
            percents: vec![125, 90],
            scale: 10,
            most_rate_bps: 100_000_000,
        };
        let tried = kpi.rows().filter(|(_, row)| kpi.flow(row).is_ok());
        let arms = tried.flat_map(|(row, _)| [125, 90].map(|percent| Arm::Kpi { row, percent }));
        let arms: Vec<Arm> = arms.collect();
        let mut findings = Vec::new();
        for arm in &arms {
            let Arm::Kpi { row, percent } = *arm else {
                continue;
            };
            let row = kpi.rows().find(|(place, _)| *place == row).unwrap().1;
            let flow = kpi.flow(row).unwrap();
            for prompt in 0..4 {
                let took_ns = flow.latency_ns * 100 / u64::from(percent) * times / 1000;
                let mut hop = hop_bytes(row.way, flow.payload_bytes);
                hop.up += more_bytes;
                findings.push(StudyFinding::Trial(TrialRecord {
                    number: prompt,
                    group: prompt,
                    arm: arm.clone(),
                    round_trip_ns: 0,
                    rate_bps: flow.rate_bps * u64::from(percent) / 100,
                    prompt,
                    token_ns: vec![took_ns],
                    tokens: Vec::new(),
                    hops: vec![hop],
                    busy_ns: vec![0],
                    ..fixture::trial()
                }));
            }
        }
        let study = StudySpec {
            arms,
            prompts: 4,
            prompt_tokens: 0,
            output_tokens: 0,
            grid: Grid {
                round_trips_ns: vec![0],
                rates_bps: Vec::new(),
                around_percent: Vec::new(),
            },
            kpi: Some(kpi),
            ..fixture::study_spec()
        };
        let (plan, results) = fixture::with_study("kpi", study, findings);
        let judged = judge(&plan, &results, ("kpi", claim));
        (judged.outcome, judged.detail)
    }

    #[test]
    fn the_share_that_shows_allows_for_those_that_are_let_pass() {
        // None of 3 and 4 may be late: 1 - 0.05^(1/n). One of 5: (1-q)^5 + 5 q (1-q)^4 = 0.05 at 0.657.
        for (transmissions, share) in [(3, 0.632), (4, 0.527), (5, 0.657), (20, 0.401)] {
            let found = super::share_that_shows(transmissions);
            assert!((found - share).abs() < 1e-3, "{transmissions}: {found}");
        }
    }

    #[test]
    fn rows_are_in_time_above_their_rate_and_late_below_it() {
        for claim in [
            StudyClaim::KpisHoldByRate,
            StudyClaim::ArmBytesFollowFormula,
        ] {
            let (outcome, detail) = outcome(1040, 0, claim);
            assert_eq!(outcome, Held, "{detail}");
        }
    }

    #[test]
    fn links_that_are_slower_or_faster_than_they_say_are_told() {
        for times in [1400, 800] {
            let (outcome, detail) = outcome(times, 0, StudyClaim::KpisHoldByRate);
            assert_eq!(outcome, NotHeld, "{detail}");
            assert!(detail.contains("split image recognition at"), "{detail}");
        }
    }

    #[test]
    fn bytes_beside_the_formula_are_told() {
        let (outcome, detail) = outcome(1040, 1, StudyClaim::ArmBytesFollowFormula);
        assert_eq!(outcome, NotHeld, "{detail}");
    }
}
