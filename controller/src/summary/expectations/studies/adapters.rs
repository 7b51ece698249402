//! Claims about tasks that share a backbone.

use std::collections::BTreeMap;

use hexloop_workloads::study::adapters::{
    AloneRecord, CLOSE_MILLIONTHS, Serving, TaskLossRecord, WaveRecord, delivery_bytes,
    request_bytes,
};

use super::{Evidence, Judgement, judgement, told, unjudged, with_numbers, within};
use crate::format::{count_to_f64, length};
use crate::summary::expectations::evidence::half_width;
use crate::summary::studies::Findings;
use hexloop_statistics::{Agreement, TOKENS_OF_A_TIE, interval_over_blocks, mean_interval};

/// Fewest paragraphs that a text is judged by.
const LEAST_PARAGRAPHS: usize = 3;

/// Resamples of an interval.
const RESAMPLES: usize = 2000;

fn differing(count: u64, of: u64) -> Option<bool> {
    (of > 0).then_some(count == 0)
}

/// Every delivery is the parameters of the formula and headers: byte for byte.
pub(super) fn bytes_are_delta(findings: &Findings<'_>) -> Judgement {
    let (mut judged, mut wrong) = (0, 0);
    // Of adapters and of full models: parameters, their bytes, bytes on the link, deliveries.
    let mut kinds = [[0_u64; 4]; 2];
    for delivery in findings.deliveries_of_tasks() {
        let value_bytes = delivery
            .parameter_bytes
            .checked_div(delivery.parameters)
            .unwrap_or(0);
        let is_exact = delivery.parameters == delivery.formula_parameters
            && delivery.parameters * value_bytes == delivery.parameter_bytes
            && delivery.parameter_bytes <= delivery.file_bytes
            && delivery.up == delivery_bytes(delivery.file_bytes, delivery.frames);
        judged += 1;
        wrong += u64::from(!is_exact);
        let kind = &mut kinds[usize::from(delivery.whole)];
        let numbers = [
            delivery.parameters,
            delivery.parameter_bytes,
            delivery.up,
            1,
        ];
        for (sum, number) in kind.iter_mut().zip(numbers) {
            *sum += number;
        }
    }
    let [adapters, models] = kinds;
    if adapters[3] == 0 || models[3] == 0 {
        let detail = "adapters and full models are to be delivered, both".to_owned();
        return unjudged(&[("deliveries", judged)], detail);
    }
    let mean =
        |kind: [u64; 4], index: usize| count_to_f64(kind[index]) / count_to_f64(kind[3]).max(1.0);
    let ratio = |index: usize| mean(adapters, index) / mean(models, index).max(1.0);
    let headers = |kind: [u64; 4]| {
        count_to_f64(kind[2] - kind[1].min(kind[2])) / count_to_f64(kind[1]).max(1.0)
    };
    let detail = format!(
        "{judged} deliveries, {wrong} of which differ from the formula; an adapter is {:.5} of a full model's \
         parameters, {:.5} of their bytes and {:.5} of the bytes on the link (headers add {:.2} % to an adapter and \
         {:.3} % to a full model)",
        ratio(0),
        ratio(1),
        ratio(2),
        headers(adapters) * 100.0,
        headers(models) * 100.0
    );
    let numbers = [
        ("deliveries", count_to_f64(judged)),
        ("differing", count_to_f64(wrong)),
        ("parameter_ratio", ratio(0)),
        ("byte_ratio", ratio(1)),
        ("link_byte_ratio", ratio(2)),
    ];
    let evidence = Evidence::equality(judged, "deliveries", "one byte");
    with_numbers(differing(wrong, judged), &numbers, evidence, &detail)
}

/// Every request puts on the link what the formula says, and both ends counted the same.
pub(super) fn bytes_follow_formula(findings: &Findings<'_>) -> Judgement {
    let study = &findings.plan.study;
    let formula = request_bytes(
        u64::from(study.prompt_tokens),
        u64::from(study.output_tokens),
    );
    let (mut requests, mut wrong, mut waves, mut uneven) = (0, 0, 0, 0);
    for wave in findings.waves() {
        let (mut up, mut down) = (0, 0);
        for request in &wave.requests {
            requests += 1;
            wrong += u64::from((request.up, request.down) != formula);
            up += request.up;
            down += request.down;
        }
        waves += 1;
        uneven += u64::from((wave.up, wave.down) != (up, down));
    }
    let detail = format!(
        "{requests} requests in {waves} waves: {wrong} differ from {} bytes up and {} down, and in {uneven} waves \
         both ends counted differently",
        formula.0, formula.1
    );
    let numbers = [
        ("requests", requests),
        ("differing_requests", wrong),
        ("differing_waves", uneven),
    ];
    let evidence = Evidence::equality(requests, "requests", "one byte");
    let held = differing(wrong + uneven, requests);
    judgement(held, &numbers, evidence, &detail)
}

/// Whether two scores of an answer alone were near at a place.
fn is_near(alone: &AloneRecord, place: usize) -> bool {
    let gap = alone.gap_millionths.get(place);
    gap.is_some_and(|gap| *gap < CLOSE_MILLIONTHS)
}

