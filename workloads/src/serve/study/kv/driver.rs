//! The node that goes on from a context: tries every arm at every setting, and keeps the records.

use std::sync::mpsc::{Receiver, Sender};

use super::{PASSES, PROBE_BYTES, StageCosts, loss, timed};
use crate::clock;
use crate::coding::kv::KvCoding;
use crate::engine::KeyValueCache;
use crate::job::JobCommand;
use crate::serve::connection::{Frame, token_bytes};
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::Signal;
use crate::serve::study::conductor::{Conductor, Setting};
use crate::serve::study::link::Path;
use crate::serve::study::{books, grid, models};
use crate::study::kv::{
    Circumstances, CodingCosts, Context, Delivery, DeliveryCosts, QUESTION_TOKENS, Source,
    TEXT_TOKENS, TransferRecord, rates_around,
};
use crate::study::split::wire_bytes_of_frame;
use crate::study::{Arm, StudyFinding, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::FrameKind;

/// Bytes of the stage's account of its costs.
const MOST_COST_BYTES: u64 = 1 << 16;

/// The request under which the first held-out prompt is asked for; trials count from 0.
const FIRST_HELD_OUT: u32 = 1 << 31;

/// A prompt in its parts.
struct Prompt {
    context: Vec<u32>,
    question: Vec<u32>,
    /// How the text goes on; of prompts that no trial asks.
    text: Vec<u32>,
}

struct Driver<'a> {
    part: Part,
    study: &'a StudySpec,
    /// Those that no trial asks at the end.
    prompts: Vec<Prompt>,
    conductor: Conductor<'a>,
    /// As they were measured last.
    costs: Option<DeliveryCosts>,
}

/// Plays a study to its end.
pub(in crate::serve::study) fn drive(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    let part = models::large(spec)?;
    let context = study.prompt_tokens.saturating_sub(QUESTION_TOKENS);
    study
        .check(part.all_layers())
        .and_then(|()| part.check_length(study.prompt_tokens, study.output_tokens))
        .and_then(|()| match context {
            0 => Err(format!(
                "prompts of {} tokens are a question of {QUESTION_TOKENS} without a context",
                study.prompt_tokens
            )),
            _ => Ok(()),
        })
        .map_err(|why| JobError::Spec { why })?;
    let left = part.max_positions().saturating_sub(study.prompt_tokens);
    let all = study.prompt_tokens + TEXT_TOKENS.min(left);
    let texts = prompt_seeds.iter().map(|seed| part.passage(*seed, all));
    let texts: Vec<Vec<u32>> = texts.collect::<Result<_, _>>()?;
    let prompt = |mut context: Vec<u32>| {
        let size = |tokens: u32| usize::try_from(tokens).unwrap_or(usize::MAX);
        let text = context.split_off(size(study.prompt_tokens).min(context.len()));
        let question =
            context.split_off(size(study.prompt_tokens - QUESTION_TOKENS).min(context.len()));
        Prompt {
            context,
            question,
            text,
        }
    };
    let prompts = texts.into_iter().map(prompt).collect();
    let needed = part.terms(part.layers())?;
    let loaded = (part.weight_bytes(), part.engine_path());
    let needed = (&needed, study.timeout_ns);
    let Some(conductor) = Conductor::connect(path, needed, loaded, told)? else {
        return Ok(());
    };
    let mut driver = Driver {
        part,
        study,
        prompts,
        conductor,
        costs: None,
    };
    driver.run()?;
    driver.conductor.end();
    Ok(())
}

