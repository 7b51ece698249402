//! Claims about several users who share an edge.

use std::collections::{BTreeMap, BTreeSet};

use hexloop_workloads::study::shared::policy::Policy;
use hexloop_workloads::study::shared::{Ending, SharedRound, Tie, UserRecord, request_bytes};

use super::{Evidence, Judgement, judgement, told, unjudged, with_numbers};
use crate::format::{count_to_f64, length, significant};
use crate::results::{PhaseResults, Results};
use crate::summary::energy::gaps_between;
use crate::summary::expectations::evidence::half_width;
use crate::summary::studies::Findings;
use crate::summary::studies::energy::Energy;
use hexloop_statistics::{Agreement, TOKENS_OF_A_TIE, interval_over_blocks, mean_interval};

/// Blocks of consecutive requests that each round is cut into, as neighbours share their fate.
const BLOCKS_OF_A_ROUND: usize = 6;

/// Resamples of an interval.
const RESAMPLES: usize = 2000;

/// How far the integral of power may be from the counter of the same device.
const COUNTER_TOLERANCE: f64 = 0.05;

/// Two rounds with the same arrivals.
type Pair<'a> = (&'a SharedRound, &'a SharedRound);

/// The rounds at which more was offered than can be served, under a policy and first come, first served.
fn overloaded<'a>(findings: &Findings<'a>, policy: Policy) -> Vec<Pair<'a>> {
    let rounds = || findings.rounds.iter().copied();
    let setting = |round: &SharedRound| {
        let SharedRound {
            batch,
            users,
            offered_percent,
            repetition,
            ..
        } = *round;
        (batch, users, offered_percent, repetition)
    };
    let of_policy = rounds().filter(|it| it.policy == policy && it.offered_percent > 100);
    of_policy
        .filter_map(|one| {
            let same = |it: &&SharedRound| it.policy == Policy::Fcfs && setting(it) == setting(one);
            Some((one, rounds().find(same)?))
        })
        .collect()
}

/// Requests of both rounds by number, in blocks of neighbours.
fn blocks<'a>(pairs: &[Pair<'a>]) -> Vec<Vec<(&'a UserRecord, &'a UserRecord)>> {
    let of_pair = |(one, other): &Pair<'a>| {
        let of_other: BTreeMap<u32, &UserRecord> =
            other.requests.iter().map(|it| (it.id, it)).collect();
        let both: Vec<(&UserRecord, &UserRecord)> = one
            .requests
            .iter()
            .filter_map(|it| Some((it, *of_other.get(&it.id)?)))
            .collect();
        let size = both.len().div_ceil(BLOCKS_OF_A_ROUND).max(1);
        both.chunks(size).map(<[_]>::to_vec).collect::<Vec<_>>()
    };
    pairs.iter().flat_map(of_pair).collect()
}

/// Value and interval of a statistic of the blocks.
fn interval<T>(
    blocks: &[T],
    seed: u64,
    statistic: impl Fn(&[&T]) -> Option<f64>,
) -> Option<[f64; 3]> {
    let all: Vec<&T> = blocks.iter().collect();
    let value = statistic(&all)?;
    let (low, high) = interval_over_blocks(blocks, seed, RESAMPLES, statistic)?;
    Some([value, low, high])
}

