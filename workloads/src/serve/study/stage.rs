//! A further node of a study: carries states through its layers and hands them on, or answers with
//! the next token if it is the last.

mod activations;
mod asked;
mod back;
mod guess;
mod halves;
mod whole;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use super::books::WayBack;
use super::door::{Refusal, first_to_come};
use super::{costs, models};
use crate::clock;
use crate::coding::Coding;
use crate::engine::{KeyValueCache, StateCoder};
use crate::serve::connection::{
    Access, Connection, Frame, FrameReader, FrameWriter, Listener, PayloadCounter, Stream, connect,
    token_bytes,
};
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::{Ready, Signal, tell};
use crate::serve::thread;
use crate::study::cnn;
use crate::study::placement::ASK_WORDS;
use crate::study::{NodeCosts, StudyJobSpec, StudySpec};
use crate::wire::FrameKind;

/// Requests that may be open at a time.
const MAX_OPEN_REQUESTS: usize = 64;

/// Stages behind this one that an opening may name.
const MAX_STAGES: u64 = 64;

/// Serves until the driver goes.
pub(super) fn play(
    spec: &StudyJobSpec,
    (study, place): (&StudySpec, u32),
    (listen, next): (SocketAddr, Option<SocketAddr>),
    counter: &Arc<PayloadCounter>,
    signals: &Sender<Signal>,
) -> Result<(), JobError> {
    let asked = asked::Asked::open(spec, study, place)?;
    let part = models::layers_at(spec, study, place)?;
    let guesses = guess::Guesses::learnt(&part, study)?;
    let halves = halves::Halves::open(spec, study, place)?;
    let access = Access::of(&spec.secret, spec.transport)?;
    let refused = |source| JobError::Listen {
        address: listen,
        source,
    };
    let (listener, socket) = Listener::bind(listen, &access).map_err(refused)?;
    let mut sockets = vec![socket];
    let behind = match next {
        Some(address) => {
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            let (layers, _) = study.layers_of(place + 1, part.all_layers());
            let needed = part.terms(layers)?;
            // What goes that way is counted by who receives it.
            let counter = PayloadCounter::default();
            let connection = connect(address, (&access, &needed), &counter)?;
            let Connection {
                reader,
                writer,
                socket,
                peer,
            } = connection;
            sockets.push(socket);
            Some((reader, writer, peer))
        }
        None => None,
    };
    let (layers, _) = study.layers_of(
        usize::try_from(place).unwrap_or(usize::MAX),
        part.all_layers(),
    );
    let held = part.terms(layers)?;
    let ready = Ready {
        weight_bytes: part.weight_bytes() + asked.weight_bytes() + halves.weight_bytes(),
        engine_path: asked.engine_path(part.engine_path()),
        sockets,
    };
    tell(signals, Signal::Ready(ready));
    let Some(front) = first_to_come(listener, (access, held), counter, signals)? else {
        return Ok(());
    };
    let served = serve((part, asked, guesses, halves), front, behind, signals);
    counter.closed();
    served
}

type Behind = (FrameReader<Stream>, FrameWriter<Stream>, SocketAddr);

fn serve(
    (part, asked, guesses, halves): (Part, asked::Asked, Option<guess::Guesses>, halves::Halves),
    front: Connection,
    behind: Option<Behind>,
    signals: &Sender<Signal>,
) -> Result<(), JobError> {
    let Connection {
        mut reader,
        writer,
        socket: _open,
        peer,
    } = front;
    let way_back = Arc::new(WayBack::new(writer));
    let own_costs = Arc::new(Mutex::new(None));
    let next = match behind {
        Some((reader, writer, peer)) => {
            let way_back = Arc::clone(&way_back);
            let own_costs = Arc::clone(&own_costs);
            thread::spawn("hx-back", signals, move |_signals| {
                back::hand_on(reader, &way_back, &own_costs)
                    .map_err(|source| JobError::Connection { peer, source })
            })?;
            Some((writer, peer))
        }
        None => None,
    };
    let mut stage = Stage {
        part,
        way_back,
        own_costs,
        next,
        open: BTreeMap::new(),
        asked,
        guesses,
        halves,
    };
    let limits = Limits::of(&stage.part);
    loop {
        let frame = reader.read(&|kind| limits.accepts(kind));
        let frame = frame.map_err(|source| JobError::Connection { peer, source })?;
        let Some(mut frame) = frame else {
            return Ok(());
        };
        match stage.take(&mut frame) {
            Ok(()) => {}
            Err(Refusal::Job(error)) => return Err(error),
            Err(Refusal::Front(source)) => return Err(JobError::Connection { peer, source }),
        }
    }
}

