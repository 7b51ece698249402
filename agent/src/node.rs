//! One emulated node: namespaces of its own, held by its first process and gone with it.
//!
//! A named thread per node enters new namespaces, starts the first process there
//! (`hexloop agent init`, see [`init`]) and then carries what it says until it ends.

pub(crate) mod congestion;
mod duty;
pub mod init;
mod lines;
mod pinning;
mod protocol;
mod rooms;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use hexloop_workloads::clock;
use nix::sched::{CloneFlags, unshare};

use crate::failpoint;
use crate::namespace::{NamespaceError, NetworkNamespace};
use crate::process::{ProcessIdentity, SelfCommand};
use crate::sys::spawn;

pub use crate::sys::realtime::give_up_when_told as give_up_real_time_when_told;
pub(crate) use duty::DutyCycle;
pub(crate) use pinning::{PinningError, cpus_of, pin, set_affinity};
pub(crate) use protocol::{NodeReply, NodeRequest, Program, Shown, Stream};

/// Where a node shows the model to its processes.
pub const MODEL_DIRECTORY: &str = "/tmp/model";
/// Where it shows them the second, smaller model.
pub const DRAFT_MODEL_DIRECTORY: &str = "/tmp/draft-model";
/// Where it shows them the program that computes on GPUs.
const ENGINE_CUDA: &str = "/tmp/hexloop-engine-cuda";

/// How long a node may take to be set up, or to kill all that runs in it.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a node may take to end by itself before it is killed.
const END_LIMIT_NS: u64 = 1_000_000_000;

/// What went wrong with a node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Its namespaces were refused.
    #[error("node {node}: cannot make its namespaces")]
    Namespaces {
        /// The node.
        node: String,
        /// The cause.
        #[source]
        source: nix::Error,
    },
    /// Its first process or its thread could not be started.
    #[error("node {node}: cannot start its first process")]
    Start {
        /// The node.
        node: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Its network namespace could not be opened.
    #[error("node {node}: cannot open its network namespace")]
    Network {
        /// The node.
        node: String,
        /// The cause.
        #[source]
        source: NamespaceError,
    },
    /// It could not be made habitable.
    #[error("node {node}: {message}")]
    SetUp {
        /// The node.
        node: String,
        /// What failed.
        message: String,
    },
    /// Its first process has ended or does not answer.
    #[error("node {node}: its first process is gone")]
    Gone {
        /// The node.
        node: String,
    },
}

/// Something that a node says, with the node's place in the plan.
#[derive(Debug)]
pub(crate) struct NodeMessage {
    pub(crate) node: usize,
    /// `None` when its first process has ended.
    pub(crate) reply: Option<NodeReply>,
}

/// A node that exists. Dropping it ends it and everything in it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) process: ProcessIdentity,
    pub(crate) namespace: NetworkNamespace,
    socket: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// What became of making a node habitable.
#[derive(Debug)]
pub(crate) struct Habitable {
    /// What could not be done and does not matter much.
    pub(crate) warnings: Vec<String>,
    /// What controls the congestion of its TCP connections.
    pub(crate) congestion_control: String,
}

