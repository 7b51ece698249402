//! The threads that serve all relayed links of an agent, and the namespace that their ports
//! live in.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::exact::ExactWorker;
use super::mode::RelayMode;
use super::passing::PassingWorker;
use super::{Command, Inbox};
use crate::link::LinkError;
use crate::link::scheduling::{self, Scheduling};
use crate::link::tap::TapStation;
use crate::namespace::{NamespaceError, NetworkNamespace};
use crate::sys::packet::SpreadSender;

/// Serves the links that are built on it with two relay threads at most, and one for all taps.
/// Copies are handles on the same engine; its threads end with the last of them and of its
/// links.
#[derive(Clone, Default)]
pub struct RelayEngine {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stations: Mutex<Stations>,
    taps: TapStation,
    next_link: AtomicU32,
}

#[derive(Default)]
struct Stations {
    exact: Option<Arc<Station>>,
    passing: Option<Arc<Station>>,
    namespace: Option<Arc<NetworkNamespace>>,
    spread: Option<Arc<SpreadSender>>,
}

impl fmt::Debug for RelayEngine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stations = self.stations();
        formatter
            .debug_struct("RelayEngine")
            .field("exact", &stations.exact)
            .field("passing", &stations.passing)
            .finish_non_exhaustive()
    }
}

/// One relay thread.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) commands: Sender<Command>,
    pub(super) wake: Arc<EventFd>,
    pub(super) scheduling: Scheduling,
    thread: Option<JoinHandle<()>>,
}

impl RelayEngine {
    /// An engine without links. Threads start when the first link needs them.
    #[must_use]
    pub fn new() -> RelayEngine {
        RelayEngine::default()
    }

    fn stations(&self) -> MutexGuard<'_, Stations> {
        let stations = self.shared.stations.lock();
        stations.unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next link: names of ports follow from it.
    pub(crate) fn next_link(&self) -> u32 {
        self.shared.next_link.fetch_add(1, Ordering::Relaxed)
    }

    /// The thread that reads the taps.
    pub(crate) fn taps(&self) -> &TapStation {
        &self.shared.taps
    }

    /// The namespace of the ports.
    pub(crate) fn namespace(&self) -> Result<Arc<NetworkNamespace>, NamespaceError> {
        let mut stations = self.stations();
        if let Some(namespace) = &stations.namespace {
            return Ok(Arc::clone(namespace));
        }
        let namespace = Arc::new(NetworkNamespace::create()?);
        stations.namespace = Some(Arc::clone(&namespace));
        Ok(namespace)
    }

    /// What sends out of all ports; `None` where the kernel has none.
    pub(crate) fn spread(&self) -> Option<Arc<SpreadSender>> {
        let namespace = self.namespace().ok()?;
        let mut stations = self.stations();
        if stations.spread.is_none() {
            let opened = namespace.run(SpreadSender::open).ok()?;
            stations.spread = opened.ok().map(Arc::new);
        }
        stations.spread.clone()
    }

    /// The thread that serves links of this mode, started on this CPU if there is none yet.
    pub(super) fn station(
        &self,
        mode: RelayMode,
        cpu: Option<u32>,
    ) -> Result<Arc<Station>, LinkError> {
        let mut stations = self.stations();
        let place = match mode {
            RelayMode::Exact => &mut stations.exact,
            RelayMode::LowLatency | RelayMode::Bulk => &mut stations.passing,
        };
        if let Some(station) = place {
            return Ok(Arc::clone(station));
        }
        let station = Arc::new(Station::start(mode, cpu)?);
        *place = Some(Arc::clone(&station));
        Ok(station)
    }
}

impl Station {
    fn start(mode: RelayMode, cpu: Option<u32>) -> Result<Station, LinkError> {
        let exact = mode == RelayMode::Exact;
        let name = if exact { "hx-relay" } else { "hx-pass" };
        let failed = |source| LinkError::Thread {
            name: name.to_owned(),
            source,
        };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_flags(flags).map_err(|error| failed(error.into()))?;
        let wake = Arc::new(wake);
        let (commands, inbox) = channel();
        let (report, reported) = sync_channel(1);
        let inbox = Inbox {
            commands: inbox,
            wake: Arc::clone(&wake),
        };
        let work = move || {
            let scheduling = if exact {
                scheduling::make_real_time(cpu)
            } else {
                scheduling::leave_ordinary()
            };
            let ready = if exact {
                ExactWorker::new(inbox)
                    .map(|worker| Box::new(move || worker.run()) as Box<dyn FnOnce()>)
            } else {
                PassingWorker::new(inbox)
                    .map(|worker| Box::new(move || worker.run()) as Box<dyn FnOnce()>)
            };
            match ready {
                Ok(run) => {
                    if report.send(Ok(scheduling)).is_ok() {
                        run();
                    }
                }
                // Whoever asked has the answer, or is gone.
                Err(error) => drop(report.send(Err(error))),
            }
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(failed)?;
        let scheduling = answer(&reported, name)?.map_err(failed)?;
        Ok(Station {
            commands,
            wake,
            scheduling,
            thread: Some(thread),
        })
    }

    /// Tells the thread; false if it is gone.
    pub(super) fn tell(&self, command: Command) -> bool {
        let told = self.commands.send(command).is_ok();
        // The counter of an eventfd is full only after 2^64 wake-ups.
        let _ = self.wake.write(1);
        told
    }
}

fn answer<T>(reported: &Receiver<T>, name: &str) -> Result<T, LinkError> {
    reported.recv().map_err(|source| LinkError::Thread {
        name: name.to_owned(),
        source: std::io::Error::other(source),
    })
}

impl Drop for Station {
    fn drop(&mut self) {
        self.tell(Command::Quit);
        if let Some(thread) = self.thread.take() {
            // A panic there was printed when it happened.
            let _ = thread.join();
        }
    }
}
