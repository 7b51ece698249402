//! Holds a real interface in a shape until its lease ends: `hexloop agent keep`.
//!
//! The holder makes every change, each noted before; its guardian undoes them when the holder is
//! killed, and the holder when the guardian is. Whoever asked for it has to confirm that the
//! machine can still be reached, or everything is undone. From then on only the lease, a signal
//! (`SIGTERM`) or the interface's own end ends it.

mod clear;
mod shaping;
mod start;
mod wait;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hexloop_traces::units::{BitRate, TimeSpan};
use hexloop_traces::{LinkSettings, Trace, UNLIMITED_RATE_BPS};
use hexloop_workloads::clock;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::change::{ChangeError, Changes};
use crate::configuration::{Configuration, ConfigurationError};
use crate::failpoint;
use crate::guardian::{self, Guardian, GuardianError};
use crate::ledger::Held;
use crate::link::LinkError;
use crate::link::netlink::RouteSocket;
use crate::link::tc::interface::{TcStep, classifier_here, ifb_name, verify};
use crate::management::{self, Protected};
use crate::node::with_causes;
use crate::process::SelfCommand;
use crate::sys::ethtool;
use crate::undo::network::{called, has_our_root, link, link_name, qdiscs, tc_kind};
use crate::undo::{HANDLE, InterfaceIdentity, NamespaceIdentity};

pub use crate::link::tc::interface::Transport as PeerTransport;
pub use clear::{Seen, clear, confirm, seen};
pub use shaping::Peer;
use shaping::{Follower, Shaping};
pub use start::Holder;
use wait::{Ended, Waiting};

/// How much longer than the lease the guardian waits for the holder to undo everything itself.
const GRACE_NS: u64 = 3_000_000_000;

/// What is to be held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldOrder {
    /// The interface.
    pub interface: String,
    /// The text of the trace that it follows: `down` is what it receives, `up` what it sends.
    pub trace: String,
    /// The queue where the trace leaves it open, and who is dropped.
    pub settings: LinkSettings,
    /// Whose packets; everybody's when there is none.
    pub peers: Vec<Peer>,
    /// The same in words.
    pub shape: String,
    /// For how long, in nanoseconds.
    pub lease_ns: u64,
    /// Within how long it must be confirmed, in nanoseconds.
    pub confirm_within_ns: u64,
    /// Addresses that this machine is controlled from.
    pub control_peers: BTreeSet<IpAddr>,
    /// The user behind it; `None` for root itself.
    pub invoking_user: Option<u32>,
}

/// What a holder tells whoever started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum HoldEvent {
    /// The interface is shaped, and what shaped it was read back; now it must be confirmed.
    Applied,
    /// It is confirmed and stays until the lease ends.
    Held {
        /// In nanoseconds since the machine was started.
        until_boot_ns: u64,
    },
    /// It is not shaped, and this is why.
    Refused {
        /// The exit code that this calls for.
        code: u8,
        /// What happened, with its causes.
        message: String,
        /// What the user can do about it.
        remedy: Option<String>,
    },
}

