//! The guardian: a process that does nothing but wait for its owner's end and then undoes what
//! the owner left behind, also when the owner was killed.
//!
//! An owner that holds something for a limited time tells it until when: at that moment it kills
//! the owner, which has had its chance, and undoes everything.
//!
//! It holds one end of a socket pair whose other end only the owner has: end of file is the
//! owner's death. It runs in a session of its own, so that no terminal signal reaches it. It is
//! started before there is a ledger, so that there is never one without a guardian.

mod condition;
mod listing;
mod replay;
mod trust;

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};

use hexloop_workloads::clock;
use nix::fcntl::FlockArg;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};

use crate::cgroup;
use crate::failpoint;
use crate::ledger::{self, Held, LedgerContent, LedgerError, LedgerWriter, UndoId};
use crate::process::SelfCommand;
use crate::sys::spawn;
use crate::undo::Undo;

pub use condition::{Condition, conditions, unreadable};
pub use listing::{HeldLink, held_links};
pub use replay::{ReplayReport, replay_leftovers};

use replay::replay_one;

/// How long one entry may take to be undone.
const UNDO_LIMIT_NS: u64 = 1_500_000_000;

/// The owner's word that the ledger is there.
const WRITTEN: u8 = b'W';

/// The guardian's answer, from which on it undoes everything in the ledger.
const READY: u8 = b'R';

/// The owner's word that its lease ends at the moment that follows, eight bytes of nanoseconds
/// since the machine was started.
const LEASE: u8 = b'L';

/// The guardian's answer to that.
const ARMED: u8 = b'A';

/// What went wrong with a guardian.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardianError {
    /// The ledger.
    #[error("the undo ledger failed; {}", advice(.0))]
    Ledger(#[from] LedgerError),
    /// The process.
    #[error("cannot start the guardian process")]
    Start(#[source] io::Error),
    /// It ended before its owner.
    #[error("the guardian process ended before it was ready")]
    NotReady,
    /// Somebody else could have written what would be undone.
    #[error(
        "the ledgers in {} are refused: {why}, and what they note would be done with root's rights",
        path.display()
    )]
    Untrusted {
        /// The state directory, that of the ledgers, or a ledger.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It could not undo everything.
    #[error("not everything could be undone: see {ledger}; `hexloop undo` tries again")]
    Dirty {
        /// The ledger that was kept.
        ledger: PathBuf,
    },
}

impl GuardianError {
    /// Whether this machine is dirty: something was left, and nobody may or can undo it.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        matches!(
            self,
            GuardianError::Dirty { .. } | GuardianError::Untrusted { .. }
        )
    }

    /// What the user can do about it, where the message does not say it.
    #[must_use]
    pub const fn remedy(&self) -> Option<&'static str> {
        match self {
            GuardianError::Untrusted { .. } => Some(
                "look at it: if nothing is wrong there, `chown root:root` and `chmod go-w` it; else name another \
                 directory in HEXLOOP_STATE_DIRECTORY",
            ),
            GuardianError::Dirty { .. } => Some("put right what it says, then `hexloop undo`"),
            _ => None,
        }
    }
}

/// What to do about a ledger that could not be used.
fn advice(error: &LedgerError) -> &'static str {
    let is_denied = error.source.kind() == io::ErrorKind::PermissionDenied;
    if is_denied && !nix::unistd::geteuid().is_root() {
        "what root holds is root's alone to look at: use sudo"
    } else {
        "is the state directory writable and is there space left?"
    }
}

/// The owner's side of a guardian.
#[derive(Debug)]
pub struct Guardian {
    ledger: Mutex<LedgerWriter>,
    lifeline: UnixStream,
    child: Mutex<Child>,
}

impl Guardian {
    /// Starts a guardian for this process with an empty ledger.
    ///
    /// # Errors
    /// The state directory cannot be written, or no process can be started.
    pub fn start(state_directory: &Path, name: &str) -> Result<Guardian, GuardianError> {
        Guardian::start_as(&SelfCommand::hexloop(), state_directory, name)
    }

