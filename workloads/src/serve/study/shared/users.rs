//! The users: each with a connection over its own link, all with the arrivals that the study's seed gives them.

use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::{ALONE, EdgeCosts, MOST_JSON_BYTES, MOST_REQUESTS, Order, request_of, wire_id};
use crate::clock::{self, MonotonicNs};
use crate::job::{JobCommand, JobEvent};
use crate::serve::connection::{
    Access, Connection, ConnectionError, Frame, FrameReader, FrameWriter, PayloadCounter, Stream,
    connect, token_bytes,
};
use crate::serve::error::JobError;
use crate::serve::signal::{Ready, Signal, tell};
use crate::serve::study::{costs, models, report, since};
use crate::serve::thread;
use crate::study::shared::policy::Policy;
use crate::study::shared::{
    EdgeBooks, Ending, SharedCosts, SharedRound, SharedSpec, Tie, UserRecord, UserRequest,
};
use crate::study::{Arm, StudyFinding, StudyJobSpec, StudySpec};
use crate::wire::{FrameKind, HEADER_BYTES};

/// Echoes that a round trip is the median of.
const ECHOES: u32 = 11;

/// Uploads of each user that their median is of.
const UPLOADS: u32 = 5;

/// A frame to be written.
struct Outgoing {
    kind: FrameKind,
    id: u32,
    position: u32,
    body: Vec<u8>,
}

/// A frame that came, or why none comes any more.
struct Incoming {
    user: usize,
    at: MonotonicNs,
    frame: Result<Frame, ConnectionError>,
}

struct Users<'a> {
    study: &'a StudySpec,
    shared: &'a SharedSpec,
    prompts: Vec<Vec<u32>>,
    writers: Vec<Sender<Outgoing>>,
    peers: Vec<SocketAddr>,
    came: Receiver<Incoming>,
    t0: MonotonicNs,
}

/// Plays such a study to its end.
pub(in crate::serve::study) fn drive(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    (addresses, access, counter): (&[SocketAddr], &Access, &PayloadCounter),
    (signals, told): (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    let shared = study.shared.as_ref().ok_or_else(|| JobError::Spec {
        why: "it does not say what its users do".to_owned(),
    })?;
    // Nothing of the model is held here; what it is must be known to ask for it.
    let named = models::large_by_name(spec)?;
    let needed = named.terms(0..named.all_layers())?;
    let prompts = named.prompts(prompt_seeds, study.prompt_tokens)?;
    let (arrived, came) = mpsc::channel();
    let (mut writers, mut sockets) = (Vec::new(), Vec::new());
    for (user, address) in addresses.iter().copied().enumerate() {
        let connection = connect(address, (access, &needed), counter)?;
        let Connection {
            reader,
            writer,
            socket,
            ..
        } = connection;
        sockets.push(socket);
        let (outgoing, queue) = mpsc::channel();
        writers.push(outgoing);
        let arrived = arrived.clone();
        thread::spawn("hx-send", signals, move |_signals| {
            send(writer, &queue).map_err(|source| JobError::Connection {
                peer: address,
                source,
            })
        })?;
        thread::spawn("hx-reader", signals, move |_signals| {
            hear(reader, user, &arrived);
            Ok(())
        })?;
    }
    drop(arrived);
    let ready = Ready {
        weight_bytes: named.weight_bytes(),
        engine_path: named.engine_path(),
        sockets,
    };
    tell(signals, Signal::Ready(ready));
    let Ok(JobCommand::Start { t0_monotonic_ns }) = told.recv() else {
        return Ok(());
    };
    clock::sleep_until(t0_monotonic_ns);
    let users = Users {
        study,
        shared,
        prompts,
        writers,
        peers: addresses.to_vec(),
        came,
        t0: t0_monotonic_ns,
    };
    let seed = prompt_seeds.first().copied().unwrap_or(0);
    users.play(seed, signals)?;
    report(signals, JobEvent::Idle);
    Ok(())
}

fn send(
    mut writer: FrameWriter<Stream>,
    queue: &Receiver<Outgoing>,
) -> Result<(), ConnectionError> {
    for Outgoing {
        kind,
        id,
        position,
        body,
    } in queue
    {
        writer.write(kind, id, position, &body)?;
    }
    Ok(())
}

fn limits(kind: FrameKind) -> Option<u64> {
    match kind {
        FrameKind::Token => Some(4),
        FrameKind::Costs | FrameKind::Books => Some(MOST_JSON_BYTES),
        FrameKind::Grant | FrameKind::Refused | FrameKind::Echo | FrameKind::Round => Some(0),
        _ => None,
    }
}

fn hear(mut reader: FrameReader<Stream>, user: usize, arrived: &Sender<Incoming>) {
    loop {
        let frame = reader.read(&limits);
        let frame = frame.and_then(|frame| frame.ok_or(ConnectionError::Closed));
        let is_last = frame.is_err();
        let incoming = Incoming {
            user,
            at: clock::now(),
            frame,
        };
        if arrived.send(incoming).is_err() || is_last {
            return;
        }
    }
}

/// The token in a frame.
fn token_of(frame: &Frame) -> Result<u32, ConnectionError> {
    let token = <[u8; 4]>::try_from(&*frame.body);
    token
        .map(u32::from_le_bytes)
        .map_err(|_length| frame.content_error("it holds no token"))
}

/// A request under way.
struct Open<'a> {
    request: &'a UserRequest,
    record: UserRecord,
}

