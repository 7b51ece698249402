//! The first process of a node: `hexloop agent init`, process 1 of the node's process-id
//! namespace. When it ends, the kernel ends everything else in the node, whatever that has
//! forked, and with the last process the node's network namespace.
//!
//! It starts processes without privileges, carries their lines, and ends with its agent.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use hexloop_workloads::job::thread_environment;

use super::ENGINE_CUDA;
use super::lines::LineSplitter;
use super::protocol::{NodeReply, NodeRequest, Program, Stream};
use super::{congestion, rooms};
use crate::engine_cuda::{COMPILED, LIBRARY_VARIABLE};
use crate::isolation::node::Surroundings;
use crate::sys::memory_policy::NodeMask;
use crate::sys::spawn::{self, Credentials, Grants};

/// The longest line that a job may write: a record of a request with many tokens.
const OUTPUT_LINE_BYTES: usize = 1 << 20;
/// The longest line of standard error that is kept.
const ERROR_LINE_BYTES: usize = 4 << 10;
/// Read of the agent's requests at a time; the longer ones have a job's plan in them and come seldom.
const READ_BYTES: usize = 4 << 10;
/// The longest request of the agent.
const REQUEST_BYTES: usize = 64 << 20;
/// How often orphans that ended are waited for, at the latest.
const REAP_EVERY_MS: u16 = 500;

/// Plays the first process of a node until the agent closes standard input.
///
/// # Errors
/// This is not the first process of a process-id namespace, or standard input is not the
/// agent's socket.
pub fn run() -> io::Result<()> {
    if getpid() != Pid::from_raw(1) {
        // It will kill every process that it can see.
        return Err(io::Error::other(
            "this part of hexloop is started by its agent as the first process of a node",
        ));
    }
    let agent = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut init = Init {
        agent,
        processes: BTreeMap::new(),
    };
    let mut requests = LineSplitter::new(REQUEST_BYTES);
    loop {
        let readable = init.wait_for_something()?;
        init.reap()?;
        for id in readable.processes {
            init.carry(id)?;
        }
        if !readable.agent {
            continue;
        }
        let mut buffer = [0; READ_BYTES];
        let length = match init.agent.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for line in requests.push(&buffer[..length]) {
            let request = serde_json::from_str(&line.text).map_err(io::Error::other)?;
            init.answer(request)?;
        }
    }
}

struct Init {
    agent: UnixStream,
    processes: BTreeMap<u32, Process>,
}

struct Process {
    child: Child,
    input: Option<ChildStdin>,
    unwritten: Vec<u8>,
    output: Carried<ChildStdout>,
    error: Carried<ChildStderr>,
    handle: Option<OwnedFd>,
}

/// One stream of a process on its way to the agent.
struct Carried<S> {
    pipe: Option<S>,
    lines: LineSplitter,
}

struct Readable {
    agent: bool,
    processes: Vec<u32>,
}

impl Init {
    fn say(&mut self, reply: &NodeReply) -> io::Result<()> {
        let mut line = serde_json::to_vec(reply).map_err(io::Error::other)?;
        line.push(b'\n');
        self.agent.write_all(&line)
    }