    /// The same for a program whose guardian part is started with other arguments.
    ///
    /// # Errors
    /// The state directory cannot be written, or no process can be started.
    pub fn start_as(
        program: &SelfCommand,
        state_directory: &Path,
        name: &str,
    ) -> Result<Guardian, GuardianError> {
        let path = LedgerWriter::choose(state_directory, name)?;
        trust::check_directories(state_directory)?;
        let (mut ours, theirs) = UnixStream::pair().map_err(GuardianError::Start)?;
        let mut command = program.part("guard");
        command.arg("--ledger").arg(&path);
        command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null());
        command.current_dir("/");
        spawn::in_own_session(&mut command);
        failpoint::fallible("guardian-spawn").map_err(GuardianError::Start)?;
        let child = command.spawn().map_err(GuardianError::Start)?;
        // The command holds the guardian's end of the pair; ours must be the only one left.
        drop(command);
        let ledger = match LedgerWriter::create(&path, name) {
            Ok(ledger) => ledger,
            Err(error) => {
                // A file that could not be written is not left for others to wonder about.
                let _ = fs::remove_file(&path);
                return Err(error.into());
            }
        };
        let mut answer = [0];
        let answered = ours
            .write_all(&[WRITTEN])
            .and_then(|()| ours.read_exact(&mut answer));
        match answered {
            Ok(()) if answer == [READY] => {}
            Ok(()) | Err(_) => {
                // Nothing is noted in it yet, and nobody would take it away.
                let _ = fs::remove_file(&path);
                return Err(GuardianError::NotReady);
            }
        }
        Ok(Guardian {
            ledger: Mutex::new(ledger),
            lifeline: ours,
            child: Mutex::new(child),
        })
    }

    /// Notes what will have to be undone. Call it before the action: when it returns, the note
    /// is on the disk.
    ///
    /// # Errors
    /// The ledger cannot be written; the action must not be begun then.
    pub fn record(&self, undo: Undo) -> Result<UndoId, GuardianError> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(ledger.record(undo)?)
    }

    /// Notes that the owner has undone it itself, or that it is to stay.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn done(&self, id: UndoId) -> Result<(), GuardianError> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(ledger.done(id)?)
    }

    /// Notes that an interface is held, and has the guardian undo everything once the lease and
    /// `grace_ns` are over, whatever the owner does. A later call sets another end.
    ///
    /// # Errors
    /// The ledger cannot be written, or the guardian is gone.
    pub fn hold(&self, held: &Held, grace_ns: u64) -> Result<(), GuardianError> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.hold(held)?;
        let mut message = vec![LEASE];
        message.extend((held.until_boot_ns.saturating_add(grace_ns)).to_le_bytes());
        let mut answer = [0];
        let mut lifeline = &self.lifeline;
        let armed = lifeline
            .write_all(&message)
            .and_then(|()| lifeline.read_exact(&mut answer));
        match armed {
            Ok(()) if answer == [ARMED] => Ok(()),
            Ok(()) | Err(_) => Err(GuardianError::NotReady),
        }
    }

    /// Whether its process still lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(child.try_wait(), Ok(None))
    }

    /// The owner's end of the connection between the two: it hangs up when the guardian is gone.
    #[must_use]
    pub fn lifeline(&self) -> BorrowedFd<'_> {
        self.lifeline.as_fd()
    }

    /// Where the ledger is.
    #[must_use]
    pub fn ledger_path(&self) -> PathBuf {
        self.ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .path()
            .to_owned()
    }

    /// The guardian's process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .id()
    }

    /// Ends normally: whatever is not marked as done is undone now, the ledger is removed and
    /// the guardian ends.
    ///
    /// # Errors
    /// Something could not be undone; the ledger stays for the next start.
    pub fn finish(self) -> Result<(), GuardianError> {
        let path = self.ledger_path();
        // A copy of our end in a child that is just being started must not keep it waiting.
        let _ = self.lifeline.shutdown(Shutdown::Both);
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let status = child.wait().map_err(GuardianError::Start)?;
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let is_clean = if !path.exists() {
            true
        } else if status.code().is_none() {
            // It was killed: its work is the owner's then.
            replay_one(ledger.file(), &path)?.is_clean()
        } else {
            false
        };
        if is_clean {
            Ok(())
        } else {
            Err(GuardianError::Dirty { ledger: path })
        }
    }
}

