//! The node that has the backbone.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::wave::Wave;
use super::{Appraisal, FILES, MOST_JSON_BYTES, Order, Question, WHOLE, appraise};
use crate::clock;
use crate::engine::EngineError;
use crate::engine::adapters::{Adapters, LoadedAdapter, stored_parameters};
use crate::serve::connection::{Frame, PayloadCounter};
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::Signal;
use crate::serve::study::answering::{Answers, answer, ids};
use crate::serve::study::books::WayBack;
use crate::serve::study::door::{self, Refusal};
use crate::serve::study::models;
use crate::study::adapters::{PIECE_BYTES, Serving};
use crate::study::{StudyJobSpec, StudySpec};
use crate::wire::{FrameKind, HEADER_BYTES};

/// What a full model needs besides its weights: the backbone's.
const OF_BACKBONE: [&str; 2] = ["config.json", "tokenizer.json"];

/// Serves until the driver goes.
pub(in crate::serve::study) fn serve(
    spec: &StudyJobSpec,
    study: &StudySpec,
    listen: SocketAddr,
    (counter, signals): (&Arc<PayloadCounter>, &Sender<Signal>),
) -> Result<(), JobError> {
    let part = models::large(spec)?;
    let adapters = study.adapters.as_ref().ok_or_else(|| JobError::Spec {
        why: "no task has an adapter".to_owned(),
    })?;
    let storage = Storage::new(listen)?;
    let held = part.terms(part.layers())?;
    let loaded = (part.weight_bytes(), part.engine_path());
    let Some(front) = door::open(spec, listen, (loaded, held), (counter, signals))? else {
        return Ok(());
    };
    let served = answer(front, |way_back| Stage {
        tasks: u32::try_from(adapters.tasks.len()).unwrap_or(u32::MAX),
        held: Held {
            backbone: part,
            loaded: BTreeMap::new(),
            adapters: None,
            models: BTreeMap::new(),
        },
        spec,
        storage,
        way_back,
        came: BTreeMap::new(),
        wave: None,
    });
    counter.closed();
    served
}

/// A directory of this process's own for what comes over the link, which goes with it.
struct Storage(PathBuf);

fn write_error(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> JobError {
    let path = path.to_owned();
    move |source| JobError::Engine {
        doing: "keep what came for a task in",
        directory: path.clone(),
        source: EngineError::Write { path, source },
    }
}

impl Storage {
    fn new(listen: SocketAddr) -> Result<Storage, JobError> {
        let name = format!("hexloop-tasks-{}-{}", std::process::id(), listen.port());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(write_error(&path))?;
        Ok(Storage(path))
    }

    /// Where the files of a task are.
    fn of(&self, task: u32, whole: bool) -> PathBuf {
        let kind = if whole { "model" } else { "adapter" };
        self.0.join(format!("{kind}-{task}"))
    }

    fn append(&self, task: u32, place: u32, piece: &[u8]) -> Result<(), JobError> {
        let directory = self.of(task, place == WHOLE);
        std::fs::create_dir_all(&directory).map_err(write_error(&directory))?;
        let name = usize::try_from(place)
            .ok()
            .and_then(|place| FILES.get(place));
        let path = directory.join(name.copied().unwrap_or_default());
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file: File| file.write_all(piece))
            .map_err(write_error(&path))
    }

    fn clear(&self) -> Result<(), JobError> {
        std::fs::remove_dir_all(&self.0).map_err(write_error(&self.0))?;
        std::fs::create_dir(&self.0).map_err(write_error(&self.0))
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // Nothing can be done about what stays; the node's storage goes with the node.
        let _stays = std::fs::remove_dir_all(&self.0);
    }
}

/// What is in memory.
pub(super) struct Held {
    pub(super) backbone: Part,
    loaded: BTreeMap<u32, LoadedAdapter>,
    /// Those, in the order of their tasks.
    adapters: Option<Adapters>,
    models: BTreeMap<u32, Part>,
}

impl Held {
    /// All adapters, and the place of a task's among them.
    pub(super) fn adapter(&self, task: u32) -> Option<(&Adapters, u32)> {
        let place = self.loaded.keys().position(|held| *held == task)?;
        Some((self.adapters.as_ref()?, u32::try_from(place).ok()?))
    }

    /// The full model of a task.
    pub(super) fn model(&self, task: u32) -> Option<&Part> {
        self.models.get(&task)
    }

