//! What studies found: costs, settings, and what each arm did at each of them.

pub(super) mod adapters;
pub(super) mod energy;
mod findings;
pub(super) mod kpi;
pub(super) mod kv;
pub(super) mod law;
pub(super) mod leak;
mod links;
pub(super) mod multimodal;
pub(super) mod own;
pub(super) mod placement;
pub(super) mod retrieval;
pub(super) mod shared;
pub(super) mod speculation;
pub(super) mod tensor_parallel;
pub(super) mod traced;

use std::collections::{BTreeMap, BTreeSet};

use hexloop_topologies::plan::Plan;
use hexloop_traces::Trace;
use hexloop_workloads::study::speculative::Drawing;
use hexloop_workloads::study::{Arm, RowRecord, TrialRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::adapters::{AdapterDeliveries, AdapterTask, AdapterWaves, StudyAdapters};
use self::energy::Energy;
pub use self::energy::{StudyEnergy, StudyNodeEnergy};
pub(super) use self::findings::Findings;
pub use self::kpi::{KpiByTrace, KpiOnTrace, KpiOutcome, StudyKpi};
pub use self::kv::{StudyCodedKv, StudyContext, StudyDelivery, StudyRegimes};
pub use self::leak::StudyLeak;
pub use self::links::StudyLink;
pub use self::multimodal::{StudyLook, StudyLookCell, StudyLooks};
pub use self::own::StudyOwn;
pub use self::placement::{StudyHits, StudyPlaceCosts, StudyPlaced};
pub use self::retrieval::StudyRetrieval;
pub use self::shared::{SharedBatch, SharedCapacity, SharedLoad, StudyShared};
pub use self::tensor_parallel::{StudyHalfCosts, StudyHalves, StudyHalvesArm};
pub use self::traced::{StudyTraced, StudyTracedArm};
use crate::format::{count_to_f64, length, ns_to_ms, rounded};
use crate::results::{PhaseResults, Results};

pub use speculation::{StudyAcceptance, StudySpeculation};

/// What a study found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudySummary {
    /// Its name.
    pub study: String,
    /// The nodes, from the driver on.
    pub path: Vec<String>,
    /// How frames crossed the links between them: `quic` or `tcp`.
    #[serde(default)]
    pub transport: String,
    /// Trials.
    pub trials: u64,
    /// What computing costs on each node of the path.
    pub costs: Vec<StudyCosts>,
    /// The round trips.
    pub rows: Vec<StudyRow>,
    /// Every arm at every setting.
    pub cells: Vec<StudyCell>,
    /// How likely drafts are accepted; empty where nothing is drafted.
    #[serde(default)]
    pub acceptance: Vec<StudyAcceptance>,
    /// What drafts came to, for every arm at every setting; likewise.
    #[serde(default)]
    pub speculation: Vec<StudySpeculation>,
    /// What crossed each link of the path, both ways.
    pub links: Vec<StudyLink>,
    /// Every arm of a technique in which the device answers as long as it is sure enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<StudyOwn>,
    /// Contexts that another node had; null where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<StudyContext>,
    /// Every way to retrieve; empty where nothing was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retrieval: Vec<StudyRetrieval>,
    /// Several users who share an edge, where the technique has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<StudyShared>,
    /// Rows of the KPI tables, where the technique sends any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kpis: Vec<StudyKpi>,
    /// What an answer costs each node with each of its weights, where the whole model is on several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub place_costs: Vec<StudyPlaceCosts>,
    /// Every arm of such a study.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placed: Vec<StudyPlaced>,
    /// What an edge reads from states after each layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaks: Vec<StudyLeak>,
    /// Layers that two nodes share; null where they share none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halves: Option<StudyHalves>,
    /// Tasks that share a backbone, where the technique has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapters: Option<StudyAdapters>,
    /// Images that were asked about; null where the technique has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks: Option<StudyLooks>,
    /// Every arm while the links followed their traces; null where nothing was asked then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traced: Option<StudyTraced>,
}

impl StudySummary {
    /// Whether there is a rate at which the best cut flips: only with two nodes, and arms that leave
    /// the further one nothing.
    #[must_use]
    pub fn seeks_a_flip(&self) -> bool {
        let mut rows = self.rows.iter();
        rows.any(|row| row.critical_rate_mbps.is_some() || row.flip_rate_mbps.is_some())
    }
}

