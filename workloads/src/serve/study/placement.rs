//! The driver of placements: it asks the node of each arm, or answers itself, and asks where a policy says.
//! What an answer costs each node, and what an empty frame takes to it, is measured first: predictions
//! follow from that.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};

use super::conductor::{Conductor, Reach, Setting};
use super::link::{Link, Path};
use super::models::Variants;
use super::{books, costs, grid, models};
use crate::clock;
use crate::job::JobCommand;
use crate::serve::connection::token_bytes;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::{Ready, Signal};
use crate::study::placement::{
    PlaceCosts, Placed, WayRecord, Weights, answer_ns, choose, offload_rate_of,
};
use crate::study::{Arm, HopBytes, StudyFinding, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::FrameKind;

/// Requests that each node is asked with each of its weights before the trials of a round trip.
const CALIBRATIONS: u32 = 3;

/// Tokens of the longer ones of them.
const CALIBRATION_TOKENS: u32 = 6;

/// A node and the weights that it answers with.
type Way = (u32, Weights);

struct Driver<'a> {
    variants: Variants,
    study: &'a StudySpec,
    prompts: Vec<Vec<u32>>,
    conductor: Conductor<'a>,
    /// Busy times of answers of one token, and of each further token.
    measured: BTreeMap<Way, [Vec<u64>; 2]>,
}

/// What one request is to be.
#[derive(Clone, Copy)]
pub(super) struct Asked<'p> {
    pub(super) place: u32,
    pub(super) weights: Weights,
    pub(super) prompt: &'p [u32],
    pub(super) output: u32,
}

/// Plays a study of placements to its end.
pub(super) fn play(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    let model = models::layers_at(spec, study, 0)?;
    model
        .check_length(
            study.prompt_tokens,
            study.output_tokens.max(CALIBRATION_TOKENS),
        )
        .map_err(|why| JobError::Spec { why })?;
    let variants = Variants::open(spec, study, 0)?;
    let prompts = model.prompts(prompt_seeds, study.prompt_tokens)?;
    let (link, sockets) = match path.next {
        Some(address) => {
            let needed = model.terms(0..model.all_layers())?;
            let (link, socket) = Link::open((address, path), &needed, study.timeout_ns)?;
            (Some(link), vec![socket])
        }
        None => (None, Vec::new()),
    };
    let ready = Ready {
        weight_bytes: variants.weight_bytes(),
        engine_path: variants.engine_path(model.engine_path()),
        sockets,
    };
    let Some(mut conductor) = Conductor::begin(link, ready, told) else {
        return Ok(());
    };
    conductor.reach(Reach::Ends);
    let mut driver = Driver {
        variants,
        study,
        prompts,
        conductor,
        measured: BTreeMap::new(),
    };
    driver.run()?;
    driver.conductor.end();
    Ok(())
}

