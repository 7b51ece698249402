//! The first process around a command: `hexloop agent inhabit`, process 1 of a process-id
//! namespace. When it is told to, it starts the command on the terminal that it was started on. It
//! passes signals on to it, waits for what the command leaves behind, and ends with the command or
//! with the program that holds the other end of its socket. When it ends, the kernel ends everything
//! it started.

use std::ffi::OsString;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, getpid};
use serde::{Deserialize, Serialize};

use crate::sys::spawn::{self, Credentials, Habitation};

/// What the first process is told to start the command. Later bytes are signals, and none is this.
pub(crate) const GO: u8 = 0;

/// Added to the number of a signal that is for everything the command has started, and not for itself
/// alone.
pub(crate) const FOR_ALL: u8 = 0x80;

/// What the first process says, one JSON document per line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// The command runs.
    Started,
    /// It could not be started: the error number.
    NotStarted(i32),
    /// It ended by itself with this status.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
}

/// How the first process is started.
#[derive(Debug, Clone)]
pub struct InhabitOptions {
    /// The socket to the program that started it.
    pub control: RawFd,
    /// A user namespace that the command is to enter.
    pub user_namespace: Option<RawFd>,
    /// The user, group and supplementary groups that the command is to have.
    pub credentials: Option<(u32, u32, Vec<u32>)>,
    /// Descriptors that the command is to have beyond the standard three.
    pub descriptors: Vec<RawFd>,
    /// The command and its arguments.
    pub command: Vec<OsString>,
}

/// Plays the first process until the command has ended or the starter is gone.
///
/// # Errors
/// This is not the first process of a process-id namespace, or a descriptor is missing.
pub fn run(options: &InhabitOptions) -> io::Result<()> {
    if getpid() != Pid::from_raw(1) {
        return Err(io::Error::other(
            "this part of hexloop is started by `hexloop link` as the first process of a command",
        ));
    }
    let mut control = UnixStream::from(spawn::adopt(options.control)?);
    let user_namespace = options.user_namespace.map(spawn::adopt).transpose()?;
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    ends.thread_block()?;
    let ended = SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    show_own_processes();
    if !is_told_to_go(&mut control)? {
        return Ok(());
    }
    let child = match start(options, user_namespace) {
        Ok(child) => child,
        Err(error) => {
            let number = error.raw_os_error().unwrap_or(libc::EIO);
            return say(&mut control, Said::NotStarted(number));
        }
    };
    say(&mut control, Said::Started)?;
    let command = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    loop {
        let mut polled = [
            PollFd::new(control.as_fd(), PollFlags::POLLIN),
            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let told = polled[0].any().unwrap_or(true);
        while ended.read_signal()?.is_some() {}
        if let Some(said) = reap(command)? {
            return say(&mut control, said);
        }
        if told && !pass_on(&mut control, command)? {
            return Ok(());
        }
    }
}

fn say(control: &mut UnixStream, said: Said) -> io::Result<()> {
    let mut line = serde_json::to_vec(&said).map_err(io::Error::other)?;
    line.push(b'\n');
    control.write_all(&line)
}

/// Waits for [`GO`]; false when the starter is gone.
fn is_told_to_go(control: &mut UnixStream) -> io::Result<bool> {
    let mut told = [GO];
    match control.read_exact(&mut told) {
        Ok(()) => Ok(told == [GO]),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Passes signals on, one per byte; false when the starter is gone.
fn pass_on(control: &mut UnixStream, command: Pid) -> io::Result<bool> {
    let mut signals = [0; 16];
    let length = match control.read(&mut signals) {
        Ok(0) => return Ok(false),
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
        Err(_) => return Ok(false),
    };
    for number in &signals[..length] {
        // -1 of kill(2): all processes of this namespace but this one.
        let whom = match number & FOR_ALL {
            0 => command,
            _ => Pid::from_raw(-1),
        };
        if let Ok(signal) = Signal::try_from(i32::from(number & !FOR_ALL)) {
            // It may have ended in the meantime, which the next look tells.
            let _ = kill(whom, signal);
        }
    }
    Ok(true)
}

/// Waits for everything that has ended; how the command did, if it is among that.
fn reap(command: Pid) -> io::Result<Option<Said>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == command => {
                return Ok(Some(Said::Exited(status)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => {
                return Ok(Some(Said::Signalled(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives the command a `/proc` with its own processes. In a container that hides parts of
/// `/proc` the kernel refuses; the command then sees that of the caller.
fn show_own_processes() {
    let nothing = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    if mount(nothing, "/", nothing, private, nothing).is_ok() {
        let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        // Without it programs see the processes of the caller.
        let _ = mount(Some("proc"), "/proc", Some("proc"), plain, nothing);
    }
}

fn start(options: &InhabitOptions, user_namespace: Option<OwnedFd>) -> io::Result<Child> {
    let (program, arguments) = options
        .command
        .split_first()
        .ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments);
    let mut habitation = Habitation {
        user_namespace,
        descriptors: options.descriptors.clone(),
        ..Habitation::default()
    };
    if let Some((user, group, groups)) = &options.credentials {
        habitation.credentials = Some(Credentials {
            user: *user,
            group: *group,
        });
        habitation.groups = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    }
    spawn::inhabitant(&mut command, habitation);
    command.spawn()
}