/// Every answer is, as far as it came, what its prompt is answered with alone: whatever the policy, the batch and who was
/// beside it. It may go another way where two scores were close, alone or in its batch.
pub(super) fn answers_agree(findings: &Findings<'_>) -> Judgement {
    let costs = findings.shared_costs;
    let alone = costs.map_or(&[][..], |it| &it.alone);
    let close: BTreeSet<Tie> = costs.iter().flat_map(|it| it.alone_ties.clone()).collect();
    let (mut answers, mut differing) = (0_u64, 0_u64);
    let mut prompts = BTreeSet::new();
    let mut agreement = Agreement::default();
    for round in &findings.rounds {
        let in_batch: BTreeSet<Tie> = round.books.ties.iter().copied().collect();
        for request in round.requests.iter().filter(|it| it.tokens > 0) {
            let expected = usize::try_from(request.prompt).ok();
            let expected = expected.and_then(|prompt| alone.get(prompt));
            let is_told = u64::from(request.tokens) == length(&request.answer);
            let (Some(expected), true) = (expected, is_told) else {
                let detail = "which tokens came, or those of a prompt alone, is not in the record";
                return unjudged(&[], detail.to_owned());
            };
            let expected = match request.ending {
                Ending::Served => expected.as_slice(),
                _ => expected.get(..request.answer.len()).unwrap_or(expected),
            };
            let is_close = |place| {
                let of = |request| Tie { request, place };
                close.contains(&of(request.prompt)) || in_batch.contains(&of(request.id))
            };
            let place = |at| (request.prompt, at);
            let agrees = agreement.answer((&request.answer, expected), place, is_close);
            answers += 1;
            differing += u64::from(!agrees);
            prompts.insert(request.prompt);
        }
    }
    let passes = findings.rounds.iter().flat_map(|round| &round.books.passes);
    let beside = passes.filter(|pass| pass.sequences > 1);
    let beside: u64 = beside
        .map(|pass| u64::from(pass.passes) * u64::from(pass.sequences))
        .sum();
    let (places, ties) = (agreement.places(), agreement.ties());
    let numbers = [
        ("answers", answers),
        ("places", u64::from(places)),
        ("ties", u64::from(ties)),
        ("tokens_beside_others", beside),
        ("differing_answers", differing),
        ("differing", agreement.differing()),
    ];
    let detail = format!(
        "{answers} answers to {} prompts, {places} places of them against each prompt alone, {beside} tokens made beside \
         others; {differing} answers go another way, {} of them where no other token was about as good; at {ties} places \
         one was, of one in {TOKENS_OF_A_TIE} at most",
        prompts.len(),
        agreement.differing()
    );
    let held = agreement.held().filter(|_| beside > 0 && answers > 0);
    let evidence = Evidence::equality(u64::from(places), "places", "another token");
    judgement(held, &numbers, evidence, &detail)
}

