//! The part of the model that one process of a job holds.

mod adapted;
mod halves;
mod limits;
mod pooled;
mod stored;

pub(super) use self::halves::{HalfRequest, Step};
pub(super) use self::limits::FrameLimits;

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::connection::{Body, Terms, fingerprint};
use super::error::JobError;
use super::pace::Pace;
use crate::coding::Coding;
use crate::device::ComputeSettings;
use crate::engine::exit::{Choice, Exit};
use crate::engine::gguf::BlockType;
use crate::engine::images::{QUESTION, Scene};
use crate::engine::inversion::Embeddings;
use crate::engine::text::{self, TextTokenizer};
use crate::engine::vision::VisionEncoder;
use crate::engine::{
    self, Compute, EngineError, Half, Hidden, KeyValueCache, Model, Parts, Slots, StateBytes,
    StateCoder,
};
use crate::job::{JobSpec, Placement};
use crate::model_config::ModelConfig;
use crate::recipe::VISION_DIRECTORY;
use crate::study::placement::Weights;
use crate::study::speculative::sampling::Distribution;

/// A part of the model, perhaps none of its layers, with the tokenizer.
#[derive(Debug)]
pub(super) struct Part {
    model: Model,
    compute: Compute,
    tokenizer: TextTokenizer,
    directory: PathBuf,
    pace: Pace,
}

/// Where a part comes from, and how fast it computes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) directory: &'a Path,
    pub(super) threads: u32,
    pub(super) compute: ComputeSettings,
    pub(super) slowdown: Option<u32>,
    /// How the matrices are kept.
    pub(super) weights: Weights,
    /// Which half of every layer, where it is not all of some.
    pub(super) half: Option<Half>,
}

/// Tokens of the prompt that is read before there is any request.
const WARM_PROMPT: u32 = 16;

const NOTHING: Parts = Parts {
    embedding: false,
    head: false,
};
const EVERYTHING: Parts = Parts {
    embedding: true,
    head: true,
};

impl Part {
    /// Loads what the device holds.
    pub(super) fn load_device(spec: &JobSpec) -> Result<Part, JobError> {
        Part::load(spec, |layers| match spec.placement {
            Placement::Device => (0..layers, EVERYTHING),
            Placement::Edge => (0..0, NOTHING),
            Placement::Split { layers_on_device } => (
                0..layers_on_device,
                Parts {
                    embedding: true,
                    head: false,
                },
            ),
        })
    }

    /// Loads what the edge holds.
    pub(super) fn load_edge(spec: &JobSpec) -> Result<Part, JobError> {
        Part::load(spec, |layers| match spec.placement {
            Placement::Device => (0..0, NOTHING),
            Placement::Edge => (0..layers, EVERYTHING),
            Placement::Split { layers_on_device } => (
                layers_on_device..layers,
                Parts {
                    embedding: false,
                    head: true,
                },
            ),
        })
    }

    fn load(
        spec: &JobSpec,
        choose: impl FnOnce(u32) -> (Range<u32>, Parts),
    ) -> Result<Part, JobError> {
        let source = Source {
            directory: &spec.model_directory,
            threads: spec.threads,
            compute: spec.compute,
            slowdown: spec.slowdown,
            weights: Weights::Full,
            half: None,
        };
        Part::open(source, |layers| {
            if let Placement::Split {
                layers_on_device: cut,
            } = spec.placement
                && !(1..layers).contains(&cut)
            {
                return Err(format!(
                    "a model of {layers} layers cannot be split after layer {cut}; choose 1 to {}",
                    layers.saturating_sub(1)
                ));
            }
            Ok(choose(layers))
        })
    }

