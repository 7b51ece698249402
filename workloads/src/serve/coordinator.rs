//! The coordinator of a job: hears what the threads tell, keeps the books, reports.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use super::connection::{Access, PayloadCounter, settle};
use super::device::{self, DeviceJob};
use super::edge::{self, EdgeJob};
use super::error::JobError;
use super::ledger::Ledger;
use super::signal::{Ready, Signal, Socket, tell};
use super::thread;
use crate::clock::{self, MonotonicNs};
use crate::job::{JobCommand, JobEvent, JobRole, JobSpec, JobTotals, Outcome};
use crate::request::ScheduledRequest;

/// The longest line that is read from standard input: a schedule of some 100 000 requests.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// How long a job that was told to stop waits for what is still on the link.
pub(super) const LAST_BYTES_LIMIT: Duration = Duration::from_millis(1000);

/// How much of a wrong line an error repeats.
const QUOTED_CHARACTERS: usize = 60;

pub(super) fn run(
    input: impl BufRead + Send + 'static,
    output: impl Write + Send + 'static,
) -> Result<(), JobError> {
    telling_failure(output, |reporter| coordinate(input, reporter))
}

/// Does the work of a process, and reports its failure as the last event.
pub(super) fn telling_failure<W: Write>(
    output: W,
    work: impl FnOnce(&mut Reporter<W>) -> Result<(), JobError>,
) -> Result<(), JobError> {
    let mut reporter = Reporter { output };
    let outcome = work(&mut reporter);
    if let Err(error) = &outcome {
        // If nobody reads the reports, the caller still has the error.
        let _unread = reporter.report(&JobEvent::Failed {
            reason: error.reason(),
        });
    }
    settle();
    outcome
}

fn coordinate(
    mut input: impl BufRead + Send + 'static,
    reporter: &mut Reporter<impl Write>,
) -> Result<(), JobError> {
    let started_ns = clock::now();
    let line = read_line(&mut input).map_err(JobError::ReadSpec)?;
    let line = line.ok_or(JobError::InputClosed)?;
    let spec: JobSpec = serde_json::from_str(&line).map_err(JobError::ParseSpec)?;
    let (signals, heard) = mpsc::channel();
    let (start, started) = mpsc::channel();
    thread::spawn("hx-input", &signals, move |signals| {
        read_commands(input, signals);
        Ok(())
    })?;
    let counter = Arc::new(PayloadCounter::default());
    let schedule = begin(spec, Arc::clone(&counter), &signals, started)?;
    drop(signals);
    let books = Books {
        schedule,
        ledger: None,
        counter,
        started_ns,
        load_ns: 0,
        sockets: vec![],
    };
    books.keep(&heard, &start, reporter)
}

/// Starts the thread that plays the job; returns the requests to keep books of.
fn begin(
    spec: JobSpec,
    counter: Arc<PayloadCounter>,
    signals: &Sender<Signal>,
    started: Receiver<MonotonicNs>,
) -> Result<Option<Vec<ScheduledRequest>>, JobError> {
    let access = Access::of(&spec.secret, spec.transport)?;
    match spec.role.clone() {
        JobRole::Device {
            edge,
            requests,
            send_delay_ns,
            ..
        } => {
            let schedule = requests.clone();
            let job = DeviceJob {
                spec,
                access,
                edge,
                requests,
                send_delay_ns,
                counter,
            };
            thread::spawn("hx-engine", signals, move |signals| {
                device::play(job, signals, &started)
            })?;
            Ok(Some(schedule))
        }
        JobRole::Edge { listen } => {
            let job = EdgeJob {
                spec,
                access,
                listen,
                counter,
            };
            thread::spawn("hx-engine", signals, move |signals| {
                edge::play(job, signals, &started)
            })?;
            Ok(None)
        }
    }
}

/// Everything the coordinator knows.
struct Books {
    /// `None` for an edge, which sends no requests.
    schedule: Option<Vec<ScheduledRequest>>,
    /// `None` before T0.
    ledger: Option<Ledger>,
    counter: Arc<PayloadCounter>,
    started_ns: MonotonicNs,
    load_ns: u64,
    /// Shut down when the books are closed.
    sockets: Vec<Socket>,
}

impl Books {
    fn keep(
        mut self,
        heard: &Receiver<Signal>,
        start: &Sender<MonotonicNs>,
        reporter: &mut Reporter<impl Write>,
    ) -> Result<(), JobError> {
        for signal in heard {
            match signal {
                Signal::Ready(Ready {
                    weight_bytes,
                    engine_path,
                    sockets,
                }) => {
                    self.sockets = sockets;
                    self.load_ns = clock::now().saturating_sub(self.started_ns);
                    reporter.report(&JobEvent::Ready {
                        weight_bytes,
                        engine_path,
                    })?;
                }
                Signal::Command(JobCommand::Start { t0_monotonic_ns }) => {
                    self.open(t0_monotonic_ns, start, reporter)?;
                }
                Signal::Command(JobCommand::Stop) => return self.close(reporter),
                Signal::Command(JobCommand::LinksSet | JobCommand::TracesPlay { .. }) => {
                    let why = "it never asks anything of its links".to_owned();
                    return Err(JobError::Spec { why });
                }
                Signal::Report(event) => reporter.report(&event)?,
                Signal::Input(error) => return Err(error),
                Signal::Failed(error) => return self.fail(error, reporter),
                Signal::Ended { request, outcome } => self.end(request, outcome, reporter)?,
                Signal::Sent { request, at } => self.note(|ledger| ledger.sent(request, at)),
                Signal::Payload { request, payload } => {
                    self.note(|ledger| ledger.payload(request, payload));
                }
                Signal::Token { request, token, at } => {
                    self.note(|ledger| ledger.token(request, token, at));
                }
                Signal::Tie { request } => self.note(|ledger| ledger.tie(request)),
            }
        }
        Err(JobError::ThreadLost)
    }