/// Neither neighbours nor merging change an answer.
pub(super) fn answer_alike(findings: &Findings<'_>) -> Judgement {
    let alone: BTreeMap<(u32, u32), &AloneRecord> = findings
        .answered_alone()
        .map(|record| ((record.task, record.prompt), record))
        .collect();
    let mut agreement = Agreement::default();
    let mut mixed = 0_u64;
    for wave in findings.waves() {
        mixed += u64::from(wave.arm.serving == Serving::Together);
        for request in &wave.requests {
            let asked = (request.task, request.prompt);
            if let Some(alone) = alone.get(&asked) {
                let place = |at| (false, asked, at);
                let near = |at: u32| usize::try_from(at).is_ok_and(|at| is_near(alone, at));
                agreement.answer((&request.tokens, &alone.tokens), place, near);
            }
        }
    }
    let beside_places = agreement.places();
    // With merged weights each token is after the same text, so that all are compared.
    for (asked, record) in &alone {
        let Some(found) = &record.merged else {
            continue;
        };
        for ((index, at), own) in (0_usize..).zip(0_u32..).zip(&record.tokens) {
            let token = found.get(index);
            let near = token.is_some() && is_near(record, index);
            agreement.token((true, *asked, at), token == Some(own), near);
        }
    }
    let (places, differing) = (agreement.places(), agreement.differing());
    let (merged_places, near) = (places - beside_places, agreement.ties());
    let detail = format!(
        "{beside_places} places of answers in waves and {merged_places} with merged weights, {} prompts: {differing} differ \
         from the adapter alone, and {near} more where two scores are near, of which there may be one in \
         {TOKENS_OF_A_TIE}",
        alone.len()
    );
    let numbers = [
        ("places", f64::from(places)),
        ("merged_places", f64::from(merged_places)),
        ("differing", count_to_f64(differing)),
        ("near", f64::from(near)),
    ];
    let is_judged = mixed > 0 && beside_places > 0 && merged_places > 0;
    let held = agreement.held().filter(|_| is_judged);
    let evidence = Evidence::equality(u64::from(places), "places", "another token");
    with_numbers(held, &numbers, evidence, &detail)
}

/// By how many nats per token each paragraph is less surprising with one adapter than with another.
fn gains(own: &TaskLossRecord, other: &TaskLossRecord) -> Vec<f64> {
    let both = own.micronats.iter().zip(&other.micronats).zip(&own.tokens);
    both.map(|((own, other), tokens)| {
        (count_to_f64(*other) - count_to_f64(*own)) / 1e6 / f64::from((*tokens).max(1))
    })
    .collect()
}