/// What a token costs on a node while answers are generated: medians, the slowdown included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyCosts {
    /// The node.
    pub node: String,
    /// One layer, in milliseconds.
    pub layer_ms: f64,
    /// What a pass costs besides, in milliseconds.
    pub fixed_ms: f64,
    /// The output head, in milliseconds; null where the node holds none.
    pub head_ms: Option<f64>,
    /// Passes that each median is over.
    pub passes: u32,
}

/// A round trip of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyRow {
    /// What was asked for of each link, in milliseconds.
    pub round_trip_ms: f64,
    /// What an empty frame took over the whole path and back, in milliseconds.
    pub echo_ms: f64,
    /// The rate at which the best cut flips, by the formula and the costs; null where it never does.
    pub critical_rate_mbps: Option<f64>,
    /// The rate at which it flips by what the trials took; null where it does not.
    pub flip_rate_mbps: Option<f64>,
    /// The latter over the former, and the ends of its 95 % interval.
    pub flip_over_critical: Option<[f64; 3]>,
}

/// An arm at a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyCell {
    /// The round trip of each link, in milliseconds.
    pub round_trip_ms: f64,
    /// The rate of each link, in Mbit/s.
    pub rate_mbps: f64,
    /// The arm: after which layer each node ends.
    pub arm: String,
    /// Trials.
    pub trials: u64,
    /// Time of a token after the first, the median, in milliseconds; null where several come at once.
    pub token_ms: Option<f64>,
    /// Time of the first token, the median, in milliseconds.
    pub first_token_ms: Option<f64>,
    /// Tokens per second of the trials that were under way together, the median.
    pub tokens_per_s: Option<f64>,
    /// Share of the tokens that are those of the exact arms, place by place; null where none is tried at
    /// this setting or tokens are drawn.
    pub agreement: Option<f64>,
    /// Share of the time in which each node of the path computed.
    pub busy: Vec<f64>,
    /// What its requests used.
    #[serde(flatten)]
    pub energy: StudyEnergy,
}

/// Every study that was played.
pub(super) fn summaries(
    plan: &Plan,
    traces: &BTreeMap<String, Trace>,
    results: &Results,
) -> Vec<StudySummary> {
    let played = plan.studies.iter().filter_map(|study| {
        let recorded = results.phase(&study.name)?;
        let findings = Findings::of(study, plan.model.as_ref()?, recorded);
        let kpis = kpi::summaries(plan, traces, &findings);
        Some(summary(&findings, (results, recorded), (kpis, plan.seed)))
    });
    played.collect()
}

fn summary(
    findings: &Findings<'_>,
    (results, recorded): (&Results, &PhaseResults),
    (kpis, seed): (Vec<StudyKpi>, u64),
) -> StudySummary {
    let study = findings.plan;
    let costs = study.path.iter().zip(&findings.costs);
    let energy = Energy::along(results, recorded, &study.path);
    StudySummary {
        study: study.name.clone(),
        path: study.path.clone(),
        transport: study.transport.name().to_owned(),
        trials: length(&findings.trials)
            + length(&findings.traced)
            + findings
                .rounds
                .iter()
                .map(|round| length(&round.requests))
                .sum::<u64>()
            + findings
                .waves()
                .map(|wave| length(&wave.requests))
                .sum::<u64>(),
        costs: costs
            .map(|(node, costs)| StudyCosts {
                node: node.clone(),
                layer_ms: ns_to_ms(costs.layer_ns),
                fixed_ms: ns_to_ms(costs.fixed_ns),
                head_ms: costs.head_ns.map(ns_to_ms),
                passes: costs.passes,
            })
            .collect(),
        rows: findings
            .rows
            .iter()
            .map(|row| row_summary(findings, row, seed))
            .collect(),
        cells: cells(findings, &energy),
        acceptance: speculation::acceptances(findings),
        speculation: speculation::cells(findings, &energy),
        links: links::of_path(findings, recorded),
        own: own::summaries(findings, &energy),
        context: kv::summary(findings),
        retrieval: retrieval::summaries(findings),
        kpis,
        shared: shared::summary(findings, &energy),
        place_costs: placement::costs(findings),
        placed: placement::summaries(findings, &energy),
        leaks: leak::summaries(findings),
        halves: tensor_parallel::summary(findings),
        adapters: adapters::summary(findings, &energy),
        looks: multimodal::summary(findings),
        traced: traced::summary(findings, &energy, seed),
    }
}

