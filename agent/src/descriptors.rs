//! Open descriptors: how many this process may have, and which it was started with.

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The soft limit before this process changed it; 0 where it has not.
static SOFT_BEFORE: AtomicU64 = AtomicU64::new(0);

/// Raises this process's limit as far as it needs and may.
///
/// # Errors
/// The hard limit is lower.
pub(crate) fn allow(needed: u64) -> io::Result<()> {
    let allowed = allow_up_to(needed)?;
    if allowed < needed {
        return Err(io::Error::other(format!(
            "{needed} descriptors are needed and {allowed} allowed: raise the hard limit (`ulimit -Hn`)"
        )));
    }
    Ok(())
}

/// Raises this process's limit to what is wanted or to what it may have at most; what it is then.
///
/// # Errors
/// The kernel refuses, which it does not of a limit up to the hard one.
pub(crate) fn allow_up_to(wanted: u64) -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let raised = wanted.min(hard);
    if soft >= raised {
        return Ok(soft);
    }
    setrlimit(Resource::RLIMIT_NOFILE, raised, hard)?;
    // Who raises it again has not changed what it was at first.
    let _ = SOFT_BEFORE.compare_exchange(0, soft, Ordering::Relaxed, Ordering::Relaxed);
    Ok(raised)
}

/// Gives a process that is about to be started the limit that this one was started with: programs that
/// call select(2) rely on it. To be called between fork and exec.
pub(crate) fn restore_limit() {
    let before = SOFT_BEFORE.load(Ordering::Relaxed);
    if before > 0
        && let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
    {
        // A soft limit up to the hard one is always allowed.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, before.min(hard), hard);
    }
}

/// The descriptors beyond the standard three that stay open in programs that this process starts. To be
/// asked before this process has opened any: they are those that its starter gave it.
///
/// # Errors
/// `/proc` is not mounted.
pub fn inherited() -> io::Result<Vec<RawFd>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|number| *number > 2) else {
            continue;
        };
        // The one through which the directory is read is gone by itself.
        let Ok(text) = fs::read_to_string(format!("/proc/self/fdinfo/{number}")) else {
            continue;
        };
        if !closes_on_exec(&text) {
            found.push(number);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether proc_pid_fdinfo(5) says that an exec closes it.
fn closes_on_exec(information: &str) -> bool {
    let flags = information
        .lines()
        .find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok());
    // One of which nothing is known is not passed on.
    flags.is_none_or(|flags| flags & OFlag::O_CLOEXEC.bits() != 0)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;

    #[test]
    fn only_what_an_exec_leaves_open_is_inherited() {
        let closed = fs::File::open("/proc/self/status").unwrap();
        let open = fs::File::open("/proc/self/status").unwrap();
        fcntl(&open, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let found = inherited().unwrap();
        assert!(found.contains(&open.as_raw_fd()), "{found:?}");
        assert!(!found.contains(&closed.as_raw_fd()), "{found:?}");
        assert!(closes_on_exec("pos:\t0\n"), "nothing is known of it");
    }
}
