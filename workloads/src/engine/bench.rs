//! How fast a model computes here: the process that computes, told by one that meters it.
//!
//! It reads one [`BenchSpec`] as a line of JSON, and writes [`BenchEvent`] lines. All times are on
//! `CLOCK_MONOTONIC`, so that whoever meters the machine meanwhile knows what each joule was for.

mod ceilings;

use std::io::{BufRead, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    Compute, ComputeDevice, EngineError, Model, Parts, Precision, Slots, path_of, set_threads,
};
use crate::clock::{self, MonotonicNs};
use crate::engine::text::{self, TextTokenizer};

pub use ceilings::{Ceilings, Rate};

/// What is to be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchSpec {
    /// The model.
    pub model_directory: PathBuf,
    /// Where it computes.
    pub device: ComputeDevice,
    /// In which numbers.
    pub precision: Precision,
    /// Threads of the engine.
    pub threads: u32,
    /// Tokens of each sequence's prompt.
    pub prompt_tokens: u32,
    /// Tokens that are made of each sequence before it begins again after its prompt.
    pub output_tokens: u32,
    /// Numbers of sequences that are answered side by side.
    pub batches: Vec<u32>,
    /// Every window is at least so long.
    pub window_ns: u64,
    /// Whether what bounds decoding is measured as well.
    #[serde(default)]
    pub ceilings: bool,
}

/// What the model did meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BenchPhase {
    /// Nothing, with the model loaded.
    Idle,
    /// Reading one prompt after another.
    Prefill,
    /// Making the next token of every sequence.
    Decode,
}

/// A stretch of time in which the model did one thing over and over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchWindow {
    /// What it did.
    pub phase: BenchPhase,
    /// Sequences side by side.
    pub batch: u32,
    /// From when.
    pub start_ns: MonotonicNs,
    /// To when, everything that was begun being done.
    pub end_ns: MonotonicNs,
    /// Passes through the model.
    pub passes: u64,
    /// Tokens that went in (prefill) or came out (decode).
    pub tokens: u64,
    /// Memory of the keys and values.
    pub cache_bytes: u64,
    /// Positions whose keys and values the passes of decoding read, of all sequences; 0 of other phases.
    #[serde(default)]
    pub positions: u64,
}

/// What the process that computes tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BenchEvent {
    /// The model is loaded.
    Ready {
        /// How long that took.
        load_ns: u64,
        /// Memory of the weights.
        weight_bytes: u64,
        /// Library, device and kernels.
        engine_path: String,
    },
    /// A window is over.
    Window(BenchWindow),
    /// What bounds decoding here.
    Ceilings(Ceilings),
    /// The device has no room for so many sequences: further ones are left out.
    NoRoom {
        /// Sequences side by side.
        batch: u32,
        /// What the device said.
        reason: String,
    },
    /// It cannot be measured.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Measures what `input` asks for and tells `output`.
///
/// # Errors
/// Anything that keeps it from measuring; it has been told as [`BenchEvent::Failed`] too.
pub fn run_bench(input: impl BufRead, mut output: impl Write) -> Result<(), EngineError> {
    let measured = measure(input, &mut output);
    if let Err(error) = &measured {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        // Where nobody listens any more there is nobody to tell.
        let _ = tell(&mut output, &BenchEvent::Failed { reason });
    }
    measured
}

fn tell(output: &mut impl Write, event: &BenchEvent) -> Result<(), EngineError> {
    let write = |source| EngineError::Write {
        path: "the bench's output".into(),
        source,
    };
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    output.write_all(&line).map_err(write)?;
    output.flush().map_err(write)
}

