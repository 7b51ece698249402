//! The agent's service: a gRPC server on a unix socket that plays one plan at a time.
//!
//! Nobody but the agent's own user gets in: the socket has mode 0600 in a directory of mode
//! 0700, and the kernel is asked who is on the other side.

mod listen;
mod metrics;
mod service;

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hexloop_proto::service::agent_server::AgentServer;
use hexloop_telemetry::Places;
use hexloop_topologies::HostMeter;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tonic::transport::Server;

use crate::cgroup::Controllers;
use crate::configuration::{Configuration, ConfigurationError};
use crate::failpoint;
use crate::guardian::{Guardian, GuardianError, replay_leftovers};
use crate::play::Stage;
use crate::privilege::{self, Privilege, PrivilegeError};
use crate::process::SelfCommand;
use crate::telemetry::feeds::{self, FeedError};
use crate::telemetry::sources::MeterSources;
use crate::undo::Undo;

use service::AgentService;

/// The largest request: a plan and the text of its traces.
const REQUEST_BYTES: usize = 256 << 20;
/// How long a plan that was asked to end may take to be taken down; then this process ends, and
/// its guardian goes on.
const END_LIMIT: Duration = Duration::from_millis(1500);
/// How long a caller has to read the last events when the agent ends.
const LAST_EVENTS_LIMIT: Duration = Duration::from_millis(200);

/// How an agent is to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The socket to listen on, an absolute path; its directory is made with mode 0700 if it is
    /// missing and no owner holds a lease, and must otherwise have that mode.
    pub socket: PathBuf,
    /// Where ledgers are kept, an absolute path.
    pub state_directory: PathBuf,
    /// Whether end of file on standard input ends the agent: its owner holds the other end.
    pub lease_on_stdin: bool,
    /// How this program starts its other parts.
    pub program: SelfCommand,
    /// Where metrics are shown, in place of what the machine's configuration says; loopback alone.
    pub metrics: Option<SocketAddr>,
    /// External meters beside those of the configuration.
    pub meters: Vec<HostMeter>,
    /// Readings of energy and power per second.
    pub rate_hz: u32,
}

/// The unprivileged user that jobs run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobUser {
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
}

impl JobUser {
    /// `nobody`, who owns nothing.
    pub const NOBODY: JobUser = JobUser {
        user: 65_534,
        group: 65_534,
    };

    /// The user behind `sudo`, else `nobody`; never root.
    #[must_use]
    pub fn invoking() -> JobUser {
        let number = |name| {
            std::env::var(name)
                .ok()?
                .parse()
                .ok()
                .filter(|id: &u32| *id != 0)
        };
        match (number("SUDO_UID"), number("SUDO_GID")) {
            (Some(user), Some(group)) => JobUser { user, group },
            _ => JobUser::NOBODY,
        }
    }
}

/// Why an agent cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// No privilege.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// What the owner of this machine wrote.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The guardian.
    #[error(transparent)]
    Guardian(#[from] GuardianError),
    /// Earlier runs could not be undone.
    #[error("this machine is dirty: {left}; `hexloop undo` tries again")]
    Dirty {
        /// What is left, in words.
        left: String,
    },
    /// The socket.
    #[error("cannot {action} {path}")]
    Socket {
        /// What was being done.
        action: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The directory of the socket is open to others.
    #[error("{0} can be entered by others; `chmod 700` it, or choose another directory")]
    OpenDirectory(PathBuf),
    /// The page of metrics.
    #[error("cannot show metrics on {address}; free that port, or choose another with `--metrics`")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The page of metrics was asked for where others could read it.
    #[error(
        "metrics on {0} could be read from elsewhere; that takes `metrics = \"{0}\"` in agent.toml"
    )]
    OpenMetrics(SocketAddr),
    /// An external meter.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The asynchronous runtime or its signal handlers.
    #[error("cannot start to serve")]
    Runtime(#[source] io::Error),
    /// The server.
    #[error("serving failed")]
    Server(#[source] tonic::transport::Error),
}

impl ServeError {
    /// What the user can do about it, where the message does not say it.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        match self {
            ServeError::Privilege(error) => Some(error.remedy()),
            _ => None,
        }
    }

    /// The exit code that it calls for.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            ServeError::Configuration(ConfigurationError::Invalid(_)) => 3,
            ServeError::Dirty { .. } => 5,
            ServeError::Guardian(error) if error.is_dirty() => 5,
            ServeError::Server(_) => 1,
            _ => 4,
        }
    }
}