    /// Loads what `choose` wants of a model with so many layers; it may refuse in words.
    pub(super) fn open(
        source: Source<'_>,
        choose: impl FnOnce(u32) -> Result<(Range<u32>, Parts), String>,
    ) -> Result<Part, JobError> {
        let directory = source.directory.to_owned();
        let failed = failed("load", &directory);
        engine::set_threads(source.threads).map_err(failed)?;
        let layers = Model::load(&directory, 0..0, NOTHING)
            .map_err(failed)?
            .config()
            .layers;
        let (range, parts) = choose(layers).map_err(|why| JobError::Spec { why })?;
        let ComputeSettings { device, precision } = source.compute;
        let compute = Compute::open(device, precision).map_err(failed)?;
        let blocks = match source.weights {
            Weights::Full => None,
            Weights::Q8_0 => Some(BlockType::Q8_0),
            Weights::Q6K => Some(BlockType::Q6K),
            Weights::Q4K => Some(BlockType::Q4K),
        };
        let model = match source.half {
            None => Model::load_in_blocks(&directory, range, parts, (&compute, blocks)),
            Some(half) => Model::load_half(&directory, half, parts, &compute),
        };
        let model = model.map_err(failed)?;
        let tokenizer = TextTokenizer::load(&directory).map_err(failed)?;
        let part = Part {
            model,
            compute,
            tokenizer,
            directory,
            pace: Pace::new(source.slowdown),
        };
        part.warm_up(parts)
            .map_err(self::failed("warm up", &part.directory))?;
        Ok(part)
    }

    /// Reads a prompt and makes a token, so that no request pays for what is done once: weights that
    /// come from the disk when they are first needed, and a GPU's code, which its driver compiles for
    /// up to a minute.
    fn warm_up(&self, parts: Parts) -> Result<(), EngineError> {
        let most = self.max_positions();
        let mut cache = self.new_cache();
        for tokens in [WARM_PROMPT.min(most.saturating_sub(1)), 1] {
            let position = cache.positions();
            if tokens == 0 || position + tokens > most {
                continue;
            }
            let count = usize::try_from(tokens).unwrap_or(usize::MAX);
            let mut states = match parts.embedding {
                true => self.model.embed(&vec![0; count])?,
                false => Hidden::zeros(tokens, self.width())?,
            };
            if self.model.half().is_ok() {
                states = self.pass_alone(&states, &mut cache)?;
            } else if !self.layers().is_empty() {
                states = self.forward(self.layers(), &states, position, &mut cache)?;
            }
            if parts.head {
                self.model.next_token(&states)?;
            }
        }
        self.compute.wait()
    }

    /// What is said of this model in a handshake, with the layers that are needed or held.
    pub(super) fn terms(&self, layers: Range<u32>) -> Result<Terms, JobError> {
        let (model, second) = (self.fingerprint()?, None);
        Ok(Terms {
            model,
            layers,
            second,
        })
    }

    /// What tells this model from others.
    pub(super) fn fingerprint(&self) -> Result<[u8; 32], JobError> {
        fingerprint_of(&self.directory)
    }

    /// What tells the vision encoder beside this model from others.
    pub(super) fn vision_fingerprint(&self) -> Result<[u8; 32], JobError> {
        fingerprint_of(&self.directory.join(VISION_DIRECTORY))
    }

    /// Tokens of the vocabulary.
    pub(super) const fn vocabulary(&self) -> u32 {
        self.config().vocabulary
    }

    /// Layers of the whole model.
    pub(super) const fn all_layers(&self) -> u32 {
        self.config().layers
    }

    /// Layers that this part holds.
    pub(super) fn layers(&self) -> Range<u32> {
        self.model.layers()
    }

    /// Width of a hidden state.
    pub(super) const fn width(&self) -> u32 {
        self.config().width
    }

    /// Longest sequence, in tokens.
    pub(super) const fn max_positions(&self) -> u32 {
        self.config().max_positions
    }

    const fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    pub(super) fn failed(&self) -> impl Fn(EngineError) -> JobError + Copy {
        failed("run", &self.directory)
    }

    pub(super) const fn weight_bytes(&self) -> u64 {
        self.model.weight_bytes()
    }

    /// The library and the kernels that compute, and how blocks of few bits are kept where that is not as blocks.
    pub(super) fn engine_path(&self) -> String {
        engine::path_of(&self.model)
    }

