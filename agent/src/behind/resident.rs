//! A command in its namespaces, seen from outside: started there, told signals, waited for.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use super::inhabit::{FOR_ALL, GO, Said};
use crate::namespace::NetworkNamespace;
use crate::process::SelfCommand;
use crate::sys::spawn;

/// What to start.
#[derive(Debug)]
pub(crate) struct Resident<'a> {
    /// `hx-command` or `hx-peer`.
    pub(crate) thread: &'static str,
    pub(crate) program: &'a SelfCommand,
    pub(crate) network: &'a NetworkNamespace,
    /// A user namespace that the command is to enter.
    pub(crate) user_namespace: Option<BorrowedFd<'a>>,
    /// User, group and supplementary groups.
    pub(crate) credentials: Option<(u32, u32, Vec<u32>)>,
    pub(crate) command: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Descriptors that this program was started with and the command is to have.
    pub(crate) descriptors: Vec<RawFd>,
    /// Without the terminal: nothing on standard input, everything on standard error.
    pub(crate) aside: bool,
}

/// A command that runs, or is about to. Dropping it ends it and everything it has started.
#[derive(Debug)]
pub(crate) struct Running {
    control: BufReader<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Resident<'_> {
    fn arguments(&self, control: &UnixStream) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            vec!["--control".into(), control.as_raw_fd().to_string().into()];
        if let Some(namespace) = self.user_namespace {
            arguments.push("--user-namespace".into());
            arguments.push(namespace.as_raw_fd().to_string().into());
        }
        if let Some((user, group, groups)) = &self.credentials {
            arguments.push("--user".into());
            arguments.push(user.to_string().into());
            arguments.push("--group".into());
            arguments.push(group.to_string().into());
            for group in groups {
                arguments.push("--also-group".into());
                arguments.push(group.to_string().into());
            }
        }
        for descriptor in &self.descriptors {
            arguments.push("--descriptor".into());
            arguments.push(descriptor.to_string().into());
        }
        arguments.push("--".into());
        arguments.extend(self.command.iter().cloned());
        arguments
    }

    /// Starts the first process, which waits for [`Running::go`].
    ///
    /// # Errors
    /// No thread, namespace or process can be made.
    pub(crate) fn start(self) -> io::Result<Running> {
        let (ours, theirs) = UnixStream::pair()?;
        let (started, outcome) = channel();
        let program = self.program.clone();
        let network = self.network.try_clone().map_err(io::Error::other)?;
        let user_namespace = self
            .user_namespace
            .map(|namespace| namespace.try_clone_to_owned())
            .transpose()?;
        let arguments = Resident {
            user_namespace: user_namespace.as_ref().map(AsFd::as_fd),
            ..self
        };
        let words = arguments.arguments(&theirs);
        let Resident {
            thread: name,
            environment,
            aside,
            ..
        } = arguments;
        let work = move || {
            let inherited = Inherited {
                control: theirs,
                user_namespace,
            };
            let start =
                || enter_and_start(&program, &network, &inherited, words, environment, aside);
            live(start(), inherited, &started);
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        outcome
            .recv()
            .map_err(|_gone| io::Error::from(io::ErrorKind::BrokenPipe))??;
        Ok(Running {
            control: BufReader::new(ours),
            thread: Some(thread),
        })
    }
}

/// What the first process is started with beyond the standard three descriptors.
struct Inherited {
    control: UnixStream,
    user_namespace: Option<OwnedFd>,
}

/// Stays until the first process has ended: the kernel would kill it with this thread.
fn live(child: io::Result<Child>, inherited: Inherited, started: &Sender<io::Result<()>>) {
    // Ours must not be what keeps the socket open.
    drop(inherited);
    match child {
        Ok(mut child) => {
            // Who started it waits for this; one that panicked does not.
            let _ = started.send(Ok(()));
            let _ = child.wait();
        }
        Err(error) => {
            // The same.
            let _ = started.send(Err(error));
        }
    }
}

fn enter_and_start(
    program: &SelfCommand,
    network: &NetworkNamespace,
    inherited: &Inherited,
    words: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    aside: bool,
) -> io::Result<Child> {
    network.enter().map_err(io::Error::other)?;
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)?;
    let mut command = program.part("inhabit");
    command.args(words).envs(environment);
    if aside {
        command.stdin(Stdio::null());
        command.stdout(io::stderr().as_fd().try_clone_to_owned()?);
    }
    let mut descriptors = vec![inherited.control.as_raw_fd()];
    descriptors.extend(inherited.user_namespace.as_ref().map(AsRawFd::as_raw_fd));
    spawn::with_descriptors(&mut command, descriptors);
    command.spawn()
}

impl Running {
    /// Has the command started. It may still turn out that it cannot be run: see [`Running::next`].
    pub(crate) fn go(&mut self) {
        // If the first process has been killed, the next look tells.
        let _ = self.control.get_mut().write_all(&[GO]);
    }

    /// The next thing its first process says; `None` when that is gone.
    pub(crate) fn next(&mut self) -> Option<Said> {
        let mut line = String::new();
        match self.control.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => serde_json::from_str(&line).ok(),
        }
    }

    /// Whether something it said has been read from the socket but not looked at.
    pub(crate) fn has_more(&self) -> bool {
        !self.control.buffer().is_empty()
    }

    /// Passes a signal on.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.say(signal, 0);
    }

    /// Sends a signal to the command and to everything it has started.
    pub(crate) fn signal_all(&mut self, signal: Signal) {
        self.say(signal, FOR_ALL);
    }

    fn say(&mut self, signal: Signal, whom: u8) {
        if let Ok(number) = u8::try_from(signal as i32) {
            // If it has just ended, the next look tells.
            let _ = self.control.get_mut().write_all(&[number | whom]);
        }
    }
}

impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.get_ref().as_fd()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already hears nothing.
        let _ = self.control.get_ref().shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // A panic there was printed when it happened.
            let _ = thread.join();
        }
    }
}
