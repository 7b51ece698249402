//! The calls of the service.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hexloop_proto::service::agent_server::Agent;
use hexloop_proto::service::{
    ControlReply, ControlRequest, EventMessage, HelloReply, HelloRequest, PlayRequest, StopReply,
    StopRequest,
};
use hexloop_proto::{LinkControl, PROTOCOL_VERSION};
use hexloop_topologies::plan::Plan;
use hexloop_traces::format;
use hexloop_workloads::clock;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use crate::node::with_causes;
use crate::play::{CaptureWish, ControlDesk, EventSink, Made, PlayInput, Stage, StopWish, play};

/// Events that may wait for the reader.
const WAITING_EVENTS: usize = 8192;

/// The service. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub(super) struct AgentService {
    stage: Arc<Stage>,
    /// The plan under way.
    current: Arc<Mutex<Option<StopWish>>>,
    /// Where its links are changed.
    desk: ControlDesk,
    idle: watch::Sender<bool>,
}

impl AgentService {
    pub(super) fn new(stage: Arc<Stage>) -> AgentService {
        AgentService {
            stage,
            current: Arc::default(),
            desk: ControlDesk::default(),
            idle: watch::Sender::new(true),
        }
    }

    /// Asks the plan under way to end.
    pub(super) fn stop(&self, reason: &str) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wish) = &*current {
            wish.stop(reason);
        }
    }

    /// Waits until no plan is under way.
    pub(super) async fn until_idle(&self, limit: Duration) {
        let mut idle = self.idle.subscribe();
        // What is not down by then is left to the guardian.
        let _ = tokio::time::timeout(limit, idle.wait_for(|idle| *idle)).await;
    }

    /// Takes the only place. `None` when it is taken.
    fn begin(&self) -> Option<StopWish> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_some() {
            return None;
        }
        let wish = StopWish::default();
        *current = Some(wish.clone());
        self.idle.send_replace(false);
        Some(wish)
    }

    fn end(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.idle.send_replace(true);
    }
}

/// What a request asks to be played.
fn input_of(request: PlayRequest) -> Result<PlayInput, Status> {
    let plan: Plan = serde_json::from_slice(&request.plan_json).map_err(|error| {
        Status::invalid_argument(format!("the plan is not understood: {error}"))
    })?;
    let mut traces = BTreeMap::new();
    for file in request.traces {
        let trace = if file.path.is_empty() {
            format::parse(&file.text)
        } else {
            format::read_mapped(Path::new(&file.path))
        };
        let trace = trace
            .map_err(|error| Status::invalid_argument(format!("trace {}: {error}", file.name)))?;
        traces.insert(file.name, Arc::new(trace));
    }
    let capture = request.capture.map(|asked| CaptureWish {
        directory: asked.directory.into(),
        keep_free_bytes: asked.keep_free_bytes,
    });
    let directory = |path: String| (!path.is_empty()).then(|| path.into());
    Ok(PlayInput {
        plan,
        traces,
        model_directory: directory(request.model_directory),
        draft_model_directory: directory(request.draft_model_directory),
        capture,
    })
}

#[tonic::async_trait]
impl Agent for AgentService {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let theirs = request.into_inner().protocol_version;
        if theirs != PROTOCOL_VERSION {
            return Err(Status::failed_precondition(format!(
                "this agent speaks protocol version {PROTOCOL_VERSION}, the controller {theirs}; \
                 install the same version of hexloop on both"
            )));
        }
        Ok(Response::new(HelloReply {
            protocol_version: PROTOCOL_VERSION,
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    type PlayStream = Pin<Box<dyn Stream<Item = Result<EventMessage, Status>> + Send>>;

    async fn play(
        &self,
        request: Request<PlayRequest>,
    ) -> Result<Response<Self::PlayStream>, Status> {
        let input = input_of(request.into_inner())?;
        let wish = self.begin().ok_or_else(|| {
            Status::failed_precondition("this agent plays a plan already; stop it first")
        })?;
        let (sender, receiver) = mpsc::channel(WAITING_EVENTS);
        let events = Arc::new(EventSink::new(sender));
        let service = self.clone();
        let played = std::thread::Builder::new()
            .name("hx-play".to_owned())
            .spawn(move || {
                play(&service.stage, &input, &events, &wish, &service.desk);
                service.end();
            });
        if let Err(error) = played {
            self.end();
            return Err(Status::resource_exhausted(format!(
                "cannot start a thread: {error}"
            )));
        }
        let stream = ReceiverStream::new(receiver).map(|event| match serde_json::to_vec(&event) {
            Ok(event_json) => Ok(EventMessage { event_json }),
            Err(error) => Err(Status::internal(format!(
                "an event cannot be written: {error}"
            ))),
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn control(
        &self,
        request: Request<ControlRequest>,
    ) -> Result<Response<ControlReply>, Status> {
        let asked = clock::now();
        let control: LinkControl = serde_json::from_slice(&request.into_inner().control_json)
            .map_err(|error| {
                Status::invalid_argument(format!("the change is not understood: {error}"))
            })?;
        let made = self.desk.change(&control, asked, None);
        let Made { phase, at_ns, .. } =
            made.map_err(|error| Status::failed_precondition(with_causes(&error)))?;
        Ok(Response::new(ControlReply { phase, at_ns }))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopReply>, Status> {
        let reason = request.into_inner().reason;
        // A caller's words end up in the record: no more of them than a reason needs.
        let reason: String = reason.chars().take(200).collect();
        AgentService::stop(
            self,
            if reason.is_empty() {
                "no reason given"
            } else {
                &reason
            },
        );
        Ok(Response::new(StopReply {}))
    }
}
