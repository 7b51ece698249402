//! Holds a real interface in a shape until its lease ends: `hexloop agent keep`.
//!
//! The holder makes every change, each noted before; its guardian undoes them when the holder is
//! killed, and the holder when the guardian is. Whoever asked for it has to confirm that the
//! machine can still be reached, or everything is undone. From then on only the lease, a signal
//! (`SIGTERM`) or the interface's own end ends it.

mod check;
mod clear;
mod copy;
mod ended;
mod error;
mod followed;
mod free;
mod renew;
mod shaping;
mod standing;
mod start;
mod unguarded;
mod wait;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use hexloop_traces::{LinkSettings, Trace};
use hexloop_workloads::clock;
use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::change::Changes;
use crate::failpoint;
use crate::guardian::Guardian;
use crate::ledger::Held;
use crate::link::netlink::RouteSocket;
use crate::link::scheduling::{self, Scheduling};
use crate::link::tc::interface::{Kernel, TcStep, draw_ifb_address, rehearse, verify};
use crate::management::{self, ControlPeer, Protected};
use crate::node::with_causes;
use crate::process::SelfCommand;

pub use crate::link::tc::interface::{SteeredDirection, Transport as PeerTransport};
use check::{check_asked, check_rates};
pub use clear::{InterfaceNow, Seen, clear, confirm, interface_now, seen};
pub use ended::{EndedLink, last_end, last_ends};
use ended::{ended_path, write_ended};
pub use error::HoldError;
pub use followed::{Followed, followed};
use free::{lock, put_right};
pub use renew::extend;
pub(crate) use shaping::FollowedSoFar;
pub use shaping::Peer;
use shaping::{Follower, Outages, Shaping, curves};
use standing::Standing;
pub use start::Holder;
pub(crate) use unguarded::{Unguarded, shape_and_follow};
use wait::{Ended, Waiting};

/// How much longer than the lease the guardian waits for the holder to undo everything itself.
const GRACE_NS: u64 = 3_000_000_000;

/// What is to be held, beside the trace: of that, `down` is what the interface receives, and `up`
/// what it sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldOrder {
    /// The interface.
    pub interface: String,
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
    /// Those whom this machine is controlled by.
    pub control_peers: BTreeSet<ControlPeer>,
    /// The user behind it; `None` for root itself.
    pub invoking_user: Option<u32>,
}

/// What a holder tells whoever started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum HoldEvent {
    /// The interface is shaped, and what shaped it was read back; now it must be confirmed.
    Applied {
        /// The shape in words, with what this kernel makes of it.
        shape: String,
    },
    /// It is confirmed and stays until the lease ends.
    Held {
        /// In nanoseconds since the machine was started.
        until_boot_ns: u64,
        /// How the thread that follows the trace is scheduled, in words; `None` where nothing ever changes.
        scheduling: Option<String>,
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

/// The holder process: reads its order from standard input, tells what becomes of it on standard
/// output, and returns when nothing is held any more.
///
/// # Errors
/// What was refused or could not be put back. It was told already.
pub fn run(state_directory: &Path) -> Result<(), HoldError> {
    cgroup::move_to_the_roots();
    let waiting = Waiting::start()?;
    let outcome = start::read_order()
        .and_then(|(order, trace)| hold(&order, &trace, state_directory, &waiting));
    if let Err(error) = &outcome {
        start::tell(&HoldEvent::Refused {
            code: error.exit_code(),
            message: with_causes(error),
            remedy: error.remedy(),
        });
    }
    outcome
}

fn hold(
    order: &HoldOrder,
    trace: &Trace,
    state: &Path,
    waiting: &Waiting,
) -> Result<(), HoldError> {
    let found = check_asked(order)?;
    let speed_bps = check_rates(order, trace)?;
    let lock = lock(state)?;
    put_right(state, &found.interface)?;
    let states = trace.states().flat_map(|(_, states)| states);
    let kernel = Kernel::here(states, &order.settings, found.mtu)?;
    let shaping = Shaping {
        interface: &found.interface,
        ifb_address: draw_ifb_address().map_err(system("draw an address"))?,
        mtu: found.mtu,
        longest_bytes: found.longest_bytes,
        speed_bps,
        trace,
        curves: curves(trace),
        settings: order.settings,
        peers: &order.peers,
        kernel,
        outages: Outages::of(trace),
    };
    let steps = shaping.check()?;
    rehearse(&shaping.steps_to_rehearse()?)?;
    failpoint::reach("hold-checked");
    let guardian = Guardian::start_as(&SelfCommand::hexloop(), state, "link")?;
    let began = Began {
        order,
        shape: in_words(order, &shaping),
        shaping: &shaping,
        steps: &steps,
        protected: found.protected,
        since_unix_ns: clock::wall_clock_ns(),
        since_boot_ns: clock::since_boot_ns(),
    };
    let name = &found.interface.name;
    // A courtesy that is not there, or stays for `show` to repeat.
    let _ = fs::remove_file(ended_path(state, name));
    let held = began
        .apply(&guardian)
        .and_then(|()| began.confirm(&guardian, waiting));
    // From here on others may be applied to other interfaces.
    drop(lock);
    let (ended, followed, failure) = match held {
        Ok(Answer::Confirmed(scheduling)) => {
            let (ended, followed) = began.keep(&guardian, waiting, state, scheduling.as_ref());
            (ended, Some(followed), None)
        }
        Ok(Answer::Not(ended)) => {
            let why = ended.to_string();
            let interface = name.clone();
            (ended, None, Some(HoldError::PutBack { interface, why }))
        }
        Err(error) => (Ended::Failed(with_causes(&error)), None, Some(error)),
    };
    failpoint::reach("hold-ends");
    let put_back = guardian.finish();
    write_ended(state, name, &ended, followed);
    // It is told with the end from now on. Nobody may ever have asked for it.
    let _ = fs::remove_file(followed::place(state, name));
    failpoint::reach("hold-ended");
    put_back?;
    failure.map_or(Ok(()), Err)
}

/// What was asked for, and what this kernel makes of it.
fn in_words(order: &HoldOrder, shaping: &Shaping<'_>) -> String {
    let asked = Some(order.shape.clone());
    let words: Vec<String> = asked.into_iter().chain(shaping.notes()).collect();
    words.join("; ")
}

/// What came of the wait for a confirmation.
enum Answer {
    /// It was confirmed; what the thread that follows the trace got, where there is something to follow.
    Confirmed(Option<Scheduling>),
    /// It was not, for this reason.
    Not(Ended),
}

/// An interface that is being shaped.
struct Began<'a> {
    order: &'a HoldOrder,
    /// In words.
    shape: String,
    shaping: &'a Shaping<'a>,
    /// What shapes it at first.
    steps: &'a [TcStep],
    /// The interfaces over which this machine was reached before.
    protected: Protected,
    since_unix_ns: u64,
    since_boot_ns: u64,
}

