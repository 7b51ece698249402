//! Network namespaces held by file descriptor, never by name: when the last holder is gone the
//! kernel takes the namespace and every interface in it away.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// What went wrong with a namespace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// A new namespace could not be made.
    #[error("cannot make a network namespace")]
    Create(#[source] nix::Error),
    /// The thread could not be moved into it.
    #[error("cannot enter a network namespace")]
    Enter(#[source] nix::Error),
    /// The namespace file could not be opened.
    #[error("cannot open {path}")]
    Open {
        /// The file below `/proc`.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread for a network namespace")]
    Thread(#[source] std::io::Error),
    /// The thread that worked inside the namespace panicked.
    #[error("the work inside a network namespace panicked")]
    Panicked,
}

/// A network namespace.
#[derive(Debug)]
pub struct NetworkNamespace {
    file: File,
}

impl NetworkNamespace {
    /// Makes a new one, from a throw-away thread, so that the caller stays where it is.
    ///
    /// # Errors
    /// Not allowed (needs `CAP_SYS_ADMIN` in the current user namespace) or out of resources.
    pub fn create() -> Result<NetworkNamespace, NamespaceError> {
        in_new_thread("hx-netns", || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(NamespaceError::Create)?;
            NetworkNamespace::of_this_thread()
        })?
    }

    /// The one that the calling thread is in.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn of_this_thread() -> Result<NetworkNamespace, NamespaceError> {
        NetworkNamespace::open("/proc/thread-self/ns/net".to_owned())
    }

    /// The one that a process is in.
    ///
    /// # Errors
    /// The process is gone or belongs to somebody else.
    pub fn of_process(pid: u32) -> Result<NetworkNamespace, NamespaceError> {
        NetworkNamespace::open(format!("/proc/{pid}/ns/net"))
    }

    fn open(path: String) -> Result<NetworkNamespace, NamespaceError> {
        match File::open(&path) {
            Ok(file) => Ok(NetworkNamespace { file }),
            Err(source) => Err(NamespaceError::Open { path, source }),
        }
    }

    /// Another handle on the same namespace.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn try_clone(&self) -> Result<NetworkNamespace, NamespaceError> {
        match self.file.try_clone() {
            Ok(file) => Ok(NetworkNamespace { file }),
            Err(source) => Err(NamespaceError::Open {
                path: "a network namespace".to_owned(),
                source,
            }),
        }
    }

    /// Moves the calling thread in, for good. Only for threads made for that purpose.
    ///
    /// # Errors
    /// Not allowed.
    pub fn enter(&self) -> Result<(), NamespaceError> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(NamespaceError::Enter)
    }

    /// Runs `work` inside, on a thread of its own, and waits for it. Sockets opened there stay
    /// in the namespace when they are returned.
    ///
    /// # Errors
    /// The thread could not be started or moved, or it panicked.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        in_new_thread("hx-in-netns", || {
            self.enter()?;
            Ok(work())
        })?
    }
}

impl From<File> for NetworkNamespace {
    /// The namespace that an opened `ns/net` file stands for.
    fn from(file: File) -> NetworkNamespace {
        NetworkNamespace { file }
    }
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn in_new_thread<T: Send>(
    name: &str,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NamespaceError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread
            .spawn_scoped(scope, work)
            .map_err(NamespaceError::Thread)?;
        thread.join().map_err(|_panic| NamespaceError::Panicked)
    })
}
