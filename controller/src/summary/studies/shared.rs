//! What became of several users' requests: who was served in time, what batches cost, and what the links carried.

use std::collections::BTreeMap;

use hexloop_workloads::study::shared::policy::Policy;
use hexloop_workloads::study::shared::{BatchCost, Ending, SharedRound, SharedSpec, UserRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Findings;
use super::energy::{Energy, StudyEnergy, Work};
use crate::format::{count_to_f64, length, ns_to_ms, rounded};
use crate::summary::{Quantity, derived_from, unavailable};
use hexloop_statistics::{P50, P95, Quantile, needed_samples, quantile_of_sorted};

/// The share of requests that are served in time at what counts as capacity.
const CAPACITY_SHARE: f64 = 0.95;

/// Several users who share an edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyShared {
    /// By when the last token of a request must be there, in milliseconds.
    pub deadline_ms: f64,
    /// Reading a prompt, in milliseconds.
    pub prefill_ms: f64,
    /// What the upload of each user takes alone, in milliseconds.
    pub upload_ms: Vec<f64>,
    /// Passes over batches of each tried size, measured before the rounds.
    pub batches: Vec<SharedBatch>,
    /// Every arm with every number of users and offered rate.
    pub loads: Vec<SharedLoad>,
    /// What each arm can serve.
    pub capacities: Vec<SharedCapacity>,
    /// Power without jobs, in watts.
    pub idle_w: Quantity,
}

/// Passes over so many sequences at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SharedBatch {
    /// Sequences.
    pub sequences: u32,
    /// Passes.
    pub passes: u32,
    /// Tokens per second.
    pub tokens_per_s: f64,
    /// CPU time of the edge's process for each token, in milliseconds: what stands in for energy on every
    /// machine.
    pub cpu_ms_per_token: f64,
    /// Energy of the machine for each token, gross.
    pub j_per_token: Quantity,
    /// What the machine would have used for each token without jobs: idle power times the time of a token.
    pub idle_j_per_token: Quantity,
    /// Energy of the machine for each token times the time of a pass, in joule seconds.
    pub energy_delay_product_j_s: Quantity,
}

/// An arm with some users and an offered rate, over all repetitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SharedLoad {
    /// Who decides, and the most sequences of a pass.
    pub arm: String,
    /// Users.
    pub users: u32,
    /// What was offered, in percent of what was measured to be served.
    pub offered_percent: u32,
    /// The same in requests per second.
    pub offered_per_s: f64,
    /// Requests.
    pub requests: u64,
    /// Whose last token was there in time.
    pub in_budget: u64,
    /// The same as a share of all requests.
    pub in_budget_share: f64,
    /// Requests that the edge refused.
    pub refused: u64,
    /// Of those that were not refused, the share whose last token was late; null if all were.
    pub admitted_late: Option<f64>,
    /// Requests that were open when a round was given up.
    pub open: u64,
    /// From due to the last token of those that were not refused, the median, in milliseconds. Those that were
    /// open count as longer than all others; null where there are fewer than 7.
    pub end_to_end_p50_ms: Option<f64>,
    /// The same at 95 %; null where there are fewer than 90.
    pub end_to_end_p95_ms: Option<f64>,
    /// Tokens per second.
    pub tokens_per_s: f64,
    /// Sequences of a pass, the mean.
    pub mean_batch: Option<f64>,
    /// The share in time of the user who got the least.
    pub worst_user_share: f64,
    /// Energy of the machine for each token of requests that were served in time, gross.
    pub j_per_good_token: Quantity,
    /// Energy of the machine for each request that was served in time, gross.
    pub j_per_good_request: Quantity,
    /// What the requests that were served used, over whole rounds.
    #[serde(flatten)]
    pub energy: StudyEnergy,
    /// What the machine would have used in the same rounds without jobs, in joules.
    pub idle_j: Quantity,
    /// Gross energy of a request that was served times the mean time from due to its last token, in joule seconds.
    pub energy_delay_product_j_s: Quantity,
}

/// What an arm serves in time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SharedCapacity {
    /// The arm.
    pub arm: String,
    /// Users.
    pub users: u32,
    /// The highest offered rate at which, and below which, 95 % of the requests were served in time, in
    /// requests per second, straight between those that were tried; null if fewer were at the lowest.
    pub at_95_percent_per_s: Option<f64>,
    /// Whether no rate was tried at which fewer were: then it can serve that at least.
    pub is_lower_bound: bool,
}

/// The rounds of one arm with some users at one rate.
type Key = (Policy, u32, u32, u32);

