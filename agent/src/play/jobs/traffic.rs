//! The processes of a phase without a model.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use hexloop_topologies::plan::{Plan, TrafficJob, TrafficPlan};
use hexloop_traces::Direction;
use hexloop_workloads::traffic::{TrafficRole, TrafficSpec};

use super::{NodeJob, Orders, place_of};
use crate::play::error::PlayError;

/// The end of a ping phase in which nothing is sent any more, so that answers can arrive.
const ANSWERS_NS: u64 = 500_000_000;

/// Who listens comes first, then who connects, link by link; then the load.
pub(super) fn jobs_of(
    plan: &Plan,
    phase: &TrafficPlan,
    secret: &str,
) -> Result<Vec<NodeJob>, PlayError> {
    let job = |place: usize, link: Option<&str>, role: TrafficRole| NodeJob {
        place,
        is_beside: false,
        link: link.map(str::to_owned),
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
    let (mut jobs, mut crossed) = (Vec::new(), BTreeSet::new());
    for (name, address) in phase.links() {
        let link = plan.link(name).ok_or_else(|| {
            let phase = &phase.name;
            PlayError::Plan(format!("phase {phase} names link {name}, which it lacks"))
        })?;
        let [first, second] = &link.ends;
        let first = place_of(plan, &phase.name, &first.node)?;
        let second = place_of(plan, &phase.name, &second.node)?;
        let (listener, connector) = roles(phase, address);
        let link = Some(name);
        jobs.extend([job(second, link, listener), job(first, link, connector)]);
        crossed.extend([first, second]);
    }
    if phase.load {
        for place in crossed {
            let threads = plan.nodes[place].threads;
            jobs.push(job(place, None, TrafficRole::Burner { threads }));
        }
    }
    Ok(jobs)
}

/// What both ends of a link do, whose second end listens at that address.
fn roles(phase: &TrafficPlan, address: SocketAddr) -> (TrafficRole, TrafficRole) {
    match &phase.job {
        TrafficJob::Bulk { directions } => (
            TrafficRole::BulkListener {
                listen: address,
                sends: directions.contains(&Direction::Down),
            },
            TrafficRole::BulkConnector {
                peer: address,
                sends: directions.contains(&Direction::Up),
            },
        ),
        TrafficJob::Ping { gap_ns } => (
            TrafficRole::EchoListener { listen: address },
            TrafficRole::EchoConnector {
                peer: address,
                gap_ns: *gap_ns,
                send_for_ns: phase.duration_ns.saturating_sub(ANSWERS_NS),
            },
        ),
    }
}