/// The longest bodies that make sense.
#[derive(Debug, Clone, Copy)]
struct Limits {
    state_bytes: u64,
    prompt_bytes: u64,
    activation_bytes: u64,
}

impl Limits {
    fn of(part: &Part) -> Limits {
        let (positions, width) = (part.max_positions(), part.width());
        let (positions, width) = (u64::from(positions), u64::from(width));
        let of_coding = |coding: Coding| {
            let states = positions.saturating_mul(coding.token_bytes(width));
            states.saturating_add(coding.opening_bytes(width))
        };
        Limits {
            state_bytes: Coding::ALL.into_iter().map(of_coding).max().unwrap_or(0),
            prompt_bytes: 4 * positions,
            activation_bytes: cnn::blocks()
                .iter()
                .map(|block| block.activations)
                .max()
                .unwrap_or(0),
        }
    }

    const fn accepts(self, kind: FrameKind) -> Option<u64> {
        match kind {
            FrameKind::Begin => Some(4 * (2 + MAX_STAGES)),
            FrameKind::Hidden | FrameKind::Partial => Some(self.state_bytes),
            FrameKind::Prompt => Some(self.prompt_bytes),
            FrameKind::Place => Some(4 * ASK_WORDS + self.prompt_bytes),
            FrameKind::Tokens => Some(4 + self.prompt_bytes),
            FrameKind::Activations => Some(self.activation_bytes),
            FrameKind::Guess => Some(4 + self.state_bytes),
            FrameKind::Echo | FrameKind::Measure | FrameKind::HalfCosts | FrameKind::End => Some(0),
            _ => None,
        }
    }
}

/// A request that is under way here.
struct Open {
    layers: Range<u32>,
    cache: KeyValueCache,
    /// How the states come in.
    from_front: StateCoder,
    /// How they go on.
    onward: StateCoder,
}

struct Stage {
    part: Part,
    way_back: Arc<WayBack>,
    own_costs: Arc<Mutex<Option<NodeCosts>>>,
    next: Option<(FrameWriter<Stream>, SocketAddr)>,
    open: BTreeMap<u32, Open>,
    /// Requests of placements, and further weights that answer them.
    asked: asked::Asked,
    /// How tokens are read from states, where what leaks is studied.
    guesses: Option<guess::Guesses>,
    /// Half of every layer, where two nodes share them.
    halves: halves::Halves,
}

impl Stage {
    fn take(&mut self, frame: &mut Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let opening = [
            FrameKind::Begin,
            FrameKind::Prompt,
            FrameKind::Place,
            FrameKind::Activations,
            FrameKind::Guess,
        ];
        let opens = opening.contains(&frame.header.kind) || halves::opens(frame);
        self.way_back.received(id, frame.body.len(), opens);
        match frame.header.kind {
            FrameKind::Begin => self.begin(frame),
            FrameKind::Hidden => self.advance(frame),
            FrameKind::Prompt => self.answer(frame),
            FrameKind::Place => self.ask(frame),
            FrameKind::Activations => self.finish(frame),
            FrameKind::Guess => self.guess(frame),
            FrameKind::Tokens => self.pass_tokens(frame),
            FrameKind::Partial => self.add_partial(frame),
            FrameKind::HalfCosts => self.measure_halves(frame),
            FrameKind::End if self.halves.ends(id) => Ok(self.way_back.close(id, &[])?),
            FrameKind::End if self.asked.knows(id) => self.end_asked(id),
            FrameKind::End => {
                let ended = self.open.remove(&id);
                ended.ok_or_else(|| frame.content_error("no such request is open"))?;
                if self.next.is_some() {
                    self.send_on((FrameKind::End, id), 0, &[])
                } else {
                    Ok(self.way_back.close(id, &[])?)
                }
            }
            FrameKind::Measure => self.measure(frame),
            // Nothing else than an echo is let in. It goes on to the end, or to the place that it names.
            _ if self.next.is_some() && !self.asked.is_at(frame.header.position) => {
                self.send_on((FrameKind::Echo, id), frame.header.position, &[])
            }
            _ => Ok(self.way_back.send((FrameKind::Echo, id), 0, &[])?),
        }
    }