/// Rounds by what they have in common but for the repetition.
pub(in crate::summary) fn by_setting<'a>(
    findings: &Findings<'a>,
) -> BTreeMap<Key, Vec<&'a SharedRound>> {
    let mut sorted: BTreeMap<Key, Vec<&SharedRound>> = BTreeMap::new();
    for round in &findings.rounds {
        let key = (
            round.policy,
            round.batch,
            round.users,
            round.offered_percent,
        );
        sorted.entry(key).or_default().push(round);
    }
    sorted
}

fn arm_name(policy: Policy, batch: u32) -> String {
    format!("{} of {batch}", policy.name())
}

pub(super) fn summary(findings: &Findings<'_>, energy: &Energy) -> Option<StudyShared> {
    let spec = findings.plan.study.shared.as_ref()?;
    let costs = findings.shared_costs?;
    let mut runs: BTreeMap<u32, Vec<&BatchCost>> = BTreeMap::new();
    for run in &costs.batches {
        runs.entry(run.sequences).or_default().push(run);
    }
    let sorted = by_setting(findings);
    let loads: Vec<SharedLoad> = sorted
        .iter()
        .map(|(key, rounds)| load(spec, *key, rounds, energy))
        .collect();
    Some(StudyShared {
        deadline_ms: ns_to_ms(spec.deadline_ns),
        prefill_ms: ns_to_ms(costs.prefill_ns),
        upload_ms: costs.upload_ns.iter().map(|ns| ns_to_ms(*ns)).collect(),
        batches: runs.values().map(|runs| batch(runs, energy)).collect(),
        capacities: capacities(&loads),
        loads,
        idle_w: energy.idle_w().clone(),
    })
}

fn batch(runs: &[&BatchCost], energy: &Energy) -> SharedBatch {
    let sum = |of: fn(&BatchCost) -> u64| runs.iter().map(|run| of(run)).sum::<u64>();
    let sequences = runs.first().map_or(0, |run| run.sequences);
    let passes = sum(|run| u64::from(run.passes));
    let tokens = count_to_f64(passes * u64::from(sequences)).max(1.0);
    let wall_s = count_to_f64(sum(|run| run.wall_ns)) / 1e9;
    let spans: Vec<(u64, u64)> = runs.iter().map(|run| (run.from_ns, run.until_ns)).collect();
    let j_per_token = energy.per(&spans, tokens);
    let lengths = spans
        .iter()
        .map(|(from, until)| until.saturating_sub(*from));
    let work_s = count_to_f64(lengths.sum()) / 1e9;
    let pass_s = wall_s / count_to_f64(passes.max(1));
    let product = match j_per_token.value {
        Some(joules) => derived_from(
            j_per_token.quality,
            joules * pass_s,
            "energy per token times the time of a pass",
        ),
        None => j_per_token.clone(),
    };
    SharedBatch {
        sequences,
        passes: u32::try_from(passes).unwrap_or(u32::MAX),
        tokens_per_s: rounded(tokens / wall_s.max(1e-9), 3),
        cpu_ms_per_token: rounded(count_to_f64(sum(|run| run.cpu_ns)) / 1e6 / tokens, 6),
        j_per_token,
        idle_j_per_token: energy.idle_j(work_s / tokens),
        energy_delay_product_j_s: product,
    }
}

