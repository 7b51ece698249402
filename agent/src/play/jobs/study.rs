//! The processes of a study: the driver, and a stage for every node behind it.

use std::path::PathBuf;

use hexloop_topologies::plan::{Plan, StudyPlan};
use hexloop_traces::stream;
use hexloop_workloads::study::{StudyJobSpec, StudyRole, Technique};
use rand_core::Rng as _;

use super::{NodeJob, Orders, place_of};
use crate::node::{DRAFT_MODEL_DIRECTORY, MODEL_DIRECTORY};
use crate::play::error::PlayError;

/// Who listens comes first: the last node of the path, and the driver at the end.
pub(super) fn jobs_of(
    plan: &Plan,
    study: &StudyPlan,
    secret: &str,
) -> Result<Vec<NodeJob>, PlayError> {
    let mut jobs = Vec::new();
    for (index, node) in study.path.iter().enumerate().rev() {
        let next = study.hops.get(index).map(|hop| hop.address);
        let in_front = index.checked_sub(1).and_then(|hop| study.hops.get(hop));
        let spec = study.study.clone();
        let addresses = || study.hops.iter().map(|hop| hop.address).collect();
        let role = match in_front {
            // Where several users share an edge every link leads from the first node to the second.
            None if study.study.technique() == Technique::Shared => StudyRole::Users {
                study: spec,
                prompt_seeds: prompt_seeds(plan, study),
                edges: addresses(),
            },
            Some(_) if study.study.technique() == Technique::Shared => StudyRole::Edge {
                study: spec,
                listens: addresses(),
            },
            None => StudyRole::Driver {
                study: spec,
                prompt_seeds: prompt_seeds(plan, study),
                next,
            },
            Some(hop) => StudyRole::Stage {
                place: u32::try_from(index).unwrap_or(u32::MAX),
                study: spec,
                listen: hop.address,
                next,
            },
        };
        let node = place_of(plan, &study.name, node)?;
        jobs.push(NodeJob {
            place: node,
            sends_requests: in_front.is_none(),
            is_beside: false,
            link: None,
            orders: Orders::Study(Box::new(StudyJobSpec {
                name: study.name.clone(),
                role,
                model_directory: PathBuf::from(MODEL_DIRECTORY),
                draft_directory: plan
                    .draft_model
                    .as_ref()
                    .map(|_| PathBuf::from(DRAFT_MODEL_DIRECTORY)),
                threads: plan.nodes[node].threads,
                compute: plan.nodes[node].compute,
                slowdown: plan.nodes[node].slowdown,
                transport: study.transport,
                secret: secret.to_owned(),
            })),
        });
    }
    Ok(jobs)
}

/// What each prompt is drawn from, the held-out ones last: the same in every study of a plan.
fn prompt_seeds(plan: &Plan, study: &StudyPlan) -> Vec<u64> {
    let mut random = stream(plan.seed, "prompts of studies");
    let spec = &study.study;
    (0..spec.prompts.saturating_add(spec.held_out_prompts))
        .map(|_| random.next_u64())
        .collect()
}