/// The guardian process: `hexloop agent guard --ledger PATH`, its lifeline on standard input.
/// Returns whether everything was undone.
///
/// # Errors
/// The ledger cannot be read or removed.
pub fn run(ledger_path: &Path) -> Result<bool, GuardianError> {
    cgroup::move_to_the_roots();
    let lifeline = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(GuardianError::Start)?;
    let mut lifeline = UnixStream::from(lifeline);
    // An owner that died already may have left a ledger or not.
    let written = lifeline.read_exact(&mut [0]).is_ok();
    let lock = ledger::open_locked(ledger_path, FlockArg::LockShared)?;
    let file = match lock {
        Some(file) => file,
        None if written => return Err(GuardianError::NotReady),
        None => return Ok(true),
    };
    if written {
        failpoint::reach("guardian-ready");
        // An owner that died in the meantime is noticed by the read below.
        let _ = lifeline.write_all(&[READY]);
        if wait_for_the_end(&mut lifeline)? == End::LeaseOver {
            kill_owner(ledger_path)?;
        }
    }
    failpoint::reach("guardian-undoes");
    if !ledger_path.exists() {
        // Somebody else has cleaned up: there is nothing left to undo.
        return Ok(true);
    }
    let report = replay_one(&file, ledger_path)?;
    for failure in &report.failed {
        eprintln!("hexloop: {failure}; `hexloop undo` tries again");
    }
    Ok(report.is_clean())
}

/// Why a guardian goes to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The owner has finished or is gone.
    OwnerGone,
    /// The owner had longer than its lease.
    LeaseOver,
}

/// Returns at end of file, or when the lease is over.
fn wait_for_the_end(lifeline: &mut UnixStream) -> Result<End, GuardianError> {
    let system = |error: nix::Error| GuardianError::Start(error.into());
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC).map_err(system)?;
    loop {
        let mut waiting = [
            PollFd::new(lifeline.as_fd(), PollFlags::POLLIN),
            PollFd::new(timer.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(system(error)),
        }
        let [spoken, over] = waiting.map(|one| one.any().unwrap_or(false));
        if spoken {
            let Some(until_boot_ns) = read_lease(lifeline) else {
                return Ok(End::OwnerGone);
            };
            let until = Expiration::OneShot(timespec(until_boot_ns));
            let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
            timer.set(until, flags).map_err(system)?;
            // An owner that is gone is noticed at the next turn.
            let _ = lifeline.write_all(&[ARMED]);
        } else if over {
            return Ok(End::LeaseOver);
        }
    }
}

/// The end of a lease that the owner names; `None` when it is gone or does not keep to the form.
fn read_lease(lifeline: &mut UnixStream) -> Option<u64> {
    let mut message = [0; 9];
    lifeline.read_exact(&mut message).ok()?;
    let (kind, until) = message.split_first()?;
    let until = <[u8; 8]>::try_from(until).ok()?;
    (*kind == LEASE).then(|| u64::from_le_bytes(until))
}

pub(crate) fn timespec(ns: u64) -> TimeSpec {
    let seconds = i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX);
    let rest = i64::try_from(ns % 1_000_000_000).unwrap_or(0);
    // A timer that is set to 0 is disarmed.
    TimeSpec::new(seconds, rest.max(1))
}

/// What an owner does after its lease would be done behind the back of the undoing.
fn kill_owner(ledger_path: &Path) -> Result<(), GuardianError> {
    let content = LedgerContent::read(ledger_path)?;
    if let Some(owner) = content.owner {
        let deadline = clock::now() + UNDO_LIMIT_NS;
        owner
            .process
            .kill_and_wait(deadline)
            .map_err(GuardianError::Start)?;
    }
    Ok(())
}