    /// How they are kept, where that is not as blocks.
    pub(super) fn kept(&self) -> Option<&str> {
        self.model.kept()
    }

    /// The prompt that a seed stands for.
    pub(super) fn prompt(&self, seed: u64, tokens: u32) -> Result<Vec<u32>, JobError> {
        text::prompt(&self.tokenizer, seed, tokens).map_err(self.failed())
    }

    /// Text without any chat template around it.
    pub(super) fn passage(&self, seed: u64, tokens: u32) -> Result<Vec<u32>, JobError> {
        text::passage(&self.tokenizer, seed, tokens).map_err(self.failed())
    }

    /// The prompts that some seeds stand for.
    pub(super) fn prompts(&self, seeds: &[u64], tokens: u32) -> Result<Vec<Vec<u32>>, JobError> {
        seeds
            .iter()
            .map(|seed| self.prompt(*seed, tokens))
            .collect()
    }

    /// Whether the model has room for a prompt and its answer, the last token of which is not
    /// fed back; in words if not.
    pub(super) fn check_length(&self, prompt: u32, output: u32) -> Result<(), String> {
        if prompt == 0 || output == 0 {
            return Err("a request needs at least one token in and one out".to_owned());
        }
        let positions = u64::from(prompt) + u64::from(output) - 1;
        let most = self.config().max_positions;
        if positions > u64::from(most) {
            return Err(format!(
                "{positions} positions, and the model was made for {most}"
            ));
        }
        Ok(())
    }

    /// Whether all tokens are in the vocabulary; in words if not.
    pub(super) fn check_tokens(&self, tokens: &[u32]) -> Result<(), String> {
        let vocabulary = self.config().vocabulary;
        match tokens.iter().find(|token| **token >= vocabulary) {
            Some(token) => Err(format!(
                "token {token} is outside the vocabulary of {vocabulary}"
            )),
            None => Ok(()),
        }
    }

    /// An empty cache for one request.
    pub(super) fn new_cache(&self) -> KeyValueCache {
        self.model.new_cache()
    }

    /// The same for some of its layers alone.
    pub(super) fn new_cache_of(&self, layers: Range<u32>) -> KeyValueCache {
        self.model.new_cache_of(layers)
    }

    /// Carries tokens through this part, which starts with the embedding.
    pub(super) fn carry_tokens(
        &self,
        tokens: &[u32],
        cache: &mut KeyValueCache,
    ) -> Result<Hidden, JobError> {
        self.carry_tokens_through(self.layers(), tokens, cache)
    }

    /// The same through some of its layers alone.
    pub(super) fn carry_tokens_through(
        &self,
        layers: Range<u32>,
        tokens: &[u32],
        cache: &mut KeyValueCache,
    ) -> Result<Hidden, JobError> {
        let carried = self.pace.run(|| {
            let states = self.model.embed(tokens)?;
            let position = cache.positions();
            self.forward(layers, &states, position, cache)
        });
        carried.map_err(self.failed())
    }

    /// Carries hidden states through this part.
    pub(super) fn carry_hidden(
        &self,
        states: &Hidden,
        cache: &mut KeyValueCache,
    ) -> Result<Hidden, JobError> {
        self.carry_hidden_through(self.layers(), states, cache)
    }

    /// The same through some of its layers alone.
    pub(super) fn carry_hidden_through(
        &self,
        layers: Range<u32>,
        states: &Hidden,
        cache: &mut KeyValueCache,
    ) -> Result<Hidden, JobError> {
        let position = cache.positions();
        let carry = || self.forward(layers, states, position, cache);
        self.pace.run(carry).map_err(self.failed())
    }

    /// Places for so many sequences in one pass.
    pub(super) fn new_slots(&self, slots: u32, positions: u32) -> Result<Slots, JobError> {
        let made = self.model.new_slots(slots, positions);
        made.map_err(self.failed())
    }

