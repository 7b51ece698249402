//! The first node of a study: tries every arm at every setting, and keeps the records.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};

use super::conductor::{Conductor, Setting};
use super::link::{Link, Path};
use super::{books, costs, grid, models};
use crate::clock;
use crate::engine::{KeyValueCache, StateCoder};
use crate::job::JobCommand;
use crate::serve::connection::token_bytes;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::{Ready, Signal};
use crate::study::split;
use crate::study::{Arm, NodeCosts, StudyFinding, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::FrameKind;

struct Driver<'a> {
    part: Part,
    study: &'a StudySpec,
    prompts: Vec<Vec<u32>>,
    conductor: Conductor<'a>,
}

/// A request under way.
struct Running {
    record: TrialRecord,
    cache: KeyValueCache,
    /// What the next node is told of its states.
    coder: StateCoder,
}

/// Plays a study to its end.
pub(super) fn play(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    let part = models::layers_at(spec, study, 0)?;
    part.check_length(study.prompt_tokens, study.output_tokens)
        .map_err(|why| JobError::Spec { why })?;
    let prompts = part.prompts(prompt_seeds, study.prompt_tokens)?;
    let (link, sockets) = match path.next {
        Some(address) => {
            let (layers, _) = study.layers_of(1, part.all_layers());
            let needed = part.terms(layers)?;
            let (link, socket) = Link::open((address, path), &needed, study.timeout_ns)?;
            (Some(link), vec![socket])
        }
        None => (None, Vec::new()),
    };
    let ready = Ready {
        weight_bytes: part.weight_bytes(),
        engine_path: part.engine_path(),
        sockets,
    };
    let Some(conductor) = Conductor::begin(link, ready, told) else {
        return Ok(());
    };
    let mut driver = Driver {
        part,
        study,
        prompts,
        conductor,
    };
    driver.run()?;
    driver.conductor.end();
    Ok(())
}

