//! The first node of a study: tries every arm at every setting, and keeps the records.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use super::{books, costs, grid, load, report, since};
use crate::clock::{self, MonotonicNs};
use crate::engine::KeyValueCache;
use crate::job::{JobCommand, JobEvent};
use crate::serve::connection::{
    ConnectionError, Frame, FrameReader, FrameWriter, PayloadCounter, connect, token_bytes,
};
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::secret::Secret;
use crate::serve::signal::{Ready, Signal, Socket, tell};
use crate::study::split;
use crate::study::{Arm, NodeCosts, StudyFinding, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::FrameKind;

/// Echoes that a round trip is the median of.
const ECHOES: u32 = 21;

/// Bytes of all stages' accounts of their costs.
const MOST_COST_BYTES: u64 = 1 << 16;

/// The way to the next stage.
pub(super) struct Path {
    pub(super) next: Option<SocketAddr>,
    pub(super) secret: Secret,
    pub(super) counter: Arc<PayloadCounter>,
}

/// The connection to the next stage.
struct Link {
    reader: FrameReader<TcpStream>,
    writer: FrameWriter<TcpStream>,
    peer: SocketAddr,
}

/// One setting of all links.
#[derive(Debug, Clone, Copy)]
struct Setting {
    round_trip_ns: u64,
    rate_bps: u64,
}

struct Driver<'a> {
    part: Part,
    study: &'a StudySpec,
    prompts: Vec<Vec<u32>>,
    link: Option<Link>,
    signals: &'a Sender<Signal>,
    told: &'a Receiver<JobCommand>,
    t0: MonotonicNs,
    trials: u32,
    groups: u32,
}

/// A request under way.
struct Running {
    record: TrialRecord,
    cache: KeyValueCache,
}