    /// Gives a sequence that was read a place.
    pub(super) fn fill_slot(
        &self,
        slots: &mut Slots,
        cache: &KeyValueCache,
    ) -> Result<(), JobError> {
        slots.fill(cache).map(drop).map_err(self.failed())
    }

    /// Takes it away again; the last sequence takes it over.
    pub(super) fn empty_slot(&self, slots: &mut Slots, slot: u32) -> Result<(), JobError> {
        slots.empty(slot).map_err(self.failed())
    }

    /// One token of every sequence through the whole model, and the tokens that follow, each with whether another is
    /// as good within what sums may be off.
    pub(super) fn carry_slots(
        &self,
        tokens: &[u32],
        slots: &mut Slots,
    ) -> Result<Vec<(u32, bool)>, JobError> {
        let carried = self.pace.run(|| {
            let states = self.model.embed(tokens)?;
            let states = self.model.forward_slots(&states, slots)?;
            self.compute.wait()?;
            self.model.next_tokens_or_ties(&states)
        });
        carried.map_err(self.failed())
    }

    /// The layers' work, done when this returns: a GPU is told what to do and does it later.
    fn forward(
        &self,
        layers: Range<u32>,
        states: &Hidden,
        position: u32,
        cache: &mut KeyValueCache,
    ) -> Result<Hidden, EngineError> {
        let carried = self.model.forward_layers(layers, states, position, cache)?;
        self.compute.wait()?;
        Ok(carried)
    }

    /// The token that follows, in this part, which ends with the head.
    pub(super) fn next_token(&self, states: &Hidden) -> Result<u32, JobError> {
        let next = || self.model.next_token(states);
        self.pace.run(next).map_err(self.failed())
    }

    /// The same, and whether another token is about as good: another device may say that one. Of those that a GPU
    /// chooses that is not known, and none is told to be such a one.
    pub(super) fn next_token_and_tie(&self, states: &Hidden) -> Result<(u32, bool), JobError> {
        let next = || {
            let next = self.model.next_tokens_or_ties(&states.last()?)?;
            next.first().copied().ok_or(EngineError::NoTokens)
        };
        self.pace.run(next).map_err(self.failed())
    }

    /// The most probable token after each of some states, likewise.
    pub(super) fn next_tokens(&self, states: &Hidden) -> Result<Vec<u32>, JobError> {
        let next = || self.model.next_tokens(states);
        self.pace.run(next).map_err(self.failed())
    }

    /// How probable each token is after each of some states, at temperature 1, likewise.
    pub(super) fn distributions(&self, states: &Hidden) -> Result<Vec<Distribution>, JobError> {
        let scored = || self.model.logits(states);
        let scores = self.pace.run(scored).map_err(self.failed())?;
        let all = scores.iter().map(|scores| Distribution::of_scores(scores));
        all.collect::<Option<_>>().ok_or_else(|| {
            self.failed()(EngineError::NotNumbers {
                precision: self.compute.precision(),
            })
        })
    }