impl Driver<'_> {
    fn run(&mut self) -> Result<(), JobError> {
        let mut last = Vec::new();
        for round_trip_ns in self.study.grid.round_trips_ns.clone() {
            let echo = self.conductor.echo(round_trip_ns)?;
            let echo_ns = self.ways(round_trip_ns)?;
            let setting = |rate_bps| Setting {
                round_trip_ns,
                rate_bps,
            };
            let costs = self.calibrate(setting(grid::ECHO_RATE_BPS))?;
            let way = (u64::from(self.study.prompt_tokens), echo.0);
            let critical = offload_rate_of(&self.study.arms, &costs, way);
            let row = grid::row(&self.study.grid, round_trip_ns, echo, critical);
            let rates_bps = row.rates_bps.clone();
            self.conductor.find(StudyFinding::Row(row));
            for rate_bps in rates_bps {
                self.conductor.set_links(setting(rate_bps))?;
                self.try_all(setting(rate_bps), (&costs, &echo_ns))?;
            }
            last = costs;
        }
        self.try_on_traces(&last)
    }

    /// What an empty frame takes to each node, by place.
    fn ways(&mut self, round_trip_ns: u64) -> Result<Vec<u64>, JobError> {
        let nodes = u32::try_from(self.study.nodes()).unwrap_or(u32::MAX);
        let (mut echo_ns, mut echoes) = (vec![0], 0);
        for place in 1..nodes {
            let (median, count) = self.conductor.echo_at(place)?;
            echo_ns.push(median);
            echoes = count;
        }
        let way = WayRecord {
            round_trip_ns,
            echo_ns: echo_ns.clone(),
            echoes,
        };
        self.conductor.find(StudyFinding::Ways(way));
        Ok(echo_ns)
    }

    /// What an answer costs each node with each of its weights: answers of one token and of several to
    /// prompts that no trial asks, all that were measured so far.
    fn calibrate(&mut self, setting: Setting) -> Result<Vec<PlaceCosts>, JobError> {
        let held_out = usize::try_from(self.study.prompts).unwrap_or(usize::MAX);
        let prompts: Vec<Vec<u32>> = self.prompts.iter().skip(held_out).cloned().collect();
        let fallback = self.prompts.first().cloned().unwrap_or_default();
        for repeat in 0..CALIBRATIONS {
            let index = usize::try_from(repeat).unwrap_or(0) % prompts.len().max(1);
            let prompt = prompts.get(index).unwrap_or(&fallback).clone();
            for arm in self.study.arms.clone() {
                let Arm::Placed(placement) = &arm else {
                    continue;
                };
                let mut busy = |output| {
                    let asked = Asked {
                        place: placement.place,
                        weights: placement.weights,
                        prompt: &prompt,
                        output,
                    };
                    let mut record = self.conductor.next_calibration(&arm, setting);
                    self.ask(&mut record, asked)?;
                    Ok::<u64, JobError>(record.busy_ns.iter().sum())
                };
                let first = busy(1)?;
                let all = busy(CALIBRATION_TOKENS)?;
                let further = all.saturating_sub(first) / u64::from(CALIBRATION_TOKENS - 1);
                let option = (placement.place, placement.weights);
                let [firsts, furthers] = self.measured.entry(option).or_default();
                firsts.push(first);
                furthers.push(further);
            }
        }
        let costs = self.measured.iter().map(|((place, weights), times)| {
            let [mut firsts, mut furthers] = times.clone();
            PlaceCosts {
                place: *place,
                weights: *weights,
                first_ns: costs::median(&mut firsts),
                token_ns: costs::median(&mut furthers),
                requests: u32::try_from(firsts.len()).unwrap_or(u32::MAX),
            }
        });
        let costs: Vec<PlaceCosts> = costs.collect();
        self.conductor.find(StudyFinding::Places(costs.clone()));
        Ok(costs)
    }

    /// Every prompt with every arm: arms take turns, so that what drifts meets all of them.
    fn try_all(
        &mut self,
        setting: Setting,
        (costs, echo_ns): (&[PlaceCosts], &[u64]),
    ) -> Result<(), JobError> {
        let options = self.options(costs, (echo_ns, setting.rate_bps));
        for prompt in 0..self.study.prompts {
            for arm in &self.study.arms {
                self.try_one(arm, (setting, prompt), &options)?;
            }
        }
        Ok(())
    }

    /// Every arm while the links follow their traces. A policy looks first how long an empty frame takes to each
    /// node just then; that counts, and the bytes of a prompt, which are few, do not.
    fn try_on_traces(&mut self, costs: &[PlaceCosts]) -> Result<(), JobError> {
        for turn in self.study.turns() {
            let (arm, prompt) = (turn.arm.clone(), turn.prompt);
            self.conductor.take_turn(turn)?;
            let echo_ns = match arm {
                Arm::Policy(_) => self.present_ways()?,
                _ => Vec::new(),
            };
            let options = self.options(costs, (&echo_ns, grid::ECHO_RATE_BPS));
            self.try_one(&arm, (Setting::TRACED, prompt), &options)?;
        }
        Ok(())
    }

    /// What an empty frame takes to each node right now, by place.
    fn present_ways(&mut self) -> Result<Vec<u64>, JobError> {
        let nodes = u32::try_from(self.study.nodes()).unwrap_or(u32::MAX);
        let further = (1..nodes).map(|place| self.conductor.echo_once(place));
        std::iter::once(Ok(0)).chain(further).collect()
    }

    /// How long each node should take with each of its weights.
    fn options(&self, costs: &[PlaceCosts], (echo_ns, rate_bps): (&[u64], u64)) -> Vec<Placed> {
        let lengths = (
            u64::from(self.study.prompt_tokens),
            u64::from(self.study.output_tokens),
        );
        let predicted = costs.iter().map(|costs| {
            let place = usize::try_from(costs.place).unwrap_or(usize::MAX);
            // Echoes are of every place; to itself the device has none.
            let echo_ns = echo_ns.get(place).copied().unwrap_or(0);
            Placed {
                place: costs.place,
                weights: costs.weights,
                predicted_ns: answer_ns(costs, lengths, (echo_ns, rate_bps)),
                first_busy_ns: 0,
            }
        });
        predicted.collect()
    }

    fn try_one(
        &mut self,
        arm: &Arm,
        (setting, prompt): (Setting, u32),
        options: &[Placed],
    ) -> Result<(), JobError> {
        let index = usize::try_from(prompt).unwrap_or(usize::MAX);
        let tokens = self.prompts.get(index).cloned();
        let tokens = tokens.ok_or_else(|| JobError::Spec {
            why: format!("there is no prompt {prompt}"),
        })?;
        let placed = match arm {
            Arm::Placed(fixed) => options
                .iter()
                .find(|option| (option.place, option.weights) == (fixed.place, fixed.weights))
                .copied(),
            Arm::Policy(policy) => choose(options, policy.deadline_ns),
            _ => None,
        };
        let placed = placed.ok_or_else(|| JobError::Spec {
            why: format!("{} is no placement", arm.name()),
        })?;
        let group = self.conductor.next_group();
        let mut record = self.conductor.next_trial(arm, setting, (group, prompt));
        let asked = Asked {
            place: placed.place,
            weights: placed.weights,
            prompt: &tokens,
            output: self.study.output_tokens,
        };
        let first_busy_ns = self.ask(&mut record, asked)?;
        record.placed = Some(Placed {
            first_busy_ns,
            ..placed
        });
        self.conductor.find_trial(record);
        Ok(())
    }

    /// Has one request answered, and its books closed; how long its node computed until the first token.
    fn ask(&mut self, record: &mut TrialRecord, asked: Asked<'_>) -> Result<u64, JobError> {
        let first_busy_ns = if asked.place == 0 {
            let part = self.variants.of(asked.weights);
            let part = part.ok_or_else(|| JobError::Spec {
                why: format!("weights {} are not held here", asked.weights.name()),
            })?;
            answer(part, record, asked, self.conductor.offset())?
        } else {
            ask_further(&mut self.conductor, record, asked)?
        };
        // What lies behind had nothing to do with it.
        let nodes = self.study.nodes();
        record.busy_ns.resize(nodes, 0);
        record
            .hops
            .resize(nodes.saturating_sub(1), HopBytes::default());
        Ok(first_busy_ns)
    }
}