impl Began<'_> {
    const fn standing(&self) -> Standing<'_> {
        Standing {
            order: self.order,
            shaping: self.shaping,
            steps: self.steps,
        }
    }

    fn note(&self, until_boot_ns: u64, confirmed: bool) -> Held {
        Held {
            interface: self.shaping.interface.clone(),
            shape: self.shape.clone(),
            since_unix_ns: self.since_unix_ns,
            until_boot_ns,
            confirmed,
        }
    }

    /// Makes every change, then looks whether it is there.
    fn apply(&self, guardian: &Guardian) -> Result<(), HoldError> {
        let until = self.since_boot_ns + self.order.confirm_within_ns.min(self.order.lease_ns);
        guardian.hold(&self.note(until, false), GRACE_NS)?;
        let mut changes = Changes::new(guardian)?;
        for step in self.steps {
            changes.make(self.shaping.guarded(step))?;
        }
        verify(&mut open()?, self.steps)?;
        if management::protected(&self.order.control_peers)? != self.protected {
            return Err(HoldError::PutBack {
                interface: self.shaping.interface.name.clone(),
                why: "the interfaces over which this machine is reached have changed".to_owned(),
            });
        }
        failpoint::reach("hold-applied");
        start::tell(&HoldEvent::Applied {
            shape: self.shape.clone(),
        });
        Ok(())
    }

    /// Waits for the word that the machine can still be reached.
    fn confirm(&self, guardian: &Guardian, waiting: &Waiting) -> Result<Answer, HoldError> {
        let until = self.since_boot_ns + self.order.confirm_within_ns.min(self.order.lease_ns);
        match waiting.for_confirmation(guardian, &self.standing(), until)? {
            Ended::Confirmed => {}
            ended => return Ok(Answer::Not(ended)),
        }
        let until_boot_ns = self.since_boot_ns + self.order.lease_ns;
        guardian.hold(&self.note(until_boot_ns, true), GRACE_NS)?;
        failpoint::reach("hold-confirmed");
        // The guardian was started before: it has nothing to be early for.
        let scheduling = self.shaping.changes();
        let scheduling = scheduling.then(|| scheduling::make_real_time(None));
        start::tell(&HoldEvent::Held {
            until_boot_ns,
            scheduling: scheduling.as_ref().map(|got| got.description.clone()),
        });
        start::leave_the_terminal();
        Ok(Answer::Confirmed(scheduling))
    }

    /// Follows the trace until the lease or something else ends. Returns how well.
    fn keep(
        &self,
        guardian: &Guardian,
        waiting: &Waiting,
        state: &Path,
        scheduling: Option<&Scheduling>,
    ) -> (Ended, Followed) {
        let until = self.since_boot_ns + self.order.lease_ns;
        let mut follower = Follower::new(self.shaping, clock::since_boot_ns());
        let name = &self.shaping.interface.name;
        let followed = |follower: &Follower<'_>| {
            Followed::now(self.since_unix_ns, scheduling, follower.so_far())
        };
        let looked = |follower: &Follower<'_>| {
            followed::tell(state, name, &followed(follower));
            renew::grant(state, name, |until_boot_ns| {
                guardian.hold(&self.note(until_boot_ns, true), GRACE_NS)
            })
        };
        let ended = waiting
            .for_the_end(guardian, &self.standing(), &mut follower, (until, looked))
            .unwrap_or_else(|error| Ended::Failed(with_causes(&error)));
        (ended, followed(&follower))
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