impl Driver<'_> {
    fn run(&mut self) -> Result<(), JobError> {
        let costs = self.costs()?;
        for round_trip_ns in self.study.grid.round_trips_ns.clone() {
            let (echo_ns, echoes) = self.conductor.echo(round_trip_ns)?;
            let state_bytes = self
                .study
                .coding()
                .token_bytes(u64::from(self.part.width()));
            let critical = split::critical_rate_of(self.study, &costs, echo_ns, state_bytes);
            let echo = (echo_ns, echoes);
            let row = grid::row(&self.study.grid, round_trip_ns, echo, critical);
            let rates_bps = row.rates_bps.clone();
            self.conductor.find(StudyFinding::Row(row));
            for rate_bps in rates_bps {
                let setting = Setting {
                    round_trip_ns,
                    rate_bps,
                };
                self.conductor.set_links(setting)?;
                // Again beside the trials, so that a machine that changes meanwhile is told.
                self.costs()?;
                self.try_all(setting)?;
            }
        }
        for turn in self.study.turns() {
            let (arm, prompt) = (turn.arm.clone(), turn.prompt);
            self.conductor.take_turn(turn)?;
            self.try_group(&arm, Setting::TRACED, &[prompt])?;
        }
        Ok(())
    }

    /// What computing costs here and on every stage, one after the other.
    fn costs(&mut self) -> Result<Vec<NodeCosts>, JobError> {
        let position = self.study.prompt_tokens + self.study.output_tokens / 2;
        let cuts = self.study.arms.iter().map(Arm::first_cut);
        let few = cuts.filter(|cut| *cut > 0).min().unwrap_or(1);
        let has_head = self.study.arms.iter().any(Arm::is_whole);
        let few = 0..few.min(self.part.layers().end);
        let mut all = vec![costs::measure(&self.part, few, has_head, position)?];
        all.extend(self.conductor.costs_of_stages(position)?);
        self.conductor.find(StudyFinding::Costs(all.clone()));
        Ok(all)
    }

    /// Every prompt with every arm: arms take turns, so that what drifts meets all of them.
    fn try_all(&mut self, setting: Setting) -> Result<(), JobError> {
        let study = self.study;
        let most = study.arms.iter().map(in_flight).max();
        let all: Vec<u32> = (0..study.prompts).collect();
        for turn in all.chunks(most.unwrap_or(1).max(1)) {
            for arm in &study.arms {
                for group in turn.chunks(in_flight(arm).max(1)) {
                    self.try_group(arm, setting, group)?;
                }
            }
        }
        Ok(())
    }

    fn try_group(&mut self, arm: &Arm, setting: Setting, prompts: &[u32]) -> Result<(), JobError> {
        let group = self.conductor.next_group();
        let mut running = BTreeMap::new();
        for prompt in prompts {
            let layers = 0..arm.first_cut();
            let record = self.conductor.next_trial(arm, setting, (group, *prompt));
            let number = record.number;
            let cache = self.part.new_cache_of(layers);
            let coder = self.part.state_coder(arm.coding())?;
            let mut request = Running {
                record,
                cache,
                coder,
            };
            let index = usize::try_from(*prompt).unwrap_or(usize::MAX);
            let input = self.prompts.get(index).cloned().unwrap_or_default();
            if arm.is_whole() {
                self.answer_alone(&mut request, input)?;
                self.conductor.find_trial(request.record);
            } else {
                self.begin(&mut request, &input)?;
                running.insert(number, request);
            }
        }
        self.answer_together(running)
    }

    /// Answers a request with all layers here.
    fn answer_alone(&self, request: &mut Running, mut input: Vec<u32>) -> Result<(), JobError> {
        let layers = 0..request.record.arm.first_cut();
        for _ in 0..self.study.output_tokens {
            let began = clock::now();
            let cache = &mut request.cache;
            let states = self
                .part
                .carry_tokens_through(layers.clone(), &input, cache)?;
            let (token, is_tie) = self.part.next_token_and_tie(&states)?;
            let now = clock::now();
            if is_tie {
                request.record.tie_comes();
            }
            request.note(token, self.conductor.offset()(now));
            request.computed(now.saturating_sub(began));
            input = vec![token];
        }
        Ok(())
    }

    fn begin(&mut self, request: &mut Running, prompt: &[u32]) -> Result<(), JobError> {
        let ends = request.record.arm.ends();
        // The first layer of the next stage, how states are coded, and where all stages end.
        let coding = request.record.arm.coding().number();
        let opening = [ends.first().copied().unwrap_or(0), coding];
        let words: Vec<u32> = opening
            .into_iter()
            .chain(ends.iter().skip(1).copied())
            .collect();
        let id = request.record.number;
        self.conductor
            .link()?
            .write((FrameKind::Begin, id), 0, &token_bytes(&words))?;
        self.send_states(request, prompt)
    }

    /// Carries tokens through the layers here and sends the states on.
    fn send_states(&mut self, request: &mut Running, tokens: &[u32]) -> Result<(), JobError> {
        let layers = 0..request.record.arm.first_cut();
        let position = request.cache.positions();
        let began = clock::now();
        let cache = &mut request.cache;
        let states = self.part.carry_tokens_through(layers, tokens, cache)?;
        let states = self.part.encode(&mut request.coder, &states)?;
        request.computed(clock::now().saturating_sub(began));
        let id = request.record.number;
        self.conductor
            .link()?
            .write((FrameKind::Hidden, id), position, &states)
    }

    /// Takes answers as they come until every request has its last, and its books are closed.
    fn answer_together(&mut self, mut running: BTreeMap<u32, Running>) -> Result<(), JobError> {
        let output = usize::try_from(self.study.output_tokens).unwrap_or(usize::MAX);
        let most_bytes = self.study.nodes() * books::ENTRY_BYTES;
        let most_bytes = u64::try_from(most_bytes).unwrap_or(u64::MAX);
        let offset = self.conductor.offset();
        while !running.is_empty() {
            let link = self.conductor.link()?;
            let frame = link.read(&[FrameKind::Token, FrameKind::Books], most_bytes)?;
            let at = clock::now();
            let id = frame.header.request;
            let Some(mut request) = running.remove(&id) else {
                return Err(link.wrong(&frame, "no such request is under way"));
            };
            let ended = request.record.tokens.len() == output;
            if frame.header.kind == FrameKind::Books {
                let entries = books::decode(&frame.body).filter(|_| ended);
                let entries = entries.ok_or_else(|| link.wrong(&frame, "it is no account"))?;
                for entry in entries {
                    request.record.hops.push(entry.bytes);
                    request.record.busy_ns.push(entry.busy_ns);
                }
                self.conductor.find_trial(request.record);
                continue;
            }
            let token = match frame.token_ids().as_deref() {
                Some([token]) if !ended && frame.header.position == request.cache.positions() => {
                    *token
                }
                _ => return Err(link.wrong(&frame, "another token is expected")),
            };
            request.note(token, offset(at));
            if request.record.tokens.len() == output {
                link.write((FrameKind::End, id), 0, &[])?;
            } else {
                self.send_states(&mut request, &[token])?;
            }
            running.insert(id, request);
        }
        Ok(())
    }
}

impl Running {
    fn note(&mut self, token: u32, at_ns: u64) {
        self.record.tokens.push(token);
        self.record.token_ns.push(at_ns);
    }

    fn computed(&mut self, ns: u64) {
        if let Some(own) = self.record.busy_ns.first_mut() {
            *own += ns;
        }
    }
}

fn in_flight(arm: &Arm) -> usize {
    usize::try_from(arm.in_flight()).unwrap_or(usize::MAX)
}