/// Has a request answered on a further node, and its books closed; how long that computed until the first token.
pub(super) fn ask_further(
    conductor: &mut Conductor<'_>,
    record: &mut TrialRecord,
    asked: Asked<'_>,
) -> Result<u64, JobError> {
    let id = record.number;
    let offset = conductor.offset();
    let words: Vec<u32> = [asked.place, asked.weights.number()]
        .into_iter()
        .chain(asked.prompt.iter().copied())
        .collect();
    let link = conductor.link()?;
    link.write((FrameKind::Place, id), asked.output, &token_bytes(&words))?;
    for _ in 0..asked.output {
        let frame = link.read(&[FrameKind::Token], 4)?;
        let at = clock::now();
        match frame.token_ids().as_deref() {
            Some([token]) if frame.header.request == id => record.tokens.push(*token),
            _ => return Err(link.wrong(&frame, "another token is expected")),
        }
        record.token_ns.push(offset(at));
    }
    books::close(link, record)?;
    // The last entry is of no link.
    record.hops.pop();
    let busy_ns = record.busy_ns.pop();
    busy_ns.ok_or_else(|| JobError::Spec {
        why: "the node that answers gave no account of its computing".to_owned(),
    })
}

/// Answers a request here; how long the first token took.
pub(super) fn answer(
    part: &Part,
    record: &mut TrialRecord,
    asked: Asked<'_>,
    offset: impl Fn(u64) -> u64,
) -> Result<u64, JobError> {
    let mut first_busy_ns = 0;
    let mut cache = part.new_cache();
    let mut input = asked.prompt.to_vec();
    for _ in 0..asked.output {
        let began = clock::now();
        let states = part.carry_tokens(&input, &mut cache)?;
        let (token, is_tie) = part.next_token_and_tie(&states)?;
        let now = clock::now();
        if is_tie {
            record.tie_comes();
        }
        record.tokens.push(token);
        record.token_ns.push(offset(now));
        if let Some(own) = record.busy_ns.first_mut() {
            *own += now.saturating_sub(began);
        }
        if record.tokens.len() == 1 {
            first_busy_ns = now.saturating_sub(began);
        }
        input = vec![token];
    }
    Ok(first_busy_ns)
}
