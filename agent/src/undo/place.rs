//! Where on a machine a change was made: which network namespace, which interface in it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use serde::{Deserialize, Serialize};

use crate::namespace::NetworkNamespace;
use crate::sys::cookie;

/// A network namespace that cannot be mistaken for a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamespaceIdentity {
    /// Inode of its file; a later namespace may get the same one.
    pub inode: u64,
    /// Its cookie, unique until the next boot; `None` on a kernel before 5.14.
    pub cookie: Option<u64>,
}

/// An interface of a network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceIdentity {
    /// The namespace.
    pub namespace: NamespaceIdentity,
    /// Its number there, which it keeps when it is renamed.
    pub index: u32,
    /// What it was called when it was changed.
    pub name: String,
}

/// Where a namespace of a note is now.
pub(super) enum Whereabouts {
    /// The calling thread is in it.
    Here,
    /// A process is in it, or a mount keeps it.
    There(NetworkNamespace),
    /// Nobody can reach it any more: the kernel has taken it away with all that was in it.
    Gone,
}

impl NamespaceIdentity {
    /// The namespace that the calling thread is in.
    ///
    /// # Errors
    /// `/proc` is not mounted, or no socket can be opened.
    pub fn of_this_thread() -> io::Result<NamespaceIdentity> {
        let inode = fs::metadata("/proc/thread-self/ns/net")?.ino();
        let any = socket(
            AddressFamily::Unix,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        // A kernel that knows no cookies has inodes alone.
        let cookie = cookie::of_socket(any.as_fd()).ok();
        Ok(NamespaceIdentity { inode, cookie })
    }

    /// Whether two identities can be those of one namespace.
    pub(crate) fn is(self, other: NamespaceIdentity) -> bool {
        let same_cookie = match (self.cookie, other.cookie) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        self.inode == other.inode && same_cookie
    }

    pub(super) fn find(self) -> io::Result<Whereabouts> {
        if self.is(NamespaceIdentity::of_this_thread()?) {
            return Ok(Whereabouts::Here);
        }
        for path in kept_by_processes()?.into_iter().chain(kept_by_mounts()) {
            // A process that ends while it is looked at keeps nothing.
            let Ok(file) = File::open(&path) else {
                continue;
            };
            if file.metadata()?.ino() != self.inode {
                continue;
            }
            let namespace = NetworkNamespace::from(file);
            let there = namespace
                .run(NamespaceIdentity::of_this_thread)
                .map_err(io::Error::other)??;
            if self.is(there) {
                return Ok(Whereabouts::There(namespace));
            }
        }
        Ok(Whereabouts::Gone)
    }

    /// Does something in this namespace; a namespace that is gone has nothing left to undo.
    pub(super) fn inside(self, work: impl FnOnce() -> io::Result<bool> + Send) -> io::Result<bool> {
        match self.find()? {
            Whereabouts::Here => work(),
            Whereabouts::There(namespace) => namespace.run(work).map_err(io::Error::other)?,
            Whereabouts::Gone => Ok(true),
        }
    }
}

/// Files of the namespaces that processes are in.
fn kept_by_processes() -> io::Result<Vec<PathBuf>> {
    let numbers = fs::read_dir("/proc")?.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(name)
    });
    Ok(numbers
        .map(|number| Path::new("/proc").join(number).join("ns/net"))
        .collect())
}

/// Files that a mount keeps, as `ip netns` makes them.
fn kept_by_mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // Fields of proc(5): id, parent, device, root within the file system, mount point.
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(3);
            let root = fields.next()?;
            let point = fields.next()?;
            root.starts_with("net:[").then(|| PathBuf::from(point))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_is_in_its_own_namespace_and_not_in_one_that_nobody_holds() {
        let here = NamespaceIdentity::of_this_thread().unwrap();
        assert!(matches!(here.find().unwrap(), Whereabouts::Here));
        let gone = NamespaceIdentity {
            inode: 1,
            cookie: Some(u64::MAX),
        };
        assert!(matches!(gone.find().unwrap(), Whereabouts::Gone));
        assert!(gone.inside(|| Ok(false)).unwrap());
    }

    #[test]
    fn an_inode_that_is_used_again_is_another_namespace() {
        let earlier = NamespaceIdentity {
            inode: 7,
            cookie: Some(1),
        };
        let later = NamespaceIdentity {
            inode: 7,
            cookie: Some(2),
        };
        assert!(!earlier.is(later));
        assert!(earlier.is(NamespaceIdentity {
            inode: 7,
            cookie: None
        }));
    }
}
