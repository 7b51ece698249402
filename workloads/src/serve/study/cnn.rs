//! The driver of the control: images through the first blocks of a convolutional network, which are waited for, and
//! their activations over the link.

use std::sync::mpsc::{Receiver, Sender};

use super::conductor::{Conductor, Setting};
use super::link::Path;
use super::{books, models};
use crate::clock;
use crate::job::JobCommand;
use crate::serve::error::JobError;
use crate::serve::signal::Signal;
use crate::study::cnn::Convolutional;
use crate::study::{Arm, HopBytes, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::FrameKind;

/// Plays a study of a convolutional network to its end.
pub(super) fn play(
    spec: &StudyJobSpec,
    (study, _no_prompts): (&StudySpec, &[u64]),
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    let model = models::layers_at(spec, study, 0)?;
    let needed = model.terms(0..0)?;
    let loaded = (model.weight_bytes(), model.engine_path());
    let needed = (&needed, study.timeout_ns);
    let Some(mut conductor) = Conductor::connect(path, needed, loaded, told)? else {
        return Ok(());
    };
    conductor.try_everything(study, |conductor, arm, setting, image| {
        let Arm::Convolutional(network) = arm else {
            return Err(JobError::Spec {
                why: format!("{} is no convolutional network", arm.name()),
            });
        };
        recognise(conductor, (arm, *network), setting, image)
    })?;
    conductor.end();
    Ok(())
}

fn recognise(
    conductor: &mut Conductor<'_>,
    (arm, network): (&Arm, Convolutional),
    setting: Setting,
    image: u32,
) -> Result<TrialRecord, JobError> {
    let offset = conductor.offset();
    let group = conductor.next_group();
    let bytes = usize::try_from(network.activation_bytes()).unwrap_or(usize::MAX);
    let activations = vec![0; bytes];
    let mut record = conductor.next_trial(arm, setting, (group, image));
    let began = clock::now();
    clock::sleep_until(began.saturating_add(network.near_ns()));
    record.busy_ns = vec![clock::now().saturating_sub(began)];
    let class = if network.is_whole() {
        record.hops.push(HopBytes::default());
        record.busy_ns.push(0);
        0
    } else {
        let id = record.number;
        let link = conductor.link()?;
        link.write((FrameKind::Activations, id), network.cut, &activations)?;
        let frame = link.read(&[FrameKind::Token], 4)?;
        match frame.token_ids().as_deref() {
            Some([class]) if frame.header.request == id => *class,
            _ => return Err(link.wrong(&frame, "a class is expected")),
        }
    };
    record.token_ns.push(offset(clock::now()));
    record.tokens.push(class);
    if !network.is_whole() {
        books::close(conductor.link()?, &mut record)?;
    }
    Ok(record)
}
