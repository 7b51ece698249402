//! The device's side: the load generator, and whatever part of the model the device holds.

mod local;
mod remote;
mod split;

mod load;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

pub(super) use load::Sent;

use super::connection::{Access, Connection, ConnectionError, PayloadCounter, connect};
use super::error::JobError;
use super::part::Part;
use super::signal::{Ready, Signal, tell};
use super::thread;
use crate::clock::MonotonicNs;
use crate::job::{JobSpec, Placement};
use crate::request::ScheduledRequest;

/// What a device job is to do.
#[derive(Debug)]
pub(super) struct DeviceJob {
    pub(super) spec: JobSpec,
    pub(super) access: Access,
    pub(super) edge: Option<SocketAddr>,
    pub(super) requests: Vec<ScheduledRequest>,
    pub(super) send_delay_ns: u64,
    pub(super) counter: Arc<PayloadCounter>,
}

/// Plays the job until its last request has been sent and answered.
pub(super) fn play(
    job: DeviceJob,
    signals: &Sender<Signal>,
    start: &Receiver<MonotonicNs>,
) -> Result<(), JobError> {
    let part = Part::load_device(&job.spec)?;
    let schedule = draw_prompts(&part, job.requests)?;
    let connection = match (job.spec.placement, job.edge) {
        (Placement::Device, _) => None,
        (_, Some(edge)) => {
            let needed = part.terms(part.layers().end..part.all_layers())?;
            Some(connect(edge, (&job.access, &needed), &job.counter)?)
        }
        (_, None) => {
            let why = "the model needs the edge and no address of one is given".to_owned();
            return Err(JobError::Spec { why });
        }
    };
    let (sockets, link) = connection.map_or((Vec::new(), None), |connection| {
        let Connection {
            reader,
            writer,
            socket,
            peer,
        } = connection;
        (vec![socket], Some((reader, writer, peer)))
    });
    let ready = Ready {
        weight_bytes: part.weight_bytes(),
        engine_path: part.engine_path(),
        sockets,
    };
    tell(signals, Signal::Ready(ready));

    let Ok(t0) = start.recv() else { return Ok(()) };
    let answers: Vec<remote::Expected> = schedule.iter().map(remote::Expected::of).collect();
    let (queue, sent) = mpsc::channel();
    let send_delay_ns = job.send_delay_ns;
    thread::spawn("hx-load", signals, move |signals| {
        load::generate(schedule, t0, send_delay_ns, signals, &queue);
        Ok(())
    })?;
    let Some((reader, writer, peer)) = link else {
        return local::serve(&part, &sent, signals);
    };
    if let Placement::Split { .. } = job.spec.placement {
        return split::serve(
            &part,
            &sent,
            split::Link {
                reader,
                writer,
                peer,
            },
            signals,
        );
    }
    thread::spawn("hx-reader", signals, move |signals| {
        remote::receive(answers, reader, peer, signals)
    })?;
    remote::send(&sent, writer, peer, signals)
}

/// Draws the prompts before anything runs: a request's time is not spent on making it.
fn draw_prompts(part: &Part, requests: Vec<ScheduledRequest>) -> Result<Vec<Sent>, JobError> {
    let draw = |request: ScheduledRequest| {
        part.check_length(request.prompt_tokens, request.output_tokens)
            .map_err(|why| JobError::Spec {
                why: format!("request {}: {why}", request.id),
            })?;
        let prompt = part.prompt(request.prompt_seed, request.prompt_tokens)?;
        Ok(Sent { request, prompt })
    };
    requests.into_iter().map(draw).collect()
}

/// Says which connection failed.
fn broken(peer: SocketAddr) -> impl Fn(ConnectionError) -> JobError + Copy {
    move |source| JobError::Connection { peer, source }
}