impl Driver<'_> {
    fn run(&mut self) -> Result<(), JobError> {
        let (mut first, mut last_echo_ns) = (true, 0);
        for round_trip_ns in self.study.grid.round_trips_ns.clone() {
            let echo = self.conductor.echo(round_trip_ns)?;
            last_echo_ns = echo.0;
            if first {
                self.deposit()?;
                self.losses()?;
                first = false;
            }
            self.measure()?;
            let row = grid::row(&self.study.grid, round_trip_ns, echo, None);
            let (offered, at) = (self.offered(), self.circumstances(Source::Stored, echo.0));
            let regimes = self
                .costs
                .as_ref()
                .and_then(|costs| costs.regimes_bps(&offered, &at));
            let row = rates_around(row, regimes, &self.study.grid.around_percent);
            let rates_bps = row.rates_bps.clone();
            self.conductor.find(StudyFinding::Row(row));
            for (place, rate_bps) in rates_bps.into_iter().enumerate() {
                let setting = Setting {
                    round_trip_ns,
                    rate_bps,
                };
                self.conductor.set_links(setting)?;
                // Again beside the trials, so that a machine that changes meanwhile is told.
                if place > 0 {
                    self.measure()?;
                }
                self.try_all((setting, echo.0))?;
            }
        }
        for turn in self.study.turns() {
            let (arm, prompt) = (turn.arm.clone(), turn.prompt);
            self.conductor.take_turn(turn)?;
            // The round trip of the moment is not known before: that of the last setting stands for it.
            self.try_one(&arm, (Setting::TRACED, last_echo_ns), prompt)?;
        }
        Ok(())
    }

    /// The deliveries that an adaptive arm may choose.
    fn offered(&self) -> Vec<Delivery> {
        self.study.deliveries()
    }

    fn context(&self) -> Context {
        Context {
            shape: self.part.kv_shape(),
            tokens: self.study.prompt_tokens - QUESTION_TOKENS,
        }
    }

    fn circumstances(&self, source: Source, echo_ns: u64) -> Circumstances {
        Circumstances {
            context: self.context(),
            source,
            echo_ns,
        }
    }

    fn prompt(&self, number: u32) -> Result<&Prompt, JobError> {
        let prompt = usize::try_from(number)
            .ok()
            .and_then(|index| self.prompts.get(index));
        prompt.ok_or_else(|| JobError::Spec {
            why: format!("there is no prompt {number}"),
        })
    }

    /// Gives the stage every context.
    fn deposit(&mut self) -> Result<(), JobError> {
        for (number, prompt) in (0..).zip(&self.prompts) {
            let body = token_bytes(&prompt.context);
            let link = self.conductor.link()?;
            link.write((FrameKind::Deposit, number), 0, &body)?;
        }
        Ok(())
    }

    /// Asks for a context; when it is there, in the cache, and how long this node computed for that.
    fn fetch(
        &mut self,
        id: u32,
        (number, delivery, source): (u32, Delivery, Source),
    ) -> Result<(KeyValueCache, u64), JobError> {
        let context = self.context();
        let words = [
            number,
            delivery.number(),
            u32::from(source != Source::Stored),
        ];
        let link = self.conductor.link()?;
        link.write((FrameKind::Fetch, id), 0, &token_bytes(&words))?;
        let ours =
            |frame: &Frame, layer| (frame.header.request, frame.header.position) == (id, layer);
        let Delivery::Ship(coding) = delivery else {
            let frame = link.read(&[FrameKind::Context], 4 * u64::from(context.tokens))?;
            let tokens = frame.token_ids().filter(|_| ours(&frame, 0));
            let tokens = tokens.unwrap_or_default();
            if u32::try_from(tokens.len()) != Ok(context.tokens) {
                return Err(link.wrong(&frame, "another context is expected"));
            }
            if let Err(why) = self.part.check_tokens(&tokens) {
                return Err(link.wrong(&frame, &why));
            }
            let began = clock::now();
            let mut cache = self.part.new_cache();
            self.part.carry_tokens(&tokens, &mut cache)?;
            return Ok((cache, clock::now().saturating_sub(began)));
        };
        let most_bytes = coding.layer_bytes(context.shape, context.tokens);
        let mut layers = Vec::new();
        for layer in 0..context.shape.layers {
            let frame = link.read(&[FrameKind::KeyValues], most_bytes)?;
            if !ours(&frame, layer) {
                return Err(link.wrong(&frame, "the next layer is expected"));
            }
            layers.push(frame.body);
        }
        let began = clock::now();
        let cache = self.part.import(context.tokens, coding, &layers);
        let cache = cache.map_err(|why| JobError::Spec { why })?;
        Ok((cache, clock::now().saturating_sub(began)))
    }

    /// What every coding that is tried does to how texts go on, on prompts that no trial asks.
    fn losses(&mut self) -> Result<(), JobError> {
        let codings = self
            .offered()
            .into_iter()
            .filter_map(|delivery| match delivery {
                Delivery::Ship(coding) => Some(coding),
                Delivery::Recompute | Delivery::Adaptive => None,
            });
        let codings: Vec<KvCoding> = codings.collect();
        let mut id = FIRST_HELD_OUT;
        for held_out in 0..self.study.held_out_prompts {
            let number = self.study.prompts + held_out;
            let exact = self.scores_behind((id, number), KvCoding::F32)?;
            let text = self.prompt(number)?.text.clone();
            for coding in codings.iter().copied() {
                id += 1;
                let coded = self.scores_behind((id, number), coding)?;
                let record = loss::compare((coding, held_out), (&exact, &coded), &text);
                let record = record.ok_or_else(|| JobError::Spec {
                    why: "scores behind keys and values that were shipped are no numbers"
                        .to_owned(),
                })?;
                self.conductor.find(StudyFinding::Loss(record));
            }
            id += 1;
        }
        Ok(())
    }

    /// The scores of each token of a prompt's text, behind the keys and values of its context as a coding
    /// leaves them.
    fn scores_behind(
        &mut self,
        (id, number): (u32, u32),
        coding: KvCoding,
    ) -> Result<Vec<Vec<f32>>, JobError> {
        let delivery = (number, Delivery::Ship(coding), Source::Stored);
        let (mut cache, _) = self.fetch(id, delivery)?;
        books::discard(self.conductor.link()?, id)?;
        let Prompt { question, text, .. } = self.prompt(number)?;
        // The last token is scored after the one before it.
        let before = text.split_last().map_or(&[][..], |(_, before)| before);
        let read: Vec<u32> = question.iter().chain(before).copied().collect();
        let mut scores = self.part.scores(&read, &mut cache)?;
        let first = question.len().saturating_sub(1).min(scores.len());
        Ok(scores.split_off(first))
    }

    /// Measures what getting a context and going on from there costs on both nodes.
    fn measure(&mut self) -> Result<(), JobError> {
        let link = self.conductor.link()?;
        link.write((FrameKind::Measure, 0), 0, &[])?;
        let frame = link.read(&[FrameKind::Costs], MOST_COST_BYTES)?;
        let stage: Result<StageCosts, _> = serde_json::from_slice(&frame.body);
        let stage =
            stage.map_err(|error| link.wrong(&frame, &format!("it holds no costs: {error}")))?;
        let (part, prompt) = (&self.part, self.prompt(0)?);
        let mut cache = part.new_cache();
        let recompute_ns = timed(|| {
            cache = part.new_cache();
            part.carry_tokens(&prompt.context, &mut cache).map(drop)
        })?;
        let tokens = cache.positions();
        let answer_ns = timed(|| {
            cache.truncate(tokens);
            let states = part.carry_tokens(&prompt.question, &mut cache)?;
            part.next_token(&states).map(drop)
        })?;
        cache.truncate(tokens);
        let mut codings = Vec::new();
        for (coding, encode_ns) in stage.encode_ns {
            let layers = part.export(&cache, tokens, coding)?;
            let decode_ns = timed(|| part.import(tokens, coding, &layers).map(drop));
            codings.push(CodingCosts {
                coding,
                encode_ns,
                decode_ns: decode_ns.map_err(|why| JobError::Spec { why })?,
            });
        }
        let costs = DeliveryCosts {
            recompute_ns,
            prefill_ns: stage.prefill_ns,
            answer_ns,
            codings,
            passes: PASSES,
        };
        self.costs = Some(costs.clone());
        self.conductor.find(StudyFinding::Delivery(costs));
        Ok(())
    }

    /// Every prompt with every arm: arms take turns, so that what drifts meets all of them.
    fn try_all(&mut self, at: (Setting, u64)) -> Result<(), JobError> {
        for prompt in 0..self.study.prompts {
            for arm in &self.study.arms {
                self.try_one(arm, at, prompt)?;
            }
        }
        Ok(())
    }

    fn try_one(
        &mut self,
        arm: &Arm,
        (setting, echo_ns): (Setting, u64),
        number: u32,
    ) -> Result<(), JobError> {
        let Arm::KeyValues { delivery, source } = *arm else {
            return Err(JobError::Spec {
                why: format!("{} ships nothing", arm.name()),
            });
        };
        let mut measured_bps = None;
        let delivery = if delivery == Delivery::Adaptive {
            let rate_bps = self.probe()?;
            measured_bps = Some(rate_bps);
            let (offered, at) = (self.offered(), self.circumstances(source, echo_ns));
            let costs = self.costs.as_ref();
            let safest = costs.and_then(|costs| costs.safest(&offered, &at, rate_bps));
            safest.unwrap_or(Delivery::Recompute)
        } else {
            delivery
        };
        let question = self.prompt(number)?.question.clone();
        let group = self.conductor.next_group();
        let mut trial = self.conductor.next_trial(arm, setting, (group, number));
        let (mut cache, mut computed) = self.fetch(trial.number, (number, delivery, source))?;
        let offset = self.conductor.offset();
        trial.transfer = Some(TransferRecord {
            delivery,
            measured_bps,
            context_ns: offset(clock::now()),
        });
        let began = clock::now();
        self.answer(&mut trial, question, &mut cache)?;
        computed += clock::now().saturating_sub(began);
        if let Some(busy) = trial.busy_ns.first_mut() {
            *busy += computed;
        }
        books::close(self.conductor.link()?, &mut trial)?;
        self.conductor.find_trial(trial);
        Ok(())
    }

    /// Goes on from a context.
    fn answer(
        &self,
        trial: &mut TrialRecord,
        question: Vec<u32>,
        cache: &mut KeyValueCache,
    ) -> Result<(), JobError> {
        let offset = self.conductor.offset();
        let mut input = question;
        for _ in 0..self.study.output_tokens {
            let states = self.part.carry_tokens(&input, cache)?;
            let (token, is_tie) = self.part.next_token_and_tie(&states)?;
            if is_tie {
                trial.tie_comes();
            }
            trial.tokens.push(token);
            trial.token_ns.push(offset(clock::now()));
            input = vec![token];
        }
        Ok(())
    }

    /// The present rate of the link towards this node: how far apart a short mark comes, and the train that
    /// was sent behind it without a pause.
    fn probe(&mut self) -> Result<u64, JobError> {
        let link = self.conductor.link()?;
        link.write((FrameKind::Probe, 0), 0, &[])?;
        link.read(&[FrameKind::Probe], 0)?;
        let mark = clock::now();
        link.read(&[FrameKind::Probe], PROBE_BYTES)?;
        let apart = clock::now().saturating_sub(mark).max(1);
        let bits = u128::from(wire_bytes_of_frame(PROBE_BYTES)) * 8;
        let rate = bits * 1_000_000_000 / u128::from(apart);
        Ok(u64::try_from(rate).unwrap_or(u64::MAX).max(1))
    }
}