fn load(
    spec: &SharedSpec,
    (policy, batch, users, offered_percent): Key,
    rounds: &[&SharedRound],
    energy: &Energy,
) -> SharedLoad {
    let requests = || rounds.iter().flat_map(|round| &round.requests);
    let count = |of: &dyn Fn(&UserRecord) -> bool| {
        u64::try_from(requests().filter(|it| of(it)).count()).unwrap_or(u64::MAX)
    };
    let all = count(&|_| true);
    let in_budget = count(&|it| it.in_budget(spec.deadline_ns));
    let refused = count(&|it| it.ending == Ending::Refused);
    let admitted = all.saturating_sub(refused);
    let share = |part: u64, whole: u64| count_to_f64(part) / count_to_f64(whole.max(1));
    let mut latencies: Vec<u64> = requests()
        .filter(|it| it.ending == Ending::Served)
        .filter_map(|it| Some(it.ended_ns?.saturating_sub(it.due_ns)))
        .collect();
    latencies.sort_unstable();
    let open = count(&|it| it.ending == Ending::Open);
    let ended = length(&latencies);
    let times: Vec<Option<u64>> = latencies
        .iter()
        .copied()
        .map(Some)
        .chain((0..open).map(|_| None))
        .collect();
    let at = |quantile: Quantile| {
        let enough = ended + open >= needed_samples(quantile, 0);
        let value = quantile_of_sorted(&times, quantile).flatten();
        value.filter(|_| enough).map(ns_to_ms)
    };
    let tokens: u64 = requests().map(|it| u64::from(it.tokens)).sum();
    let good = requests().filter(|it| it.in_budget(spec.deadline_ns));
    let good_tokens: u64 = good.map(|it| u64::from(it.tokens)).sum();
    let wall_ns: u64 = rounds
        .iter()
        .map(|round| round.until_ns.saturating_sub(round.from_ns))
        .sum();
    let passes = || rounds.iter().flat_map(|round| &round.books.passes);
    let number: u64 = passes().map(|it| u64::from(it.passes)).sum();
    let carried: u64 = passes()
        .map(|it| u64::from(it.passes) * u64::from(it.sequences))
        .sum();
    let of_user = |user: u32| {
        let own = count(&|it| it.user == user);
        let good = count(&|it| it.user == user && it.in_budget(spec.deadline_ns));
        (own > 0).then(|| share(good, own))
    };
    let work = Work {
        times: rounds
            .iter()
            .map(|round| (round.from_ns, round.until_ns))
            .collect(),
        requests: ended,
        tokens,
    };
    let used = energy.of_work(&work);
    let per_good = |count: u64| match count {
        0 => unavailable("no request was served in time"),
        count => energy.per(&work.times, count_to_f64(count)),
    };
    SharedLoad {
        arm: arm_name(policy, batch),
        users,
        offered_percent,
        offered_per_s: rounds.first().map_or(0.0, |round| {
            rounded(count_to_f64(round.offered_per_kilosecond) / 1e3, 3)
        }),
        requests: all,
        in_budget,
        in_budget_share: rounded(share(in_budget, all), 6),
        refused,
        admitted_late: (admitted > 0).then(|| rounded(1.0 - share(in_budget, admitted), 6)),
        open,
        end_to_end_p50_ms: at(P50),
        end_to_end_p95_ms: at(P95),
        tokens_per_s: rounded(count_to_f64(tokens) * 1e9 / count_to_f64(wall_ns.max(1)), 3),
        mean_batch: (number > 0).then(|| rounded(share(carried, number), 3)),
        worst_user_share: rounded((0..users).filter_map(of_user).fold(1.0, f64::min), 6),
        j_per_good_token: per_good(good_tokens),
        j_per_good_request: per_good(in_budget),
        idle_j: energy.idle_j(count_to_f64(wall_ns) / 1e9),
        energy_delay_product_j_s: delayed(&used.j_per_request, &latencies),
        energy: used,
    }
}

/// Energy of a request times the mean of some latencies.
fn delayed(j_per_request: &Quantity, latencies_ns: &[u64]) -> Quantity {
    let Some(joules) = j_per_request.value else {
        return j_per_request.clone();
    };
    let sum_s = count_to_f64(latencies_ns.iter().sum()) / 1e9;
    derived_from(
        j_per_request.quality,
        joules * sum_s / count_to_f64(length(latencies_ns).max(1)),
        "gross energy per request times mean latency",
    )
}

fn capacities(loads: &[SharedLoad]) -> Vec<SharedCapacity> {
    let mut sorted: BTreeMap<(String, u32), Vec<(f64, f64)>> = BTreeMap::new();
    for load in loads {
        let rates = sorted.entry((load.arm.clone(), load.users)).or_default();
        rates.push((load.offered_per_s, load.in_budget_share));
    }
    let capacity = |((arm, users), mut rates): ((String, u32), Vec<(f64, f64)>)| {
        rates.sort_by(|one, other| one.0.total_cmp(&other.0));
        let below = rates.iter().position(|(_, share)| *share < CAPACITY_SHARE);
        let between = |index: usize| {
            let (above, fewer) = (rates.get(index.checked_sub(1)?)?, rates.get(index)?);
            let way = (above.1 - CAPACITY_SHARE) / (above.1 - fewer.1);
            Some(above.0 + way * (fewer.0 - above.0))
        };
        let at = match below {
            Some(index) => between(index),
            None => rates.last().map(|(rate, _)| *rate),
        };
        SharedCapacity {
            arm,
            users,
            at_95_percent_per_s: at.map(|rate| rounded(rate, 3)),
            is_lower_bound: below.is_none(),
        }
    };
    sorted.into_iter().map(capacity).collect()
}