    fn wait_for_something(&mut self) -> io::Result<Readable> {
        let mut polled = vec![PollFd::new(self.agent.as_fd(), PollFlags::POLLIN)];
        let mut owners = Vec::new();
        for (id, process) in &self.processes {
            let input = process
                .input
                .as_ref()
                .filter(|_| !process.unwritten.is_empty());
            let sources: [(Option<BorrowedFd<'_>>, PollFlags); 4] = [
                (
                    process.output.pipe.as_ref().map(AsFd::as_fd),
                    PollFlags::POLLIN,
                ),
                (
                    process.error.pipe.as_ref().map(AsFd::as_fd),
                    PollFlags::POLLIN,
                ),
                (input.map(AsFd::as_fd), PollFlags::POLLOUT),
                (process.handle.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
            ];
            for (descriptor, flags) in sources {
                if let Some(descriptor) = descriptor {
                    polled.push(PollFd::new(descriptor, flags));
                    owners.push(*id);
                }
            }
        }
        match poll(&mut polled, PollTimeout::from(REAP_EVERY_MS)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let mut processes: Vec<u32> = polled[1..]
            .iter()
            .zip(owners)
            .filter_map(|(fd, owner)| ready(fd).then_some(owner))
            .collect();
        processes.dedup();
        Ok(Readable {
            agent: ready(&polled[0]),
            processes,
        })
    }

    fn answer(&mut self, request: NodeRequest) -> io::Result<()> {
        match request {
            NodeRequest::SetUp {
                host_name,
                shown,
                congestion_control,
            } => {
                let made = rooms::set_up(&host_name, &shown).and_then(|warnings| {
                    let got = congestion::control(congestion_control.as_deref())?;
                    Ok((warnings, got))
                });
                let reply = match made {
                    Ok((warnings, congestion_control)) => NodeReply::Up {
                        warnings,
                        congestion_control,
                    },
                    Err(error) => NodeReply::Failed {
                        message: super::with_causes(&error),
                    },
                };
                self.say(&reply)
            }
            NodeRequest::Start {
                id,
                program,
                credentials,
                surroundings,
            } => {
                let reply = match self.start(id, &program, credentials, &surroundings) {
                    Ok(()) => NodeReply::Started { id },
                    Err(error) => NodeReply::NotStarted {
                        id,
                        message: error.to_string(),
                    },
                };
                self.say(&reply)
            }
            NodeRequest::Write { id, line } => {
                if let Some(process) = self.processes.get_mut(&id) {
                    process.unwritten.extend_from_slice(line.as_bytes());
                    process.unwritten.push(b'\n');
                    process.write_on();
                }
                Ok(())
            }
            NodeRequest::KillAll => {
                // As process 1 this reaches every process of the namespace and none outside.
                let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
                self.reap_all()?;
                self.say(&NodeReply::AllKilled)
            }
        }
    }

    fn start(
        &mut self,
        id: u32,
        program: &Program,
        credentials: Option<(u32, u32)>,
        surroundings: &Surroundings,
    ) -> io::Result<()> {
        let mut command = match program {
            Program::Itself { arguments, .. } => {
                let mut command = Command::new("/proc/self/exe");
                command.args(arguments);
                command
            }
            Program::EngineCuda { part, .. } => {
                let mut command = Command::new(ENGINE_CUDA);
                command.arg(part);
                command
            }
            Program::Other {
                argv, directory, ..
            } => {
                let (first, rest) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
                let mut command = Command::new(first);
                command.args(rest);
                if let Some(directory) = directory {
                    command.current_dir(directory);
                }
                command
            }
        };
        command.env_clear();
        let mut kept = vec!["PATH", "LANG"];
        match program {
            Program::Itself { threads, .. } => {
                command.envs(thread_environment(*threads));
            }
            Program::EngineCuda { threads, .. } => {
                command.envs(thread_environment(*threads));
                command.env(COMPILED.0, COMPILED.1);
                kept.push(LIBRARY_VARIABLE);
            }
            Program::Other { environment, .. } => {
                command.envs(environment.iter().map(|(name, value)| (name, value)));
            }
        }
        for name in kept {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(surroundings.environment.iter().cloned());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let credentials = credentials.map(|(user, group)| Credentials { user, group });
        let memory = &surroundings.memory_nodes;
        let grants = Grants {
            marked_programs: matches!(program, Program::Other { .. }),
            realtime: surroundings.realtime,
            memory: (!memory.is_empty()).then(|| NodeMask::of(memory)),
        };
        spawn::unprivileged(&mut command, credentials, grants);
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take();
        let error = child.stderr.take();
        let pipes = [
            input.as_ref().map(AsFd::as_fd),
            output.as_ref().map(AsFd::as_fd),
            error.as_ref().map(AsFd::as_fd),
        ];
        for pipe in pipes.into_iter().flatten() {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        // Readable when the process has ended; without it the regular look is enough.
        let handle = crate::sys::pidfd::open(child.id()).ok();
        let process = Process {
            child,
            input,
            unwritten: Vec::new(),
            output: Carried {
                pipe: output,
                lines: LineSplitter::new(OUTPUT_LINE_BYTES),
            },
            error: Carried {
                pipe: error,
                lines: LineSplitter::new(ERROR_LINE_BYTES),
            },
            handle,
        };
        self.processes.insert(id, process);
        Ok(())
    }

    /// Moves on what a process has written and what it is to read.
    fn carry(&mut self, id: u32) -> io::Result<()> {
        let Some(process) = self.processes.get_mut(&id) else {
            return Ok(());
        };
        process.write_on();
        let mut replies = Vec::new();
        process
            .output
            .carry(id, Stream::Output, false, &mut replies);
        process.error.carry(id, Stream::Error, false, &mut replies);
        replies.iter().try_for_each(|reply| self.say(reply))
    }

    /// Waits for every process that has ended, orphans included.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(status) => self.note_end(status)?,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until no process is left.
    fn reap_all(&mut self) -> io::Result<()> {
        loop {
            match waitpid(None, None) {
                Err(Errno::ECHILD) => return Ok(()),
                Ok(status) => self.note_end(status)?,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn note_end(&mut self, status: WaitStatus) -> io::Result<()> {
        let (pid, status) = match status {
            WaitStatus::Exited(pid, code) => (pid, format!("exit status {code}")),
            WaitStatus::Signaled(pid, signal, _) => (pid, format!("signal {signal}")),
            _ => return Ok(()),
        };
        let mut ids = self.processes.iter();
        let id = ids
            .find(|(_, process)| pid_of(&process.child).ok() == Some(pid))
            .map(|(id, _)| *id);
        let Some((id, mut process)) = id.and_then(|id| self.processes.remove_entry(&id)) else {
            return Ok(());
        };
        // All that it wrote is in the pipes; a daemon that it left may hold them open for ever.
        let mut replies = Vec::new();
        process.output.carry(id, Stream::Output, true, &mut replies);
        process.error.carry(id, Stream::Error, true, &mut replies);
        replies.push(NodeReply::Exited { id, status });
        replies.iter().try_for_each(|reply| self.say(reply))
    }
}

fn pid_of(child: &Child) -> io::Result<Pid> {
    Ok(Pid::from_raw(
        i32::try_from(child.id()).map_err(io::Error::other)?,
    ))
}

impl Process {
    /// Writes as much as the process's standard input takes without waiting.
    fn write_on(&mut self) {
        while let Some(input) = &mut self.input
            && !self.unwritten.is_empty()
        {
            match input.write(&self.unwritten) {
                Ok(length) => {
                    self.unwritten.drain(..length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It reads no more.
                Err(_) => self.input = None,
            }
        }
    }
}

impl<S: Read> Carried<S> {
    /// Reads what is there; at the end also what is no whole line.
    fn carry(&mut self, id: u32, stream: Stream, at_end: bool, replies: &mut Vec<NodeReply>) {
        let mut buffer = [0; 16 << 10];
        while let Some(pipe) = &mut self.pipe {
            let lines = match pipe.read(&mut buffer) {
                Ok(0) => {
                    self.pipe = None;
                    self.lines.rest().into_iter().collect()
                }
                Ok(length) => self.lines.push(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && at_end => {
                    self.pipe = None;
                    self.lines.rest().into_iter().collect()
                }
                // Nothing is there now; the next look tells more.
                Err(_) => return,
            };
            replies.extend(lines.into_iter().map(|line| NodeReply::Line {
                id,
                stream,
                text: line.text,
                cut: line.cut,
            }));
            // One bufferful at a time, so that a chatterbox cannot keep the others waiting.
            if !at_end {
                return;
            }
        }
    }
}
