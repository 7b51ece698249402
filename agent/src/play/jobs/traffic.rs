//! The processes of a phase without a model.

use hexloop_topologies::plan::{Plan, TrafficJob, TrafficPlan};
use hexloop_traces::Direction;
use hexloop_workloads::traffic::{TrafficRole, TrafficSpec};

use super::{NodeJob, Orders, place_of};
use crate::play::error::PlayError;

/// The end of a ping phase in which nothing is sent any more, so that answers can arrive.
const ANSWERS_NS: u64 = 500_000_000;

/// Who listens comes first, then who connects, then the load.
pub(super) fn jobs_of(
    plan: &Plan,
    phase: &TrafficPlan,
    secret: &str,
) -> Result<Vec<NodeJob>, PlayError> {
    let link = plan.link(&phase.link).ok_or_else(|| {
        PlayError::Plan(format!(
            "phase {} names link {}, which it lacks",
            phase.name, phase.link
        ))
    })?;
    let [first, second] = &link.ends;
    let first = place_of(plan, &phase.name, &first.node)?;
    let second = place_of(plan, &phase.name, &second.node)?;
    let (listener, connector) = match &phase.job {
        TrafficJob::Bulk { directions } => (
            TrafficRole::BulkListener {
                listen: phase.address,
                sends: directions.contains(&Direction::Down),
            },
            TrafficRole::BulkConnector {
                peer: phase.address,
                sends: directions.contains(&Direction::Up),
            },
        ),
        TrafficJob::Ping { gap_ns } => (
            TrafficRole::EchoListener {
                listen: phase.address,
            },
            TrafficRole::EchoConnector {
                peer: phase.address,
                gap_ns: *gap_ns,
                send_for_ns: phase.duration_ns.saturating_sub(ANSWERS_NS),
            },
        ),
    };
    let job = |place: usize, role: TrafficRole| NodeJob {
        place,
        // It never says that it is idle: the phase lasts as long as it is planned to.
        sends_requests: matches!(
            role,
            TrafficRole::BulkConnector { .. } | TrafficRole::EchoConnector { .. }
        ),
        orders: Orders::Traffic(TrafficSpec {
            secret: secret.to_owned(),
            role,
        }),
    };
    let mut jobs = vec![job(second, listener), job(first, connector)];
    if phase.load {
        for place in [first, second] {
            let threads = plan.nodes[place].threads;
            jobs.push(job(place, TrafficRole::Burner { threads }));
        }
    }
    Ok(jobs)
}
