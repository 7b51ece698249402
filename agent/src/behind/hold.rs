//! The namespaces that a command lives in, made by a short-lived process of its own: only a
//! process without threads can make a user namespace.
//!
//! ```text
//! user namespace of this program (root's, or one that maps the user to 0)
//!  `- the command's: maps the user to itself; root needs none of its own
//!      `- the network's: made in the user's name, so that a link started by the command can
//!         put its end into that network (see `power`)
//! ```
//!
//! `hexloop agent hold` makes them, says so on standard output and waits for the end of its
//! standard input; meanwhile this program takes hold of them by descriptor.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::process::{Child, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, getegid, geteuid};

use super::power::Power;
use crate::namespace::NetworkNamespace;
use crate::privilege::Privilege;
use crate::process::SelfCommand;
use crate::sys::ownership;

/// What was made.
#[derive(Debug)]
pub(crate) struct Held {
    /// The command's network.
    pub(crate) network: NetworkNamespace,
    /// The user namespace that the command is to enter.
    pub(crate) user_namespace: Option<File>,
    /// Whether the command's user owns the network.
    pub(crate) owned: bool,
}

/// How the process is asked: whether the user namespace of the command is to be made, and who
/// the user is.
fn arguments(power: &Power, user: Uid, group: Gid) -> Vec<String> {
    let mut arguments = vec![
        "--user".to_owned(),
        user.to_string(),
        "--group".to_owned(),
        group.to_string(),
    ];
    if power.privilege == Privilege::UserNamespace {
        arguments.push("--own-user-namespace".to_owned());
    }
    arguments
}

/// Makes the namespaces of a command that is to run as that user.
///
/// # Errors
/// No process can be started, or the kernel refuses.
pub(crate) fn make(
    program: &SelfCommand,
    power: &Power,
    user: Uid,
    group: Gid,
) -> io::Result<Held> {
    let mut command = program.part("hold");
    command
        .args(arguments(power, user, group))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let held = take_hold(&mut child, power);
    drop(child.stdin.take());
    child.wait()?;
    held
}

fn take_hold(child: &mut Child, power: &Power) -> io::Result<Held> {
    let mut answer = [0];
    let output = child.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
    output.read_exact(&mut answer).map_err(|_end| {
        io::Error::other("the process that makes the namespaces ended before it had made them")
    })?;
    let pid = child.id();
    let network = NetworkNamespace::of_process(pid).map_err(io::Error::other)?;
    let owned = answer == [OWNED];
    let own = File::open(format!("/proc/{pid}/ns/user"))?;
    let user_namespace = match power.privilege {
        Privilege::Root => None,
        Privilege::UserNamespace if owned => Some(ownership::parent_of(&own)?),
        Privilege::UserNamespace => Some(own),
    };
    Ok(Held {
        network,
        user_namespace,
        owned,
    })
}

const OWNED: u8 = b'o';
const NOT_OWNED: u8 = b'n';

/// The process itself: `hexloop agent hold`.
///
/// # Errors
/// The kernel refuses namespaces.
pub fn run(user: u32, group: u32, own_user_namespace: bool) -> io::Result<()> {
    let answer = if own_user_namespace {
        // Rights over what is below come from here; the network may be made on this side, too.
        enter_new_user_namespace(user, group, CloneFlags::empty())?;
        match enter_new_user_namespace(0, 0, CloneFlags::CLONE_NEWNET) {
            Ok(()) => OWNED,
            Err(_) => {
                unshare(CloneFlags::CLONE_NEWNET)?;
                NOT_OWNED
            }
        }
    } else {
        match own_by(user, group) {
            Ok(()) => OWNED,
            Err(_) => {
                let root = Uid::from_raw(0);
                nix::unistd::setresuid(root, root, root)?;
                unshare(CloneFlags::CLONE_NEWNET)?;
                NOT_OWNED
            }
        }
    };
    io::stdout().write_all(&[answer])?;
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// As root: the network is made in the user's name.
fn own_by(user: u32, group: u32) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    if !user.is_root() {
        nix::unistd::setgroups(&[])?;
        nix::unistd::setresgid(group, group, group)?;
        // A change of the effective user alone, so that the way back stays open.
        nix::unistd::setresuid(user, user, Uid::from_raw(0))?;
        // Otherwise /proc/self would belong to root.
        prctl::set_dumpable(true)?;
    }
    enter_new_user_namespace(0, 0, CloneFlags::CLONE_NEWNET)
}

/// Enters a new user namespace in which this process's user and group have these numbers.
fn enter_new_user_namespace(user: u32, group: u32, also: CloneFlags) -> io::Result<()> {
    // After the move both read as the overflow user.
    let (own_user, own_group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | also)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {own_user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {own_group} 1"))
}
