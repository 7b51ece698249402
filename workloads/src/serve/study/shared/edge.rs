//! The edge: hears all users, and computes what waits in one batch.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::desk::{Client, Desk, Prompt, Task};
use super::{EdgeCosts, MOST_JSON_BYTES, Order, request_of};
use crate::clock;
use crate::engine::Slots;
use crate::serve::connection::{
    Access, Connection, ConnectionError, Frame, Listener, PayloadCounter, accept, token_bytes,
};
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::{Ready, Signal, tell};
use crate::serve::study::{costs, models};
use crate::serve::thread;
use crate::study::shared::policy::Places;
use crate::study::shared::{ASK_BYTES, BatchCost, DEADLINE_BYTES, EdgeBooks, Tie};
use crate::study::{StudyJobSpec, StudySpec};
use crate::wire::{FrameKind, HEADER_BYTES};

/// Prompts whose median tells what reading one costs.
const PREFILLS: u32 = 7;

/// Runs of each number of sequences, one after the other in turn.
const RUNS: u32 = 6;

/// Passes between which the sequences of a run begin anew.
const PASSES: u32 = 12;

/// A run lasts so long at least: a shorter one is nothing to what meters energy.
const SHORTEST_RUN_NS: u64 = 400_000_000;

/// The desk, and what wakes the engine up.
#[derive(Default)]
struct Shared {
    desk: Mutex<Desk>,
    changed: Condvar,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a frame may hold.
#[derive(Debug, Clone, Copy)]
struct Limits {
    max_positions: u32,
    upload_bytes: u32,
    prompt_tokens: u32,
}

impl Limits {
    fn accepts(self, kind: FrameKind) -> Option<u64> {
        match kind {
            FrameKind::Prompt => Some(
                DEADLINE_BYTES + 4 * u64::from(self.max_positions) + u64::from(self.upload_bytes),
            ),
            FrameKind::Ask => Some(ASK_BYTES),
            FrameKind::Round => Some(MOST_JSON_BYTES),
            FrameKind::Echo | FrameKind::Measure | FrameKind::End => Some(0),
            _ => None,
        }
    }
}

/// Serves until all users have gone.
pub(in crate::serve::study) fn serve(
    spec: &StudyJobSpec,
    study: &StudySpec,
    listens: &[SocketAddr],
    counter: &Arc<PayloadCounter>,
    signals: &Sender<Signal>,
) -> Result<(), JobError> {
    let part = models::large(spec)?;
    let held = Arc::new((
        Access::of(&spec.secret, spec.transport)?,
        part.terms(0..part.all_layers())?,
    ));
    let limits = Limits {
        max_positions: part.max_positions(),
        upload_bytes: study.shared.as_ref().map_or(0, |it| it.upload_bytes),
        prompt_tokens: study.prompt_tokens,
    };
    let shared = Arc::new(Shared::default());
    shared.desk().clients.resize_with(listens.len(), || None);
    let mut sockets = Vec::new();
    for (user, address) in listens.iter().copied().enumerate() {
        let refused = |source| JobError::Listen { address, source };
        let (listener, socket) = Listener::bind(address, &held.0).map_err(refused)?;
        sockets.push(socket);
        let (held, counter) = (Arc::clone(&held), Arc::clone(counter));
        let shared = Arc::clone(&shared);
        thread::spawn("hx-client", signals, move |_signals| {
            // One user is behind each link. Strangers are shown the door.
            while let Ok(Some((stream, peer))) = listener.accept() {
                match accept(stream, peer, (&held.0, &held.1), &counter) {
                    Ok(connection) => {
                        counter.opened();
                        if let Err(error) = hear(connection, user, limits, &shared) {
                            eprintln!("edge: connection from {peer} ended: {error}");
                        }
                        counter.closed();
                        let mut desk = shared.desk();
                        desk.clients[user] = None;
                        desk.over = desk.clients.iter().all(Option::is_none);
                        shared.changed.notify_all();
                    }
                    Err(error) => eprintln!("edge: connection from {peer} refused: {error}"),
                }
            }
            Ok(())
        })?;
    }
    let ready = Ready {
        weight_bytes: part.weight_bytes(),
        engine_path: part.engine_path(),
        sockets,
    };
    tell(signals, Signal::Ready(ready));
    Engine::new(&part, study)?.run(&shared)
}

/// Hears one user until it goes.
fn hear(
    connection: Connection,
    user: usize,
    limits: Limits,
    shared: &Shared,
) -> Result<(), ConnectionError> {
    let Connection {
        mut reader,
        writer,
        socket,
        ..
    } = connection;
    let client = Client {
        writer,
        _socket: socket,
    };
    shared.desk().clients[user] = Some(client);
    while let Some(frame) = reader.read(&|kind| limits.accepts(kind))? {
        let id = frame.header.request;
        let mut desk = shared.desk();
        match frame.header.kind {
            FrameKind::Echo => {
                desk.write((user, FrameKind::Echo, id), 0, &[])?;
            }
            FrameKind::Ask => desk.asked(user, &frame)?,
            // Nothing is to be answered: it was sent to see how long it takes.
            FrameKind::Prompt if frame.header.position == 0 => {
                desk.write((user, FrameKind::Grant, id), 0, &[])?;
            }
            FrameKind::Prompt => {
                let prompt = prompt(user, limits, &frame)?;
                desk.came(prompt, HEADER_BYTES + u64::from(frame.header.body_bytes))?;
            }
            FrameKind::Measure => desk.tasks.push_back((user, Task::Measure)),
            FrameKind::Round => {
                let order: Result<Order, _> = serde_json::from_slice(&frame.body);
                let wrong = |error| frame.content_error(format!("it holds no order: {error}"));
                desk.tasks
                    .push_back((user, Task::Begin(order.map_err(wrong)?)));
            }
            _ => desk.tasks.push_back((user, Task::End)),
        }
        drop(desk);
        shared.changed.notify_all();
    }
    Ok(())
}

/// The deadline, the prompt's tokens, and what else was uploaded, of which nothing is needed.
fn prompt(user: usize, limits: Limits, frame: &Frame) -> Result<Prompt, ConnectionError> {
    let short = || frame.content_error("it is too short for a deadline and a prompt");
    let (deadline, rest) = frame.body.split_first_chunk::<8>().ok_or_else(short)?;
    let bytes = usize::try_from(4 * u64::from(limits.prompt_tokens)).unwrap_or(usize::MAX);
    let ids = rest.get(..bytes).ok_or_else(short)?;
    let (ids, _) = ids.as_chunks::<4>();
    Ok(Prompt {
        user,
        id: frame.header.request,
        deadline_ns: u64::from_le_bytes(*deadline),
        tokens: ids.iter().map(|id| u32::from_le_bytes(*id)).collect(),
        output: frame.header.position,
    })
}

/// A sequence of the batch.
#[derive(Debug)]
struct Active {
    user: usize,
    id: u32,
    last: u32,
    left: u32,
    position: u32,
}

struct Engine<'a> {
    part: &'a Part,
    study: &'a StudySpec,
    slots: Slots,
    active: Vec<Active>,
    costs: EdgeCosts,
    passes: BTreeMap<u32, BatchCost>,
    ties: Vec<Tie>,
    cpu_before_ns: u64,
}