/// Why an interface is not held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HoldError {
    /// Not root.
    #[error("shaping an interface needs root")]
    NotRoot,
    /// What the owner of the machine wrote.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// What the owner of the machine does not allow.
    #[error("{what} is not allowed on this machine")]
    NotAllowed {
        /// What was asked for.
        what: String,
        /// How the owner can allow it.
        remedy: String,
    },
    /// No such interface.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// The machine is reached over it.
    #[error("interface {interface} is never shaped: {reason}")]
    Protected {
        /// The interface.
        interface: String,
        /// Why.
        reason: String,
    },
    /// Somebody else's, or ours already.
    #[error("interface {interface} {what}")]
    Taken {
        /// The interface.
        interface: String,
        /// By what.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// What was asked for makes no sense here.
    #[error("{0}")]
    Senseless(String),
    /// What earlier owners left.
    #[error("this machine is dirty: {0}")]
    Dirty(String),
    /// A change.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The guardian.
    #[error(transparent)]
    Guardian(#[from] GuardianError),
    /// The kernel.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Files and processes.
    #[error("cannot {action}")]
    System {
        /// What was being done.
        action: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It was applied, and taken back.
    #[error("interface {interface} was put back: {why}")]
    PutBack {
        /// The interface.
        interface: String,
        /// Why.
        why: String,
    },
}

impl HoldError {
    /// The exit code that it calls for.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            HoldError::Dirty(_) | HoldError::Guardian(GuardianError::Dirty { .. }) => 5,
            HoldError::Configuration(ConfigurationError::Invalid(_)) => 3,
            HoldError::Senseless(_) => 2,
            HoldError::PutBack { .. } => 1,
            _ => 4,
        }
    }

    /// What the user can do about it, where the message does not say it.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let words = match self {
            HoldError::NotRoot => "start it with sudo",
            HoldError::NotAllowed { remedy, .. } | HoldError::Taken { remedy, .. } => remedy,
            HoldError::NoInterface(_) => "`ip link` tells which there are",
            HoldError::Protected { .. } => {
                "this machine could not be reached any more; choose another interface"
            }
            HoldError::Dirty(_) | HoldError::Guardian(GuardianError::Dirty { .. }) => {
                "put right what it says, then `hexloop undo`"
            }
            HoldError::Change(ChangeError::Foreign { .. }) => {
                "hexloop never replaces what others made: take it away yourself, or choose another \
                 interface"
            }
            HoldError::PutBack { .. } => "apply it again when the cause is gone",
            _ => return None,
        };
        Some(words.to_owned())
    }
}

/// The holder process: reads its order from standard input, tells what becomes of it on standard
/// output, and returns when nothing is held any more.
///
/// # Errors
/// What was refused or could not be put back. It was told already.
pub fn run(state_directory: &Path) -> Result<(), HoldError> {
    let waiting = Waiting::start()?;
    let outcome = start::read_order().and_then(|order| hold(&order, state_directory, &waiting));
    if let Err(error) = &outcome {
        start::tell(&HoldEvent::Refused {
            code: error.exit_code(),
            message: with_causes(error),
            remedy: error.remedy(),
        });
    }
    outcome
}

fn hold(order: &HoldOrder, state: &Path, waiting: &Waiting) -> Result<(), HoldError> {
    let trace = hexloop_traces::format::parse(&order.trace)
        .map_err(|error| HoldError::Senseless(error.to_string()))?;
    let found = check(order, &trace)?;
    let lock = lock(state)?;
    put_right(state, &found.interface)?;
    let shaping = Shaping {
        interface: &found.interface,
        mtu: found.mtu,
        speed_bps: found.speed_bps,
        trace: &trace,
        settings: order.settings,
        peers: &order.peers,
        filters: classifier_here()?,
    };
    let steps = shaping.check()?;
    failpoint::reach("hold-checked");
    let guardian = Guardian::start_as(&SelfCommand::hexloop(), state, "link")?;
    let began = Began {
        order,
        shaping: &shaping,
        protected: found.protected,
        since_unix_ns: clock::wall_clock_ns(),
        since_boot_ns: clock::since_boot_ns(),
    };
    let name = &found.interface.name;
    let _ = fs::remove_file(ended_path(state, name));
    let held = began
        .apply(&guardian, &steps)
        .and_then(|()| began.confirm(&guardian, waiting));
    // From here on others may be applied to other interfaces.
    drop(lock);
    let (ended, failure) = match held {
        Ok(None) => (began.keep(&guardian, waiting), None),
        Ok(Some(ended)) => {
            let why = ended.to_string();
            let interface = name.clone();
            (ended, Some(HoldError::PutBack { interface, why }))
        }
        Err(error) => (Ended::Failed(with_causes(&error)), Some(error)),
    };
    failpoint::reach("hold-ends");
    let put_back = guardian.finish();
    write_ended(state, name, &ended);
    failpoint::reach("hold-ended");
    put_back?;
    failure.map_or(Ok(()), Err)
}

/// An interface that is being shaped.
struct Began<'a> {
    order: &'a HoldOrder,
    shaping: &'a Shaping<'a>,
    /// The interfaces over which this machine was reached before.
    protected: Protected,
    since_unix_ns: u64,
    since_boot_ns: u64,
}

