//! What a new process does between fork and exec.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, setgroups, setsid};

use super::memory_policy::{self, NodeMask};
use super::{capability, realtime};
use crate::descriptors;

/// Starts the command in a session of its own: signals of the terminal do not reach it.
pub(crate) fn in_own_session(command: &mut Command) {
    let prepare = || {
        realtime::lift_limit();
        setsid().map(|_| ()).map_err(io::Error::from)
    };
    #[expect(unsafe_code, reason = "pre_exec has no safe form")]
    // SAFETY: the closure makes system calls alone and does not allocate.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Has the command killed when the thread that starts it ends.
pub(crate) fn die_with_parent_thread(command: &mut Command) {
    let prepare = || {
        realtime::lift_limit();
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)
    };
    #[expect(unsafe_code, reason = "pre_exec has no safe form")]
    // SAFETY: the closure makes system calls alone and does not allocate.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// The user and group that a job runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// `CAP_NET_BIND_SERVICE`, `CAP_NET_ADMIN` and `CAP_NET_RAW` of linux/capability.h: what the files of
/// ping and its like are marked with. The kernel does not start a program that is marked with more
/// than its bounding set holds (capabilities(7), "Safety checking for capability-dumb binaries");
/// started with no new privileges, it has none of them all the same.
const NETWORK_MARKS: [libc::c_ulong; 3] = [10, 12, 13];

/// What a job has that its user could not give itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Grants {
    /// Whether it may start programs that are marked with capabilities, such as ping, which then run
    /// without them.
    pub(crate) marked_programs: bool,
    /// Priority under SCHED_FIFO.
    pub(crate) realtime: Option<u8>,
    /// NUMA nodes that its memory is bound to.
    pub(crate) memory: Option<NodeMask>,
}

