//! An agent on this machine: a child process that lives no longer than this one.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hexloop_agent::failpoint;
use hexloop_agent::guardian::Guardian;
use hexloop_agent::process::ProcessIdentity;
use hexloop_agent::undo::Undo;
use tokio::process::{Child, ChildStdin, Command};

use super::metering;
use crate::cli::MeteringArguments;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};

/// The longest path of a unix socket, without its final zero (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

/// How long an agent that was told to end may take.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Where an agent's files are.
#[derive(Debug, Clone)]
pub(crate) struct AgentPlace {
    /// Below which the socket's directory is made.
    pub(crate) runtime: PathBuf,
    /// Where ledgers are kept.
    pub(crate) state: PathBuf,
    /// Where its standard error goes.
    pub(crate) log: PathBuf,
    /// How it meters, and where it shows that.
    pub(crate) metering: MeteringArguments,
}

/// Makes a directory that only this user can enter, and that is removed with what is in it.
pub(crate) fn make_private(directory: &Path, guardian: &Guardian) -> Result<(), anyhow::Error> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    if let Some(parent) = directory.parent() {
        builder.recursive(true).create(parent)?;
    }
    guardian.record(Undo::RemoveDirectory {
        path: directory.to_path_buf(),
    })?;
    builder.recursive(false).create(directory)?;
    Ok(())
}

/// A running agent.
#[derive(Debug)]
pub(crate) struct AgentProcess {
    child: Child,
    /// Closing it tells the agent to end, as this process's death does.
    lease: Option<ChildStdin>,
    socket: PathBuf,
    log: PathBuf,
}

impl AgentProcess {
    /// Makes a directory that only this user can enter and starts an agent on a socket in it.
    pub(crate) fn start(place: &AgentPlace, guardian: &Guardian) -> Result<AgentProcess, Failure> {
        let directory = place.runtime.join(format!("hx-{}", std::process::id()));
        let socket = directory.join("agent");
        let doing = || format!("cannot make the socket directory {}", directory.display());
        if socket.as_os_str().len() > LONGEST_SOCKET_PATH {
            let message = format!(
                "the path of the agent's socket is too long: {}",
                socket.display()
            );
            return Err(Failure::message(ExitCode::Preflight, message)
                .remedy("set XDG_RUNTIME_DIR or HEXLOOP_STATE_DIRECTORY to a shorter path"));
        }
        make_private(&directory, guardian).or_fail(ExitCode::Preflight, doing)?;
        let log = File::create(&place.log).or_fail(ExitCode::Failed, || {
            format!("cannot write {}", place.log.display())
        })?;
        let (metering, lines_to) = metering::arguments(&place.metering, &directory)?;
        let mut child = Command::new("/proc/self/exe")
            .args(["agent", "serve", "--lease-on-stdin", "--socket"])
            .arg(&socket)
            .arg("--state-directory")
            .arg(&place.state)
            .args(metering)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            // A ctrl-C of the terminal is for the controller, which ends the plan in order.
            .process_group(0)
            .spawn()
            .or_fail(ExitCode::Failed, || "cannot start the agent".to_owned())?;
        failpoint::reach("agent-spawned");
        if let Some(socket) = lines_to {
            metering::send_stdin(socket)?;
        }
        let lease = child.stdin.take();
        let agent = AgentProcess {
            child,
            lease,
            socket,
            log: place.log.clone(),
        };
        // An agent that loses its lease takes down in order, which takes its time; killed, it
        // leaves that to its guardian at once. Until this note is written the lease is enough.
        if let Some(process) = agent.identity() {
            guardian
                .record(Undo::kill(process))
                .or_fail(ExitCode::Preflight, || "cannot guard the agent".to_owned())?;
        }
        Ok(agent)
    }

    /// Which process it is; `None` when it has ended already.
    fn identity(&self) -> Option<ProcessIdentity> {
        ProcessIdentity::of(self.child.id()?).ok()
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether it has ended by itself, and how.
    pub(crate) fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        self.child.try_wait()
    }

    /// What it wrote to standard error, the last lines of it.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// The failure that an agent's early end is.
    pub(crate) fn failure(&self, status: std::process::ExitStatus) -> Failure {
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        let code = code
            .filter(|code| *code != 0)
            .map_or(ExitCode::Failed, ExitCode::from_number);
        let words = self.last_words();
        if words.starts_with("error: ") {
            return Failure::message(code, words.trim_start_matches("error: "));
        }
        Failure::message(code, format!("the agent ended with {status}\n{words}"))
    }

    /// Lets it end and waits for it; kills it if it takes too long.
    pub(crate) async fn end(&mut self) {
        self.lease = None;
        if tokio::time::timeout(END_LIMIT, self.child.wait())
            .await
            .is_err()
        {
            // Its guardian takes down what it leaves.
            let _ = self.child.kill().await;
        }
    }
}
