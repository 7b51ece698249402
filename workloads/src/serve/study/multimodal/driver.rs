//! The node that sees: it sends images, or what its encoder makes of them, and hears what they show.

use std::sync::mpsc::{Receiver, Sender};

use crate::clock;
use crate::engine::images::{self, Scene};
use crate::engine::vision::VisionEncoder;
use crate::job::JobCommand;
use crate::serve::connection::token_bytes;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::Signal;
use crate::serve::study::conductor::{Conductor, Setting};
use crate::serve::study::link::Path;
use crate::serve::study::{books, costs, grid, models};
use crate::study::multimodal::{
    ATTRIBUTES, Encoder, Look, LookCosts, LookRecord, LookShape, LooksRecord, compared,
};
use crate::study::{Arm, StudyFinding, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::FrameKind;

/// Looks that medians of costs are over.
const PASSES: u32 = 5;

struct Driver {
    part: Part,
    encoder: VisionEncoder,
    question: Vec<u32>,
    scenes: Vec<Scene>,
    output_tokens: u32,
}

/// Plays a study to its end.
pub(in crate::serve::study) fn drive(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    let part = models::large_by_name(spec)?;
    let encoder = part.vision_encoder()?;
    let side = encoder.config().image_size;
    let scenes = prompt_seeds
        .iter()
        .map(|seed| images::scene_of(*seed, side));
    let needed = super::terms(&part, study)?;
    let loaded = (encoder.weight_bytes(), part.engine_path());
    let driver = Driver {
        question: part.question()?,
        scenes: scenes.collect(),
        output_tokens: study.output_tokens,
        part,
        encoder,
    };
    let needed = (&needed, study.timeout_ns);
    let Some(mut conductor) = Conductor::connect(path, needed, loaded, told)? else {
        return Ok(());
    };
    driver.play(study, &mut conductor)?;
    conductor.end();
    Ok(())
}

impl Driver {
    fn play(&self, study: &StudySpec, conductor: &mut Conductor<'_>) -> Result<(), JobError> {
        for round_trip_ns in study.grid.round_trips_ns.iter().copied() {
            let echo = conductor.echo(round_trip_ns)?;
            let looks = self.costs(study, conductor, round_trip_ns)?;
            let pair = compared(&study.looks(), looks.shape);
            let critical = pair.and_then(|(image, tokens)| looks.critical_rate_bps(image, tokens));
            conductor.find(StudyFinding::Looks(looks));
            let row = grid::row(&study.grid, round_trip_ns, echo, critical);
            let rates_bps = row.rates_bps.clone();
            conductor.find(StudyFinding::Row(row));
            for rate_bps in rates_bps {
                let setting = Setting {
                    round_trip_ns,
                    rate_bps,
                };
                conductor.set_links(setting)?;
                for prompt in 0..study.prompts {
                    for arm in &study.arms {
                        self.ask(arm, conductor, (setting, prompt))?;
                    }
                }
            }
        }
        for turn in study.turns() {
            let (arm, prompt) = (turn.arm.clone(), turn.prompt);
            conductor.take_turn(turn)?;
            self.ask(&arm, conductor, (Setting::TRACED, prompt))?;
        }
        Ok(())
    }

    /// What images and questions are here.
    fn shape(&self) -> LookShape {
        LookShape {
            image_bytes: self.encoder.config().image_bytes(),
            patches: self.encoder.config().patches(),
            width: self.part.width(),
            question_tokens: u32::try_from(self.question.len()).unwrap_or(u32::MAX),
        }
    }

    /// What each arm costs both nodes until the first token, arms taking turns; with the links as they are.
    fn costs(
        &self,
        study: &StudySpec,
        conductor: &mut Conductor<'_>,
        round_trip_ns: u64,
    ) -> Result<LooksRecord, JobError> {
        let setting = Setting {
            round_trip_ns,
            rate_bps: grid::ECHO_RATE_BPS,
        };
        let mut measured: Vec<(Look, [Vec<u64>; 2])> = study
            .looks()
            .into_iter()
            .map(|look| (look, [Vec::new(), Vec::new()]))
            .collect();
        for pass in 0..PASSES {
            for (look, [device, edge]) in &mut measured {
                let mut record = conductor.next_calibration(&Arm::Look(*look), setting);
                let image = pass % study.prompts.max(1);
                self.look(*look, conductor, (&mut record, image), 1)?;
                device.push(record.busy_ns.first().copied().unwrap_or(0));
                edge.push(record.busy_ns.get(1).copied().unwrap_or(0));
            }
        }
        let of_look = |(look, [mut device, mut edge]): (Look, [Vec<u64>; 2])| LookCosts {
            look,
            device_ns: costs::median(&mut device),
            edge_ns: costs::median(&mut edge),
            passes: PASSES,
        };
        Ok(LooksRecord {
            shape: self.shape(),
            costs: measured.into_iter().map(of_look).collect(),
        })
    }

    /// A trial, and how well its answer names the image.
    fn ask(
        &self,
        arm: &Arm,
        conductor: &mut Conductor<'_>,
        (setting, prompt): (Setting, u32),
    ) -> Result<(), JobError> {
        let Arm::Look(look) = arm else {
            return Err(JobError::Spec {
                why: format!("{} looks at no image", arm.name()),
            });
        };
        let group = conductor.next_group();
        let mut record = conductor.next_trial(arm, setting, (group, prompt));
        self.look(*look, conductor, (&mut record, prompt), self.output_tokens)?;
        let word = self.part.answer_of(self.scene(prompt)?)?;
        let named = LookRecord {
            of: *look,
            trial: record.number,
            prompt,
            asked: ATTRIBUTES,
            right: u32::from(record.tokens.first() == Some(&word)),
        };
        conductor.find_trial(record);
        conductor.find(StudyFinding::Look(named));
        Ok(())
    }

    fn scene(&self, prompt: u32) -> Result<&Scene, JobError> {
        let index = usize::try_from(prompt).unwrap_or(usize::MAX);
        self.scenes.get(index).ok_or_else(|| JobError::Spec {
            why: format!(
                "image {prompt} is asked for, and {} are given",
                self.scenes.len()
            ),
        })
    }

    /// Asks about an image, and takes the answer into its record.
    fn look(
        &self,
        look: Look,
        conductor: &mut Conductor<'_>,
        (record, image): (&mut TrialRecord, u32),
        output_tokens: u32,
    ) -> Result<(), JobError> {
        let offset = conductor.offset();
        let image = &self.scene(image)?.image;
        let words = [
            look.form_number(),
            look.merge,
            u32::try_from(self.question.len()).unwrap_or(u32::MAX),
        ];
        let mut body = token_bytes(&words);
        body.extend(token_bytes(&self.question));
        let began = clock::now();
        match look.encoder {
            Encoder::Edge => body.extend(image),
            Encoder::Device => {
                let visual = self.part.see(&self.encoder, image, look.merge)?;
                let mut coder = self.part.state_coder(look.coding)?;
                body.extend_from_slice(&self.part.encode(&mut coder, &visual)?);
            }
        }
        record.busy_ns = vec![clock::now().saturating_sub(began)];
        let id = record.number;
        let link = conductor.link()?;
        link.write((FrameKind::Look, id), output_tokens, &body)?;
        for _ in 0..output_tokens {
            let frame = link.read(&[FrameKind::Token], 4)?;
            let token = match frame.token_ids().as_deref() {
                Some([token]) if frame.header.request == id => *token,
                _ => return Err(link.wrong(&frame, "another token is expected")),
            };
            record.tokens.push(token);
            record.token_ns.push(offset(clock::now()));
        }
        books::close(link, record)
    }
}
