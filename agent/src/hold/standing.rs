//! Whether an interface may stay held: it is there and as its shaping was made for, what shapes it is
//! there, this machine is not reached over it by now, and its owner still allows it.

use hexloop_workloads::clock;

use super::check::check_named;
use super::shaping::Shaping;
use super::wait::Ended;
use super::{HoldError, HoldOrder, system};
use crate::configuration::Configuration;
use crate::link::netlink::RouteSocket;
use crate::link::tc::interface::{TcStep, lost};
use crate::management::protected_now;
use crate::node::with_causes;
use crate::undo::network::{link, longest_packet_of, mtu_of, numbered};

/// What has to stay as it was.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    pub(super) order: &'a HoldOrder,
    pub(super) shaping: &'a Shaping<'a>,
    /// What was made.
    pub(super) steps: &'a [TcStep],
}

impl Standing<'_> {
    /// Why it has to end, if it has to. News may have been lost, and so everything is looked at.
    pub(super) fn look(&self) -> Result<Option<Ended>, HoldError> {
        if let Some(ended) = self.look_at_link()? {
            return Ok(Some(ended));
        }
        let mut socket = open()?;
        if let Some(what) = lost(&mut socket, self.steps)? {
            return Ok(Some(Ended::Disturbed(what)));
        }
        let protected = protected_now(&mut socket, &self.order.control_peers)?;
        if let Some(reason) = protected.get(&self.shaping.interface.index) {
            return Ok(Some(Ended::Protected(reason.clone())));
        }
        let allowed = Configuration::load().map_err(HoldError::from);
        let allowed = allowed.and_then(|configuration| check_named(self.order, &configuration));
        Ok(allowed
            .err()
            .map(|error| Ended::NotAllowed(with_causes(&error))))
    }

    /// The same of the interface alone: what the shaping was made for must not have changed. A name is
    /// only a name.
    pub(super) fn look_at_link(&self) -> Result<Option<Ended>, HoldError> {
        let shaping = self.shaping;
        let found = link(&mut open()?, numbered(shaping.interface.index))
            .map_err(system("look at the interface"))?;
        let Some(found) = found else {
            return Ok(Some(Ended::Vanished));
        };
        let (from, to) = (shaping.mtu, mtu_of(&found));
        if to != from {
            return Ok(Some(Ended::MtuChanged { from, to }));
        }
        let (from, to) = (shaping.longest_bytes, longest_packet_of(&found));
        let is_longer = to > from && shaping.fears_longer_packets();
        Ok(is_longer.then_some(Ended::PacketsLonger { from, to }))
    }
}

fn open() -> Result<RouteSocket, HoldError> {
    RouteSocket::open_to_look().map_err(system("open a netlink socket"))
}

/// The kernel has no news of longer packets (`do_setlink` in net/core/rtnetlink.c): who fears them looks so
/// often, in nanoseconds.
const LENGTH_LOOK_NS: u64 = 1_000_000_000;

/// After a look, so many times what it took belongs to other work: where routes never cease to change,
/// a trace is followed all the same.
const REST: u64 = 4;

/// How often a look may fail in a row, and what it waits then, in nanoseconds: a kernel that could not
/// answer once may well answer a moment later.
const TRIES: usize = 3;
const RETRY_NS: u64 = 100_000_000;

/// When it is looked at.
#[derive(Debug)]
pub(super) struct Looks<'a> {
    standing: &'a Standing<'a>,
    /// When everything is to be looked at; `None` until there are news.
    whole_ns: Option<u64>,
    /// When the interface is.
    link_ns: Option<u64>,
    rested_ns: u64,
    failures: usize,
}

impl<'a> Looks<'a> {
    pub(super) fn new(standing: &'a Standing<'a>) -> Looks<'a> {
        let mut looks = Looks {
            standing,
            whole_ns: None,
            link_ns: None,
            rested_ns: 0,
            failures: 0,
        };
        looks.plan_link_look();
        looks
    }

    fn plan_link_look(&mut self) {
        let fears = self.standing.shaping.fears_longer_packets();
        self.link_ns = fears.then(|| clock::since_boot_ns().saturating_add(LENGTH_LOOK_NS));
    }

    /// There are news.
    pub(super) fn ask(&mut self) {
        let soonest_ns = clock::since_boot_ns().max(self.rested_ns);
        self.whole_ns.get_or_insert(soonest_ns);
    }

    /// When the next look is due, on the clock that counts from the start of the machine.
    pub(super) fn next_boot_ns(&self) -> Option<u64> {
        self.whole_ns.into_iter().chain(self.link_ns).min()
    }

    /// Looks at what it is time for.
    pub(super) fn look_at_what_is_due(&mut self) -> Result<Option<Ended>, HoldError> {
        let now_ns = clock::since_boot_ns();
        let is_due = |at_ns: Option<u64>| at_ns.is_some_and(|at_ns| at_ns <= now_ns);
        if is_due(self.whole_ns) {
            return self.look();
        }
        if is_due(self.link_ns) {
            self.plan_link_look();
            return self.standing.look_at_link();
        }
        Ok(None)
    }

    /// Looks at everything at once.
    pub(super) fn look(&mut self) -> Result<Option<Ended>, HoldError> {
        let began_ns = clock::since_boot_ns();
        let found = self.standing.look();
        let ended_ns = clock::since_boot_ns();
        let took_ns = ended_ns.saturating_sub(began_ns);
        self.rested_ns = ended_ns.saturating_add(took_ns.saturating_mul(REST));
        self.whole_ns = None;
        self.plan_link_look();
        self.failures = match &found {
            Ok(_) => 0,
            Err(_) => self.failures + 1,
        };
        if (1..TRIES).contains(&self.failures) {
            self.whole_ns = Some(ended_ns.saturating_add(RETRY_NS));
            return Ok(None);
        }
        found
    }
}
