//! What this process may do: everything, as root, or everything inside a user namespace of its
//! own, as an ordinary user where the kernel allows that.

use std::fs;
use std::io;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::namespace::{NamespaceError, NetworkNamespace};

/// Where the power to make namespaces and interfaces comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// The superuser's capabilities.
    Root,
    /// A user namespace that belongs to the ordinary user who started this process.
    UserNamespace,
}

impl Privilege {
    /// The name in the record: `root` or `user-namespace`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Privilege::Root => "root",
            Privilege::UserNamespace => "user-namespace",
        }
    }
}

/// No privilege, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivilegeError {
    /// A user namespace cannot be made.
    #[error("cannot make a user namespace")]
    UserNamespace {
        /// What the administrator can do.
        remedy: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A user namespace can be made, but gives no power over the network.
    #[error("a user namespace gives no right to make network namespaces")]
    Powerless {
        /// What the administrator can do.
        remedy: String,
        /// The kernel's answer.
        #[source]
        source: NamespaceError,
    },
}

impl PrivilegeError {
    /// What the administrator can do.
    #[must_use]
    pub fn remedy(&self) -> &str {
        match self {
            PrivilegeError::UserNamespace { remedy, .. }
            | PrivilegeError::Powerless { remedy, .. } => remedy,
        }
    }
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Effective capabilities as `/proc/PID/status` shows them.
fn has_capabilities(status: &str) -> bool {
    let wanted = (1_u64 << CAP_NET_ADMIN) | (1_u64 << CAP_SYS_ADMIN);
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hexadecimal| u64::from_str_radix(hexadecimal.trim(), 16).ok())
        .is_some_and(|effective| effective & wanted == wanted)
}

/// Whether `/proc/PID/uid_map` knows other users than one: only then jobs can run as another.
fn maps_other_users(uid_map: &str) -> bool {
    uid_map
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(2)?.parse::<u64>().ok())
        .any(|count| count > 65_534)
}

/// Whether this process has what it takes to make namespaces and interfaces.
pub(crate) fn has_power() -> bool {
    has_capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// Takes the privilege that there is: stays root, or moves this process into a user namespace.
/// To be called before any thread exists.
///
/// # Errors
/// Neither is possible; the message says how to allow it.
pub fn acquire() -> Result<Privilege, PrivilegeError> {
    if has_power() {
        let uid_map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let root = geteuid().is_root() && maps_other_users(&uid_map);
        return Ok(if root {
            Privilege::Root
        } else {
            Privilege::UserNamespace
        });
    }
    enter_user_namespace().map_err(|source| PrivilegeError::UserNamespace {
        remedy: remedy(),
        source,
    })?;
    // Some kernels let the namespace be made and then deny everything inside.
    NetworkNamespace::create().map_err(|source| PrivilegeError::Powerless {
        remedy: remedy(),
        source,
    })?;
    Ok(Privilege::UserNamespace)
}

fn enter_user_namespace() -> io::Result<()> {
    // After the move both read as the overflow user.
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    // An ordinary user may map its group only after giving up setgroups (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// What to do about it, by what this kernel forbids.
fn remedy() -> String {
    let reads =
        |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let setting = if reads(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        "AppArmor forbids it: `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` \
         allows it until the next boot"
    } else if reads("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "the kernel forbids it: `sudo sysctl -w kernel.unprivileged_userns_clone=1` allows it \
         until the next boot"
    } else if reads("/proc/sys/user/max_user_namespaces", "0") {
        "the limit is 0: `sudo sysctl -w user.max_user_namespaces=10000` allows it until the \
         next boot"
    } else {
        "a container or a security module forbids it: allow unprivileged user namespaces there"
    };
    format!("{setting}; or start this program as root, with sudo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        assert!(has_capabilities("CapPrm:\t0\nCapEff:\t000001ffffffffff\n"));
        assert!(has_capabilities("CapEff:\t0000000000201000\n"));
        assert!(!has_capabilities(
            "CapPrm:\t000001ffffffffff\nCapEff:\t0000000000001000\n"
        ));
        assert!(!has_capabilities(""));
    }

    #[test]
    fn a_namespace_that_maps_one_user_cannot_run_jobs_as_another() {
        assert!(maps_other_users("         0          0 4294967295\n"));
        assert!(!maps_other_users("         0       1000          1\n"));
    }

    #[test]
    fn the_remedy_always_names_a_way_out() {
        assert!(remedy().contains("sudo"));
    }
}