impl Began<'_> {
    fn note(&self, until_boot_ns: u64, confirmed: bool) -> Held {
        Held {
            interface: self.shaping.interface.clone(),
            shape: self.order.shape.clone(),
            since_unix_ns: self.since_unix_ns,
            until_boot_ns,
            confirmed,
        }
    }

    /// Makes every change, then looks whether it is there.
    fn apply(&self, guardian: &Guardian, steps: &[TcStep]) -> Result<(), HoldError> {
        let until = self.since_boot_ns + self.order.confirm_within_ns.min(self.order.lease_ns);
        guardian.hold(&self.note(until, false), GRACE_NS)?;
        let mut changes = Changes::new(guardian)?;
        for step in steps {
            changes.make(self.shaping.guarded(step))?;
        }
        verify(&mut open()?, steps)?;
        if management::protected(&self.order.control_peers)? != self.protected {
            return Err(HoldError::PutBack {
                interface: self.shaping.interface.name.clone(),
                why: "the interfaces over which this machine is reached have changed".to_owned(),
            });
        }
        failpoint::reach("hold-applied");
        start::tell(&HoldEvent::Applied);
        Ok(())
    }

    /// Waits for the word that the machine can still be reached.
    fn confirm(&self, guardian: &Guardian, waiting: &Waiting) -> Result<Option<Ended>, HoldError> {
        let until = self.since_boot_ns + self.order.confirm_within_ns.min(self.order.lease_ns);
        match waiting.for_confirmation(guardian, self.shaping.interface, until)? {
            Ended::Confirmed => {}
            ended => return Ok(Some(ended)),
        }
        let until_boot_ns = self.since_boot_ns + self.order.lease_ns;
        guardian.hold(&self.note(until_boot_ns, true), GRACE_NS)?;
        failpoint::reach("hold-confirmed");
        start::tell(&HoldEvent::Held { until_boot_ns });
        start::leave_the_terminal();
        Ok(None)
    }

    /// Follows the trace until the lease or something else ends.
    fn keep(&self, guardian: &Guardian, waiting: &Waiting) -> Ended {
        let until = self.since_boot_ns + self.order.lease_ns;
        let follower = Follower::new(self.shaping, clock::since_boot_ns());
        waiting
            .for_the_end(guardian, self.shaping, follower, until)
            .unwrap_or_else(|error| Ended::Failed(with_causes(&error)))
    }
}

fn system(action: &str) -> impl FnOnce(io::Error) -> HoldError + '_ {
    move |source| HoldError::System {
        action: action.to_owned(),
        source,
    }
}

fn open() -> Result<RouteSocket, HoldError> {
    RouteSocket::open().map_err(system("open a netlink socket"))
}

/// What was found of an interface that may be shaped.
struct Found {
    interface: InterfaceIdentity,
    mtu: u32,
    speed_bps: Option<u64>,
    protected: Protected,
}

/// What may be refused before anything is made.
fn check(order: &HoldOrder, trace: &Trace) -> Result<Found, HoldError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(HoldError::NotRoot);
    }
    let configuration = Configuration::load()?;
    let highest_bps = highest_rate(trace);
    check_allowed(order, highest_bps, &configuration)?;
    let mut socket = open()?;
    let name = &order.interface;
    let found = link(&mut socket, called(name)).map_err(system("find the interface"))?;
    // A name may be an alternative one; what is allowed is the interface's own.
    let Some(found) = found.filter(|found| &link_name(found) == name) else {
        return Err(HoldError::NoInterface(name.clone()));
    };
    let index = found.header.index;
    let protected = management::protected(&order.control_peers)?;
    if let Some(reason) = protected.get(&index) {
        return Err(HoldError::Protected {
            interface: name.clone(),
            reason: reason.clone(),
        });
    }
    let speed_bps = check_speed(name, highest_bps)?;
    let namespace =
        NamespaceIdentity::of_this_thread().map_err(system("find out the network namespace"))?;
    Ok(Found {
        interface: InterfaceIdentity {
            namespace,
            index,
            name: name.clone(),
        },
        mtu: mtu_of(&found),
        speed_bps,
        protected,
    })
}