impl Node {
    /// Makes the namespaces and starts the first process, which then waits for [`Node::set_up`].
    /// What it says goes to `messages` under the number `place`.
    pub(crate) fn start(
        program: &SelfCommand,
        name: &str,
        place: usize,
        messages: Sender<NodeMessage>,
    ) -> Result<Node, NodeError> {
        let node = || name.to_owned();
        let (started, outcome) = channel();
        let program = program.clone();
        let thread_node = node();
        let thread = std::thread::Builder::new()
            .name(format!("hx-node-{place}"))
            .spawn(move || {
                let (mut child, socket) = match enter_and_start(&program, &thread_node) {
                    Ok((child, socket)) => (child, socket),
                    Err(error) => {
                        // Who started it waits for this; one that panicked does not.
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                let copy = socket.try_clone();
                let sent = match copy {
                    Ok(copy) => started.send(Ok((child.id(), copy))).is_ok(),
                    Err(source) => {
                        let error = NodeError::Start {
                            node: thread_node,
                            source,
                        };
                        // Who started it waits for this; one that panicked does not.
                        let _ = started.send(Err(error));
                        false
                    }
                };
                if sent {
                    carry_replies(socket, place, &messages);
                }
                // Without a listener, or at end of file, it ends by itself; this thread must
                // not end before it, because the kernel would kill it then.
                let _ = child.wait();
                let _ = messages.send(NodeMessage {
                    node: place,
                    reply: None,
                });
            })
            .map_err(|source| NodeError::Start {
                node: node(),
                source,
            })?;
        let (pid, socket) = outcome
            .recv()
            .map_err(|_closed| NodeError::Gone { node: node() })??;
        let process = ProcessIdentity::of(pid).map_err(|source| NodeError::Start {
            node: node(),
            source,
        })?;
        let namespace = NetworkNamespace::of_process(pid).map_err(|source| NodeError::Network {
            node: node(),
            source,
        })?;
        Ok(Node {
            name: node(),
            process,
            namespace,
            socket,
            thread: Some(thread),
        })
    }

    /// Makes the node habitable.
    pub(crate) fn set_up(
        &mut self,
        place: usize,
        messages: &Receiver<NodeMessage>,
        shown: Shown,
        congestion_control: Option<&str>,
    ) -> Result<Habitable, NodeError> {
        self.ask(&NodeRequest::SetUp {
            host_name: rooms::host_name_of(&self.name),
            shown,
            congestion_control: congestion_control.map(str::to_owned),
        })?;
        loop {
            match messages.recv_timeout(ANSWER_LIMIT) {
                Ok(NodeMessage {
                    node,
                    reply: Some(reply),
                }) if node == place => match reply {
                    NodeReply::Up {
                        warnings,
                        congestion_control,
                    } => {
                        return Ok(Habitable {
                            warnings,
                            congestion_control,
                        });
                    }
                    NodeReply::Failed { message } => {
                        return Err(NodeError::SetUp {
                            node: self.name.clone(),
                            message,
                        });
                    }
                    _ => {}
                },
                Ok(NodeMessage { node, reply: None }) if node == place => {
                    return Err(NodeError::Gone {
                        node: self.name.clone(),
                    });
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(NodeError::Gone {
                        node: self.name.clone(),
                    });
                }
            }
        }
    }

    /// Sends a request to its first process.
    pub(crate) fn ask(&mut self, request: &NodeRequest) -> Result<(), NodeError> {
        let gone = |source| NodeError::Start {
            node: self.name.clone(),
            source,
        };
        let mut line =
            serde_json::to_vec(request).map_err(|error| gone(io::Error::other(error)))?;
        line.push(b'\n');
        self.socket
            .write_all(&line)
            .map_err(|_broken| NodeError::Gone {
                node: self.name.clone(),
            })
    }

    /// Ends it and everything in it. Returns what is left, in words.
    pub(crate) fn take_down(&mut self) -> Option<String> {
        let thread = self.thread.take()?;
        // One that has ended already hears nothing.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
        let deadline = clock::now() + END_LIMIT_NS;
        while self.process.is_alive() && clock::now() < deadline {
            clock::sleep_until(clock::now() + 1_000_000);
        }
        if self.process.is_alive() {
            match self.process.kill_and_wait(clock::now() + END_LIMIT_NS) {
                Ok(true) => {}
                Ok(false) => return Some(format!("process {} of {}", self.process.pid, self.name)),
                Err(error) => {
                    return Some(format!(
                        "process {} of {}: {error}",
                        self.process.pid, self.name
                    ));
                }
            }
        }
        // A panic there was printed when it happened.
        let _ = thread.join();
        None
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // What is left is the guardian's.
        let _ = self.take_down();
    }
}

fn enter_and_start(program: &SelfCommand, node: &str) -> Result<(Child, UnixStream), NodeError> {
    let namespaces = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    failpoint::reach("node-begins");
    unshare(namespaces).map_err(|source| NodeError::Namespaces {
        node: node.to_owned(),
        source,
    })?;
    let start = || {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = program.part("init");
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        // Where a test harness is the program, its chatter must not reach anybody's output.
        command.stdout(Stdio::null());
        spawn::die_with_parent_thread(&mut command);
        failpoint::fallible("node-spawn")?;
        let child = command.spawn()?;
        Ok((child, ours))
    };
    start().map_err(|source| NodeError::Start {
        node: node.to_owned(),
        source,
    })
}

fn carry_replies(socket: UnixStream, place: usize, messages: &Sender<NodeMessage>) {
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let Ok(reply) = serde_json::from_str(&line) else {
            continue;
        };
        if messages
            .send(NodeMessage {
                node: place,
                reply: Some(reply),
            })
            .is_err()
        {
            return;
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += ": ";
        text += &error.to_string();
        cause = error.source();
    }
    text
}

/// The kernel's release, such as `6.18.0`.
pub(crate) fn kernel_release() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}
