//! Passing packets on where they come in, without leaving the kernel.
//!
//! Where nothing acts on packets, no thread has to be woken for them: what comes in on one port
//! goes out of the other (the ingress hook and mirred) within the call that sends it, at the
//! sender's expense, as on a bare pair of interfaces. The passing thread closes windows only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::RelayMode;
use crate::link::scheduling::Scheduling;
use crate::link::{LinkError, interfaces, tc};
use crate::namespace::NetworkNamespace;
use crate::node::with_causes;

/// Who passes on what comes in on a link's ports.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// A thread of the engine.
    Thread {
        /// Why not the kernel, where it could have been.
        refusal: Option<String>,
    },
    /// The kernel.
    Kernel(KernelPath),
}

/// A link whose packets the kernel passes on.
#[derive(Debug)]
pub(crate) struct KernelPath {
    namespace: Arc<NetworkNamespace>,
    ports: [String; 2],
    /// Packets that the ports had had no room for when the playback began.
    dropped_before: AtomicU64,
}

impl Carrier {
    /// Whoever does it best in this mode, on ports that exist in the namespace. `in_userspace`
    /// asks for a thread in any case.
    pub(crate) fn find(
        mode: RelayMode,
        in_userspace: bool,
        namespace: &Arc<NetworkNamespace>,
        ports: &[String; 2],
    ) -> Carrier {
        if mode == RelayMode::Exact || in_userspace {
            return Carrier::Thread { refusal: None };
        }
        let refusal = match namespace.run(|| tc::pass_on(ports)) {
            Ok(Ok(())) => {
                return Carrier::Kernel(KernelPath {
                    namespace: Arc::clone(namespace),
                    ports: ports.clone(),
                    dropped_before: AtomicU64::new(0),
                });
            }
            Ok(Err(error)) => with_causes(&error),
            Err(error) => with_causes(&error),
        };
        Carrier::Thread {
            refusal: Some(refusal),
        }
    }

    /// Whether the kernel does it.
    pub(crate) const fn is_kernel(&self) -> bool {
        matches!(self, Carrier::Kernel(_))
    }

    /// How it is scheduled, if the engine's thread is scheduled like this.
    pub(super) fn scheduling(&self, thread: &Scheduling) -> Scheduling {
        let description = match self {
            Carrier::Thread { refusal: None } => thread.description.clone(),
            Carrier::Thread { refusal: Some(why) } => format!(
                "{}, because the kernel cannot pass packets on: {why}",
                thread.description
            ),
            Carrier::Kernel(_) => "in the kernel by mirred, on the senders' CPUs".to_owned(),
        };
        Scheduling {
            description,
            cpus: thread.cpus.clone(),
        }
    }

    /// A playback begins.
    pub(super) fn begin(&self) {
        if let Carrier::Kernel(path) = self
            && let Ok(dropped) = path.dropped()
        {
            path.dropped_before.store(dropped, Ordering::Relaxed);
        }
    }

    /// Packets that came in since then and found no room in the kernel's queue of what has come in
    /// (`net.core.netdev_max_backlog`). A thread counts its own.
    pub(super) fn drops(&self) -> u64 {
        let Carrier::Kernel(path) = self else {
            return 0;
        };
        // A port that is gone is reported as such.
        let dropped = path.dropped().unwrap_or(0);
        dropped.saturating_sub(path.dropped_before.load(Ordering::Relaxed))
    }
}

impl KernelPath {
    fn dropped(&self) -> Result<u64, LinkError> {
        let read = || {
            let mut socket = interfaces::open_socket()?;
            let mut dropped = 0;
            for port in &self.ports {
                let index = interfaces::index_of(port)?;
                dropped += interfaces::look(&mut socket, index)?.dropped;
            }
            Ok(dropped)
        };
        self.namespace
            .run(read)
            .map_err(|source| LinkError::Namespace {
                link: self.ports[0].clone(),
                source,
            })?
    }
}