/// Serves until the owner goes away, or a signal asks it to end; then takes down what is still
/// up. To be called at the very start of the process, before any thread exists: it may have to
/// enter a user namespace.
///
/// # Errors
/// No privilege, a dirty machine, or the socket cannot be served.
pub fn run(options: &ServeOptions) -> Result<(), ServeError> {
    let privilege = privilege::acquire()?;
    // Without root there is no other user to run them as.
    let (allowed, job_user) = match privilege {
        Privilege::Root => {
            let allowed = Configuration::load()?;
            let job_user = allowed.job_user()?;
            (allowed, job_user)
        }
        // The kernel lets it change nothing anyway.
        Privilege::UserNamespace => (Configuration::nothing(), JobUser::invoking()),
    };
    let page = metrics_address(options.metrics, allowed.host.metrics)?;
    let meters = allowed.host.meters.iter().chain(&options.meters);
    let meters: Vec<HostMeter> = meters.cloned().collect();
    let left: Vec<String> = replay_leftovers(&options.state_directory)?
        .into_iter()
        .flat_map(|report| report.failed)
        .collect();
    if !left.is_empty() {
        return Err(ServeError::Dirty {
            left: left.join("; "),
        });
    }
    let guardian = Guardian::start_as(&options.program, &options.state_directory, "agent")?;
    let guardian = Arc::new(guardian);
    let credentials = (privilege == Privilege::Root).then_some((job_user.user, job_user.group));
    let words = credentials.map_or_else(
        || "the agent's own user, without capabilities".to_owned(),
        |(user, group)| format!("user {user}, group {group}"),
    );
    let stage = Stage {
        program: options.program.clone(),
        privilege,
        credentials,
        job_user: words,
        controllers: Controllers::detect(),
        guardian: Arc::clone(&guardian),
        meters: MeterSources {
            places: Places::from_environment(),
            feeds: meters.iter().map(feeds::feed_of).collect(),
            board: page.map(|_| Arc::default()),
            rate_hz: options.rate_hz,
        },
        allowed,
    };
    guardian.record(Undo::RemoveFile {
        path: options.socket.clone(),
    })?;
    failpoint::reach("agent-guarded");
    let outcome = serve(options, &Arc::new(stage), (&meters, page));
    failpoint::reach("agent-ends");
    // Removes the socket, and whatever a plan that did not end in time has left.
    let finished = Arc::into_inner(guardian).map_or(Ok(()), Guardian::finish);
    outcome?;
    Ok(finished?)
}

/// Where metrics are shown. What a command line asks for is on loopback, unless the machine's
/// owner says the same.
fn metrics_address(
    asked: Option<SocketAddr>,
    configured: Option<SocketAddr>,
) -> Result<Option<SocketAddr>, ServeError> {
    match asked {
        Some(address) if !address.ip().is_loopback() && configured != asked => {
            Err(ServeError::OpenMetrics(address))
        }
        Some(address) => Ok(Some(address)),
        None => Ok(configured),
    }
}

fn serve(
    options: &ServeOptions,
    stage: &Arc<Stage>,
    (meters, page): (&[HostMeter], Option<SocketAddr>),
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("hx-serve")
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    let service = AgentService::new(Arc::clone(stage));
    let outcome = runtime.block_on(async {
        for (meter, feed) in meters.iter().zip(&stage.meters.feeds) {
            let source = feeds::open(meter, Some(&stage.guardian)).await?;
            tokio::spawn(feeds::serve(source, feed.clone()));
        }
        if let Some(address) = page {
            let listener = metrics::listen(address).await?;
            tokio::spawn(metrics::serve(listener, Arc::clone(stage)));
        }
        let incoming = listen::listen(&options.socket, !options.lease_on_stdin)?;
        let ended = end_of_agent(options.lease_on_stdin).map_err(ServeError::Runtime)?;
        let control = service.clone();
        let (close, closing) = oneshot::channel();
        let end = async move {
            let reason = ended.await;
            control.stop(reason);
            control.until_idle(END_LIMIT).await;
            // The last events get a moment to be read; a caller that keeps its connection open
            // does not keep the agent.
            let _ = close.send(());
            tokio::time::sleep(LAST_EVENTS_LIMIT).await;
        };
        let server = AgentServer::new(service)
            .max_decoding_message_size(REQUEST_BYTES)
            .max_encoding_message_size(REQUEST_BYTES);
        let closing = async move { drop(closing.await) };
        let serving = Server::builder().serve_with_incoming_shutdown(server, incoming, closing);
        tokio::select! {
            outcome = serving => outcome.map_err(ServeError::Server),
            () = end => Ok(()),
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

/// Completes with the reason when the agent is to end.
fn end_of_agent(lease_on_stdin: bool) -> io::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let lease = if lease_on_stdin {
        Some(end_of_stdin()?)
    } else {
        None
    };
    let lease = async move {
        match lease {
            Some(lease) => drop(lease.await),
            None => std::future::pending().await,
        }
    };
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "the agent was told to terminate",
            _ = interrupt.recv() => "the agent was interrupted",
            _ = hang_up.recv() => "the agent's terminal went away",
            () = lease => "the controller went away",
        }
    })
}

/// Completes when standard input ends. The pipe carries nothing; its end is the message.
fn end_of_stdin() -> io::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("hx-lease".to_owned())
        .spawn(move || {
            let mut buffer = [0; 64];
            let mut stdin = io::stdin().lock();
            loop {
                match stdin.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            // Nobody listens when the agent is ending already.
            let _ = ended.send(());
        })?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_stay_on_loopback_unless_the_owner_of_the_machine_says_otherwise() {
        let address = |text: &str| -> Option<SocketAddr> { Some(text.parse().unwrap()) };
        let (near, far) = (address("127.0.0.1:9464"), address("0.0.0.0:9464"));
        assert_eq!(metrics_address(None, None).unwrap(), None);
        assert_eq!(metrics_address(near, None).unwrap(), near);
        assert_eq!(metrics_address(None, far).unwrap(), far);
        assert_eq!(metrics_address(far, far).unwrap(), far);
        let refused = metrics_address(far, near).unwrap_err().to_string();
        assert!(refused.contains("agent.toml"), "{refused}");
        assert_eq!(metrics_address(near, far).unwrap(), near);
    }
}
