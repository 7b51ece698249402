//! What this process may do to the network that it was started from.
//!
//! A veth can join that network only for who has power over it: the superuser, or who owns the
//! user namespace that it belongs to. Behind a link of ours the second holds: the command's
//! network belongs to a user namespace below the command's own, made in its user's name (see
//! `hold`), and the kernel gives who owns a user namespace every right in it
//! (user_namespaces(7)), also without capabilities of its own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;

use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, getegid, geteuid};

use crate::privilege::{self, Privilege, PrivilegeError};
use crate::sys::ownership;

/// What this process may do, and who started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Power {
    /// Where the right to make namespaces comes from.
    pub privilege: Privilege,
    /// Whether an interface can be made in the network that this process was started from.
    pub reaches_the_caller: bool,
    /// The user and group before.
    pub user: Uid,
    /// See `user`.
    pub group: Gid,
}

/// Takes the power that there is. To be called before any thread exists.
///
/// # Errors
/// Not even a user namespace can be made; the message says how to allow it.
pub fn acquire() -> Result<Power, PrivilegeError> {
    let (user, group) = (geteuid(), getegid());
    let entered = !privilege::has_power() && enter_owner_of_this_network().is_ok();
    let privilege = privilege::acquire()?;
    Ok(Power {
        privilege,
        reaches_the_caller: entered || owns_this_network(),
        user,
        group,
    })
}

fn this_network() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

/// Enters the user namespace that owns this network, if it lies below and is this user's.
fn enter_owner_of_this_network() -> io::Result<()> {
    let owner = ownership::owner_of(&this_network()?)?;
    Ok(setns(&owner, CloneFlags::CLONE_NEWUSER)?)
}

/// Whether this network belongs to the user namespace that this process has its rights in. (One
/// further up answers the question with an error, and one further down cannot be where this
/// process is.)
fn owns_this_network() -> bool {
    let same = || -> io::Result<bool> {
        let owner = ownership::owner_of(&this_network()?)?.metadata()?;
        let own = fs::metadata("/proc/thread-self/ns/user")?;
        Ok((owner.dev(), owner.ino()) == (own.dev(), own.ino()))
    };
    same().unwrap_or(false)
}