/// Each task's text is less surprising with its own adapter than with none and with any other.
pub(super) fn matter(findings: &Findings<'_>) -> Judgement {
    let losses = findings.task_losses();
    let (mut outcomes, mut details, mut least) = (Vec::new(), Vec::new(), f64::INFINITY);
    let (mut widest, mut paragraphs) = (0.0_f64, usize::MAX);
    for ((text, adapter), other) in &losses {
        if *adapter == Some(*text) {
            continue;
        }
        let Some(own) = losses.get(&(*text, Some(*text))) else {
            continue;
        };
        let gains = gains(own, other);
        paragraphs = paragraphs.min(gains.len());
        let Some([gain, low, high]) = mean_interval(&gains) else {
            outcomes.push(None);
            continue;
        };
        outcomes.push(match (low > 0.0, high <= 0.0 || gain <= 0.0) {
            _ if gains.len() < LEAST_PARAGRAPHS => None,
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        });
        least = least.min(gain);
        widest = widest.max((high - low) / 2.0);
        let against = adapter.map_or_else(|| "none".to_owned(), |it| findings.task_name(it));
        details.push(format!(
            "{} against {against}: {gain:+.3} ({low:+.3} to {high:+.3})",
            findings.task_name(*text)
        ));
    }
    if outcomes.is_empty() {
        let detail =
            "no adapter brings a text of its task: put one into its held-out.txt".to_owned();
        return unjudged(&[], detail);
    }
    if details.is_empty() {
        let detail = "two paragraphs of a text are needed".to_owned();
        return unjudged(&[("comparisons", length(&outcomes))], detail);
    }
    let held = if outcomes.contains(&Some(false)) {
        Some(false)
    } else {
        outcomes.iter().all(Option::is_some).then_some(true)
    };
    let detail = format!(
        "nats a token that the own adapter takes off, 95 %: {}",
        details.join(", ")
    );
    let numbers = [
        ("comparisons", count_to_f64(length(&outcomes))),
        ("least_gain", least),
        ("detectable_gain", widest),
    ];
    let effect = format!("{widest:.3} nats a token");
    let paragraphs = u64::try_from(paragraphs).unwrap_or(u64::MAX);
    let evidence = Evidence::new(paragraphs, "paragraphs of a text at least", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

/// From nothing to serving a task takes what bytes, round trip and loading add up to.
pub(super) fn cold_start_is_sum(findings: &Findings<'_>) -> Judgement {
    let (mut outcomes, mut details, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    let (mut deliveries, mut widest) = (0, 0.0_f64);
    for (whole, name, number) in [
        (false, "adapters", "adapter_time_over_expected"),
        (true, "full models", "model_time_over_expected"),
    ] {
        let all = findings.deliveries_of_tasks();
        let ratios: Vec<f64> = all
            .filter(|delivery| delivery.whole == whole)
            .filter_map(|delivery| {
                let expected = findings.expected_cold_start_ns(delivery)?;
                let took = delivery.ended_ns.saturating_sub(delivery.started_ns);
                Some(count_to_f64(took) / count_to_f64(expected.max(1)))
            })
            .collect();
        if ratios.is_empty() {
            continue;
        }
        let Some(ratio) = mean_interval(&ratios) else {
            outcomes.push(None);
            continue;
        };
        let farthest = ratios.iter().map(|ratio| (ratio - 1.0).abs());
        outcomes.push(within(ratio));
        deliveries += length(&ratios);
        widest = widest.max(half_width(ratio));
        numbers.push((number, ratio[0]));
        details.push(format!(
            "{} {name} took {} of what bytes, round trip and loading add up to (95 %; at most {:.1} % off)",
            ratios.len(),
            told(ratio),
            farthest.fold(0.0, f64::max) * 100.0
        ));
    }
    if outcomes.is_empty() {
        return unjudged(&[], "nothing was delivered".to_owned());
    }
    let held = if outcomes.contains(&Some(false)) {
        Some(false)
    } else {
        outcomes.iter().all(Option::is_some).then_some(true)
    };
    let effect = format!("a deviation of {:.1} %", widest * 100.0);
    let evidence = Evidence::new(deliveries, "deliveries", effect);
    with_numbers(held, &numbers, evidence, &details.join("; "))
}

/// Of the same requests, different adapters side by side serve no fewer in time than one adapter at a time.
pub(super) fn together_serves_as_many(findings: &Findings<'_>, seed: u64) -> Judgement {
    let setting = |wave: &WaveRecord| {
        (
            wave.arm.batch,
            wave.round_trip_ns,
            wave.rate_bps,
            wave.repetition,
        )
    };
    let of = |serving: Serving| {
        let waves = findings
            .waves()
            .filter(move |wave| wave.arm.serving == serving);
        waves
            .map(|wave| (setting(wave), wave))
            .collect::<BTreeMap<_, _>>()
    };
    let (together, switched) = (of(Serving::Together), of(Serving::Switched));
    let share = |wave: &WaveRecord| {
        let requests = wave.requests.iter();
        let in_time = requests.filter(|it| findings.is_in_time(wave, it)).count();
        count_to_f64(u64::try_from(in_time).unwrap_or(u64::MAX))
            / count_to_f64(length(&wave.requests)).max(1.0)
    };
    let pairs: Vec<[f64; 2]> = together
        .iter()
        .filter_map(|(setting, wave)| Some([share(wave), share(switched.get(setting)?)]))
        .collect();
    let mean = |pairs: &[&[f64; 2]], value: fn(&[f64; 2]) -> f64| {
        let sum: f64 = pairs.iter().map(|pair| value(pair)).sum();
        (!pairs.is_empty()).then(|| sum / count_to_f64(length(pairs)))
    };
    let all: Vec<&[f64; 2]> = pairs.iter().collect();
    let difference = |pairs: &[&[f64; 2]]| mean(pairs, |[one, other]| one - other);
    let interval = interval_over_blocks(&pairs, seed, RESAMPLES, difference);
    let shares = (mean(&all, |pair| pair[0]), mean(&all, |pair| pair[1]));
    let (Some((low, high)), (Some(one), Some(other))) = (interval, shares) else {
        let detail = format!("{} pairs of waves are too few", pairs.len());
        return unjudged(&[("waves", length(&pairs))], detail);
    };
    let told_by_deadline = pairs.iter().any(|[one, other]| *one < 1.0 || *other < 1.0)
        && pairs.iter().any(|[one, other]| *one > 0.0 || *other > 0.0);
    let held = match (low >= 0.0, high < 0.0) {
        _ if !told_by_deadline => None,
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let mut detail = format!(
        "in {} waves with the same requests {:.1} % are in time side by side and {:.1} % with one adapter at a time, \
         {:+.1} % (95 %: {:+.1} to {:+.1} %)",
        pairs.len(),
        one * 100.0,
        other * 100.0,
        (one - other) * 100.0,
        low * 100.0,
        high * 100.0
    );
    if !told_by_deadline {
        detail
            .push_str("; the deadline tells them not apart: choose one that not all keep, or miss");
    }
    let numbers = [
        ("in_time_together", one),
        ("in_time_switched", other),
        ("difference_low", low),
        ("difference_high", high),
        ("waves", count_to_f64(length(&pairs))),
    ];
    let effect = format!("a difference of {:.1} %", (high - low) * 50.0);
    let evidence = Evidence::new(length(&pairs), "pairs of waves", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