    fn note(&mut self, entry: impl FnOnce(&mut Ledger)) {
        if let Some(ledger) = &mut self.ledger {
            entry(ledger);
        }
    }

    /// T0 is known: the requests of the schedule are offered from now on.
    fn open(
        &mut self,
        t0: MonotonicNs,
        start: &Sender<MonotonicNs>,
        reporter: &mut Reporter<impl Write>,
    ) -> Result<(), JobError> {
        if self.ledger.is_some() {
            return Err(JobError::Spec {
                why: "it was started twice".to_owned(),
            });
        }
        if let Some(schedule) = &self.schedule {
            let ledger = Ledger::new(schedule, t0);
            let idle = ledger.is_empty();
            self.ledger = Some(ledger);
            if idle {
                reporter.report(&JobEvent::Idle)?;
            }
        }
        // An edge serves without waiting for T0 and need not hear of it.
        let _not_waiting = start.send(t0);
        Ok(())
    }

    fn end(
        &mut self,
        request: u32,
        outcome: Outcome,
        reporter: &mut Reporter<impl Write>,
    ) -> Result<(), JobError> {
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        let Some(record) = ledger.end(request, outcome, clock::now()) else {
            return Ok(());
        };
        let idle = ledger.is_empty();
        reporter.report(&JobEvent::Request(record))?;
        if idle {
            reporter.report(&JobEvent::Idle)?;
        }
        Ok(())
    }

    /// Reports every open request with that outcome.
    fn end_all(
        &mut self,
        outcome: &Outcome,
        reporter: &mut Reporter<impl Write>,
    ) -> Result<(), JobError> {
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        for record in ledger.end_all(outcome, clock::now()) {
            reporter.report(&JobEvent::Request(record))?;
        }
        Ok(())
    }

    fn close(mut self, reporter: &mut Reporter<impl Write>) -> Result<(), JobError> {
        self.end_all(&Outcome::Unfinished, reporter)?;
        // What a client sent last may still be on the link when it says that it is done.
        self.counter.wait_until_closed(LAST_BYTES_LIMIT);
        let totals = JobTotals {
            payload: self.counter.read(),
            quic: self.counter.read_quic(),
            cpu_ns: clock::process_cpu_ns(),
            load_ns: self.load_ns,
        };
        reporter.report(&JobEvent::Done(totals))
    }

    fn fail(
        mut self,
        error: JobError,
        reporter: &mut Reporter<impl Write>,
    ) -> Result<(), JobError> {
        self.end_all(
            &Outcome::Failed {
                reason: error.reason(),
            },
            reporter,
        )?;
        Err(error)
    }
}

/// Writes events, one line each.
pub(super) struct Reporter<W> {
    pub(super) output: W,
}

impl<W: Write> Reporter<W> {
    pub(super) fn report(&mut self, event: &JobEvent) -> Result<(), JobError> {
        let mut line = serde_json::to_vec(event).map_err(|e| JobError::Report(e.into()))?;
        line.push(b'\n');
        self.output.write_all(&line).map_err(JobError::Report)?;
        self.output.flush().map_err(JobError::Report)
    }
}

/// One line, without its end; `None` at the end of the file.
pub(super) fn read_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = input.take(MAX_LINE_BYTES).read_line(&mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if !line.ends_with('\n') && u64::try_from(read).unwrap_or(u64::MAX) >= MAX_LINE_BYTES {
        let what = format!("a line longer than {MAX_LINE_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(Some(line))
}

/// Hands commands to the coordinator until the input ends.
pub(super) fn read_commands(mut input: impl BufRead, signals: &Sender<Signal>) {
    loop {
        let line = match read_line(&mut input) {
            Ok(Some(line)) => line,
            Ok(None) => return tell(signals, Signal::Input(JobError::InputClosed)),
            Err(error) => return tell(signals, Signal::Input(JobError::ReadSpec(error))),
        };
        match serde_json::from_str(&line) {
            Ok(command) => tell(signals, Signal::Command(command)),
            Err(source) => {
                let line = line.trim_end().chars().take(QUOTED_CHARACTERS).collect();
                tell(
                    signals,
                    Signal::Input(JobError::ParseCommand { line, source }),
                );
                return;
            }
        }
    }
}
