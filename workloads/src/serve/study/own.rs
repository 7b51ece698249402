//! What the drivers of several techniques do alike: every arm at every setting, then some of them in an
//! outage, and all of them on the traces.

use std::sync::mpsc::{Receiver, Sender};

use super::conductor::{Conductor, Setting};
use super::link::Path;
use super::{grid, outage};
use crate::job::JobCommand;
use crate::serve::connection::Terms;
use crate::serve::error::JobError;
use crate::serve::signal::Signal;
use crate::study::own::keeping;
use crate::study::{Arm, NodeCosts, StudyFinding, StudySpec, TrialRecord};

/// The first of two nodes.
pub(super) trait Device<'a> {
    /// What conducts its study.
    fn conductor(&mut self) -> &mut Conductor<'a>;

    /// What a token costs here at a position.
    fn costs(&self, position: u32) -> Result<NodeCosts, JobError>;

    /// What else is measured beside that, on any node.
    fn further_costs(&mut self, _position: u32) -> Result<(), JobError> {
        Ok(())
    }

    /// One prompt's answer with one arm.
    fn answer(&mut self, arm: &Arm, setting: Setting, prompt: u32)
    -> Result<TrialRecord, JobError>;
}

/// Connects to the next node, plays a study with the device that `around` makes of the connection, and ends it;
/// nothing is played where it was over before it began.
pub(super) fn connect_and_play<'a, D: Device<'a>>(
    path: &Path,
    (needed, study): (&Terms, &StudySpec),
    loaded: (u64, String),
    told: (&'a Sender<Signal>, &'a Receiver<JobCommand>),
    around: impl FnOnce(Conductor<'a>) -> D,
) -> Result<(), JobError> {
    let needed = (needed, study.timeout_ns);
    let Some(conductor) = Conductor::connect(path, needed, loaded, told)? else {
        return Ok(());
    };
    let mut device = around(conductor);
    play(&mut device, study)?;
    device.conductor().end();
    Ok(())
}

/// Plays the grid of a study, and the outage and the rounds on the traces after it.
fn play<'a>(device: &mut impl Device<'a>, study: &StudySpec) -> Result<(), JobError> {
    costs(device, study)?;
    let mut last = None;
    for round_trip_ns in &study.grid.round_trips_ns {
        let echo = device.conductor().echo(*round_trip_ns)?;
        let row = grid::row(&study.grid, *round_trip_ns, echo, None);
        let rates_bps = row.rates_bps.clone();
        device.conductor().find(StudyFinding::Row(row));
        for rate_bps in rates_bps {
            let setting = Setting {
                round_trip_ns: *round_trip_ns,
                rate_bps,
            };
            device.conductor().set_links(setting)?;
            // Again beside the trials, so that a machine that changes meanwhile is told.
            costs(device, study)?;
            try_all(device, study, setting)?;
            last = Some(setting);
        }
    }
    if let (Some(spec), Some(setting)) = (study.outage, last) {
        try_in_outage(device, study, (spec.length_ns, setting))?;
    }
    for turn in study.turns() {
        let (arm, prompt) = (turn.arm.clone(), turn.prompt);
        device.conductor().take_turn(turn)?;
        let record = device.answer(&arm, Setting::TRACED, prompt)?;
        device.conductor().find_trial(record);
    }
    Ok(())
}

fn costs<'a>(device: &mut impl Device<'a>, study: &StudySpec) -> Result<(), JobError> {
    let position = study.prompt_tokens + study.output_tokens / 2;
    let mut all = vec![device.costs(position)?];
    all.extend(device.conductor().costs_of_stages(position)?);
    device.conductor().find(StudyFinding::Costs(all));
    device.further_costs(position)
}

/// Every prompt with every arm: arms take turns, so that what drifts meets all of them.
fn try_all<'a>(
    device: &mut impl Device<'a>,
    study: &StudySpec,
    setting: Setting,
) -> Result<(), JobError> {
    for prompt in 0..study.prompts {
        for arm in &study.arms {
            let record = device.answer(arm, setting, prompt)?;
            device.conductor().find_trial(record);
        }
    }
    Ok(())
}

/// The first prompt with every arm of the first family, each in an outage of its own.
fn try_in_outage<'a>(
    device: &mut impl Device<'a>,
    study: &StudySpec,
    (length_ns, setting): (u64, Setting),
) -> Result<(), JobError> {
    let family = |arm: &Arm| keeping(arm).map(|keeping| keeping.family);
    let first = study.arms.first().and_then(family);
    for arm in study.arms.iter().filter(|arm| family(arm) == first) {
        let out = outage::Outage::begin(device.conductor(), length_ns, setting)?;
        let mut record = device.answer(arm, setting, 0)?;
        record.outage = Some(Box::new(out.end(device.conductor())?));
        device.conductor().find_trial(record);
    }
    Ok(())
}