/// Plays a study to its end.
pub(super) fn play(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    path: &Path,
    (signals, told): (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    let part = load(spec, study, 0)?;
    part.check_length(study.prompt_tokens, study.output_tokens)
        .map_err(|why| JobError::Spec { why })?;
    let prompts = prompt_seeds
        .iter()
        .map(|seed| part.prompt(*seed, study.prompt_tokens));
    let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
    let (link, sockets) = match path.next {
        Some(address) => {
            let (link, socket) = open(&part, study, address, path)?;
            (Some(link), vec![socket])
        }
        None => (None, Vec::new()),
    };
    let ready = Ready {
        weight_bytes: part.weight_bytes(),
        engine_path: part.engine_path(),
        sockets,
    };
    tell(signals, Signal::Ready(ready));
    let Ok(JobCommand::Start { t0_monotonic_ns }) = told.recv() else {
        return Ok(());
    };
    clock::sleep_until(t0_monotonic_ns);
    let mut driver = Driver {
        part,
        study,
        prompts,
        link,
        signals,
        told,
        t0: t0_monotonic_ns,
        trials: 0,
        groups: 0,
    };
    driver.run()?;
    report(signals, JobEvent::Idle);
    Ok(())
}

fn open(
    part: &Part,
    study: &StudySpec,
    address: SocketAddr,
    path: &Path,
) -> Result<(Link, Socket), JobError> {
    let (layers, _) = study.layers_of(1, part.all_layers());
    let needed = part.terms(layers)?;
    let mut connection = connect(address, (&path.secret, &needed), &path.counter)?;
    let patience = Duration::from_nanos(study.timeout_ns);
    connection
        .limit_silence(patience)
        .map_err(|source| JobError::Connect { address, source })?;
    let link = Link {
        reader: connection.reader,
        writer: connection.writer,
        peer: connection.peer,
    };
    Ok((link, connection.socket))
}

impl Link {
    fn broken(&self) -> impl Fn(ConnectionError) -> JobError + Copy + use<> {
        let peer = self.peer;
        move |source| JobError::Connection { peer, source }
    }

    fn write(
        &mut self,
        (kind, request): (FrameKind, u32),
        position: u32,
        body: &[u8],
    ) -> Result<(), JobError> {
        let written = self.writer.write(kind, request, position, body);
        written.map(drop).map_err(self.broken())
    }

    /// The next frame, of one of these kinds and no longer than that.
    fn read(&mut self, expected: &[FrameKind], most_bytes: u64) -> Result<Frame, JobError> {
        let frame = self
            .reader
            .read(&|kind| expected.contains(&kind).then_some(most_bytes));
        let frame = frame.and_then(|frame| frame.ok_or(ConnectionError::Closed));
        frame.map_err(self.broken())
    }

    fn wrong(&self, frame: &Frame, why: &str) -> JobError {
        self.broken()(frame.content_error(why))
    }
}

impl Driver<'_> {
    fn run(&mut self) -> Result<(), JobError> {
        let costs = self.costs()?;
        for round_trip_ns in self.study.grid.round_trips_ns.clone() {
            let (echo_ns, echoes) = self.echo(round_trip_ns)?;
            let state_bytes = 4 * u64::from(self.part.width());
            let critical = split::critical_rate_of(self.study, &costs, echo_ns, state_bytes);
            let echo = (echo_ns, echoes);
            let row = grid::row(&self.study.grid, round_trip_ns, echo, critical);
            let rates_bps = row.rates_bps.clone();
            self.find(StudyFinding::Row(row));
            for rate_bps in rates_bps {
                let setting = Setting {
                    round_trip_ns,
                    rate_bps,
                };
                self.set_links(setting)?;
                // Again beside the trials, so that a machine that changes meanwhile is told.
                self.costs()?;
                self.try_all(setting)?;
            }
        }
        Ok(())
    }

    fn find(&self, finding: StudyFinding) {
        report(self.signals, JobEvent::Study(finding));
    }

    /// What computing costs here and on every stage, one after the other.
    fn costs(&mut self) -> Result<Vec<NodeCosts>, JobError> {
        let position = self.study.prompt_tokens + self.study.output_tokens / 2;
        let cuts = self.study.arms.iter().map(Arm::first_cut);
        let few = cuts.filter(|cut| *cut > 0).min().unwrap_or(1);
        let has_head = self.study.arms.iter().any(Arm::is_whole);
        let few = 0..few.min(self.part.layers().end);
        let mut all = vec![costs::measure(&self.part, few, has_head, position)?];
        if let Some(link) = &mut self.link {
            link.write((FrameKind::Measure, 0), position, &[])?;
            let frame = link.read(&[FrameKind::Costs], MOST_COST_BYTES)?;
            let stages: Result<Vec<NodeCosts>, _> = serde_json::from_slice(&frame.body);
            let stages = stages
                .map_err(|error| link.wrong(&frame, &format!("it holds no costs: {error}")))?;
            all.extend(stages);
        }
        self.find(StudyFinding::Costs(all.clone()));
        Ok(all)
    }

    /// The median round trip over the whole path.
    fn echo(&mut self, round_trip_ns: u64) -> Result<(u64, u32), JobError> {
        if self.link.is_none() {
            return Ok((0, 0));
        }
        self.set_links(Setting {
            round_trip_ns,
            rate_bps: grid::ECHO_RATE_BPS,
        })?;
        let mut times = Vec::new();
        if let Some(link) = &mut self.link {
            for number in 0..ECHOES {
                let began = clock::now();
                link.write((FrameKind::Echo, number), 0, &[])?;
                link.read(&[FrameKind::Echo], 0)?;
                times.push(clock::now().saturating_sub(began));
            }
        }
        Ok((costs::median(&mut times), ECHOES))
    }

    /// Has the links set, and waits until they are.
    fn set_links(&self, setting: Setting) -> Result<(), JobError> {
        if self.link.is_none() {
            return Ok(());
        }
        let Setting {
            round_trip_ns,
            rate_bps,
        } = setting;
        report(
            self.signals,
            JobEvent::SetLinks {
                round_trip_ns,
                rate_bps,
            },
        );
        match self.told.recv() {
            Ok(JobCommand::LinksSet) => Ok(()),
            _ => Err(JobError::Spec {
                why: "it was told something else when its links were to be set".to_owned(),
            }),
        }
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
        let group = self.groups;
        self.groups += 1;
        let mut running = BTreeMap::new();
        for prompt in prompts {
            let number = self.trials;
            self.trials += 1;
            let layers = 0..arm.first_cut();
            let record = TrialRecord {
                number,
                group,
                arm: arm.clone(),
                round_trip_ns: setting.round_trip_ns,
                rate_bps: setting.rate_bps,
                prompt: *prompt,
                started_ns: since(self.t0)(clock::now()),
                token_ns: Vec::new(),
                tokens: Vec::new(),
                hops: Vec::new(),
                busy_ns: vec![0],
            };
            let cache = self.part.new_cache_of(layers);
            let mut request = Running { record, cache };
            let index = usize::try_from(*prompt).unwrap_or(usize::MAX);
            let input = self.prompts.get(index).cloned().unwrap_or_default();
            if arm.is_whole() {
                self.answer_alone(&mut request, input)?;
                self.find(StudyFinding::Trial(request.record));
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
            let token = self.part.next_token(&states)?;
            let now = clock::now();
            request.note(token, since(self.t0)(now));
            request.computed(now.saturating_sub(began));
            input = vec![token];
        }
        Ok(())
    }

    fn begin(&mut self, request: &mut Running, prompt: &[u32]) -> Result<(), JobError> {
        let ends = request.record.arm.ends();
        // The first layer of the next stage, how states are coded, and where all stages end.
        let opening = [ends.first().copied().unwrap_or(0), 0];
        let words: Vec<u32> = opening
            .into_iter()
            .chain(ends.iter().skip(1).copied())
            .collect();
        let id = request.record.number;
        self.link()?
            .write((FrameKind::Begin, id), 0, &token_bytes(&words))?;
        self.send_states(request, prompt)
    }

    fn link(&mut self) -> Result<&mut Link, JobError> {
        self.link.as_mut().ok_or_else(|| JobError::Spec {
            why: "the model is to be split and no address of a next stage is given".to_owned(),
        })
    }

    /// Carries tokens through the layers here and sends the states on.
    fn send_states(&mut self, request: &mut Running, tokens: &[u32]) -> Result<(), JobError> {
        let layers = 0..request.record.arm.first_cut();
        let position = request.cache.positions();
        let began = clock::now();
        let cache = &mut request.cache;
        let states = self.part.carry_tokens_through(layers, tokens, cache)?;
        request.computed(clock::now().saturating_sub(began));
        let id = request.record.number;
        self.link()?
            .write((FrameKind::Hidden, id), position, &states.to_le_bytes())
    }

    /// Takes answers as they come until every request has its last, and its books are closed.
    fn answer_together(&mut self, mut running: BTreeMap<u32, Running>) -> Result<(), JobError> {
        let output = usize::try_from(self.study.output_tokens).unwrap_or(usize::MAX);
        let most_bytes = self.study.nodes() * books::ENTRY_BYTES;
        let most_bytes = u64::try_from(most_bytes).unwrap_or(u64::MAX);
        let offset = since(self.t0);
        while !running.is_empty() {
            let link = self.link()?;
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
                self.find(StudyFinding::Trial(request.record));
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
