//! The node that has the tasks: it sends what each adds to the backbone, and then their requests in waves.

use std::sync::mpsc::{Receiver, Sender};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::parcels::{Parcel, check_room};
use super::{Appraisal, LOADED_BYTES, MOST_JSON_BYTES, Order, Question, WHOLE, WaveBooks};
use crate::clock;
use crate::job::JobCommand;
use crate::serve::connection::{Frame, token_bytes};
use crate::serve::error::JobError;
use crate::serve::signal::Signal;
use crate::serve::study::conductor::{Conductor, Setting};
use crate::serve::study::link::{Link, Path};
use crate::serve::study::{grid, models};
use crate::study::adapters::{
    AdapterFinding, AdapterServing, AdaptersSpec, AloneRecord, PIECE_BYTES, Serving,
    TaskLossRecord, WaveRecord, WaveRequest, WeightsDelivery,
};
use crate::study::{Arm, StudyFinding, StudyJobSpec, StudySpec};
use crate::wire::{FrameKind, HEADER_BYTES};

/// How often each adapter is delivered at each setting. A full model is once, as it takes so much longer.
const COLD_STARTS: u32 = 3;

struct Driver<'a> {
    study: &'a StudySpec,
    adapters: &'a AdaptersSpec,
    arms: Vec<AdapterServing>,
    tasks: Vec<Parcel>,
    /// Whether an arm answers with full models.
    needs_whole: bool,
    seed: u64,
    conductor: Conductor<'a>,
    waves: u32,
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn word(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Plays a study to its end.
pub(in crate::serve::study) fn drive(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    // Nothing of the model is held here; its tokenizer reads the tasks' texts.
    let model = models::large_by_name(spec)?;
    let wrong = |why: String| JobError::Spec { why };
    study.check(model.all_layers()).map_err(wrong)?;
    model
        .check_length(study.prompt_tokens, study.output_tokens)
        .map_err(wrong)?;
    let adapters = study.adapters.as_ref();
    let adapters = adapters.ok_or_else(|| wrong("no task has an adapter".to_owned()))?;
    let arms: Vec<AdapterServing> = study
        .arms
        .iter()
        .filter_map(|arm| match arm {
            Arm::Adapters(serving) => Some(*serving),
            _ => None,
        })
        .collect();
    let needs_whole = arms.iter().any(|arm| arm.serving == Serving::Merged);
    if needs_whole {
        check_room(&spec.model_directory)?;
    }
    let mut tasks = Vec::new();
    for task in &adapters.tasks {
        let from = (spec.model_directory.as_path(), task.as_str());
        let parcel = Parcel::read(&model, from, (study, prompt_seeds))?;
        tasks.push(parcel);
    }
    let needed = model.terms(0..model.all_layers())?;
    let loaded = (0, model.engine_path());
    let needed = (&needed, study.timeout_ns);
    let Some(conductor) = Conductor::connect(path, needed, loaded, told)? else {
        return Ok(());
    };
    let mut driver = Driver {
        study,
        adapters,
        arms,
        tasks,
        needs_whole,
        seed: prompt_seeds.first().copied().unwrap_or_default(),
        conductor,
        waves: 0,
    };
    driver.run()?;
    driver.conductor.end();
    Ok(())
}

fn write_json(link: &mut Link, kind: FrameKind, content: &impl Serialize) -> Result<(), JobError> {
    let body = serde_json::to_vec(content).map_err(JobError::ParseSpec)?;
    link.write((kind, 0), 0, &body)
}

fn read_json<T: DeserializeOwned>(link: &Link, frame: &Frame) -> Result<T, JobError> {
    let read = serde_json::from_slice(&frame.body);
    read.map_err(|error| link.wrong(frame, &format!("it is not understood: {error}")))
}

impl Driver<'_> {
    fn run(&mut self) -> Result<(), JobError> {
        for round_trip_ns in self.study.grid.round_trips_ns.clone() {
            let echo = self.conductor.echo(round_trip_ns)?;
            let row = grid::row(&self.study.grid, round_trip_ns, echo, None);
            let rates_bps = row.rates_bps.clone();
            self.conductor.find(StudyFinding::Row(row));
            for rate_bps in rates_bps {
                let setting = Setting {
                    round_trip_ns,
                    rate_bps,
                };
                self.conductor.set_links(setting)?;
                self.deliver_all(setting)?;
                for repetition in 0..self.adapters.repetitions {
                    for arm in self.arms.clone() {
                        self.wave(arm, setting, repetition)?;
                    }
                }
            }
        }
        self.answer_alone()?;
        self.score()
    }

    fn find(&self, finding: AdapterFinding) {
        self.conductor.find(StudyFinding::Adapters(finding));
    }

    fn forget(&mut self) -> Result<(), JobError> {
        let link = self.conductor.link()?;
        write_json(link, FrameKind::Round, &Order::Forget)?;
        link.read(&[FrameKind::Round], 0).map(drop)
    }

    /// Every task from nothing, a few times; everything is held afterwards.
    fn deliver_all(&mut self, setting: Setting) -> Result<(), JobError> {
        for _ in 0..COLD_STARTS {
            self.forget()?;
            for task in 0..self.tasks.len() {
                self.deliver(task, false, setting)?;
            }
        }
        if self.needs_whole {
            for task in 0..self.tasks.len() {
                self.deliver(task, true, setting)?;
            }
        }
        Ok(())
    }

    fn deliver(&mut self, task: usize, whole: bool, setting: Setting) -> Result<(), JobError> {
        let offset = self.conductor.offset();
        let Some(parcel) = self.tasks.get(task) else {
            return Ok(());
        };
        // Made before the clock runs, and gone with its delivery.
        let model = whole.then(|| parcel.whole()).transpose()?;
        let files: Vec<(u32, &[u8])> = match &model {
            Some(model) => vec![(WHOLE, model.as_slice())],
            None => parcel
                .adapter
                .iter()
                .map(|(place, file)| (*place, file.as_slice()))
                .collect(),
        };
        let id = word(task);
        let formula_parameters = match whole {
            true => parcel.whole_parameters,
            false => parcel.adapter_parameters,
        };
        let link = self.conductor.link()?;
        let started_ns = offset(clock::now());
        let (mut frames, mut file_bytes) = (1, 0);
        let piece_bytes = usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX);
        for (place, file) in files {
            for piece in file.chunks(piece_bytes) {
                link.write((FrameKind::Weights, id), place, piece)?;
                frames += 1;
                file_bytes += u64::try_from(piece.len()).unwrap_or(0);
            }
        }
        link.write((FrameKind::Load, id), u32::from(whole), &[])?;
        let frame = link.read(&[FrameKind::Load], LOADED_BYTES)?;
        let ended_ns = offset(clock::now());
        let (numbers, _) = frame.body.as_chunks::<8>();
        let numbers: Vec<u64> = numbers.iter().map(|it| u64::from_le_bytes(*it)).collect();
        let [load_ns, parameters, parameter_bytes, up] = *numbers.as_slice() else {
            return Err(link.wrong(&frame, "it says not what was loaded"));
        };
        self.find(AdapterFinding::Delivery(WeightsDelivery {
            task: id,
            whole,
            round_trip_ns: setting.round_trip_ns,
            rate_bps: setting.rate_bps,
            parameters,
            formula_parameters,
            parameter_bytes,
            file_bytes,
            frames,
            up,
            started_ns,
            ended_ns,
            load_ns,
        }));
        Ok(())
    }

    fn wave(
        &mut self,
        arm: AdapterServing,
        setting: Setting,
        repetition: u32,
    ) -> Result<(), JobError> {
        let output = self.study.output_tokens;
        let wave = self
            .adapters
            .requests(self.seed, repetition, self.study.prompts);
        let offset = self.conductor.offset();
        let order = Order::Wave {
            arm,
            requests: word(wave.len()),
            prompt_tokens: self.study.prompt_tokens,
            output_tokens: output,
        };
        let link = self.conductor.link()?;
        write_json(link, FrameKind::Round, &order)?;
        link.read(&[FrameKind::Round], 0)?;
        let from_ns = offset(clock::now());
        let mut requests = Vec::new();
        for (id, (task, prompt)) in (0..).zip(wave) {
            let parcel = self.tasks.get(size(task));
            let prompts = parcel.map_or(&[][..], |parcel| parcel.prompts.as_slice());
            let tokens = prompts.get(size(prompt)).map_or(&[][..], Vec::as_slice);
            let mut body = token_bytes(&[task]);
            body.extend(token_bytes(tokens));
            link.take_counts();
            let sent_ns = offset(clock::now());
            link.write((FrameKind::Prompt, id), output, &body)?;
            requests.push(WaveRequest {
                task,
                prompt,
                sent_ns,
                token_ns: Vec::new(),
                tokens: Vec::new(),
                up: link.take_counts().0,
                down: 0,
            });
        }
        for _ in 0..u64::from(output) * u64::try_from(requests.len()).unwrap_or(0) {
            let frame = link.read(&[FrameKind::Token], 4)?;
            let at = offset(clock::now());
            let request = requests.get_mut(size(frame.header.request));
            let place = frame.header.position;
            let request = request.filter(|it| word(it.tokens.len()) == place && place < output);
            match (request, frame.token_ids().as_deref()) {
                (Some(request), Some([token])) => {
                    request.tokens.push(*token);
                    request.token_ns.push(at);
                    request.down += HEADER_BYTES + u64::from(frame.header.body_bytes);
                }
                _ => return Err(link.wrong(&frame, "another token is expected")),
            }
        }
        let until_ns = offset(clock::now());
        let frame = link.read(&[FrameKind::Books], MOST_JSON_BYTES)?;
        let books: WaveBooks = read_json(link, &frame)?;
        let number = self.waves;
        self.waves += 1;
        self.find(AdapterFinding::Wave(WaveRecord {
            number,
            arm,
            round_trip_ns: setting.round_trip_ns,
            rate_bps: setting.rate_bps,
            repetition,
            from_ns,
            until_ns,
            requests,
            passes: books.passes,
            sequences: books.sequences,
            switches: books.switches,
            up: books.up,
            down: books.down,
        }));
        Ok(())
    }

    fn ask(&mut self, question: &Question) -> Result<Appraisal, JobError> {
        let link = self.conductor.link()?;
        write_json(link, FrameKind::Appraise, question)?;
        let frame = link.read(&[FrameKind::Appraise], MOST_JSON_BYTES)?;
        read_json(link, &frame)
    }

    /// Every prompt of every task by itself.
    fn answer_alone(&mut self) -> Result<(), JobError> {
        for (task, index) in (0..).zip(0..self.tasks.len()) {
            let Some(parcel) = self.tasks.get(index) else {
                continue;
            };
            for (prompt, tokens) in (0..).zip(parcel.prompts.clone()) {
                let question = Question::Alone {
                    task,
                    prompt: tokens,
                    output_tokens: self.study.output_tokens,
                    merged: self.needs_whole,
                };
                if let Appraisal::Alone {
                    tokens,
                    gap_millionths,
                    merged,
                } = self.ask(&question)?
                {
                    self.find(AdapterFinding::Alone(AloneRecord {
                        task,
                        prompt,
                        tokens,
                        gap_millionths,
                        merged,
                    }));
                }
            }
        }
        Ok(())
    }

    /// Every task's text with every adapter, and with none.
    fn score(&mut self) -> Result<(), JobError> {
        let count = word(self.tasks.len());
        for text in 0..count {
            let parcel = self.tasks.get(size(text));
            let texts = parcel.map_or_else(Vec::new, |parcel| parcel.texts.clone());
            if texts.is_empty() {
                continue;
            }
            let adapters = std::iter::once(None).chain((0..count).map(Some));
            for adapter in adapters {
                let mut record = TaskLossRecord {
                    text,
                    adapter,
                    tokens: Vec::new(),
                    micronats: Vec::new(),
                };
                // One at a time: together they may be longer than a frame.
                for paragraph in &texts {
                    let question = Question::Loss {
                        adapter,
                        text: paragraph.clone(),
                    };
                    if let Appraisal::Loss { micronats } = self.ask(&question)? {
                        record.tokens.push(word(paragraph.len()).saturating_sub(1));
                        record.micronats.push(micronats);
                    }
                }
                self.find(AdapterFinding::Loss(record));
            }
        }
        Ok(())
    }
}