fn mbps(bps: u64) -> f64 {
    rounded(count_to_f64(bps) / 1e6, 6)
}

fn row_summary(findings: &Findings<'_>, row: &RowRecord, seed: u64) -> StudyRow {
    let flip = law::flip(findings, row, seed);
    StudyRow {
        round_trip_ms: ns_to_ms(row.round_trip_ns),
        echo_ms: ns_to_ms(row.echo_ns),
        critical_rate_mbps: findings.critical_rate_bps(row).map(mbps),
        flip_rate_mbps: flip.as_ref().map(|flip| rounded(flip.rate_bps / 1e6, 6)),
        flip_over_critical: flip
            .and_then(|flip| flip.over_critical)
            .map(|values| values.map(|value| rounded(value, 4))),
    }
}

fn cells(findings: &Findings<'_>, energy: &Energy) -> Vec<StudyCell> {
    let mut sorted: BTreeMap<(u64, u64, &Arm), Vec<&TrialRecord>> = BTreeMap::new();
    // What an outage does to times is told apart from the settings.
    let trials = findings.trials.iter().copied();
    for trial in trials.filter(|trial| trial.outage.is_none()) {
        let key = (trial.round_trip_ns, trial.rate_bps, &trial.arm);
        sorted.entry(key).or_default().push(trial);
    }
    let cell = |((round_trip_ns, rate_bps, arm), trials): (_, Vec<&TrialRecord>)| StudyCell {
        round_trip_ms: ns_to_ms(round_trip_ns),
        rate_mbps: mbps(rate_bps),
        arm: Arm::name(arm),
        trials: length(&trials),
        // Tokens of one draft come together: what lies between them is nobody's time.
        token_ms: law::token_ns(&trials)
            .filter(|_| trials.iter().all(|trial| trial.rounds.is_empty()))
            .map(ns_to_ms),
        first_token_ms: law::median(trials.iter().filter_map(|trial| {
            let first = trial.token_ns.first()?;
            Some(first.saturating_sub(trial.started_ns))
        }))
        .map(ns_to_ms),
        tokens_per_s: law::throughput(&trials).map(|rate| rounded(rate, 3)),
        agreement: agreement(findings, &trials).map(|share| rounded(share, 4)),
        busy: busy(&trials),
        energy: energy.of_trials(&trials),
    };
    sorted.into_iter().map(cell).collect()
}

/// The share of the tokens of some trials that an exact arm made too, for the same prompt in the same place.
fn agreement(findings: &Findings<'_>, trials: &[&TrialRecord]) -> Option<f64> {
    let is_exact =
        |trial: &TrialRecord| trial.arm.is_exact() && trial.arm.drawing() == Drawing::Greedy;
    let (mut same, mut all) = (0_u64, 0_u64);
    for trial in trials {
        if trial.arm.drawing() != Drawing::Greedy {
            return None;
        }
        let mut others = findings.trials.iter();
        let exact = others.find(|other| {
            is_exact(other)
                && other.prompt == trial.prompt
                && other.arm.answers() == trial.arm.answers()
        })?;
        let pairs = trial.tokens.iter().zip(&exact.tokens);
        all += length(&trial.tokens);
        same += pairs
            .map(|(one, other)| u64::from(one == other))
            .sum::<u64>();
    }
    (all > 0).then(|| count_to_f64(same) / count_to_f64(all))
}

/// The share of the time of all groups of trials in which each node computed.
fn busy(trials: &[&TrialRecord]) -> Vec<f64> {
    let spans = law::spans_ns(trials);
    let whole: u64 = spans.values().map(|(begin, end, _)| end - begin).sum();
    let nodes = trials.iter().map(|trial| trial.busy_ns.len()).max();
    let of_node = |node: usize| {
        let times = trials.iter().filter_map(|trial| trial.busy_ns.get(node));
        let share = count_to_f64(times.sum()) / count_to_f64(whole.max(1));
        rounded(share, 4)
    };
    (0..nodes.unwrap_or(0)).map(of_node).collect()
}

/// Rates at which an arm was tried in a row, over all arms.
pub(super) fn rates_of(findings: &Findings<'_>, round_trip_ns: u64) -> BTreeSet<u64> {
    let trials = findings.trials.iter();
    trials
        .filter(|trial| trial.round_trip_ns == round_trip_ns)
        .map(|trial| trial.rate_bps)
        .collect()
}
