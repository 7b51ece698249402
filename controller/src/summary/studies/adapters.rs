//! Tasks that share a backbone: what crossed the link for each, how their waves were served, and what each adapter is
//! worth.

use std::collections::BTreeMap;

use hexloop_workloads::study::adapters::{
    AdapterFinding, AdapterServing, AloneRecord, TaskLossRecord, WaveRecord, WaveRequest,
    WeightsDelivery, cold_start_ns,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::energy::{Energy, StudyEnergy, Work};
use super::law::median;
use super::{Findings, mbps};
use crate::format::{count_to_f64, length, ns_to_ms, rounded};

/// Tasks that share a backbone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyAdapters {
    /// How long after a wave its answers must be there, in milliseconds.
    pub deadline_ms: f64,
    /// What crossed the link at each setting, adapters and full models apart.
    pub deliveries: Vec<AdapterDeliveries>,
    /// How waves were served, every arm at every setting.
    pub waves: Vec<AdapterWaves>,
    /// What adapters are worth, task by task; empty where adapters bring no text.
    pub tasks: Vec<AdapterTask>,
}

/// Deliveries of one kind at a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AdapterDeliveries {
    /// `adapter` or `full model`.
    pub what: String,
    /// The round trip that was asked for, in milliseconds.
    pub round_trip_ms: f64,
    /// The rate of the link, in Mbit/s.
    pub rate_mbps: f64,
    /// How many.
    pub deliveries: u64,
    /// Parameters of each, the median.
    pub parameters: u64,
    /// Bytes of each on the link, the median, headers of files and frames included.
    pub bytes: u64,
    /// From the first byte to serving the task, the median, in milliseconds.
    pub median_ms: f64,
    /// The same by bytes, round trip and loading; null where the round trip was not measured.
    pub expected_ms: Option<f64>,
    /// Loading, the median of all settings, in milliseconds.
    pub load_ms: f64,
}

/// Waves of an arm at a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AdapterWaves {
    /// The arm.
    pub arm: String,
    /// The round trip that was asked for, in milliseconds.
    pub round_trip_ms: f64,
    /// The rate of the link, in Mbit/s.
    pub rate_mbps: f64,
    /// Waves.
    pub waves: u64,
    /// Requests of all of them.
    pub requests: u64,
    /// Share of them whose last token was there in time.
    pub in_budget_share: f64,
    /// From the first request to the last token, the median, in milliseconds.
    pub wave_ms: f64,
    /// Sequences of a pass, on average.
    pub sequences_per_pass: f64,
    /// Changes from one task to another, on average.
    pub switches_per_wave: f64,
    /// What their requests used.
    #[serde(flatten)]
    pub energy: StudyEnergy,
}

/// What its adapter is worth to a task: nats per token of its text, which was never trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AdapterTask {
    /// The task.
    pub task: String,
    /// Tokens that are predicted.
    pub tokens: u64,
    /// With its own adapter.
    pub own_nats: f64,
    /// With none.
    pub backbone_nats: f64,
    /// With the best of the others'; null if there is no other.
    pub best_other_nats: Option<f64>,
}

/// A setting of the link.
pub(in crate::summary) type Setting = (u64, u64);