/// The highest rate that is asked for; 0 when none is.
fn highest_rate(trace: &Trace) -> u64 {
    let rates = trace
        .rows()
        .iter()
        .flat_map(|row| [row.down.rate_bps, row.up.rate_bps]);
    rates
        .filter(|rate| *rate != UNLIMITED_RATE_BPS)
        .max()
        .unwrap_or(0)
}

pub(crate) fn mtu_of(link: &LinkMessage) -> u32 {
    let mtu = link.attributes.iter().find_map(|one| match one {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    mtu.unwrap_or(1500)
}

fn check_allowed(
    order: &HoldOrder,
    highest_bps: u64,
    configuration: &Configuration,
) -> Result<(), HoldError> {
    let (host, path) = (&configuration.host, configuration.path.display());
    let refuse = |what: String, remedy: String| Err(HoldError::NotAllowed { what, remedy });
    let name = &order.interface;
    if !host.allow_interfaces.contains(name) {
        let remedy = format!(
            "its owner can allow it in {path}: `schema = 1` and `allow_interfaces = [\"{name}\"]`"
        );
        return refuse(format!("shaping interface {name}"), remedy);
    }
    if !configuration.allows_user(order.invoking_user) {
        let remedy = format!("its owner can add you to `allow_users` in {path}");
        return refuse("shaping by this user".to_owned(), remedy);
    }
    if highest_bps > host.max_rate_bps.unwrap_or(u64::MAX) {
        let rate = BitRate { bps: highest_bps };
        let remedy = format!("`max_rate` in {path} says how much is");
        return refuse(format!("a rate of {rate}"), remedy);
    }
    if order.lease_ns > host.max_lease_ns {
        let span = |ns| TimeSpan { ns };
        let remedy = format!("`max_lease` in {path} is {}", span(host.max_lease_ns));
        return refuse(format!("a lease of {}", span(order.lease_ns)), remedy);
    }
    Ok(())
}

/// A rate above the interface's own shapes nothing. Returns that.
fn check_speed(name: &str, highest_bps: u64) -> Result<Option<u64>, HoldError> {
    let speed = ethtool::speed_mbps(name).map_err(system("read the speed of the interface"))?;
    let Some(most_bps) = speed.map(|mbps| u64::from(mbps) * 1_000_000) else {
        return Ok(None);
    };
    if highest_bps > most_bps {
        let rate = |bps| BitRate { bps };
        return Err(HoldError::Senseless(format!(
            "a rate of {} is more than interface {name} has: {}",
            rate(highest_bps),
            rate(most_bps)
        )));
    }
    Ok(Some(most_bps))
}

/// Qdiscs that the kernel puts there by itself have no handle.
fn check_free(socket: &mut RouteSocket, name: &str, index: u32) -> Result<(), HoldError> {
    let found = qdiscs(socket, index).map_err(system("list the qdiscs of the interface"))?;
    for qdisc in found {
        let handle = qdisc.header.handle;
        let is_ingress = handle.major == u16::MAX;
        if handle.major != 0 && handle != HANDLE && (is_root(&qdisc) || is_ingress) {
            let kind = tc_kind(&qdisc);
            let place = if is_ingress { "" } else { " root" };
            return Err(HoldError::Taken {
                interface: name.to_owned(),
                what: format!("has a{place} qdisc `{kind}` that is not hexloop's"),
                remedy: "hexloop never replaces what others made: take it away yourself, or \
                         choose another interface"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

fn is_root(qdisc: &netlink_packet_route::tc::TcMessage) -> bool {
    qdisc.header.parent == netlink_packet_route::tc::TcHandle::ROOT
}

/// One interface at a time is taken, until it is confirmed.
/// How long the lock of a process that is being killed is waited for.
const DYING_NS: u64 = 1_000_000_000;

fn lock(state: &Path) -> Result<Flock<fs::File>, HoldError> {
    let path = state.join("link.lock");
    let doing = format!("lock {}", path.display());
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(system(&doing))?;
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(system(&doing))?;
    // A holder that was killed a moment ago may not have let go yet.
    let deadline = clock::now() + DYING_NS;
    let mut attempt = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    loop {
        match attempt {
            Ok(lock) => return Ok(lock),
            Err((file, nix::Error::EWOULDBLOCK)) if clock::now() < deadline => {
                clock::sleep_until(clock::now() + 10_000_000);
                attempt = Flock::lock(file, FlockArg::LockExclusiveNonblock);
            }
            Err((_, nix::Error::EWOULDBLOCK)) => {
                return Err(HoldError::Taken {
                    interface: "shaping".to_owned(),
                    what: "of another interface is not confirmed yet".to_owned(),
                    remedy: "`hexloop link show` tells which; confirm or clear it first".to_owned(),
                });
            }
            Err((_, error)) => return Err(system(&doing)(error.into())),
        }
    }
}

/// Undoes what dead owners left, and looks whether the interface is free.
fn put_right(state: &Path, interface: &InterfaceIdentity) -> Result<(), HoldError> {
    let failed: Vec<String> = guardian::replay_leftovers(state)?
        .into_iter()
        .flat_map(|report| report.failed)
        .collect();
    if !failed.is_empty() {
        return Err(HoldError::Dirty(failed.join("; ")));
    }
    let name = &interface.name;
    for held in guardian::held_links(state)? {
        let theirs = &held.held.interface;
        if theirs.index == interface.index && theirs.namespace == interface.namespace {
            return Err(HoldError::Taken {
                interface: name.clone(),
                what: format!("is shaped already: {}", held.held.shape),
                remedy: format!("`hexloop link clear {name}` first"),
            });
        }
    }
    let mut socket = open()?;
    check_free(&mut socket, name, interface.index)?;
    let left = unclaimed(interface).map_err(system("look for what earlier owners left"))?;
    if left.is_empty() {
        Ok(())
    } else {
        Err(HoldError::Dirty(left.join("; ")))
    }
}

/// What carries our mark on an interface although no ledger knows of it.
fn unclaimed(interface: &InterfaceIdentity) -> io::Result<Vec<String>> {
    let mut socket = RouteSocket::open()?;
    let mut left = Vec::new();
    let name = &interface.name;
    if has_our_root(&mut socket, interface.index)? {
        let major = HANDLE.major;
        left.push(format!(
            "{name} has hexloop's qdisc and no ledger knows of it; `tc qdisc del dev {name} root \
             handle {major:x}:` takes it away"
        ));
    }
    let ifb = ifb_name(interface.index);
    if link(&mut socket, called(&ifb))?.is_some() {
        left.push(format!(
            "there is a link {ifb} and no ledger knows of it; `ip link del {ifb}` takes it away"
        ));
    }
    Ok(left)
}

/// How the last shaping of an interface ended, for `hexloop link show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedLink {
    /// The interface.
    pub interface: String,
    /// When, in nanoseconds since 1970.
    pub at_unix_ns: u64,
    /// Why.
    pub why: String,
}

fn ended_path(state: &Path, interface: &str) -> PathBuf {
    state.join("ended").join(format!("{interface}.json"))
}

fn write_ended(state: &Path, interface: &str, ended: &Ended) {
    let ended = EndedLink {
        interface: interface.to_owned(),
        at_unix_ns: clock::wall_clock_ns(),
        why: ended.to_string(),
    };
    let path = ended_path(state, interface);
    let write = || -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(state))?;
        let mut file = fs::File::create(&path)?;
        file.write_all(serde_json::to_string(&ended)?.as_bytes())
    };
    // A courtesy: without it `show` only says that nothing is held.
    if write().is_err() {
        let _ = fs::remove_file(&path);
    }
}

/// How the last shaping of an interface ended; `None` when nobody wrote that.
#[must_use]
pub fn last_end(state: &Path, interface: &str) -> Option<EndedLink> {
    let text = fs::read_to_string(ended_path(state, interface)).ok()?;
    serde_json::from_str(&text).ok()
}
