//! Claims about retrieval at the edge.

use super::super::{Evidence, Judgement, unjudged};
use super::{told, with_numbers, within};
use crate::format::{count_to_f64, length};
use crate::summary::studies::Findings;
use crate::summary::studies::own::Agreement;
use crate::summary::studies::retrieval::arms;
use hexloop_statistics::mean_interval;

/// The least share of the chunks of an exact search that an index is to find.
const LEAST_RECALL: f64 = 0.8;

/// Nothing is computed twice: with kept prefixes, what is reused and what is computed make up every
/// sequence, something is reused, and computing the rest takes what so many positions should.
pub(super) fn reuse_saves_prefill(findings: &Findings<'_>) -> Judgement {
    let Some(costs) = findings.retrieval else {
        return unjudged(&[], "no costs were measured".to_owned());
    };
    let query = findings.plan.study.prompt_tokens;
    let (mut trials, mut wrong, mut hits, mut reused, mut computed) = (0_u64, 0_u64, 0_u64, 0, 0);
    let mut ratios = Vec::new();
    for arm in arms(findings).iter().filter(|arm| arm.retrieval.keeps) {
        for (_, record) in &arm.trials {
            trials += 1;
            let found = u32::try_from(record.found.len()).unwrap_or(u32::MAX);
            let whole = found.saturating_mul(arm.retrieval.library.chunk_tokens) + query;
            wrong += u64::from(record.reused + record.computed != whole);
            hits += u64::from(record.reused > 0);
            reused += u64::from(record.reused);
            computed += u64::from(record.computed);
            let expected = count_to_f64(costs.prefill_ns(record.computed).max(1));
            ratios.push(count_to_f64(record.prefill_ns) / expected);
        }
    }
    let Some(ratio) = mean_interval(&ratios) else {
        return unjudged(&[], "two trials with kept prefixes are needed".to_owned());
    };
    let saved = count_to_f64(reused) / count_to_f64((reused + computed).max(1));
    let held = match wrong == 0 && hits > 0 {
        true => within(ratio),
        false => Some(false),
    };
    let detail = format!(
        "{hits} of {trials} queries began with chunks whose keys and values had been kept: {:.1} % of all \
         positions were not computed again ({wrong} trials do not add up); computing the rest took {} of what \
         so many positions should (95 %)",
        saved * 100.0,
        told(ratio)
    );
    let numbers = [
        ("trials", count_to_f64(trials)),
        ("trials_that_do_not_add_up", count_to_f64(wrong)),
        ("hits", count_to_f64(hits)),
        ("reused_share", saved),
        ("prefill_over_expected", ratio[0]),
        ("prefill_over_expected_low", ratio[1]),
        ("prefill_over_expected_high", ratio[2]),
    ];
    let evidence = Evidence::ratio(trials, "trials", ratio);
    with_numbers(held, &numbers, evidence, &detail)
}

/// An index that looks at few vectors finds most of what an exact search finds, and that finds all.
pub(super) fn recall_is_high(findings: &Findings<'_>) -> Judgement {
    let arms = arms(findings);
    let (mut few, mut exact) = (Agreement::default(), Agreement::default());
    for arm in &arms {
        let (asked, found) = arm.recalled();
        let of = match arm.retrieval.probes {
            Some(_) => &mut few,
            None => &mut exact,
        };
        of.compared += asked;
        of.same += found;
    }
    let Some([share, low, high]) = few.interval() else {
        let detail = "no index that looks at few vectors was tried".to_owned();
        return unjudged(&[], detail);
    };
    let held = match () {
        () if exact.same != exact.compared => Some(false),
        () if low >= LEAST_RECALL => Some(true),
        () if high < LEAST_RECALL => Some(false),
        () => None,
    };
    let detail = format!(
        "{} of {} chunks that an exact search finds were found: {share:.3} ({low:.3} to {high:.3}, 95 %), {LEAST_RECALL} are asked \
         for; an exact search found {} of {}",
        few.same, few.compared, exact.same, exact.compared
    );
    let numbers = [
        ("arms", count_to_f64(length(&arms))),
        ("chunks", count_to_f64(few.compared)),
        ("recall", share),
        ("recall_low", low),
        ("recall_high", high),
    ];
    let effect = format!("{:.3} less, and of an exact search one,", share - low);
    let evidence = Evidence::new(few.compared, "chunks", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
