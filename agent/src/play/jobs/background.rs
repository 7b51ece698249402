//! The processes of traffic beside a phase: who listens comes first.

use hexloop_topologies::plan::{BackgroundPlan, Plan};
use hexloop_workloads::traffic::{TrafficRole, TrafficSpec};

use super::{NodeJob, Orders, place_of};
use crate::play::error::PlayError;

/// Those of everything that is beside a phase.
pub(super) fn jobs_of(plan: &Plan, phase: &str, secret: &str) -> Result<Vec<NodeJob>, PlayError> {
    let mut jobs = Vec::new();
    for background in plan.background.iter().filter(|it| it.is_beside(phase)) {
        let BackgroundPlan {
            link,
            direction,
            address,
            background,
            ..
        } = background;
        let planned = plan.link(link).ok_or_else(|| {
            PlayError::Plan(format!("phase {phase} names link {link}, which it lacks"))
        })?;
        let receiver = TrafficRole::BackgroundReceiver {
            listen: *address,
            background: background.clone(),
        };
        let sender = TrafficRole::BackgroundSender {
            peer: *address,
            background: background.clone(),
        };
        let ends = [
            (&planned.receiver(*direction).node, receiver),
            (&planned.sender(*direction).node, sender),
        ];
        for (node, role) in ends {
            jobs.push(NodeJob {
                place: place_of(plan, phase, node)?,
                sends_requests: false,
                is_beside: true,
                link: Some(link.clone()),
                orders: Orders::Traffic(TrafficSpec {
                    secret: secret.to_owned(),
                    role,
                }),
            });
        }
    }
    Ok(jobs)
}
