//! The findings of a study, as its driver told them, sorted by what they are about.

use std::collections::BTreeMap;

use hexloop_topologies::plan::{ModelPlan, StudyPlan};
use hexloop_workloads::coding::kv::KvShape;
use hexloop_workloads::study::adapters::AdapterFinding;
use hexloop_workloads::study::kv::{DeliveryCosts, LossRecord};
use hexloop_workloads::study::leak::LeakRecord;
use hexloop_workloads::study::multimodal::{LookRecord, LooksRecord};
use hexloop_workloads::study::placement::{PlaceCosts, WayRecord};
use hexloop_workloads::study::retrieval::RetrievalCosts;
use hexloop_workloads::study::shared::{SharedCosts, SharedRound};
use hexloop_workloads::study::speculative::AcceptanceRecord;
use hexloop_workloads::study::tensor_parallel::HalfCosts;
use hexloop_workloads::study::traced::TracedTrial;
use hexloop_workloads::study::{
    Arm, NodeCosts, RowRecord, StudyFinding, Technique, TrialRecord, split,
};

use super::{multimodal, placement, retrieval, tensor_parallel};
use crate::results::PhaseResults;

/// The findings of a study, sorted.
#[derive(Debug)]
pub(in crate::summary) struct Findings<'a> {
    pub(in crate::summary) plan: &'a StudyPlan,
    /// Tokens that the model scores.
    pub(in crate::summary) vocabulary: u32,
    /// Channels of a hidden state.
    pub(in crate::summary) width: u64,
    /// Bytes of one on the link, in the coding of the first arm.
    pub(in crate::summary) state_bytes: u64,
    /// Medians of what was measured before and beside the trials.
    pub(in crate::summary) costs: Vec<NodeCosts>,
    pub(in crate::summary) rows: Vec<&'a RowRecord>,
    pub(in crate::summary) trials: Vec<&'a TrialRecord>,
    /// Requests while the links followed their traces.
    pub(in crate::summary) traced: Vec<&'a TracedTrial>,
    /// What was measured on prompts that no trial asks.
    pub(in crate::summary) acceptances: Vec<&'a AcceptanceRecord>,
    /// What the keys and values of a sequence are.
    pub(in crate::summary) kv_shape: KvShape,
    /// What getting a context costs, as it was measured before and beside the trials.
    pub(in crate::summary) deliveries: Vec<&'a DeliveryCosts>,
    /// What codings of keys and values lose.
    pub(in crate::summary) losses: Vec<&'a LossRecord>,
    /// What computing a prompt costs a node that retrieves.
    pub(in crate::summary) retrieval: Option<RetrievalCosts>,
    /// Of several users: what uploads and batches cost, and their rounds.
    pub(in crate::summary) shared_costs: Option<&'a SharedCosts>,
    pub(in crate::summary) rounds: Vec<&'a SharedRound>,
    /// What answers cost each node, as it was told from time to time.
    pub(in crate::summary) places: Vec<&'a [PlaceCosts]>,
    /// What an empty frame took to each node.
    pub(in crate::summary) ways: Vec<&'a WayRecord>,
    /// What was guessed of prompts.
    pub(in crate::summary) leaks: Vec<&'a LeakRecord>,
    /// What half of a layer costs each node.
    pub(in crate::summary) halves: Vec<HalfCosts>,
    /// What happened to tasks that share a backbone.
    pub(in crate::summary) adapters: Vec<&'a AdapterFinding>,
    /// What looking at an image costs, and what its bytes follow from.
    pub(in crate::summary) looks: Option<LooksRecord>,
    /// What was seen in images.
    pub(in crate::summary) seen: Vec<&'a LookRecord>,
}

impl<'a> Findings<'a> {
    pub(in crate::summary) fn of(
        plan: &'a StudyPlan,
        model: &ModelPlan,
        recorded: &'a PhaseResults,
    ) -> Findings<'a> {
        let mut findings = Findings {
            plan,
            vocabulary: model.vocabulary,
            width: u64::from(model.width),
            state_bytes: plan.study.coding().token_bytes(u64::from(model.width)),
            costs: Vec::new(),
            rows: Vec::new(),
            trials: Vec::new(),
            traced: Vec::new(),
            acceptances: Vec::new(),
            kv_shape: KvShape {
                layers: model.layers,
                kv_heads: model.kv_heads,
                head_width: model.head_width,
            },
            deliveries: Vec::new(),
            losses: Vec::new(),
            retrieval: retrieval::costs(&recorded.findings),
            shared_costs: None,
            rounds: Vec::new(),
            places: Vec::new(),
            ways: Vec::new(),
            leaks: Vec::new(),
            halves: tensor_parallel::costs(&recorded.findings),
            adapters: Vec::new(),
            looks: multimodal::costs(&recorded.findings),
            seen: Vec::new(),
        };
        let mut measured = Vec::new();
        for finding in &recorded.findings {
            match finding {
                StudyFinding::Costs(costs) => measured.push(costs.as_slice()),
                StudyFinding::Row(row) => findings.rows.push(row),
                StudyFinding::Trial(trial) => findings.trials.push(trial),
                StudyFinding::Traced(traced) => findings.traced.push(traced),
                StudyFinding::Acceptance(record) => findings.acceptances.push(record),
                StudyFinding::Delivery(costs) => findings.deliveries.push(costs),
                StudyFinding::Loss(record) => findings.losses.push(record),
                // Its medians alone are needed.
                StudyFinding::Retrieval(_) | StudyFinding::Halves(_) | StudyFinding::Looks(_) => {}
                StudyFinding::Look(seen) => findings.seen.push(seen),
                StudyFinding::Shared(costs) => findings.shared_costs = Some(costs),
                StudyFinding::Round(round) => findings.rounds.push(round),
                StudyFinding::Places(costs) => findings.places.push(costs),
                StudyFinding::Ways(way) => findings.ways.push(way),
                StudyFinding::Leak(leak) => findings.leaks.push(leak),
                StudyFinding::Adapters(finding) => findings.adapters.push(finding),
            }
        }
        findings.costs = split::median_costs(&measured);
        findings
    }

    /// Trials at all settings and on the traces.
    pub(in crate::summary) fn all_trials(&self) -> impl Iterator<Item = &'a TrialRecord> {
        let traced = self.traced.iter().map(|traced| &traced.trial);
        self.trials.iter().copied().chain(traced)
    }

    /// The critical rate of a row, by all costs.
    pub(in crate::summary) fn critical_rate_bps(&self, row: &RowRecord) -> Option<u64> {
        let study = &self.plan.study;
        if study.technique() == Technique::Placement {
            return placement::critical_rate_bps(self, row);
        }
        split::critical_rate_of(study, &self.costs, row.echo_ns, self.state_bytes)
    }

    /// The trials of an arm in a row, by rate.
    pub(in crate::summary) fn by_rate(
        &self,
        round_trip_ns: u64,
        arm: &Arm,
    ) -> BTreeMap<u64, Vec<&'a TrialRecord>> {
        let mut rates: BTreeMap<u64, Vec<&TrialRecord>> = BTreeMap::new();
        for trial in &self.trials {
            if trial.round_trip_ns == round_trip_ns && trial.arm == *arm {
                rates.entry(trial.rate_bps).or_default().push(trial);
            }
        }
        rates
    }
}