    /// Whether it can serve a task so.
    fn serves(&self, serving: Serving, task: u32) -> bool {
        match serving {
            Serving::Together | Serving::Switched => self.adapter(task).is_some(),
            Serving::Merged => self.model(task).is_some(),
        }
    }

    fn forget(&mut self) {
        self.loaded.clear();
        self.adapters = None;
        self.models.clear();
    }
}

struct Stage<'a> {
    spec: &'a StudyJobSpec,
    /// How many there are.
    tasks: u32,
    held: Held,
    storage: Storage,
    way_back: WayBack,
    /// Bytes that have come for a task since it was loaded last.
    came: BTreeMap<u32, u64>,
    wave: Option<Wave>,
}

fn frame_bytes(frame: &Frame) -> u64 {
    HEADER_BYTES + u64::from(frame.header.body_bytes)
}

impl Answers for Stage<'_> {
    fn accepts(&self, kind: FrameKind) -> Option<u64> {
        match kind {
            FrameKind::Weights => Some(PIECE_BYTES),
            FrameKind::Round | FrameKind::Appraise => Some(MOST_JSON_BYTES),
            FrameKind::Prompt => Some(4 * (1 + u64::from(self.held.backbone.max_positions()))),
            FrameKind::Echo | FrameKind::Load => Some(0),
            _ => None,
        }
    }

    fn take(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let of_task = matches!(frame.header.kind, FrameKind::Weights | FrameKind::Load);
        if of_task && id >= self.tasks {
            return Err(frame.content_error("there is no such task").into());
        }
        match frame.header.kind {
            FrameKind::Weights => {
                if frame.header.position > WHOLE {
                    return Err(frame.content_error("a task has no such file").into());
                }
                *self.came.entry(id).or_default() += frame_bytes(frame);
                Ok(self
                    .storage
                    .append(id, frame.header.position, &frame.body)?)
            }
            FrameKind::Load => self.load(frame),
            FrameKind::Round => self.order(frame),
            FrameKind::Prompt => self.prompt(frame),
            FrameKind::Appraise => self.appraise(frame),
            // Nothing else than an echo is let in.
            _ => Ok(self.way_back.send((FrameKind::Echo, id), 0, &[])?),
        }
    }
}