impl<'a> Engine<'a> {
    fn new(part: &'a Part, study: &'a StudySpec) -> Result<Engine<'a>, JobError> {
        part.check_length(study.prompt_tokens, study.output_tokens)
            .map_err(|why| JobError::Spec { why })?;
        Ok(Engine {
            part,
            study,
            slots: slots(part, study)?,
            active: Vec::new(),
            costs: EdgeCosts::default(),
            passes: BTreeMap::new(),
            ties: Vec::new(),
            cpu_before_ns: 0,
        })
    }

    fn run(&mut self, shared: &Shared) -> Result<(), JobError> {
        loop {
            let mut desk = shared.desk();
            let fresh = loop {
                if desk.over {
                    return Ok(());
                }
                if let Some((user, task)) = desk.tasks.pop_front() {
                    drop(desk);
                    self.carry_out(task, user, shared)?;
                    desk = shared.desk();
                    continue;
                }
                let batch = desk.order.as_ref().map_or(0, |order| order.batch);
                let room = self.slots.filled() < batch;
                let fresh = if room { desk.next() } else { None };
                if fresh.is_some() || !self.active.is_empty() {
                    break fresh;
                }
                let waited = shared.changed.wait(desk);
                desk = waited.unwrap_or_else(PoisonError::into_inner);
            };
            drop(desk);
            match fresh {
                Some(prompt) => self.read_prompt(&prompt, shared)?,
                None => self.pass(shared)?,
            }
        }
    }

    fn carry_out(&mut self, task: Task, user: usize, shared: &Shared) -> Result<(), JobError> {
        let (kind, body) = match task {
            Task::Measure => {
                self.costs = self.measure()?;
                (FrameKind::Costs, serde_json::to_vec(&self.costs))
            }
            Task::Begin(order) => {
                let batch = order.batch;
                self.clear()?;
                shared.desk().begin(order, self.places(batch));
                self.cpu_before_ns = clock::process_cpu_ns();
                (FrameKind::Round, Ok(Vec::new()))
            }
            Task::End => {
                let passes = std::mem::take(&mut self.passes);
                let ties = std::mem::take(&mut self.ties);
                self.clear()?;
                let mut desk = shared.desk();
                desk.end();
                let books = EdgeBooks {
                    passes: passes.into_values().collect(),
                    up: desk.up,
                    down: desk.down,
                    cpu_ns: clock::process_cpu_ns().saturating_sub(self.cpu_before_ns),
                    ties,
                };
                (FrameKind::Books, serde_json::to_vec(&books))
            }
        };
        let body = body.map_err(JobError::ParseSpec)?;
        told(shared.desk().write((user, kind, 0), 0, &body).map(drop));
        Ok(())
    }

    fn clear(&mut self) -> Result<(), JobError> {
        self.active.clear();
        self.passes.clear();
        self.ties.clear();
        self.slots = slots(self.part, self.study)?;
        Ok(())
    }

    /// When places become free, by the costs.
    fn places(&self, batch: u32) -> Places {
        let pass_ns = self.pass_ns(batch);
        let output = u64::from(self.study.output_tokens.saturating_sub(1));
        let now = clock::now();
        let mut free_ns: Vec<u64> = self
            .active
            .iter()
            .map(|active| now.saturating_add(u64::from(active.left) * pass_ns))
            .collect();
        free_ns.resize(usize::try_from(batch).unwrap_or(0).max(free_ns.len()), now);
        Places {
            free_ns,
            place_ns: u64::from(batch) * self.costs.prefill_ns + output * pass_ns,
        }
    }

    fn pass_ns(&self, batch: u32) -> u64 {
        let runs = self.costs.batches.iter();
        let of_batch = runs.filter(|run| run.sequences == batch);
        let mut times: Vec<u64> = of_batch
            .map(|run| run.wall_ns / u64::from(run.passes.max(1)))
            .collect();
        costs::median(&mut times)
    }

    /// Reads a prompt, and gives it a place in the batch unless one token was all that was asked for.
    fn read_prompt(&mut self, prompt: &Prompt, shared: &Shared) -> Result<(), JobError> {
        let most = self.study.output_tokens;
        let fits = self.part.check_tokens(&prompt.tokens).is_ok() && prompt.output <= most;
        if !fits {
            let refusal = (prompt.user, FrameKind::Refused, prompt.id);
            told(shared.desk().answer(refusal, 0, &[]));
            return Ok(());
        }
        let mut cache = self.part.new_cache();
        let states = self.part.carry_tokens(&prompt.tokens, &mut cache)?;
        let (token, is_tie) = self.part.next_token_or_tie(&states)?;
        let position = cache.positions();
        if is_tie {
            let request = request_of(prompt.id);
            self.ties.push(Tie { request, place: 0 });
        }
        let to = (prompt.user, FrameKind::Token, prompt.id);
        if prompt.output > 1 {
            self.part.fill_slot(&mut self.slots, &cache)?;
            self.active.push(Active {
                user: prompt.user,
                id: prompt.id,
                last: token,
                left: prompt.output - 1,
                position,
            });
        }
        let mut desk = shared.desk();
        told(desk.answer(to, position, &token_bytes(&[token])));
        self.decide(&mut desk);
        Ok(())
    }

    /// One more token of every sequence of the batch.
    fn pass(&mut self, shared: &Shared) -> Result<(), JobError> {
        let last: Vec<u32> = self.active.iter().map(|active| active.last).collect();
        let (began, cpu) = (clock::now(), clock::process_cpu_ns());
        let tokens = self.part.carry_slots(&last, &mut self.slots)?;
        let ended = clock::now();
        let sequences = u32::try_from(last.len()).unwrap_or(u32::MAX);
        let cost = self.passes.entry(sequences).or_insert(BatchCost {
            sequences,
            passes: 0,
            wall_ns: 0,
            cpu_ns: 0,
            from_ns: began,
            until_ns: ended,
        });
        cost.passes += 1;
        cost.wall_ns += ended.saturating_sub(began);
        cost.cpu_ns += clock::process_cpu_ns().saturating_sub(cpu);
        cost.until_ns = ended;
        let mut desk = shared.desk();
        for (active, (token, is_tie)) in self.active.iter_mut().zip(tokens) {
            active.last = token;
            active.left -= 1;
            active.position += 1;
            if is_tie {
                self.ties.push(Tie {
                    request: request_of(active.id),
                    place: active.position.saturating_sub(self.study.prompt_tokens),
                });
            }
            let to = (active.user, FrameKind::Token, active.id);
            told(desk.answer(to, active.position, &token_bytes(&[token])));
        }
        // From the last on: where one is emptied the last takes its place.
        for index in (0..self.active.len()).rev() {
            if self.active[index].left == 0 {
                self.active.swap_remove(index);
                let slot = u32::try_from(index).unwrap_or(u32::MAX);
                self.part.empty_slot(&mut self.slots, slot)?;
            }
        }
        self.decide(&mut desk);
        Ok(())
    }

    fn decide(&self, desk: &mut Desk) {
        if let Some(batch) = desk.order.as_ref().map(|order| order.batch) {
            desk.places = self.places(batch);
            told(desk.decide());
        }
    }

    /// What a prompt and passes of every tried batch cost, in runs that take turns.
    fn measure(&mut self) -> Result<EdgeCosts, JobError> {
        let count = usize::try_from(self.study.prompt_tokens).unwrap_or(usize::MAX);
        let prompt = vec![0; count];
        let mut prefills = Vec::new();
        let mut cache = self.part.new_cache();
        for _ in 0..PREFILLS {
            cache = self.part.new_cache();
            let began = clock::now();
            let states = self.part.carry_tokens(&prompt, &mut cache)?;
            self.part.next_token(&states)?;
            prefills.push(clock::now().saturating_sub(began));
        }
        let mut sizes = vec![1];
        let batches = self.study.arms.iter().filter_map(|arm| arm.batch());
        sizes.extend(batches);
        sizes.sort_unstable();
        sizes.dedup();
        let mut batches = Vec::new();
        for run in 0..=RUNS {
            for sequences in &sizes {
                let cost = self.run_of(&cache, *sequences)?;
                // The first one touches what no other has touched.
                if run > 0 {
                    batches.push(cost);
                }
            }
        }
        self.clear()?;
        Ok(EdgeCosts {
            prefill_ns: costs::median(&mut prefills),
            batches,
        })
    }

    /// Passes over so many sequences that follow the prompt; taking it over anew now and then is part of it.
    fn run_of(
        &mut self,
        cache: &crate::engine::KeyValueCache,
        sequences: u32,
    ) -> Result<BatchCost, JobError> {
        let tokens = vec![0; usize::try_from(sequences).unwrap_or(0)];
        let passes_each = PASSES.min(self.study.output_tokens.max(1));
        let mut passes = 0;
        let (from_ns, cpu) = (clock::now(), clock::process_cpu_ns());
        let mut until_ns = from_ns;
        while until_ns.saturating_sub(from_ns) < SHORTEST_RUN_NS {
            self.slots = slots(self.part, self.study)?;
            for _ in 0..sequences {
                self.part.fill_slot(&mut self.slots, cache)?;
            }
            for _ in 0..passes_each {
                self.part.carry_slots(&tokens, &mut self.slots)?;
            }
            passes += passes_each;
            until_ns = clock::now();
        }
        Ok(BatchCost {
            sequences,
            passes,
            wall_ns: until_ns.saturating_sub(from_ns),
            cpu_ns: clock::process_cpu_ns().saturating_sub(cpu),
            from_ns,
            until_ns,
        })
    }
}

/// A user that has gone is not told; its reader says why it went.
fn told(outcome: Result<(), ConnectionError>) {
    if let Err(error) = outcome {
        eprintln!("edge: a user was not told: {error}");
    }
}

fn slots(part: &Part, study: &StudySpec) -> Result<Slots, JobError> {
    let most = study.arms.iter().filter_map(|arm| arm.batch()).max();
    let positions = study.prompt_tokens.saturating_add(study.output_tokens);
    part.new_slots(most.unwrap_or(1), positions.min(part.max_positions()))
}
