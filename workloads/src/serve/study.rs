//! The processes of a study: the driver, which tries one arm after another, and the stages behind
//! it, which serve their layers.
//!
//! ```text
//! standard input -> hx-input  -+
//! trials, model  -> hx-engine -+-> Signal -> coordinator -> JobEvent -> standard output
//! next stage     -> hx-back   -+            (a stage's: answers on their way to the driver)
//! ```

mod adapters;
mod answering;
mod books;
mod cascade;
mod cnn;
mod conductor;
mod costs;
mod door;
mod driver;
mod early_exit;
mod grid;
mod kpi;
mod kv;
mod leak;
mod link;
mod models;
mod multimodal;
mod outage;
mod own;
mod placement;
mod retrieval;
mod shared;
mod speculative;
mod stage;
mod tensor_parallel;
mod u_shape;

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

use super::connection::{Access, PayloadCounter};
use super::coordinator::{LAST_BYTES_LIMIT, Reporter, read_commands, read_line, telling_failure};
use super::error::JobError;
use super::signal::{Ready, Signal};
use super::thread;
use crate::clock::{self, MonotonicNs};
use crate::job::{JobCommand, JobEvent, JobTotals};
use crate::study::{StudyJobSpec, StudyRole, Technique};

/// Runs one process of a study, from its [`StudyJobSpec`] on the first line of `input` to its last
/// [`JobEvent`] on `output`. End of file on `input` ends it at once.
///
/// # Errors
/// Everything that keeps it from ending as it was told; where `output` still takes lines it has been
/// told as [`JobEvent::Failed`] too.
pub fn run_study(
    input: impl BufRead + Send + 'static,
    output: impl Write + Send + 'static,
) -> Result<(), JobError> {
    telling_failure(output, |reporter| coordinate(input, reporter))
}

fn coordinate(
    mut input: impl BufRead + Send + 'static,
    reporter: &mut Reporter<impl Write>,
) -> Result<(), JobError> {
    let started = clock::now();
    let line = read_line(&mut input).map_err(JobError::ReadSpec)?;
    let line = line.ok_or(JobError::InputClosed)?;
    let spec: StudyJobSpec = serde_json::from_str(&line).map_err(JobError::ParseSpec)?;
    let (signals, heard) = mpsc::channel();
    let (commands, told) = mpsc::channel();
    thread::spawn("hx-input", &signals, move |signals| {
        read_commands(input, signals);
        Ok(())
    })?;
    let counter = Arc::new(PayloadCounter::default());
    let counted = Arc::clone(&counter);
    thread::spawn("hx-engine", &signals, move |signals| match &spec.role {
        StudyRole::Driver {
            study,
            prompt_seeds,
            next,
        } => {
            let links = link::Path {
                next: *next,
                access: Access::of(&spec.secret, spec.transport)?,
                counter: counted,
            };
            let (trials, told) = ((study, prompt_seeds.as_slice()), (signals, &told));
            match study.technique() {
                Technique::Split => driver::play(&spec, trials, &links, told),
                Technique::EarlyExit => early_exit::play(&spec, trials, &links, told),
                Technique::Cascade => cascade::play(&spec, trials, &links, told),
                Technique::Placement => placement::play(&spec, trials, &links, told),
                Technique::UShaped => u_shape::play(&spec, trials, &links, told),
                Technique::TensorParallel => tensor_parallel::play(&spec, trials, &links, told),
                Technique::Leaking => leak::play(&spec, trials, &links, told),
                Technique::Convolutional => cnn::play(&spec, trials, &links, told),
                Technique::Speculative => speculative::drive(&spec, trials, &links, told),
                Technique::KeyValues => kv::drive(&spec, trials, &links, told),
                Technique::Retrieval => retrieval::drive(&spec, trials, &links, told),
                Technique::Adapters => adapters::drive(&spec, trials, &links, told),
                Technique::Kpi => kpi::play(&spec, study, &links, told),
                Technique::Multimodal => multimodal::drive(&spec, trials, &links, told),
                Technique::Shared => Err(JobError::Spec {
                    why: "several users are no driver".to_owned(),
                }),
            }
        }
        StudyRole::Stage {
            place,
            study,
            listen,
            next,
        } => match study.technique() {
            Technique::Split
            | Technique::EarlyExit
            | Technique::Cascade
            | Technique::Placement
            | Technique::UShaped
            | Technique::TensorParallel
            | Technique::Leaking
            | Technique::Convolutional => {
                stage::play(&spec, (study, *place), (*listen, *next), &counted, signals)
            }
            Technique::Speculative => speculative::serve(&spec, *listen, &counted, signals),
            Technique::KeyValues => kv::serve(&spec, *listen, &counted, signals),
            Technique::Retrieval => retrieval::serve(&spec, study, *listen, (&counted, signals)),
            Technique::Adapters => adapters::serve(&spec, study, *listen, (&counted, signals)),
            Technique::Kpi => kpi::serve(&spec, *listen, &counted, signals),
            Technique::Multimodal => multimodal::serve(&spec, study, *listen, (&counted, signals)),
            Technique::Shared => Err(JobError::Spec {
                why: "an edge that users share is no stage".to_owned(),
            }),
        },
        StudyRole::Users {
            study,
            prompt_seeds,
            edges,
        } => {
            let access = Access::of(&spec.secret, spec.transport)?;
            let trials = (study, prompt_seeds.as_slice());
            shared::drive(
                &spec,
                trials,
                (edges.as_slice(), &access, counted.as_ref()),
                (signals, &told),
            )
        }
        StudyRole::Edge { study, listens } => {
            shared::serve(&spec, study, listens, &counted, signals)
        }
    })?;
    drop(signals);

    let mut load_ns = 0;
    // Kept until the end: what is dropped with it ends the threads that read.
    let mut open = Vec::new();
    for signal in heard {
        match signal {
            Signal::Ready(Ready {
                weight_bytes,
                engine_path,
                sockets,
            }) => {
                open = sockets;
                load_ns = clock::now().saturating_sub(started);
                reporter.report(&JobEvent::Ready {
                    weight_bytes,
                    engine_path,
                })?;
            }
            Signal::Report(event) => reporter.report(&event)?,
            Signal::Command(JobCommand::Stop) => {
                counter.wait_until_closed(LAST_BYTES_LIMIT);
                drop(open);
                return reporter.report(&JobEvent::Done(JobTotals {
                    payload: counter.read(),
                    quic: counter.read_quic(),
                    cpu_ns: clock::process_cpu_ns(),
                    load_ns,
                }));
            }
            Signal::Command(command) => {
                // A stage serves whoever comes and need not hear of it.
                let _not_waiting = commands.send(command);
            }
            Signal::Input(error) | Signal::Failed(error) => return Err(error),
            // What only jobs with a schedule tell.
            Signal::Sent { .. }
            | Signal::Payload { .. }
            | Signal::Token { .. }
            | Signal::Tie { .. }
            | Signal::Ended { .. } => {}
        }
    }
    Err(JobError::ThreadLost)
}

fn report(signals: &Sender<Signal>, event: JobEvent) {
    super::signal::tell(signals, Signal::Report(Box::new(event)));
}

/// Offsets from T0.
fn since(t0: MonotonicNs) -> impl Fn(MonotonicNs) -> u64 + Copy {
    move |moment| moment.saturating_sub(t0)
}
