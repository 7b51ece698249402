//! What comes before the phases and makes nothing: listening to the machine, and letting it cool.

use std::collections::BTreeSet;

use hexloop_proto::EventBody;
use hexloop_topologies::plan::Plan;

use super::Stage;
use super::error::PlayError;
use super::scene::{Scene, check};
use super::sink::EventSink;
use super::stop::StopWish;
use crate::isolation::{cooling, noise};

/// Finds out how quiet the machine is, before anything of the run disturbs it.
pub(super) fn listen(stage: &Stage, plan: &Plan, events: &EventSink) {
    if plan.machine.noise_check_ns == 0 {
        return;
    }
    let cpus: BTreeSet<u32> = plan
        .nodes
        .iter()
        .flat_map(|node| node.cpus.clone())
        .collect();
    let report = noise::listen(
        &stage.meters.places.root,
        &cpus,
        plan.machine.noise_check_ns,
    );
    let complaint = noise::complaint(&report);
    events.emit(EventBody::Noise(report));
    if let Some(message) = complaint {
        events.emit(EventBody::Warning { message });
    }
}

/// Waits until the machine is as cool as the plan asks for, or its limit has passed.
pub(super) fn cool(
    stage: &Stage,
    plan: &Plan,
    scene: &Scene,
    events: &EventSink,
    stop: &StopWish,
) -> Result<(), PlayError> {
    let Some(asked) = &plan.machine.cool else {
        return Ok(());
    };
    let report = cooling::cool(&stage.meters.places.root, &scene.gpus(), asked, || {
        check(stop)
    })?;
    if let Some(why) = &report.why {
        let message = format!("nobody can tell whether the machine is cool: {why}");
        events.emit(EventBody::Warning { message });
    }
    events.emit(EventBody::Cooling(report));
    Ok(())
}
