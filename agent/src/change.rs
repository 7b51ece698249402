//! The only way in which the agent changes a machine that is not its own to change: the opposite
//! is on the disk before anything happens.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use netlink_packet_route::RouteNetlinkMessage;

use crate::configuration::Configuration;
use crate::failpoint;
use crate::guardian::{Guardian, GuardianError};
use crate::ledger::UndoId;
use crate::link::LinkError;
use crate::link::netlink::{Mode, RouteSocket};
use crate::sys::ethtool::{self, Offload};
use crate::undo::{GpuSetting, InterfaceIdentity, Setting, Undo, network};

/// Does one change over a netlink socket of the right namespace.
type Doing = Box<dyn FnOnce(&mut RouteSocket) -> Result<(), LinkError>>;

/// One change.
pub(crate) struct Step {
    /// What is done, such as `put htb on eth1`.
    pub(crate) what: String,
    /// Its opposite; `None` for what goes when an earlier step is undone.
    pub(crate) undo: Option<Undo>,
    /// The doing. Where something is made it must fail if that exists already.
    pub(crate) apply: Doing,
}

/// Why a change was not made, or not made to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The note of its opposite.
    #[error(transparent)]
    Guardian(#[from] GuardianError),
    /// Nobody would undo it if this process were killed.
    #[error("the guardian process is gone")]
    Unguarded,
    /// The kernel.
    #[error("cannot {what}")]
    Kernel {
        /// What was being done.
        what: String,
        /// Its answer.
        #[source]
        source: LinkError,
    },
    /// The kernel, which refused the very thing.
    #[error("cannot {what}")]
    Refused {
        /// What was being done.
        what: String,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// It is there already, and not ours.
    #[error("cannot {what}: there is one already that is not hexloop's")]
    Foreign {
        /// What was being done.
        what: String,
    },
    /// What the owner of the machine does not allow.
    #[error("cannot {what}: `settings` in {path} does not list `{class}`")]
    NotAllowed {
        /// What was to be done.
        what: String,
        /// The word that allows it.
        class: &'static str,
        /// Where to write it.
        path: PathBuf,
    },
    /// A setting.
    #[error("cannot {what}")]
    Setting {
        /// What was being done.
        what: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Step {
    /// Makes the change, guarded. `made` is told of its note, whether it succeeds or not.
    ///
    /// # Errors
    /// It could not be noted, or the kernel refused. What is done of it is undone with the rest.
    pub(crate) fn carry_out(
        self,
        guardian: &Guardian,
        socket: &mut RouteSocket,
        made: &mut Vec<(UndoId, Undo)>,
    ) -> Result<(), ChangeError> {
        if !guardian.is_alive() {
            return Err(ChangeError::Unguarded);
        }
        let mut note = None;
        if let Some(undo) = self.undo {
            let id = guardian.record(undo.clone())?;
            made.push((id, undo));
            note = Some(id);
        }
        failpoint::reach("step-recorded");
        let kernel = |error| match error {
            // It says what was being done, and that is this.
            LinkError::Netlink { action, source } if action == self.what => ChangeError::Refused {
                what: action,
                source,
            },
            source => ChangeError::Kernel {
                what: self.what.clone(),
                source,
            },
        };
        let injected = failpoint::fallible("step-apply").map_err(|source| LinkError::Netlink {
            action: self.what.clone(),
            source,
        });
        match injected.and_then(|()| (self.apply)(socket)) {
            Ok(()) => {
                failpoint::reach("step-applied");
                Ok(())
            }
            Err(LinkError::Netlink { source, .. }) if is_taken(&source) => {
                // What is there was there before: the note must not take it away.
                if let Some(note) = note {
                    guardian.done(note)?;
                    made.pop();
                }
                Err(ChangeError::Foreign { what: self.what })
            }
            Err(error) => Err(kernel(error)),
        }
    }
}

fn is_taken(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EEXIST)
}

/// Makes changes outside of what is the agent's own, each guarded; drop it and finish the guardian
/// to have all of them undone.
#[derive(Debug)]
pub struct Changes<'a> {
    guardian: &'a Guardian,
    socket: RouteSocket,
    /// Where settings lie; `None` is the machine's own root.
    root: Option<PathBuf>,
    made: Vec<(UndoId, Undo)>,
}

impl<'a> Changes<'a> {
    /// For the network namespace of the calling thread.
    ///
    /// # Errors
    /// No netlink socket can be opened.
    pub fn new(guardian: &'a Guardian) -> Result<Changes<'a>, ChangeError> {
        let socket = RouteSocket::open().map_err(|source| ChangeError::Setting {
            what: "open a netlink socket".to_owned(),
            source,
        })?;
        Ok(Changes {
            guardian,
            socket,
            root: None,
            made: Vec::new(),
        })
    }

    /// Changes settings below another root than the machine's, as tests do.
    #[must_use]
    pub fn below(mut self, root: &Path) -> Changes<'a> {
        self.root = (root != Path::new("/")).then(|| root.to_owned());
        self
    }

    /// The notes of what was made, in order, for who undoes it before the guardian has to.
    pub(crate) fn into_made(self) -> Vec<(UndoId, Undo)> {
        self.made
    }

    pub(crate) fn make(&mut self, step: Step) -> Result<(), ChangeError> {
        step.carry_out(self.guardian, &mut self.socket, &mut self.made)
    }

    /// Gives an interface an address.
    ///
    /// # Errors
    /// It has that address, or the kernel refuses.
    pub fn address(
        &mut self,
        interface: &InterfaceIdentity,
        address: IpAddr,
        prefix: u8,
    ) -> Result<(), ChangeError> {
        self.make(self::address(interface.clone(), address, prefix))
    }

    /// Turns an offload, by the name that `ethtool -k` prints, on or off.
    ///
    /// # Errors
    /// It is none that the agent changes, or the driver refuses.
    pub fn offload(
        &mut self,
        interface: &InterfaceIdentity,
        feature: &str,
        on: bool,
    ) -> Result<(), ChangeError> {
        let failed = |source| ChangeError::Setting {
            what: format!("set {feature} of {}", interface.name),
            source,
        };
        let Some(known) = Offload::named(feature) else {
            return Err(failed(io::ErrorKind::Unsupported.into()));
        };
        match offload(interface.clone(), known, on).map_err(failed)? {
            Some(step) => self.make(step),
            None => Ok(()),
        }
    }

    /// Sets a setting of a GPU, by its unique id, if the owner of this machine allows it.
    ///
    /// # Errors
    /// It is not allowed, there is no such GPU, or its driver refuses.
    pub fn gpu(
        &mut self,
        allowed: &Configuration,
        gpu: &str,
        setting: GpuSetting,
        value: u32,
    ) -> Result<(), ChangeError> {
        let what = format!("set the {setting} of {gpu} to {value}");
        if !allowed.host.settings.contains(GpuSetting::CLASS) {
            return Err(ChangeError::NotAllowed {
                what,
                class: GpuSetting::CLASS,
                path: allowed.path.clone(),
            });
        }
        let old = setting.read(gpu).map_err(|source| ChangeError::Setting {
            what: what.clone(),
            source,
        })?;
        if old == value && setting != GpuSetting::LockedClock {
            return Ok(());
        }
        let unique = gpu.to_owned();
        self.make(Step {
            what: what.clone(),
            undo: Some(Undo::RestoreGpu {
                gpu: unique.clone(),
                setting,
                old,
                ours: value,
            }),
            apply: Box::new(move |_| {
                let written = setting.write(&unique, value);
                written.map_err(|source| LinkError::Netlink {
                    action: what,
                    source,
                })
            }),
        })
    }

    /// Sets a setting of the kernel, if the owner of this machine allows it.
    ///
    /// # Errors
    /// It is not allowed, does not exist here, or may not be written.
    pub fn set(
        &mut self,
        allowed: &Configuration,
        setting: Setting,
        value: &str,
    ) -> Result<(), ChangeError> {
        if !allowed.host.settings.contains(setting.class()) {
            return Err(ChangeError::NotAllowed {
                what: format!("set {setting} to {value}"),
                class: setting.class(),
                path: allowed.path.clone(),
            });
        }
        match self::setting(setting, value, self.root.clone())? {
            Some(step) => self.make(step),
            None => Ok(()),
        }
    }
}

/// The offloads of an interface of this thread's network namespace that the agent may change: each
/// by the name that `ethtool -k` prints, and whether it is on.
///
/// # Errors
/// There is no such interface, or its driver does not tell.
pub fn offloads(interface: &str) -> io::Result<Vec<(&'static str, bool)>> {
    let one = |offload: Offload| Ok((offload.name(), ethtool::is_on(interface, offload)?));
    Offload::ALL.into_iter().map(one).collect()
}

/// Gives an interface an address.
fn address(interface: InterfaceIdentity, address: IpAddr, prefix: u8) -> Step {
    let what = format!("give {} the address {address}/{prefix}", interface.name);
    let message = network::address_message(interface.index, address, prefix);
    Step {
        what: what.clone(),
        undo: Some(Undo::RemoveAddress {
            interface,
            address,
            prefix,
        }),
        apply: Box::new(move |socket| {
            let request = RouteNetlinkMessage::NewAddress(message);
            socket.request(request, Mode::Create, || what)
        }),
    }
}

/// Turns an offload on or off; `None` when it is so already.
fn offload(interface: InterfaceIdentity, offload: Offload, on: bool) -> io::Result<Option<Step>> {
    let was_on = ethtool::is_on(&interface.name, offload)?;
    if was_on == on {
        return Ok(None);
    }
    let name = interface.name.clone();
    let what = format!(
        "turn {} of {name} {}",
        offload.name(),
        if on { "on" } else { "off" }
    );
    Ok(Some(Step {
        what: what.clone(),
        undo: Some(Undo::RestoreOffload {
            interface,
            feature: offload.name().to_owned(),
            on: was_on,
        }),
        apply: Box::new(move |_| {
            ethtool::set(&name, offload, on).map_err(|source| LinkError::Netlink {
                action: what,
                source,
            })
        }),
    }))
}

/// Sets a setting of the kernel; `None` when it is so already.
fn setting(
    setting: Setting,
    value: &str,
    root: Option<PathBuf>,
) -> Result<Option<Step>, ChangeError> {
    let what = format!("set {setting} to {value}");
    let below = root.clone().unwrap_or_else(|| PathBuf::from("/"));
    let read = setting
        .read(&below)
        .map_err(|source| ChangeError::Setting {
            what: what.clone(),
            source,
        })?;
    let Some(old) = read.filter(|old| !setting.is_same(old, value)) else {
        return Ok(None);
    };
    let ours = value.to_owned();
    Ok(Some(Step {
        what: what.clone(),
        undo: Some(Undo::RestoreSetting {
            setting: setting.clone(),
            old,
            ours: ours.clone(),
            root,
        }),
        apply: Box::new(move |_| {
            let written = setting.write(&below, &ours);
            written.map_err(|source| LinkError::Netlink {
                action: what,
                source,
            })
        }),
    }))
}
