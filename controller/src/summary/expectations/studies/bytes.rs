//! Claims about the bytes that trials put on their links.

use std::collections::BTreeMap;

use hexloop_workloads::study::kpi::hop_bytes as kpi_hop_bytes;
use hexloop_workloads::study::kv as contexts;
use hexloop_workloads::study::own::{cascade_bytes, early_exit_bytes};
use hexloop_workloads::study::placement::hop_bytes as placement_bytes;
use hexloop_workloads::study::retrieval as documents;
use hexloop_workloads::study::speculative as drafts;
use hexloop_workloads::study::tensor_parallel::hop_bytes as halves_bytes;
use hexloop_workloads::study::u_shape::hop_bytes as u_shape_bytes;
use hexloop_workloads::study::{Arm, HopBytes, TrialRecord, split};

use super::{Evidence, Judgement, adapters, judgement, shared};
use crate::format::length;
use crate::summary::studies::Findings;

/// Every trial put as many bytes on each link as the formula of its technique says.
pub(super) fn bytes_follow_formula(findings: &Findings<'_>) -> Judgement {
    if !findings.rounds.is_empty() {
        return shared::bytes_follow_formula(findings);
    }
    if !findings.adapters.is_empty() {
        return adapters::bytes_follow_formula(findings);
    }
    let links = length(&findings.plan.hops);
    let (mut judged, mut differing, mut counted, mut formula) = (0, 0, 0, 0);
    for trial in findings.all_trials().filter(|trial| !trial.arm.is_whole()) {
        let expected = formula_bytes(findings, trial);
        let sum = |hops: &[HopBytes]| hops.iter().map(|hop| hop.up + hop.down).sum::<u64>();
        judged += 1;
        differing += u64::from(trial.hops != expected);
        counted += sum(&trial.hops);
        formula += sum(&expected);
    }
    let numbers = [
        ("trials", judged),
        ("differing_trials", differing),
        ("counted_bytes", counted),
        ("formula_bytes", formula),
    ];
    let detail = format!(
        "{judged} trials on {links} links: {counted} bytes counted, {formula} by the formula; \
         {differing} trials differ"
    );
    let evidence = Evidence::equality(judged, "trials", "one byte");
    judgement(
        (judged > 0).then_some(differing == 0),
        &numbers,
        evidence,
        &detail,
    )
}

/// What a trial puts on each link of its path by the formula of its technique.
fn formula_bytes(findings: &Findings<'_>, trial: &TrialRecord) -> Vec<HopBytes> {
    let prompt = u64::from(findings.plan.study.prompt_tokens);
    let output = length(&trial.tokens);
    match &trial.arm {
        Arm::Split { .. } => {
            let links = length(&findings.plan.hops);
            let coded = (trial.arm.coding(), findings.width);
            split::hop_bytes(links, (prompt, output), coded)
        }
        Arm::EarlyExit { .. } => vec![early_exit_bytes(trial, prompt, findings.state_bytes)],
        Arm::Cascade { .. } => vec![cascade_bytes(trial, prompt)],
        Arm::KeyValues { .. } => {
            let came = trial.transfer.iter();
            let bytes = came.map(|how| contexts::hop_bytes(how.delivery, findings.context()));
            bytes.collect()
        }
        Arm::Retrieval(_) => {
            let found = trial.retrieval.iter();
            let bytes = found.map(|record| documents::hop_bytes(prompt, output, record));
            bytes.collect()
        }
        Arm::Remote { .. } => vec![drafts::remote_bytes(prompt, output)],
        Arm::Kpi { .. } | Arm::KpiOnTrace { .. } => {
            kpi_bytes(findings, &trial.arm).into_iter().collect()
        }
        // Their requests are no trials.
        Arm::Shared { .. } | Arm::Adapters(_) => Vec::new(),
        Arm::Leaking(leaking) => vec![leaking.hop_bytes(prompt, findings.width)],
        Arm::Look(look) => {
            let looks = findings.looks.iter();
            let bytes = looks.map(|looks| look.hop_bytes(looks.shape));
            bytes.collect()
        }
        Arm::Convolutional(network) => vec![network.hop_bytes()],
        Arm::UShaped(_) => vec![u_shape_bytes((prompt, output), findings.state_bytes)],
        Arm::TensorParallel(halves) => {
            let coded = (halves.coding, findings.width);
            let layers = findings.kv_shape.layers;
            vec![halves_bytes(layers, (prompt, output), coded)]
        }
        Arm::Placed(fixed) => {
            let links = length(&findings.plan.hops);
            placement_bytes(fixed.place, links, (prompt, output))
        }
        Arm::Policy(_) => {
            let place = trial.placed.map_or(0, |placed| placed.place);
            let links = length(&findings.plan.hops);
            placement_bytes(place, links, (prompt, output))
        }
        Arm::Speculative(speculation) => {
            let crossing = (speculation.crossing, findings.vocabulary);
            vec![drafts::hop_bytes(prompt, &trial.rounds, crossing)]
        }
    }
}

fn kpi_bytes(findings: &Findings<'_>, arm: &Arm) -> Option<HopBytes> {
    let (Arm::Kpi { row, .. } | Arm::KpiOnTrace { row }) = *arm else {
        return None;
    };
    let spec = findings.plan.study.kpi.as_ref()?;
    let row = spec.rows().find(|(place, _)| *place == row)?.1;
    let payload_bytes = spec.flow(row).ok()?.payload_bytes;
    Some(kpi_hop_bytes(row.way, payload_bytes))
}

/// Trials put the same bytes on the link wherever the model is cut.
pub(super) fn cut_moves_no_bytes(findings: &Findings<'_>) -> Judgement {
    let coding = findings.plan.study.coding();
    let trials = findings.trials.iter();
    let parted = trials.filter(|trial| !trial.arm.is_whole() && trial.arm.coding() == coding);
    let mut by_cut: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for trial in parted {
        let bytes = trial.hops.iter().map(|hop| hop.up + hop.down).sum();
        by_cut.entry(trial.arm.first_cut()).or_default().push(bytes);
    }
    let all = || by_cut.values().flatten().copied();
    let (least, most) = (all().min().unwrap_or(0), all().max().unwrap_or(0));
    let trials = u64::try_from(all().count()).unwrap_or(u64::MAX);
    let cuts = u64::try_from(by_cut.len()).unwrap_or(u64::MAX);
    let numbers = [
        ("trials", trials),
        ("cuts", cuts),
        ("least_bytes", least),
        ("most_bytes", most),
    ];
    let detail =
        format!("{trials} trials with {cuts} cuts put {least} to {most} bytes on the link");
    let evidence = Evidence::equality(trials, "trials", "one byte");
    judgement(
        (cuts > 1).then_some(least == most),
        &numbers,
        evidence,
        &detail,
    )
}