    /// Hidden states as they go on the link where no coding is asked for.
    pub(super) fn bytes_of<'a>(&self, states: &'a Hidden) -> Result<StateBytes<'a>, JobError> {
        states.le_bytes().map_err(self.failed())
    }

    /// For the states of one request in one direction.
    pub(super) fn state_coder(&self, coding: Coding) -> Result<StateCoder, JobError> {
        StateCoder::new(coding, self.config().width).map_err(self.failed())
    }

    /// Hidden states as they go on the link.
    pub(super) fn encode<'a>(
        &self,
        coder: &mut StateCoder,
        states: &'a Hidden,
    ) -> Result<StateBytes<'a>, JobError> {
        let encode = || coder.encode(states);
        self.pace.run(encode).map_err(self.failed())
    }

    /// Coded states as they came over the link; what is wrong with them in words.
    pub(super) fn decode(&self, coder: &mut StateCoder, bytes: &[u8]) -> Result<Hidden, String> {
        let decode = || coder.decode(bytes);
        self.pace.run(decode).map_err(|error| error.to_string())
    }

    /// The same of a whole body: the memory of exact states becomes theirs.
    pub(super) fn decode_body(&self, coder: &mut StateCoder, body: Body) -> Result<Hidden, String> {
        match coder.is_exact() {
            true => self.pace.run(|| self.read_hidden(body)),
            false => self.decode(coder, &body),
        }
    }

    /// The embeddings of all tokens.
    pub(super) fn embeddings(&self) -> Result<Embeddings, JobError> {
        Embeddings::of(&self.model).map_err(self.failed())
    }

    /// The exit after a layer of this part.
    pub(super) fn exit(&self, layer: u32) -> Result<Exit, JobError> {
        Exit::load(&self.directory, &self.model, layer).map_err(failed("load", &self.directory))
    }

    /// The vision encoder of this part's model.
    pub(super) fn vision_encoder(&self) -> Result<VisionEncoder, JobError> {
        let encoder = VisionEncoder::load(&self.directory, &self.model);
        encoder.map_err(failed("load", &self.directory))
    }

    /// What is asked about every image.
    pub(super) fn question(&self) -> Result<Vec<u32>, JobError> {
        self.tokenizer.encode(QUESTION).map_err(self.failed())
    }

    /// The token that names what an image shows.
    pub(super) fn answer_of(&self, scene: &Scene) -> Result<u32, JobError> {
        scene.answer(&self.tokenizer).map_err(self.failed())
    }

    /// The visual tokens of an image.
    pub(super) fn see(
        &self,
        encoder: &VisionEncoder,
        image: &[u8],
        merge: u32,
    ) -> Result<Hidden, JobError> {
        let see = || encoder.encode(image, merge);
        self.pace.run(see).map_err(self.failed())
    }

    /// Carries visual tokens and what is asked about them through this part.
    pub(super) fn carry_seen(
        &self,
        (visual, question): (&Hidden, &[u32]),
        cache: &mut KeyValueCache,
    ) -> Result<Hidden, JobError> {
        let carried = self.pace.run(|| {
            let states = visual.followed_by(&self.model.embed(question)?)?;
            let position = cache.positions();
            self.forward(self.layers(), &states, position, cache)
        });
        carried.map_err(self.failed())
    }

    /// What an exit says after the last of some states that have passed through its layer.
    pub(super) fn choose_at(&self, exit: &Exit, states: &Hidden) -> Result<Choice, JobError> {
        let choose = || self.model.choose_at(exit, states);
        self.pace.run(choose).map_err(self.failed())
    }

    /// The token that follows and how sure the head of this part is of it.
    pub(super) fn choose(&self, states: &Hidden) -> Result<Choice, JobError> {
        let choose = || self.model.choose(states);
        self.pace.run(choose).map_err(self.failed())
    }

    /// Hidden states as they came over the link, which keep the body's memory; what is wrong with them in words.
    pub(super) fn read_hidden(&self, body: Body) -> Result<Hidden, String> {
        let (bytes, width) = (body.len(), self.config().width);
        let values = body.into_values();
        let values = values.ok_or(EngineError::HiddenBytes { bytes, width });
        values
            .and_then(|values| Hidden::from_values(values, width))
            .map_err(|error| error.to_string())
    }

    /// Hidden states of these values, token after token.
    pub(super) fn hidden_of(&self, values: Vec<f32>) -> Result<Hidden, JobError> {
        Hidden::from_values(values, self.config().width).map_err(self.failed())
    }
}

fn fingerprint_of(directory: &Path) -> Result<[u8; 32], JobError> {
    fingerprint(directory).map_err(|source| JobError::Fingerprint {
        directory: directory.to_owned(),
        source,
    })
}

fn failed(doing: &'static str, directory: &Path) -> impl Fn(EngineError) -> JobError + Copy {
    move |source| JobError::Engine {
        doing,
        directory: directory.to_owned(),
        source,
    }
}
