//! The process of a load: it sends; what answers is a program of the experiment.

use hexloop_topologies::plan::{LoadPlan, Plan};
use hexloop_workloads::load::LoadJobSpec;

use super::{NodeJob, Orders, place_of};
use crate::play::error::PlayError;

pub(super) fn jobs_of(plan: &Plan, load: &LoadPlan) -> Result<Vec<NodeJob>, PlayError> {
    Ok(vec![NodeJob {
        place: place_of(plan, &load.name, &load.node)?,
        sends_requests: true,
        is_beside: false,
        link: None,
        orders: Orders::Load(LoadJobSpec {
            name: load.name.clone(),
            endpoint: load.endpoint,
            load: load.load.clone(),
            seed: LoadPlan::seed(plan.seed),
            send_delay_ns: plan.faults.delay_sends_ns,
        }),
    }])
}
