//! One plan played by one agent: from the first hello to the last event.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hexloop_proto::service::agent_client::AgentClient;
use hexloop_proto::service::{
    CaptureRequest, ControlReply, ControlRequest, HelloRequest, PlayRequest, StopRequest, TraceFile,
};
use hexloop_proto::{Event, EventBody, LinkControl, PROTOCOL_VERSION};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::agent_process::AgentProcess;
use super::interrupt::Interrupt;
use super::progress::RunMonitor;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};
use crate::record::RunDirectory;
use crate::results::Results;
use crate::tell::tell;

/// How long an agent may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(15);

/// How often its socket is tried meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(10);

/// The largest event that is read: a request with all its tokens.
const EVENT_BYTES: usize = 16 << 20;

/// What an agent is asked to play.
#[derive(Debug, Clone)]
pub(crate) struct SessionInput {
    /// The plan as JSON.
    pub(crate) plan_json: Vec<u8>,
    /// Every trace.
    pub(crate) traces: Vec<TraceFile>,
    /// Where the model is.
    pub(crate) model_directory: Option<PathBuf>,
    /// Where the second one is.
    pub(crate) draft_model_directory: Option<PathBuf>,
    /// Where packets are captured, if they are to be.
    pub(crate) capture: Option<CaptureRequest>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Played {
    /// The fold of all events.
    pub(crate) results: Results,
    /// Why it was ended early, if the user asked for that.
    pub(crate) interrupted: Option<&'static str>,
}

type Client = AgentClient<Channel>;

/// Plays a plan and writes every event to the run directory as it comes.
pub(crate) async fn play(
    agent: &mut AgentProcess,
    input: SessionInput,
    directory: &mut RunDirectory,
    monitor: &mut RunMonitor,
    interrupt: &mut Interrupt,
) -> Result<Played, Failure> {
    let mut interrupted = None;
    let mut client = tokio::select! {
        client = connect(agent) => client?,
        why = interrupt.wait() => {
            return Ok(Played { results: Results::default(), interrupted: Some(why) });
        }
    };
    let named = |directory: Option<PathBuf>| {
        let name = directory.map(|directory| directory.display().to_string());
        name.unwrap_or_default()
    };
    let request = PlayRequest {
        plan_json: input.plan_json,
        traces: input.traces,
        model_directory: named(input.model_directory),
        draft_model_directory: named(input.draft_model_directory),
        capture: input.capture,
    };
    let doing = || "the agent does not play the plan".to_owned();
    let mut stream = client
        .play(request)
        .await
        .or_fail(ExitCode::Failed, doing)?
        .into_inner();
    let mut results = Results::default();
    loop {
        tokio::select! {
            message = stream.message() => {
                let Some(message) = lost(message, agent)? else { break };
                let event = take_in(&message.event_json, directory, &mut results)?;
                monitor.show(&event);
            }
            why = interrupt.wait() => {
                if interrupted.is_some() {
                    // Asked twice: the agent's guardian does the rest.
                    break;
                }
                interrupted = Some(why);
                tell(&format_args!("{why}: taking everything down"));
                let stop = StopRequest { reason: why.to_owned() };
                // If the agent is gone, the stream ends as well.
                let _ = client.stop(stop).await;
            }
        }
    }
    Ok(Played {
        results,
        interrupted,
    })
}

fn take_in(
    json: &[u8],
    directory: &mut RunDirectory,
    results: &mut Results,
) -> Result<Event, Failure> {
    let doing = || "the agent sent an event that is not understood".to_owned();
    let text = std::str::from_utf8(json).or_fail(ExitCode::Failed, doing)?;
    let event: Event = serde_json::from_str(text).or_fail(ExitCode::Failed, doing)?;
    if let EventBody::Log { node, job, line } = &event.body {
        directory
            .append_log(node, job, line)
            .or_fail(ExitCode::Failed, || "cannot record what happens".to_owned())?;
    }
    directory
        .append_event(text)
        .or_fail(ExitCode::Failed, || "cannot record what happens".to_owned())
        .map_err(|failure| {
            failure.remedy("is the disk full? the run was ended; free some space")
        })?;
    results.push(&event);
    Ok(event)
}

/// A stream that breaks off is the agent's end: say how it ended.
fn lost<T>(message: Result<T, tonic::Status>, agent: &mut AgentProcess) -> Result<T, Failure> {
    message.map_err(|status| match agent.ended() {
        Ok(Some(ended)) => agent.failure(ended),
        Ok(None) | Err(_) => {
            let words = agent.last_words();
            let words = if words.is_empty() {
                String::new()
            } else {
                format!("\n{words}")
            };
            Failure::message(
                ExitCode::Failed,
                format!("lost the agent: {}{words}", status.message()),
            )
        }
    })
}

/// Asks the agent behind a socket to change a link of what it plays.
pub(crate) async fn change_link(
    socket: &Path,
    control: &LinkControl,
) -> Result<ControlReply, Failure> {
    let no_agent = || format!("no agent answers on {}", socket.display());
    let channel = open(socket).await.or_fail(ExitCode::Failed, no_agent)?;
    let mut client = hello(channel).await?;
    let control_json = serde_json::to_vec(control).or_fail(ExitCode::Failed, || {
        "the change cannot be written as JSON".to_owned()
    })?;
    let reply = client.control(ControlRequest { control_json }).await;
    let reply = reply.map_err(|status| Failure::message(ExitCode::Failed, status.message()))?;
    Ok(reply.into_inner())
}

async fn connect(agent: &mut AgentProcess) -> Result<Client, Failure> {
    let deadline = tokio::time::Instant::now() + START_LIMIT;
    let socket = agent.socket().to_owned();
    let channel = loop {
        if let Ok(channel) = open(&socket).await {
            break channel;
        }
        if let Ok(Some(status)) = agent.ended() {
            return Err(agent.failure(status));
        }
        if tokio::time::Instant::now() >= deadline {
            let message = format!("the agent did not listen on {} in time", socket.display());
            return Err(Failure::message(ExitCode::Failed, message));
        }
        tokio::time::sleep(TRY_EVERY).await;
    };
    hello(channel).await
}

/// Greets an agent, which refuses another version of the protocol.
async fn hello(channel: Channel) -> Result<Client, Failure> {
    let mut client = AgentClient::new(channel).max_decoding_message_size(EVENT_BYTES);
    let hello = HelloRequest {
        protocol_version: PROTOCOL_VERSION,
    };
    let reply = client
        .hello(hello)
        .await
        .or_fail(ExitCode::Failed, || "the agent does not answer".to_owned())?
        .into_inner();
    if reply.protocol_version != PROTOCOL_VERSION {
        let theirs = reply.protocol_version;
        let message =
            format!("the agent speaks protocol version {theirs}, this program {PROTOCOL_VERSION}");
        return Err(Failure::message(ExitCode::Failed, message)
            .remedy("use the same version of hexloop for both"));
    }
    Ok(client)
}

async fn open(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let socket = socket.to_owned();
    let connector = service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The address is never used: the connector knows the socket.
    Endpoint::from_static("http://agent.invalid")
        .connect_with_connector(connector)
        .await
}