impl Stage<'_> {
    /// Loads what has come for a task.
    fn load(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let (task, whole) = (frame.header.request, frame.header.position == 1);
        let came = self.came.remove(&task).unwrap_or(0) + frame_bytes(frame);
        let directory = self.storage.of(task, whole);
        let began = clock::now();
        if whole {
            let loading = || {
                for name in OF_BACKBONE {
                    let (from, to) = (self.spec.model_directory.join(name), directory.join(name));
                    std::fs::copy(from, &to).map_err(write_error(&to))?;
                }
                models::received(self.spec, &directory)
            };
            let model = self.held.backbone.at_pace(loading)?;
            self.held.models.insert(task, model);
        } else {
            let Held {
                backbone, loaded, ..
            } = &mut self.held;
            let stacked = backbone.at_pace(|| {
                loaded.insert(task, backbone.load_adapter(&directory)?);
                backbone.stack_adapters(&loaded.values().collect::<Vec<_>>())
            });
            self.held.adapters = Some(stacked?);
        }
        let load_ns = clock::now().saturating_sub(began);
        let file = directory.join(if whole { FILES[2] } else { FILES[1] });
        let counted = stored_parameters(file).map_err(self.held.backbone.failed())?;
        let numbers = [load_ns, counted.0, counted.1, came];
        let body: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
        Ok(self.way_back.send((FrameKind::Load, task), 0, &body)?)
    }

    fn order(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let order = serde_json::from_slice(&frame.body);
        let order: Order =
            order.map_err(|error| frame.content_error(format!("it is no order: {error}")))?;
        match order {
            Order::Forget => {
                self.held.forget();
                self.came.clear();
                self.storage.clear()?;
            }
            Order::Wave {
                arm,
                requests,
                prompt_tokens,
                output_tokens,
            } => {
                let backbone = &self.held.backbone;
                backbone
                    .check_length(prompt_tokens, output_tokens)
                    .map_err(|why| frame.content_error(why))?;
                let positions = prompt_tokens + output_tokens;
                self.wave = Some(Wave::new(arm, requests, positions));
            }
        }
        Ok(self.way_back.send((FrameKind::Round, 0), 0, &[])?)
    }

    /// A request of a wave, which begins with the last of them.
    fn prompt(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let words = ids(frame)?;
        let Some((task, tokens)) = words.split_first() else {
            return Err(frame.content_error("it names no task").into());
        };
        let Some(wave) = &mut self.wave else {
            return Err(frame.content_error("no wave is expected").into());
        };
        if !self.held.serves(wave.arm().serving, *task) {
            let why = format!("nothing is held of task {task}");
            return Err(frame.content_error(why).into());
        }
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let backbone = &self.held.backbone;
        backbone.check_tokens(tokens).map_err(wrong)?;
        let (length, output) = (tokens.len(), frame.header.position);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        backbone.check_length(length, output).map_err(wrong)?;
        wave.add(frame.header.request, *task, (tokens.to_vec(), output))
            .map_err(wrong)?;
        wave.came(frame_bytes(frame));
        if wave.is_complete()
            && let Some(wave) = self.wave.take()
        {
            let books = wave.play(&self.held, &self.way_back)?;
            let body = serde_json::to_vec(&books).map_err(JobError::ParseSpec)?;
            self.way_back.send((FrameKind::Books, 0), 0, &body)?;
        }
        Ok(())
    }

    fn appraise(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let question = serde_json::from_slice(&frame.body);
        let question: Question =
            question.map_err(|error| frame.content_error(format!("it asks nothing: {error}")))?;
        let answer = match question {
            Question::Loss { adapter, text } => self.loss(adapter, &text, frame)?,
            Question::Alone {
                task,
                prompt,
                output_tokens,
                merged,
            } => self.alone((task, &prompt, output_tokens), merged, frame)?,
        };
        let body = serde_json::to_vec(&answer).map_err(JobError::ParseSpec)?;
        Ok(self.way_back.send((FrameKind::Appraise, 0), 0, &body)?)
    }

    fn loss(
        &self,
        adapter: Option<u32>,
        text: &[u32],
        frame: &Frame,
    ) -> Result<Appraisal, Refusal> {
        let backbone = &self.held.backbone;
        let adapter = match adapter {
            None => None,
            Some(task) => Some(self.adapter(task, frame)?),
        };
        let scores = backbone.scores_at_once(text, adapter)?;
        let micronats = appraise::micronats(text, &scores).ok_or_else(not_numbers)?;
        Ok(Appraisal::Loss { micronats })
    }

    fn adapter(&self, task: u32, frame: &Frame) -> Result<(&Adapters, u32), Refusal> {
        let held = self.held.adapter(task);
        let missing = || frame.content_error(format!("nothing is held of task {task}"));
        Ok(held.ok_or_else(missing)?)
    }

    fn alone(
        &self,
        (task, prompt, output_tokens): (u32, &[u32], u32),
        merged: bool,
        frame: &Frame,
    ) -> Result<Appraisal, Refusal> {
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let backbone = &self.held.backbone;
        backbone.check_tokens(prompt).map_err(wrong)?;
        let length = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        backbone
            .check_length(length, output_tokens)
            .map_err(wrong)?;
        let adapter = self.adapter(task, frame)?;
        let mut cache = backbone.new_cache();
        let (mut tokens, mut next) = (Vec::new(), prompt.to_vec());
        for _ in 0..output_tokens {
            let states = backbone.carry_adapted(&next, &mut cache, adapter)?;
            let token = backbone.next_token(&states)?;
            tokens.push(token);
            next = vec![token];
        }
        // Both models after the same text: where they differ once, what follows is still compared.
        let mut text = prompt.to_vec();
        text.extend(tokens.iter().take(tokens.len().saturating_sub(1)));
        let places = |scores: &[Vec<f32>]| {
            let answer = scores.iter().skip(prompt.len().saturating_sub(1));
            let best = answer.map(|scores| appraise::best(scores));
            best.collect::<Option<Vec<(u32, u64)>>>()
                .ok_or_else(not_numbers)
        };
        let own = places(&backbone.scores_at_once(&text, Some(adapter))?)?;
        let merged = match self.held.model(task).filter(|_| merged) {
            None => None,
            Some(model) => Some(places(&model.scores_at_once(&text, None)?)?),
        };
        Ok(Appraisal::Alone {
            tokens,
            gap_millionths: own.into_iter().map(|(_, gap)| gap).collect(),
            merged: merged.map(|all| all.into_iter().map(|(token, _)| token).collect()),
        })
    }
}

fn not_numbers() -> JobError {
    JobError::Spec {
        why: "the model's scores are not numbers".to_owned(),
    }
}