pub(super) fn joint_serves_more(findings: &Findings<'_>, seed: u64) -> Judgement {
    let Some(spec) = &findings.plan.study.shared else {
        return unjudged(&[], "it has no users".to_owned());
    };
    let pairs = overloaded(findings, Policy::Joint);
    let blocks = blocks(&pairs);
    let good = |it: &UserRecord| f64::from(u8::from(it.in_budget(spec.deadline_ns)));
    let more = |blocks: &[&Vec<(&UserRecord, &UserRecord)>]| {
        let both = blocks.iter().flat_map(|block| block.iter());
        let (sum, count) = both.fold((0.0, 0.0), |(sum, count), (joint, fcfs)| {
            (sum + good(joint) - good(fcfs), count + 1.0)
        });
        (count > 0.0).then(|| sum / count)
    };
    let requests: u64 = blocks.iter().map(|block| length(block)).sum();
    let Some(difference) = interval(&blocks, seed, more) else {
        let detail = format!(
            "{requests} requests in {} pairs of rounds above 100 % are too few",
            pairs.len()
        );
        return unjudged(&[("requests", requests)], detail);
    };
    let [value, low, high] = difference;
    let held = match (low >= 0.0, high < 0.0) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let detail = format!(
        "of {requests} requests, each played twice, the joint policy serves {:+.1} % more in time (95 %: {:+.1} to \
         {:+.1} %; {} blocks of neighbours)",
        value * 100.0,
        low * 100.0,
        high * 100.0,
        blocks.len()
    );
    let numbers = [
        ("difference", value),
        ("difference_low", low),
        ("difference_high", high),
        ("requests", count_to_f64(requests)),
    ];
    let effect = format!("a difference of {:.1} %", half_width(difference) * 100.0);
    let evidence = Evidence::new(requests, "pairs of requests", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

/// The share of those that were not refused whose last token was late; `None` if all were refused.
fn late_share<'a>(all: impl Iterator<Item = &'a UserRecord>, deadline_ns: u64) -> Option<f64> {
    let admitted = all.filter(|it| it.ending != Ending::Refused);
    let (late, count) = admitted.fold((0.0, 0.0), |(late, count), it| {
        let in_time = f64::from(u8::from(it.in_budget(deadline_ns)));
        (late + 1.0 - in_time, count + 1.0)
    });
    (count > 0.0).then(|| late / count)
}

pub(super) fn admitted_are_in_time(findings: &Findings<'_>, seed: u64) -> Judgement {
    let Some(spec) = &findings.plan.study.shared else {
        return unjudged(&[], "it has no users".to_owned());
    };
    let (mut details, mut numbers, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut compared, mut widest) = (0, 0.0_f64);
    for policy in [Policy::Deadline, Policy::Joint] {
        let pairs = overloaded(findings, policy);
        if pairs.is_empty() {
            continue;
        }
        let blocks = blocks(&pairs);
        let less = |blocks: &[&Vec<(&UserRecord, &UserRecord)>]| {
            let both = || blocks.iter().flat_map(|block| block.iter());
            let own = late_share(both().map(|(one, _)| *one), spec.deadline_ns)?;
            Some(own - late_share(both().map(|(_, other)| *other), spec.deadline_ns)?)
        };
        let name = policy.name();
        let Some([value, low, high]) = interval(&blocks, seed, less) else {
            outcomes.push(None);
            details.push(format!("{name}: too few requests were admitted"));
            continue;
        };
        let all = pairs.iter().flat_map(|(one, _)| &one.requests);
        let Some(own) = late_share(all, spec.deadline_ns) else {
            outcomes.push(None);
            details.push(format!("{name}: nobody was admitted"));
            continue;
        };
        outcomes.push(match (high < 0.0, low >= 0.0) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        });
        let requests: u64 = blocks.iter().map(|block| length(block)).sum();
        compared += requests;
        widest = widest.max(half_width([value, low, high]));
        details.push(format!(
            "{name}: {:.1} % of those admitted are late, {:+.1} % against first come, first served (95 %: {:+.1} to \
             {:+.1} %; {requests} requests in {} blocks of neighbours)",
            own * 100.0,
            value * 100.0,
            low * 100.0,
            high * 100.0,
            blocks.len()
        ));
        numbers.push((format!("late_{name}"), own));
        numbers.push((format!("difference_{name}"), value));
        numbers.push((format!("difference_{name}_high"), high));
    }
    if outcomes.is_empty() {
        let detail = "no policy that refuses was played above 100 % beside fcfs".to_owned();
        return unjudged(&[], detail);
    }
    let held = if outcomes.contains(&Some(false)) {
        Some(false)
    } else {
        outcomes.iter().all(Option::is_some).then_some(true)
    };
    let numbers: Vec<(&str, f64)> = numbers
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let effect = format!("a difference of {:.1} %", widest * 100.0);
    let evidence = Evidence::new(compared, "pairs of requests", effect);
    with_numbers(held, &numbers, evidence, &details.join("; "))
}

/// What a token costs with the largest batch over what it costs alone, run by run, with the interval of the mean.
fn falls(
    findings: &Findings<'_>,
    what: &str,
    cost: impl Fn(&hexloop_workloads::study::shared::BatchCost) -> Result<f64, &'static str>,
) -> Judgement {
    let Some(costs) = findings.shared_costs else {
        return unjudged(&[], "batches were not measured".to_owned());
    };
    let mut runs: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for run in &costs.batches {
        let tokens = u64::from(run.passes) * u64::from(run.sequences);
        match cost(run) {
            Ok(of_run) => {
                let of_token = of_run / count_to_f64(tokens.max(1));
                runs.entry(run.sequences).or_default().push(of_token);
            }
            Err(why) => return unjudged(&[], format!("{what} of a token: {why}")),
        }
    }
    let (Some(alone), Some((most, batched))) = (runs.get(&1), runs.last_key_value()) else {
        return unjudged(&[], "no batch was measured".to_owned());
    };
    let ratios: Vec<f64> = batched
        .iter()
        .zip(alone)
        .map(|(own, one)| own / one)
        .collect();
    let enough = *most > 1 && ratios.len() >= 3;
    let interval = mean_interval(&ratios).filter(|_| enough);
    let Some(ratio) = interval else {
        let detail = format!(
            "{} runs with up to {most} sequences are too few",
            ratios.len()
        );
        return unjudged(&[], detail);
    };
    let held = match (ratio[2] < 1.0, ratio[1] >= 1.0) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let of_size = runs.iter().map(|(size, values)| {
        let mean = values.iter().sum::<f64>() / count_to_f64(length(values)).max(1.0);
        format!("{size}: {}", significant(mean))
    });
    let of_size: Vec<String> = of_size.collect();
    let detail = format!(
        "{what} of a token with {most} sequences over that with one: {} (95 %); by sequences {}",
        told(ratio),
        of_size.join(", ")
    );
    let numbers = [
        ("batched_over_alone", ratio[0]),
        ("batched_over_alone_low", ratio[1]),
        ("batched_over_alone_high", ratio[2]),
        ("runs", count_to_f64(length(&ratios))),
    ];
    let evidence = Evidence::ratio(length(&ratios), "runs", ratio);
    with_numbers(held, &numbers, evidence, &detail)
}