impl<'a> Findings<'a> {
    pub(in crate::summary) fn deliveries_of_tasks(
        &self,
    ) -> impl Iterator<Item = &'a WeightsDelivery> {
        self.adapters.iter().filter_map(|finding| match finding {
            AdapterFinding::Delivery(delivery) => Some(delivery),
            _ => None,
        })
    }

    pub(in crate::summary) fn waves(&self) -> impl Iterator<Item = &'a WaveRecord> {
        self.adapters.iter().filter_map(|finding| match finding {
            AdapterFinding::Wave(wave) => Some(wave),
            _ => None,
        })
    }

    pub(in crate::summary) fn answered_alone(&self) -> impl Iterator<Item = &'a AloneRecord> {
        self.adapters.iter().filter_map(|finding| match finding {
            AdapterFinding::Alone(record) => Some(record),
            _ => None,
        })
    }

    /// Losses by text and adapter.
    pub(in crate::summary) fn task_losses(
        &self,
    ) -> BTreeMap<(u32, Option<u32>), &'a TaskLossRecord> {
        let losses = self.adapters.iter().filter_map(|finding| match finding {
            AdapterFinding::Loss(loss) => Some(((loss.text, loss.adapter), loss)),
            _ => None,
        });
        losses.collect()
    }

    /// The median time of loading an adapter, or a full model; `None` where none came.
    pub(in crate::summary) fn load_ns(&self, whole: bool) -> Option<u64> {
        let all = self.deliveries_of_tasks();
        median(all.filter(|it| it.whole == whole).map(|it| it.load_ns))
    }

    /// From the first byte to serving a task, by costs and the rate; `None` where the round trip was not measured.
    pub(in crate::summary) fn expected_cold_start_ns(
        &self,
        delivery: &WeightsDelivery,
    ) -> Option<u64> {
        let mut rows = self.rows.iter();
        let row = rows.find(|row| row.round_trip_ns == delivery.round_trip_ns)?;
        let costs = (row.echo_ns, self.load_ns(delivery.whole)?);
        Some(cold_start_ns(delivery.up, delivery.rate_bps, costs))
    }

    /// Whether a request of a wave was answered in time.
    pub(in crate::summary) fn is_in_time(&self, wave: &WaveRecord, request: &WaveRequest) -> bool {
        let study = &self.plan.study;
        let deadline_ns = study.adapters.as_ref().map_or(0, |spec| spec.deadline_ns);
        request.in_budget(study.output_tokens, (wave.from_ns, deadline_ns))
    }

    /// The name of a task.
    pub(in crate::summary) fn task_name(&self, task: u32) -> String {
        let tasks = self.plan.study.adapters.as_ref().map(|spec| &spec.tasks);
        let index = usize::try_from(task).unwrap_or(usize::MAX);
        let name = tasks.and_then(|tasks| tasks.get(index));
        name.cloned().unwrap_or_else(|| task.to_string())
    }
}

/// Nats per token.
pub(in crate::summary) fn nats(loss: &TaskLossRecord) -> f64 {
    let tokens: u64 = loss.tokens.iter().copied().map(u64::from).sum();
    let micronats = count_to_f64(loss.micronats.iter().sum());
    micronats / 1e6 / count_to_f64(tokens.max(1))
}

/// `None` of a study of another technique.
pub(super) fn summary(findings: &Findings<'_>, energy: &Energy) -> Option<StudyAdapters> {
    let spec = findings.plan.study.adapters.as_ref()?;
    Some(StudyAdapters {
        deadline_ms: ns_to_ms(spec.deadline_ns),
        deliveries: deliveries(findings),
        waves: waves(findings, energy),
        tasks: tasks(findings),
    })
}

fn deliveries(findings: &Findings<'_>) -> Vec<AdapterDeliveries> {
    let mut cells: BTreeMap<(bool, Setting), Vec<&WeightsDelivery>> = BTreeMap::new();
    for delivery in findings.deliveries_of_tasks() {
        let setting = (delivery.round_trip_ns, delivery.rate_bps);
        cells
            .entry((delivery.whole, setting))
            .or_default()
            .push(delivery);
    }
    let summary = |((whole, (round_trip_ns, rate_bps)), all): (_, Vec<&WeightsDelivery>)| {
        let of = |value: fn(&WeightsDelivery) -> u64| median(all.iter().map(|it| value(it)));
        let expected = all
            .iter()
            .filter_map(|it| findings.expected_cold_start_ns(it));
        Some(AdapterDeliveries {
            what: if whole { "full model" } else { "adapter" }.to_owned(),
            round_trip_ms: ns_to_ms(round_trip_ns),
            rate_mbps: mbps(rate_bps),
            deliveries: length(&all),
            parameters: of(|it| it.parameters)?,
            bytes: of(|it| it.up)?,
            median_ms: ns_to_ms(of(|it| it.ended_ns.saturating_sub(it.started_ns))?),
            expected_ms: median(expected).map(ns_to_ms),
            load_ms: ns_to_ms(findings.load_ns(whole)?),
        })
    };
    cells.into_iter().filter_map(summary).collect()
}

