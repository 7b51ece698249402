//! The main of a load process: its threads, its commands, and the books that it keeps.

use std::cell::RefCell;
use std::io::{self, BufRead, Write};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::exchange::{Ended, Target, carry_out};
use super::pacer::{Back, Order, Pacer, Sent};
use super::pin;
use super::record::{Ending, ExchangeRecord};
use super::spec::LoadJobSpec;
use crate::clock::{self, MonotonicNs};
use crate::job::{JobCommand, JobEvent, JobTotals, Outcome, RequestRecord};
use crate::wire::PayloadBytes;

/// How long requests under way have to say what they saw when the phase is over.
const END_LIMIT: Duration = Duration::from_millis(1500);

/// Why a load process failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Its input is not what it expects.
    #[error("the load's orders are not understood")]
    Orders(#[source] serde_json::Error),
    /// Standard input or output failed.
    #[error("cannot talk to the node's first process")]
    Talk(#[source] io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The kernel gave no means to wait for sockets.
    #[error("cannot wait for sockets")]
    Sockets(#[source] io::Error),
    /// A thread panicked.
    #[error("a thread of the load is lost")]
    ThreadLost,
}

/// What the threads tell main.
#[derive(Debug)]
enum Signal {
    Command(JobCommand),
    /// Standard input has ended, or is not understood.
    InputEnded(Option<LoadError>),
    Ended(Box<Ended>),
    /// What the record is to say besides.
    Warning(String),
    /// Nothing more will be sent, and nothing is under way.
    Idle,
    /// Every request has given its record.
    AllTold,
}

/// Runs one load, from its [`LoadJobSpec`] on the first line of `input` to its last [`JobEvent`] on
/// `output`. End of file on `input` ends it at once.
///
/// # Errors
/// Its orders are not understood, or the kernel gives no thread or socket; `output` has been told
/// where it still takes lines.
pub fn run_load(input: impl BufRead + Send + 'static, output: impl Write) -> Result<(), LoadError> {
    run_pinned(input, output, pin::keep_to_one_cpu)
}

/// How the thread that sends is kept to one CPU.
type Pin = fn() -> Result<(), Errno>;

fn run_pinned(
    mut input: impl BufRead + Send + 'static,
    mut output: impl Write,
    pin: Pin,
) -> Result<(), LoadError> {
    let began = clock::now();
    let mut line = String::new();
    input.read_line(&mut line).map_err(LoadError::Talk)?;
    if line.is_empty() {
        return Ok(());
    }
    let outcome = serde_json::from_str(&line)
        .map_err(LoadError::Orders)
        .and_then(|spec| conduct(&spec, (began, pin), input, &mut output));
    if let Err(error) = &outcome {
        let mut reason = error.to_string();
        if let Some(cause) = std::error::Error::source(error) {
            reason = format!("{reason}: {cause}");
        }
        tell(&mut output, &JobEvent::Failed { reason })?;
    }
    outcome
}

fn conduct(
    spec: &LoadJobSpec,
    (began, pin): (MonotonicNs, Pin),
    input: impl BufRead + Send + 'static,
    output: &mut impl Write,
) -> Result<(), LoadError> {
    let (signals, heard) = channel();
    let reader = signals.clone();
    spawn("hx-input", move || read_commands(input, &reader))?;
    let ready = JobEvent::Ready {
        weight_bytes: 0,
        engine_path: "none".to_owned(),
    };
    let load_ns = clock::now().saturating_sub(began);
    tell(output, &ready)?;
    let mut books = Books::default();
    let mut playing: Option<Playing> = None;
    loop {
        match heard.recv().map_err(|_closed| LoadError::ThreadLost)? {
            Signal::Command(JobCommand::Start { t0_monotonic_ns }) => {
                playing = Some(Playing::start(
                    spec.clone(),
                    (t0_monotonic_ns, pin),
                    &signals,
                )?);
            }
            // It never asks for either.
            Signal::Command(JobCommand::LinksSet | JobCommand::TracesPlay { .. }) => {}
            Signal::Command(JobCommand::Stop) => break,
            Signal::InputEnded(None) => return Ok(()),
            Signal::InputEnded(Some(error)) => return Err(error),
            Signal::Ended(ended) => books.note(output, *ended)?,
            Signal::Warning(message) => tell(output, &JobEvent::Warning { message })?,
            Signal::Idle => tell(output, &JobEvent::Idle)?,
            Signal::AllTold => return Err(LoadError::ThreadLost),
        }
    }
    if let Some(playing) = playing {
        playing.stop(spec, &heard, &mut books, output)?;
    }
    let totals = JobTotals {
        payload: books.payload,
        quic: None,
        cpu_ns: clock::process_cpu_ns(),
        load_ns,
    };
    tell(output, &JobEvent::Done(totals))
}

/// What has been told of requests so far.
#[derive(Debug, Default)]
struct Books {
    payload: PayloadBytes,
}

impl Books {
    fn note(&mut self, output: &mut impl Write, ended: Ended) -> Result<(), LoadError> {
        self.payload.up += ended.record.payload.up;
        self.payload.down += ended.record.payload.down;
        tell(output, &JobEvent::Exchange(ended.exchange))?;
        tell(output, &JobEvent::Request(ended.record))
    }
}

/// A load under way.
#[derive(Debug)]
struct Playing {
    t0: MonotonicNs,
    sent: Arc<Mutex<Sent>>,
    over: watch::Sender<bool>,
}

impl Playing {
    fn start(
        spec: LoadJobSpec,
        (t0, pin): (MonotonicNs, Pin),
        signals: &Sender<Signal>,
    ) -> Result<Playing, LoadError> {
        let (orders, taken) = unbounded_channel();
        let (give_back, back) = channel();
        let (over, told) = watch::channel(false);
        let sent = Arc::new(Mutex::new(Sent::default()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LoadError::Sockets)?;
        let (endpoint, keep_connections) = (spec.endpoint, spec.load.keep_connections);
        let path = format!("{}{}", spec.load.path, spec.load.api.path());
        let telling = signals.clone();
        spawn("hx-http", move || {
            let target = Target {
                endpoint,
                path,
                keep_connections,
                t0,
                free: RefCell::default(),
            };
            LocalSet::new().block_on(&runtime, serve(target, taken, give_back, &telling, told));
            // Nobody hears it where the process is ending.
            let _ = telling.send(Signal::AllTold);
        })?;
        let pacer = Pacer::new(spec, t0, Arc::clone(&sent));
        let idle = signals.clone();
        spawn("hx-load", move || {
            // Nobody hears either where the process is ending.
            if let Err(errno) = pin() {
                let _ = idle.send(Signal::Warning(pin::warning(errno)));
            }
            pacer.play(&orders, &back);
            let _ = idle.send(Signal::Idle);
            // Orders are open until the phase is over: requests under way go on.
            drop(back.recv());
            drop(orders);
        })?;
        Ok(Playing { t0, sent, over })
    }

    /// Ends it: what is under way says what it saw, and what was never sent is told of too.
    fn stop(
        self,
        spec: &LoadJobSpec,
        heard: &Receiver<Signal>,
        books: &mut Books,
        output: &mut impl Write,
    ) -> Result<(), LoadError> {
        let (mut next_id, begun) = {
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.closed = true;
            (sent.requests, sent.conversations)
        };
        let ended = clock::now().saturating_sub(self.t0);
        // Without a listener there is nothing under way.
        let _ = self.over.send(true);
        while let Ok(signal) = heard.recv_timeout(END_LIMIT) {
            match signal {
                Signal::Ended(ended) => books.note(output, *ended)?,
                Signal::AllTold => break,
                Signal::Warning(message) => tell(output, &JobEvent::Warning { message })?,
                Signal::Command(_) | Signal::InputEnded(_) | Signal::Idle => {}
            }
        }
        let schedule = spec.load.schedule(spec.seed).unwrap_or_default();
        let begun_already = usize::try_from(begun).unwrap_or(usize::MAX);
        for (number, due_ns) in (begun..).zip(schedule.into_iter().skip(begun_already)) {
            books.note(output, never_sent(next_id, number, due_ns, ended))?;
            next_id += 1;
        }
        Ok(())
    }
}

/// The record of a request that was not sent before the phase was over.
fn never_sent(id: u32, conversation: u32, scheduled_ns: u64, ended_ns: u64) -> Ended {
    let sent_ns = scheduled_ns.max(ended_ns);
    Ended {
        record: RequestRecord {
            id,
            scheduled_ns,
            sent_ns,
            token_ns: Vec::new(),
            prompt_tokens: 0,
            tokens: Vec::new(),
            ties: Vec::new(),
            outcome: Outcome::Unfinished,
            payload: PayloadBytes::default(),
        },
        exchange: ExchangeRecord {
            id,
            conversation,
            turn: 0,
            ending: Ending::PhaseOver,
            status: None,
            connected_ns: None,
            first_byte_ns: None,
            last_byte_ns: None,
            bursts: Vec::new(),
            pieces: 0,
            text_bytes: 0,
            prompt_words: 0,
            prompt_tokens: None,
            output_tokens: None,
        },
        text: String::new(),
        at: sent_ns,
    }
}

/// Carries every order out, each on a task of its own, until the phase is over and all have ended.
async fn serve(
    target: Target,
    mut orders: UnboundedReceiver<Order>,
    give_back: Sender<Back>,
    signals: &Sender<Signal>,
    over: watch::Receiver<bool>,
) {
    let target = Rc::new(target);
    let mut tasks = tokio::task::JoinSet::new();
    let mut ends = over.clone();
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            _ = ends.wait_for(|over| *over) => None,
        };
        let Some(order) = order else { break };
        // Those that have ended are forgotten.
        while tasks.try_join_next().is_some() {}
        let (target, give_back) = (Rc::clone(&target), give_back.clone());
        let (signals, mut over) = (signals.clone(), over.clone());
        tasks.spawn_local(async move {
            let Order {
                place,
                conversation,
                question,
                user,
            } = order;
            let ended = carry_out(&target, place, question, &mut over).await;
            let completed = ended.record.outcome == Outcome::Completed;
            let back = Back {
                conversation,
                user,
                at: ended.at,
                text: completed.then(|| ended.text.clone()),
            };
            // Main comes first: who hears that all is done has all records. Neither is there any
            // more where the process is ending.
            let _ = signals.send(Signal::Ended(Box::new(ended)));
            let _ = give_back.send(back);
        });
    }
    while tasks.join_next().await.is_some() {}
}

fn read_commands(mut input: impl BufRead, signals: &Sender<Signal>) {
    loop {
        let mut line = String::new();
        let signal = match input.read_line(&mut line) {
            Ok(0) => Signal::InputEnded(None),
            Ok(_) => match serde_json::from_str(&line) {
                Ok(command) => Signal::Command(command),
                Err(error) => Signal::InputEnded(Some(LoadError::Orders(error))),
            },
            Err(error) => Signal::InputEnded(Some(LoadError::Talk(error))),
        };
        let is_last = matches!(signal, Signal::InputEnded(_));
        if signals.send(signal).is_err() || is_last {
            return;
        }
    }
}

fn tell(output: &mut impl Write, event: &JobEvent) -> Result<(), LoadError> {
    let mut line = serde_json::to_string(event).map_err(LoadError::Orders)?;
    line.push('\n');
    output
        .write_all(line.as_bytes())
        .and_then(|()| output.flush())
        .map_err(LoadError::Talk)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), LoadError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    // Never joined: the process ends all threads.
    thread.spawn(work).map(drop).map_err(LoadError::Thread)
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;
    use crate::load::spec::Arrivals;
    use crate::load::tests::plain;

    /// What a load tells that sends nothing, bound to a CPU by `pin`.
    fn told(pin: Pin) -> Vec<JobEvent> {
        let spec = LoadJobSpec {
            name: "load".to_owned(),
            endpoint: ([127, 0, 0, 1], 9).into(),
            // One in a thousand seconds, for one second.
            load: plain(Arrivals::Constant { per_kilosecond: 1 }, 1_000_000_000),
            seed: 7,
            send_delay_ns: 0,
        };
        let (input, mut orders) = io::pipe().unwrap();
        let (told, output) = io::pipe().unwrap();
        let process = std::thread::spawn(move || run_pinned(BufReader::new(input), output, pin));
        let mut order = |line: String| writeln!(orders, "{line}").unwrap();
        order(serde_json::to_string(&spec).unwrap());
        let start = JobCommand::Start { t0_monotonic_ns: 0 };
        order(serde_json::to_string(&start).unwrap());
        let mut events = Vec::new();
        for line in BufReader::new(told).lines() {
            let event: JobEvent = serde_json::from_str(&line.unwrap()).unwrap();
            if event == JobEvent::Idle {
                order(serde_json::to_string(&JobCommand::Stop).unwrap());
            }
            events.push(event);
        }
        process.join().unwrap().unwrap();
        events
    }

    #[test]
    fn a_load_that_cannot_be_bound_to_a_cpu_warns_with_the_kernels_reason_and_goes_on() {
        let warnings = |events: &[JobEvent]| -> Vec<String> {
            let warning = |event: &JobEvent| match event {
                JobEvent::Warning { message } => Some(message.clone()),
                _ => None,
            };
            events.iter().filter_map(warning).collect()
        };
        let refused = told(|| Err(Errno::EPERM));
        let [warning] = &warnings(&refused)[..] else {
            panic!("one warning: {refused:?}")
        };
        assert!(
            warning.contains("EPERM: Operation not permitted"),
            "{warning}"
        );
        assert!(matches!(refused.last(), Some(JobEvent::Done(_))));
        let bound = told(|| Ok(()));
        assert_eq!(warnings(&bound), Vec::<String>::new());
    }
}