pub(super) fn batch_saves_cpu(findings: &Findings<'_>) -> Judgement {
    falls(findings, "CPU time (ms)", |run| {
        Ok(count_to_f64(run.cpu_ns) / 1e6)
    })
}

pub(super) fn batch_saves_energy(
    findings: &Findings<'_>,
    (results, recorded): (&Results, &PhaseResults),
) -> Judgement {
    let energy = Energy::of(results, recorded);
    falls(findings, "energy (J)", |run| {
        energy.over(&[(run.from_ns, run.until_ns)])
    })
}

pub(super) fn counter_is_integral((results, recorded): (&Results, &PhaseResults)) -> Judgement {
    let (Some(agent), Some(end)) = (&results.agent, &recorded.end) else {
        let detail = "what meters read is not recorded: the phase has no end";
        return unjudged(&[], detail.to_owned());
    };
    let gaps = gaps_between(&agent.meters, &end.energy_by_channel);
    let Some(widest) = gaps
        .iter()
        .max_by(|one, other| one.relative.abs().total_cmp(&other.relative.abs()))
    else {
        let detail = "no device here has both a counter of energy and instantaneous power";
        return unjudged(&[], detail.to_owned());
    };
    let detail = format!(
        "{} devices, the phase once; the integral of power is {:+.1} % from the counter at most, on {}",
        gaps.len(),
        widest.relative * 100.0,
        widest.device
    );
    let numbers = [
        ("devices", count_to_f64(length(&gaps))),
        ("widest_gap", widest.relative),
    ];
    let held = widest.relative.abs() <= COUNTER_TOLERANCE;
    let effect = format!("a gap of more than {:.0} %", COUNTER_TOLERANCE * 100.0);
    let evidence = Evidence::new(length(&gaps), "devices", effect);
    with_numbers(Some(held), &numbers, evidence, &detail)
}

/// Of every request by what its users' process counted, and of every round by what the edge counted.
pub(super) fn bytes_follow_formula(findings: &Findings<'_>) -> Judgement {
    let study = &findings.plan.study;
    let upload = study.shared.as_ref().map_or(0, |spec| spec.upload_bytes);
    let (mut requests, mut differing, mut rounds_differ, mut counted, mut formula) =
        (0, 0, 0, 0, 0);
    for round in &findings.rounds {
        let mut of_round = (0, 0);
        for record in &round.requests {
            let (up, down) = request_bytes(round.policy, record, (study.prompt_tokens, upload));
            requests += 1;
            differing += u64::from((record.up, record.down) != (up, down));
            of_round = (of_round.0 + up, of_round.1 + down);
        }
        // Of what is open when a round is given up, some may be on its way.
        let is_whole = round.requests.iter().all(|it| it.ending != Ending::Open);
        let books = (round.books.up, round.books.down);
        rounds_differ += u64::from(is_whole && books != of_round);
        counted += round.books.up + round.books.down;
        formula += of_round.0 + of_round.1;
    }
    let numbers = [
        ("requests", requests),
        ("differing_requests", differing),
        ("differing_rounds", rounds_differ),
        ("counted_bytes", counted),
        ("formula_bytes", formula),
    ];
    let rounds = length(&findings.rounds);
    let detail = format!(
        "{requests} requests in {rounds} rounds: {counted} bytes counted by the edge, {formula} by the formula; \
         {differing} requests and {rounds_differ} rounds differ"
    );
    let held = differing == 0 && rounds_differ == 0;
    let evidence = Evidence::equality(requests, "requests", "one byte");
    judgement((requests > 0).then_some(held), &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
