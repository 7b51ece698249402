//! What the drivers of early exits and of cascades do alike: every arm at every setting, and then some of
//! them in an outage.

use super::conductor::{Conductor, Setting};
use super::{grid, outage};
use crate::serve::error::JobError;
use crate::study::own::keeping;
use crate::study::{Arm, NodeCosts, StudyFinding, StudySpec, TrialRecord};

/// A device that answers as long as it is sure enough.
pub(super) trait Device<'a> {
    /// What conducts its study.
    fn conductor(&mut self) -> &mut Conductor<'a>;

    /// What a token costs here at a position.
    fn costs(&self, position: u32) -> Result<NodeCosts, JobError>;

    /// One prompt's answer with one arm.
    fn answer(&mut self, arm: &Arm, setting: Setting, prompt: u32)
    -> Result<TrialRecord, JobError>;
}

/// Plays the grid of a study, and the outage after it.
pub(super) fn play<'a>(device: &mut impl Device<'a>, study: &StudySpec) -> Result<(), JobError> {
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
    match (study.outage, last) {
        (Some(spec), Some(setting)) => try_in_outage(device, study, (spec.length_ns, setting)),
        _ => Ok(()),
    }
}

fn costs<'a>(device: &mut impl Device<'a>, study: &StudySpec) -> Result<(), JobError> {
    let position = study.prompt_tokens + study.output_tokens / 2;
    let mut all = vec![device.costs(position)?];
    all.extend(device.conductor().costs_of_stages(position)?);
    device.conductor().find(StudyFinding::Costs(all));
    Ok(())
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
            device.conductor().find(StudyFinding::Trial(record));
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
        record.outage = Some(out.end(device.conductor())?);
        device.conductor().find(StudyFinding::Trial(record));
    }
    Ok(())
}