/// Starts the command without any privilege: as that user if one is given, without
/// capabilities now or after any exec, with no way to regain them, and without descriptors
/// beyond the standard three. It is killed when the calling thread ends.
pub(crate) fn unprivileged(
    command: &mut Command,
    credentials: Option<Credentials>,
    grants: Grants,
) {
    let prepare = move || {
        realtime::lift_limit();
        if let Some(mask) = &grants.memory {
            memory_policy::bind(mask)?;
        }
        if let Some(priority) = grants.realtime {
            realtime::grant(i32::from(priority))?;
        }
        drop_bounding_set(grants.marked_programs)?;
        clear_ambient_set();
        if let Some(Credentials { user, group }) = credentials {
            drop_groups()?;
            let group = Gid::from_raw(group);
            nix::unistd::setresgid(group, group, group)?;
            let user = nix::unistd::Uid::from_raw(user);
            nix::unistd::setresuid(user, user, user)?;
        }
        capability::clear()?;
        prctl::set_no_new_privs()?;
        // After the change of user, which clears it.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        close_other_descriptors_on_exec();
        setsid().map(|_| ()).map_err(io::Error::from)
    };
    #[expect(unsafe_code, reason = "pre_exec has no safe form")]
    // SAFETY: the closure makes system calls alone and does not allocate.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Whom a command behind a link runs as, and where.
#[derive(Debug, Default)]
pub(crate) struct Habitation {
    /// A user namespace to enter first.
    pub(crate) user_namespace: Option<OwnedFd>,
    /// The user and group to become.
    pub(crate) credentials: Option<Credentials>,
    /// The supplementary groups to have then.
    pub(crate) groups: Vec<Gid>,
    /// Descriptors beyond the standard three that it is to have, under their numbers.
    pub(crate) descriptors: Vec<RawFd>,
}

/// Starts the command without any privilege, like [`unprivileged`], but in the session and on
/// the terminal of the caller, and with the signals as a program expects them.
pub(crate) fn inhabitant(command: &mut Command, habitation: Habitation) {
    let prepare = move || {
        realtime::lift_limit();
        if let Some(namespace) = &habitation.user_namespace {
            setns(namespace, CloneFlags::CLONE_NEWUSER)?;
        }
        drop_bounding_set(true)?;
        clear_ambient_set();
        if let Some(Credentials { user, group }) = habitation.credentials {
            setgroups(&habitation.groups)?;
            let group = Gid::from_raw(group);
            nix::unistd::setresgid(group, group, group)?;
            let user = nix::unistd::Uid::from_raw(user);
            nix::unistd::setresuid(user, user, user)?;
        }
        capability::clear()?;
        prctl::set_no_new_privs()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        SigSet::empty().thread_set_mask()?;
        close_other_descriptors_on_exec();
        for descriptor in &habitation.descriptors {
            keep_on_exec(*descriptor)?;
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "pre_exec has no safe form")]
    // SAFETY: the closure makes system calls alone and does not allocate.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Starts the command as another user, if one is given, with the supplementary groups that are;
/// otherwise with all that the caller may do. It has the signals as a program expects them, and no
/// descriptors beyond the standard three.
pub(crate) fn as_user(command: &mut Command, user: Option<(Credentials, Vec<Gid>)>) {
    let prepare = move || {
        realtime::lift_limit();
        if let Some((Credentials { user, group }, groups)) = &user {
            setgroups(groups)?;
            let group = Gid::from_raw(*group);
            nix::unistd::setresgid(group, group, group)?;
            let user = nix::unistd::Uid::from_raw(*user);
            nix::unistd::setresuid(user, user, user)?;
        }
        SigSet::empty().thread_set_mask()?;
        close_other_descriptors_on_exec();
        Ok(())
    };
    #[expect(unsafe_code, reason = "pre_exec has no safe form")]
    // SAFETY: the closure makes system calls alone and does not allocate.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Starts the command with descriptors beyond the standard three, under their numbers, and has
/// it killed when the thread that starts it ends. The descriptors must stay open until then.
pub(crate) fn with_descriptors(command: &mut Command, kept: Vec<RawFd>) {
    let prepare = move || {
        realtime::lift_limit();
        descriptors::restore_limit();
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        for descriptor in &kept {
            keep_on_exec(*descriptor)?;
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "pre_exec has no safe form")]
    // SAFETY: the closure makes system calls alone and does not allocate.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Hands a descriptor beyond the standard three to the command, under its number. It must stay open
/// until the command was started.
pub(crate) fn handing_over(command: &mut Command, descriptor: RawFd) {
    let prepare = move || keep_on_exec(descriptor);
    #[expect(unsafe_code, reason = "pre_exec has no safe form")]
    // SAFETY: the closure makes a system call alone and does not allocate.
    unsafe {
        command.pre_exec(prepare);
    }
}

fn keep_on_exec(descriptor: RawFd) -> io::Result<()> {
    #[expect(unsafe_code, reason = "only the number is known after the fork")]
    // SAFETY: fcntl with integers alone touches no memory of ours.
    let result = unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Takes over a descriptor that this process was started with; it does not pass it on.
///
/// # Errors
/// There is no such descriptor.
pub(crate) fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    #[expect(unsafe_code, reason = "the number came on the command line")]
    // SAFETY: fcntl with integers alone touches no memory of ours, and fails where nothing is open.
    let result = unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    #[expect(unsafe_code, reason = "taking ownership of an inherited descriptor")]
    // SAFETY: it is open, and this program has not opened or adopted it before.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(owned)
}

fn drop_bounding_set(keeps_network_marks: bool) -> io::Result<()> {
    for capability in 0..64 {
        if keeps_network_marks && NETWORK_MARKS.contains(&capability) {
            continue;
        }
        #[expect(unsafe_code, reason = "nix has no call for the bounding set")]
        // SAFETY: prctl with integers alone touches no memory of ours.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if result < 0 {
            let error = io::Error::last_os_error();
            // The kernel's last capability is behind us.
            if error.raw_os_error() == Some(libc::EINVAL) {
                return Ok(());
            }
            return Err(error);
        }
    }
    Ok(())
}

fn clear_ambient_set() {
    #[expect(unsafe_code, reason = "nix has no call for the ambient set")]
    // SAFETY: prctl with integers alone touches no memory of ours.
    let _ = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    };
}

fn drop_groups() -> io::Result<()> {
    #[expect(
        unsafe_code,
        reason = "nix's setgroups allocates nothing, but takes a slice of Gid"
    )]
    // SAFETY: a length of zero means that the pointer is not read.
    let result = unsafe { libc::setgroups(0, std::ptr::null()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn close_other_descriptors_on_exec() {
    let cloexec = libc::CLOSE_RANGE_CLOEXEC;
    #[expect(unsafe_code, reason = "neither std nor nix has close_range")]
    // SAFETY: marking descriptors close-on-exec invalidates none of them.
    // A kernel before 5.11 refuses; ours are opened close-on-exec in the first place.
    let _ = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, cloexec) };
}
