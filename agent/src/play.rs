//! Plays a plan: nodes, links, calibration, phases, and taking it all down again, whatever
//! happened in between.

mod burner;
mod capture;
mod desk;
mod error;
mod idle;
mod jobs;
mod meter;
mod phase;
mod prepare;
mod scene;
mod sink;
mod stop;
mod timeline;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use hexloop_proto::{AgentDescription, EventBody};
use hexloop_telemetry::{ExternalFeed, FeedReport};
use hexloop_topologies::plan::{PLAN_SCHEMA, Plan};
use hexloop_traces::Trace;
use hexloop_workloads::clock;

use crate::cgroup::Controllers;
use crate::configuration::Configuration;
use crate::guardian::Guardian;
use crate::node::{kernel_release, with_causes};
use crate::privilege::Privilege;
use crate::process::SelfCommand;
use crate::telemetry::power::PowerSampler;
use crate::telemetry::sources::MeterSources;

pub use capture::CaptureWish;
pub use desk::{ControlDesk, ControlError, Made};
pub use error::PlayError;
pub use jobs::requests_of;
pub use sink::EventSink;
pub use stop::StopWish;

use scene::Scene;

/// What an agent plays plans with.
#[derive(Debug)]
pub struct Stage {
    /// How it starts its other parts.
    pub program: SelfCommand,
    /// Where its power comes from.
    pub privilege: Privilege,
    /// User and group of the jobs; `None` where they stay with the agent's own.
    pub credentials: Option<(u32, u32)>,
    /// The same in words.
    pub job_user: String,
    /// Control groups that it may use.
    pub controllers: Controllers,
    /// Who undoes everything if this process is killed.
    pub guardian: Arc<Guardian>,
    /// Meters of energy and power, and who looks at them; settings of the machine are looked for in
    /// the same places.
    pub meters: MeterSources,
    /// What the owner of this machine allows.
    pub allowed: Configuration,
}

/// What is to be played.
#[derive(Debug, Clone)]
pub struct PlayInput {
    /// The plan.
    pub plan: Plan,
    /// The traces that it names.
    pub traces: BTreeMap<String, Arc<Trace>>,
    /// Where this machine keeps the model, if there is one.
    pub model_directory: Option<PathBuf>,
    /// Where it keeps the second model, likewise.
    pub draft_model_directory: Option<PathBuf>,
    /// Where packets of its links are captured, if they are to be.
    pub capture: Option<CaptureWish>,
}

/// Plays a plan to its end, to an error or until it is stopped. The last event is always
/// [`EventBody::TakenDown`].
pub fn play(
    stage: &Stage,
    input: &PlayInput,
    events: &Arc<EventSink>,
    stop: &StopWish,
    desk: &ControlDesk,
) {
    let fed_before = feed_reports(stage);
    let power = PowerSampler::start(&stage.meters).map_err(|source| PlayError::System {
        action: "start the thread that reads the meters",
        source,
    });
    let mut scene = Scene::empty();
    let outcome = match &power {
        Ok(power) => perform(stage, input, events, (stop, desk, power), &mut scene),
        Err(_) => Ok(()),
    };
    events.end_phase();
    let (power, outcome) = match power {
        Ok(power) => (Some(power), outcome),
        Err(error) => (None, Err(error)),
    };
    if let Err(error) = outcome {
        let message = with_causes(&error);
        events.emit(EventBody::Failed {
            message,
            exit_code: error.exit_code(),
        });
    }
    let leftovers = scene.take_down(stage);
    scene.finish_capture(events);
    for message in feed_warnings(stage, &fed_before) {
        events.emit(EventBody::Warning { message });
    }
    let energy_j = power.as_ref().map(PowerSampler::whole);
    events.emit(EventBody::TakenDown {
        leftovers,
        energy_j,
        metering: power.and_then(PowerSampler::finish),
    });
    events.flush();
}

fn feed_reports(stage: &Stage) -> Vec<FeedReport> {
    let feeds = stage.meters.feeds.iter();
    feeds.map(ExternalFeed::report).collect()
}

/// A reading that is older than this when it comes is worth a warning: what it tells is laid later
/// in time than it was.
const WORTH_A_WARNING_NS: u64 = 1_000_000_000;

/// What readers of the results should know of the lines of external meters.
fn feed_warnings(stage: &Stage, before: &[FeedReport]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (feed, before) in stage.meters.feeds.iter().zip(before) {
        let (name, now) = (&feed.spec().name, feed.report());
        let refused = now.refused.saturating_sub(before.refused);
        let taken = now.taken.saturating_sub(before.taken);
        if refused > 0 {
            let why = now.last_refusal.unwrap_or_default();
            warnings.push(format!(
                "external meter {name}: {refused} of {} lines were refused; the last one: {why}",
                refused + taken
            ));
        }
        if now.largest_lag_ns > WORTH_A_WARNING_NS {
            let lag_ms = now.largest_lag_ns / 1_000_000;
            warnings.push(format!(
                "external meter {name}: readings came up to {lag_ms} ms after their time, and its \
                 power is that much late"
            ));
        }
        if let Some(why) = now.ended {
            warnings.push(format!("external meter {name}: {why}"));
        }
    }
    warnings
}

fn perform(
    stage: &Stage,
    input: &PlayInput,
    events: &Arc<EventSink>,
    (stop, desk, power): (&StopWish, &ControlDesk, &PowerSampler),
    scene: &mut Scene,
) -> Result<(), PlayError> {
    if input.plan.schema != PLAN_SCHEMA {
        let schema = input.plan.schema;
        return Err(PlayError::Plan(format!(
            "it has schema {schema}, this agent plays schema {PLAN_SCHEMA}; use one version of \
             hexloop everywhere"
        )));
    }
    let cpu_control = match &stage.controllers.cpu {
        Some(controller) => controller.version.name(),
        None => "stop-continue",
    };
    events.emit(EventBody::AgentUp(AgentDescription {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        privilege: stage.privilege.name().to_owned(),
        job_user: stage.job_user.clone(),
        kernel: kernel_release(),
        cpu_control: cpu_control.to_owned(),
        energy_j: power.outlook(),
        meters: power.channels(),
        unmetered: power.unmetered(),
    }));
    power.require(&input.plan.machine.meters, &stage.meters.feeds, |until| {
        scene::check(stop)?;
        clock::sleep_until(until);
        Ok::<(), PlayError>(())
    })?;
    prepare::listen(stage, &input.plan, events);
    scene.settle(stage, &input.plan, events)?;
    scene.build(stage, input, events, stop)?;
    scene.calibrate(&input.plan, events, stop)?;
    prepare::cool(stage, &input.plan, scene, events, stop)?;
    idle::measure(power, "before", events, stop)?;
    let secret = jobs::random_secret()?;
    for part in jobs::parts(&input.plan, &secret)? {
        phase::play(
            stage,
            &input.plan,
            &part,
            scene,
            events,
            (stop, desk, power),
        )?;
    }
    events.end_phase();
    idle::measure(power, "after", events, stop)
}