fn waves(findings: &Findings<'_>, energy: &Energy) -> Vec<AdapterWaves> {
    let mut cells: BTreeMap<(AdapterServing, Setting), Vec<&WaveRecord>> = BTreeMap::new();
    for wave in findings.waves() {
        let setting = (wave.round_trip_ns, wave.rate_bps);
        cells.entry((wave.arm, setting)).or_default().push(wave);
    }
    let summary = |((arm, setting), all): ((AdapterServing, Setting), Vec<&WaveRecord>)| {
        let (round_trip_ns, rate_bps) = setting;
        let requests: u64 = all.iter().map(|wave| length(&wave.requests)).sum();
        let in_time: usize = all
            .iter()
            .map(|wave| {
                let requests = wave.requests.iter();
                requests.filter(|it| findings.is_in_time(wave, it)).count()
            })
            .sum();
        let sum =
            |value: fn(&WaveRecord) -> u64| count_to_f64(all.iter().map(|wave| value(wave)).sum());
        let in_time = count_to_f64(u64::try_from(in_time).unwrap_or(u64::MAX));
        let per = |value: f64, count: f64| rounded(value / count.max(1.0), 4);
        let lengths = all
            .iter()
            .map(|wave| wave.until_ns.saturating_sub(wave.from_ns));
        Some(AdapterWaves {
            arm: arm.name(),
            round_trip_ms: ns_to_ms(round_trip_ns),
            rate_mbps: mbps(rate_bps),
            waves: length(&all),
            requests,
            in_budget_share: per(in_time, count_to_f64(requests)),
            wave_ms: ns_to_ms(median(lengths)?),
            sequences_per_pass: per(sum(|wave| wave.sequences), sum(|wave| wave.passes)),
            switches_per_wave: per(sum(|wave| wave.switches), count_to_f64(length(&all))),
            energy: energy.of_work(&work(&all)),
        })
    };
    cells.into_iter().filter_map(summary).collect()
}

/// What was done in some waves.
fn work(waves: &[&WaveRecord]) -> Work {
    let requests = || waves.iter().flat_map(|wave| &wave.requests);
    let answered = requests().filter(|request| !request.tokens.is_empty());
    Work {
        times: waves
            .iter()
            .map(|wave| (wave.from_ns, wave.until_ns))
            .collect(),
        requests: u64::try_from(answered.count()).unwrap_or(u64::MAX),
        tokens: requests().map(|request| length(&request.tokens)).sum(),
    }
}

fn tasks(findings: &Findings<'_>) -> Vec<AdapterTask> {
    let losses = findings.task_losses();
    let own = losses
        .iter()
        .filter(|((text, adapter), _)| *adapter == Some(*text));
    let summary = |((text, _), own): (&(u32, Option<u32>), &&TaskLossRecord)| {
        let backbone = losses.get(&(*text, None))?;
        let others = losses.iter().filter(|((of, adapter), _)| {
            of == text && adapter.is_some_and(|adapter| adapter != *text)
        });
        let others = others.map(|(_, loss)| nats(loss));
        Some(AdapterTask {
            task: findings.task_name(*text),
            tokens: own.tokens.iter().copied().map(u64::from).sum(),
            own_nats: rounded(nats(own), 4),
            backbone_nats: rounded(nats(backbone), 4),
            best_other_nats: others.reduce(f64::min).map(|value| rounded(value, 4)),
        })
    };
    own.filter_map(summary).collect()
}