    fn send_on(
        &mut self,
        (kind, request): (FrameKind, u32),
        position: u32,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let Some((writer, peer)) = &mut self.next else {
            return Ok(());
        };
        let peer = *peer;
        let written = writer.write(kind, request, position, body);
        written
            .map(drop)
            .map_err(|source| Refusal::Job(JobError::Connection { peer, source }))
    }

    /// Opens a request: its layers here, and what the next stage is to be told.
    fn begin(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let words = frame.token_ids().unwrap_or_default();
        let [start, coding, end, behind @ ..] = words.as_slice() else {
            return Err(wrong("it names no layers".to_owned()));
        };
        let Some(known) = Coding::from_number(*coding) else {
            let why = format!("states in coding {coding} are not known here");
            return Err(wrong(why));
        };
        let held = self.part.layers();
        if *start < held.start || *end > held.end || start >= end {
            let why = format!("it asks for layers {start}..{end}, and {held:?} are held here");
            return Err(wrong(why));
        }
        if behind.is_empty() != self.next.is_none() {
            let stages = behind.len();
            return Err(wrong(format!("it names {stages} stages behind this one")));
        }
        if self.open.len() >= MAX_OPEN_REQUESTS || self.open.contains_key(&id) {
            return Err(wrong("it is open already, or too many are".to_owned()));
        }
        let layers = *start..*end;
        let cache = self.part.new_cache_of(layers.clone());
        let coder = self.part.state_coder(known)?;
        let open = Open {
            layers,
            cache,
            from_front: coder.clone(),
            onward: coder,
        };
        self.open.insert(id, open);
        if behind.is_empty() {
            return Ok(());
        }
        let onward: Vec<u32> = [*end, *coding]
            .into_iter()
            .chain(behind.iter().copied())
            .collect();
        self.send_on((FrameKind::Begin, id), 0, &token_bytes(&onward))
    }

    /// Carries the states of a frame, which it takes, through the layers of their request, and hands on what becomes
    /// of them.
    fn advance(&mut self, frame: &mut Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let Some(open) = self.open.get_mut(&id) else {
            return Err(frame.content_error("no such request is open").into());
        };
        let position = open.cache.positions();
        if position != frame.header.position {
            let at = frame.header.position;
            let why = format!("it starts at position {at}, and {position} are cached");
            return Err(frame.content_error(why).into());
        }
        let began = clock::now();
        let body = std::mem::take(&mut frame.body);
        let states = self.part.decode_body(&mut open.from_front, body);
        let states = states.map_err(|why| frame.content_error(why))?;
        self.part
            .check_length(position.saturating_add(states.tokens()), 1)
            .map_err(|why| frame.content_error(why))?;
        let layers = open.layers.clone();
        let carried = self
            .part
            .carry_hidden_through(layers, &states, &mut open.cache)?;
        let end = open.cache.positions();
        if self.next.is_some() {
            let states = self.part.encode(&mut open.onward, &carried)?;
            let busy_ns = clock::now().saturating_sub(began);
            self.way_back.computed(id, busy_ns);
            return self.send_on((FrameKind::Hidden, id), position, &states);
        }
        if open.layers.end < self.part.all_layers() {
            // The layers behind these are on the driver's node.
            let states = self.part.encode(&mut open.onward, &carried)?;
            self.way_back
                .computed(id, clock::now().saturating_sub(began));
            return Ok(self
                .way_back
                .send((FrameKind::Hidden, id), position, &states)?);
        }
        let token = self.part.next_token(&carried)?;
        self.way_back
            .computed(id, clock::now().saturating_sub(began));
        let body = token_bytes(&[token]);
        Ok(self.way_back.send((FrameKind::Token, id), end, &body)?)
    }

    /// Measures what computing costs here, and only then asks the next stage.
    fn measure(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let position = frame.header.position;
        if position >= self.part.max_positions() {
            return Err(frame.content_error("the model has no such position").into());
        }
        let layers = self.part.layers();
        let few = layers.start..(layers.start + 1).min(layers.end);
        let last = self.next.is_none();
        let own = costs::measure(&self.part, few, last, position)?;
        if last {
            let body = serde_json::to_vec(&[own]).map_err(JobError::ParseSpec)?;
            return Ok(self.way_back.send((FrameKind::Costs, 0), 0, &body)?);
        }
        *self
            .own_costs
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(own);
        self.send_on((FrameKind::Measure, 0), position, &[])
    }
}