impl Users<'_> {
    fn play(&self, seed: u64, signals: &Sender<Signal>) -> Result<(), JobError> {
        let found = |finding| report(signals, JobEvent::Study(finding));
        let costs = self.measure()?;
        found(StudyFinding::Shared(costs.clone()));
        let batch = self.study.arms.iter().filter_map(Arm::batch).max();
        let alone = costs.place_ns(1, self.study.output_tokens)
            + costs.upload_ns.iter().max().copied().unwrap_or(0);
        if alone > self.shared.deadline_ns {
            let ms = |ns: u64| ns / 1_000_000;
            let why = format!(
                "a request takes {} ms alone, and is to be served within {} ms: allow more, or ask for less",
                ms(alone),
                ms(self.shared.deadline_ns)
            );
            return Err(JobError::Spec { why });
        }
        let mut number = 0;
        for users in self.shared.users.iter().copied() {
            let output = self.study.output_tokens;
            let capacity = costs.capacity_per_kilosecond(users, batch.unwrap_or(1), output);
            for percent in self.shared.offered_percent.iter().copied() {
                let offered = (capacity * u64::from(percent) / 100).max(1);
                for repetition in 0..self.shared.repetitions {
                    let arrivals = self.shared.arrivals(
                        (seed, self.study.prompts),
                        users,
                        (offered, repetition),
                    );
                    if arrivals.len() >= MOST_REQUESTS {
                        let why = format!("{} requests in one round are too many", arrivals.len());
                        return Err(JobError::Spec { why });
                    }
                    for arm in &self.study.arms {
                        let Arm::Shared { policy, batch } = *arm else {
                            continue;
                        };
                        let round = SharedRound {
                            number,
                            policy,
                            batch,
                            users,
                            offered_percent: percent,
                            offered_per_kilosecond: offered,
                            repetition,
                            from_ns: 0,
                            until_ns: 0,
                            requests: Vec::new(),
                            books: EdgeBooks::default(),
                        };
                        found(StudyFinding::Round(self.round(round, &arrivals, &costs)?));
                        number += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn write(&self, user: usize, (kind, id): (FrameKind, u32), position: u32, body: Vec<u8>) {
        if let Some(writer) = self.writers.get(user) {
            // A thread that has ended has told why.
            let _ended = writer.send(Outgoing {
                kind,
                id,
                position,
                body,
            });
        }
    }

    fn broken(&self, user: usize, source: ConnectionError) -> JobError {
        let peer = self.peers.get(user).copied();
        JobError::Connection {
            peer: peer.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
            source,
        }
    }

    /// The next frame of one user, which must be of that kind.
    fn expect(&self, user: usize, kind: FrameKind) -> Result<(MonotonicNs, Frame), JobError> {
        let patience = Duration::from_nanos(self.study.timeout_ns);
        loop {
            let Ok(incoming) = self.came.recv_timeout(patience) else {
                let seconds = self.study.timeout_ns / 1_000_000_000;
                return Err(self.broken(user, ConnectionError::PeerSilent { seconds }));
            };
            let came = incoming.user;
            let frame = incoming.frame.map_err(|source| self.broken(came, source))?;
            if came == user && frame.header.kind == kind {
                return Ok((incoming.at, frame));
            }
            // What is left of a round that was given up.
        }
    }

    fn upload(&self, deadline_ns: MonotonicNs, prompt: u32) -> Vec<u8> {
        let index = usize::try_from(prompt).unwrap_or(usize::MAX);
        let ids = self.prompts.get(index).map_or(&[][..], Vec::as_slice);
        let more = usize::try_from(self.shared.upload_bytes).unwrap_or(0);
        let mut body = deadline_ns.to_le_bytes().to_vec();
        body.extend(token_bytes(ids));
        body.resize(body.len() + more, 0x5a);
        body
    }

    /// Round trips, uploads alone, and what computing costs.
    fn measure(&self) -> Result<SharedCosts, JobError> {
        let (mut echo_ns, mut upload_ns) = (Vec::new(), Vec::new());
        for user in 0..self.writers.len() {
            let mut times = Vec::new();
            for number in 0..ECHOES {
                let began = clock::now();
                self.write(user, (FrameKind::Echo, number), 0, Vec::new());
                let (at, _) = self.expect(user, FrameKind::Echo)?;
                times.push(at.saturating_sub(began));
            }
            let echo = costs::median(&mut times);
            let mut times = Vec::new();
            for number in 0..UPLOADS {
                let began = clock::now();
                self.write(user, (FrameKind::Prompt, number), 0, self.upload(0, 0));
                let (at, _) = self.expect(user, FrameKind::Grant)?;
                // Without the way there and back, which uploads that follow each other share.
                times.push(at.saturating_sub(began).saturating_sub(echo));
            }
            echo_ns.push(echo);
            upload_ns.push(costs::median(&mut times).max(1));
        }
        self.write(0, (FrameKind::Measure, 0), 0, Vec::new());
        let (_, frame) = self.expect(0, FrameKind::Costs)?;
        let measured: Result<EdgeCosts, _> = serde_json::from_slice(&frame.body);
        let wrong = |error| {
            let why = format!("it holds no costs: {error}");
            self.broken(0, frame.content_error(why))
        };
        let EdgeCosts {
            prefill_ns,
            mut batches,
        } = measured.map_err(wrong)?;
        let offset = since(self.t0);
        for run in &mut batches {
            (run.from_ns, run.until_ns) = (offset(run.from_ns), offset(run.until_ns));
        }
        let mut costs = SharedCosts {
            prefill_ns,
            batches,
            upload_ns,
            echo_ns,
            alone: Vec::new(),
            alone_ties: Vec::new(),
        };
        (costs.alone, costs.alone_ties) = self.answers_alone(&costs)?;
        Ok(costs)
    }

    /// What each prompt is answered with while nothing else is asked, and which tokens are ties: one after the other,
    /// in a batch of one.
    fn answers_alone(&self, costs: &SharedCosts) -> Result<(Vec<Vec<u32>>, Vec<Tie>), JobError> {
        self.begin(&Order {
            number: ALONE,
            policy: Policy::Fcfs,
            batch: 1,
            upload_ns: costs.upload_ns.clone(),
            echo_ns: costs.echo_ns.clone(),
        })?;
        let mut answers = Vec::new();
        for prompt in 0..self.study.prompts {
            let id = wire_id(ALONE, prompt);
            let body = self.upload(clock::now(), prompt);
            self.write(0, (FrameKind::Prompt, id), self.study.output_tokens, body);
            let mut answer = Vec::new();
            for _ in 0..self.study.output_tokens {
                let (_, frame) = self.expect(0, FrameKind::Token)?;
                answer.push(token_of(&frame).map_err(|source| self.broken(0, source))?);
            }
            answers.push(answer);
        }
        Ok((answers, self.end()?.ties))
    }

    /// Has the edge begin a round.
    fn begin(&self, order: &Order) -> Result<(), JobError> {
        let body = serde_json::to_vec(order).map_err(JobError::ParseSpec)?;
        self.write(0, (FrameKind::Round, 0), 0, body);
        self.expect(0, FrameKind::Round).map(drop)
    }

    /// Has it end the round and give account.
    fn end(&self) -> Result<EdgeBooks, JobError> {
        self.write(0, (FrameKind::End, 0), 0, Vec::new());
        let (_, frame) = self.expect(0, FrameKind::Books)?;
        let books: Result<EdgeBooks, _> = serde_json::from_slice(&frame.body);
        books.map_err(|error| {
            let why = format!("it holds no books: {error}");
            self.broken(0, frame.content_error(why))
        })
    }

    /// One arm with some arrivals.
    fn round(
        &self,
        mut round: SharedRound,
        arrivals: &[UserRequest],
        costs: &SharedCosts,
    ) -> Result<SharedRound, JobError> {
        self.begin(&Order {
            number: round.number,
            policy: round.policy,
            batch: round.batch,
            upload_ns: costs.upload_ns.clone(),
            echo_ns: costs.echo_ns.clone(),
        })?;
        let offset = since(self.t0);
        // A little later, so that the first request is not late.
        let begins = clock::now().saturating_add(2_000_000);
        round.from_ns = offset(begins);
        let mut open: Vec<Open<'_>> = Vec::new();
        let last_due = arrivals.last().map_or(0, |request| request.due_ns);
        let give_up = begins
            .saturating_add(last_due)
            .saturating_add(self.study.timeout_ns);
        let mut left = arrivals.len();
        while left > 0 {
            let now = clock::now();
            let next = arrivals.get(open.len());
            if let Some(request) = next
                && begins.saturating_add(request.due_ns) <= now
            {
                open.push(self.send_request(&round, request, begins));
                continue;
            }
            if now >= give_up {
                break;
            }
            let until = next.map_or(give_up, |next| begins.saturating_add(next.due_ns));
            let wait = Duration::from_nanos(until.saturating_sub(now).max(1));
            match self.came.recv_timeout(wait) {
                Ok(incoming) => left -= usize::from(self.hear(&round, &mut open, incoming)?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.broken(0, ConnectionError::Closed));
                }
            }
        }
        round.until_ns = offset(clock::now());
        round.books = self.end()?;
        for run in &mut round.books.passes {
            (run.from_ns, run.until_ns) = (offset(run.from_ns), offset(run.until_ns));
        }
        round.requests = open.into_iter().map(|open| open.record).collect();
        Ok(round)
    }

    fn send_request<'r>(
        &self,
        round: &SharedRound,
        request: &'r UserRequest,
        begins: MonotonicNs,
    ) -> Open<'r> {
        let offset = since(self.t0);
        let due = begins.saturating_add(request.due_ns);
        let mut open = Open {
            request,
            record: UserRecord {
                id: request.id,
                user: request.user,
                prompt: request.prompt,
                due_ns: offset(due),
                sent_ns: offset(clock::now()),
                first_ns: None,
                ended_ns: None,
                ending: Ending::Open,
                uploaded: false,
                tokens: 0,
                answer: Vec::new(),
                up: 0,
                down: 0,
            },
        };
        if round.policy.asks() {
            let mut body = self.deadline(due).to_le_bytes().to_vec();
            body.extend(self.shared.upload_bytes.to_le_bytes());
            let user = usize::try_from(request.user).unwrap_or(usize::MAX);
            open.record.up += HEADER_BYTES + u64::try_from(body.len()).unwrap_or(0);
            let id = wire_id(round.number, request.id);
            self.write(user, (FrameKind::Ask, id), 0, body);
        } else {
            self.send_upload(round.number, &mut open);
        }
        open
    }

    const fn deadline(&self, due: MonotonicNs) -> MonotonicNs {
        due.saturating_add(self.shared.deadline_ns)
    }

    fn send_upload(&self, round: u32, open: &mut Open<'_>) {
        let due = self.t0.saturating_add(open.record.due_ns);
        let body = self.upload(self.deadline(due), open.request.prompt);
        open.record.uploaded = true;
        open.record.up += HEADER_BYTES + u64::try_from(body.len()).unwrap_or(0);
        let user = usize::try_from(open.request.user).unwrap_or(usize::MAX);
        let id = wire_id(round, open.request.id);
        let output = self.study.output_tokens;
        self.write(user, (FrameKind::Prompt, id), output, body);
    }

    /// Takes a frame; whether it was the last of its request.
    fn hear(
        &self,
        round: &SharedRound,
        open: &mut [Open<'_>],
        incoming: Incoming,
    ) -> Result<bool, JobError> {
        let Incoming { user, at, frame } = incoming;
        let frame = frame.map_err(|source| self.broken(user, source))?;
        let id = frame.header.request;
        let index = usize::try_from(request_of(id)).unwrap_or(usize::MAX);
        let known = open.get_mut(index);
        let known = known.filter(|open| wire_id(round.number, open.request.id) == id);
        let Some(open) = known else {
            return Ok(false);
        };
        let at = since(self.t0)(at);
        open.record.down += HEADER_BYTES + u64::from(frame.header.body_bytes);
        match frame.header.kind {
            FrameKind::Grant if round.policy == Policy::Joint && !open.record.uploaded => {
                self.send_upload(round.number, open);
                Ok(false)
            }
            FrameKind::Refused => {
                open.record.ending = Ending::Refused;
                open.record.ended_ns = Some(at);
                Ok(true)
            }
            FrameKind::Token => {
                let token = token_of(&frame).map_err(|source| self.broken(user, source))?;
                open.record.answer.push(token);
                open.record.tokens += 1;
                open.record.first_ns.get_or_insert(at);
                if open.record.tokens < self.study.output_tokens {
                    return Ok(false);
                }
                open.record.ending = Ending::Served;
                open.record.ended_ns = Some(at);
                Ok(true)
            }
            _ => Err(self.broken(user, frame.content_error("it has no place in a round"))),
        }
    }
}