fn measure(mut input: impl BufRead, output: &mut impl Write) -> Result<(), EngineError> {
    let unusable = |reason: String| EngineError::Unsuitable {
        path: "the bench's input".into(),
        reason,
    };
    let mut line = String::new();
    let read = input.read_line(&mut line);
    read.map_err(|error| unusable(error.to_string()))?;
    let spec: BenchSpec =
        serde_json::from_str(&line).map_err(|error| unusable(error.to_string()))?;
    set_threads(spec.threads)?;
    let began = clock::now();
    let compute = Compute::open(spec.device, spec.precision)?;
    let layers = super::verify(&spec.model_directory)?.layers;
    let whole = Parts {
        embedding: true,
        head: true,
    };
    let model = Model::load_on(&spec.model_directory, 0..layers, whole, &compute)?;
    let tokenizer = TextTokenizer::load(&spec.model_directory)?;
    compute.wait()?;
    tell(
        output,
        &BenchEvent::Ready {
            load_ns: clock::now() - began,
            weight_bytes: model.weight_bytes(),
            engine_path: path_of(&model),
        },
    )?;
    let prompt = text::passage(&tokenizer, 1, spec.prompt_tokens)?;
    let bench = Bench {
        model,
        prompt,
        spec,
    };
    let start_ns = clock::now();
    clock::sleep_until(start_ns + bench.spec.window_ns);
    tell(
        output,
        &BenchEvent::Window(BenchWindow {
            phase: BenchPhase::Idle,
            batch: 0,
            start_ns,
            end_ns: clock::now(),
            passes: 0,
            tokens: 0,
            cache_bytes: 0,
            positions: 0,
        }),
    )?;
    tell(output, &BenchEvent::Window(bench.prefill()?))?;
    if bench.spec.ceilings {
        let (compute, work) = (bench.model.compute(), bench.model.pass_work());
        let ceilings = ceilings::measure(compute, work, bench.spec.window_ns);
        tell(output, &BenchEvent::Ceilings(ceilings))?;
    }
    for batch in &bench.spec.batches {
        match bench.decode(*batch)? {
            Ok(window) => tell(output, &BenchEvent::Window(window))?,
            Err(reason) => {
                let batch = *batch;
                tell(output, &BenchEvent::NoRoom { batch, reason })?;
                break;
            }
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Bench {
    model: Model,
    prompt: Vec<u32>,
    spec: BenchSpec,
}

impl Bench {
    /// Does something over and over, once beforehand, for as long as a window lasts; each time it tells how many
    /// positions it read.
    fn window(
        &self,
        phase: BenchPhase,
        batch: u32,
        mut pass: impl FnMut() -> Result<u64, EngineError>,
    ) -> Result<BenchWindow, EngineError> {
        pass()?;
        self.model.compute().wait()?;
        let start_ns = clock::now();
        let (mut passes, mut positions) = (0, 0);
        while clock::now() - start_ns < self.spec.window_ns {
            positions += pass()?;
            passes += 1;
        }
        self.model.compute().wait()?;
        Ok(BenchWindow {
            phase,
            batch,
            start_ns,
            end_ns: clock::now(),
            passes,
            tokens: 0,
            cache_bytes: 0,
            positions,
        })
    }

    fn prefill(&self) -> Result<BenchWindow, EngineError> {
        let mut cache_bytes = 0;
        let window = self.window(BenchPhase::Prefill, 1, || {
            let mut cache = self.model.new_cache();
            let hidden = self.model.embed(&self.prompt)?;
            let hidden = self.model.forward(&hidden, 0, &mut cache)?;
            // The first token of the answer: nothing is over before it is known.
            self.model.next_token(&hidden)?;
            cache_bytes = cache.bytes();
            Ok(0)
        })?;
        let tokens = window.passes * u64::from(self.spec.prompt_tokens);
        Ok(BenchWindow {
            tokens,
            cache_bytes,
            ..window
        })
    }

    /// The inner error: the device has no room for so many.
    fn decode(&self, batch: u32) -> Result<Result<BenchWindow, String>, EngineError> {
        let prompt_tokens = self.spec.prompt_tokens;
        let room = prompt_tokens.saturating_add(self.spec.output_tokens);
        let slots = self.model.new_slots(batch, room);
        let mut slots: Slots = match slots {
            Ok(slots) => slots,
            Err(EngineError::Tensor { source, .. }) => return Ok(Err(source.to_string())),
            Err(error) => return Err(error),
        };
        let mut cache = self.model.new_cache();
        let hidden = self.model.embed(&self.prompt)?;
        let hidden = self.model.forward(&hidden, 0, &mut cache)?;
        let first = self.model.next_token(&hidden)?;
        for _ in 0..batch {
            slots.fill(&cache)?;
        }
        let all_first = vec![first; crate::engine::model::size(batch)];
        let mut tokens = all_first.clone();
        let window = self.window(BenchPhase::Decode, batch, || {
            if slots.positions().contains(&room) {
                slots.truncate(prompt_tokens);
                tokens.clone_from(&all_first);
            }
            let hidden = self.model.embed(&tokens)?;
            let hidden = self.model.forward_slots(&hidden, &mut slots)?;
            tokens = self.model.next_tokens(&hidden)?;
            // With those that have just been added.
            Ok(slots.positions().iter().copied().map(u64::from).sum())
        })?;
        Ok(Ok(BenchWindow {
            tokens: window.passes * u64::from(batch),
            cache_bytes: slots.bytes(),
            ..window
        }))
    }
}
