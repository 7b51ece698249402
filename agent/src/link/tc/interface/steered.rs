//! The classes of an interface that follow a trace: their bytes are steered to it, as those of the
//! links between nodes are.
//!
//! Where netem takes the place of the queue, what waits is told from what is delayed by what had come
//! before (see `delayed`).

use std::io;

use hexloop_traces::{Direction, Schedule, UNLIMITED_RATE_BPS};
use hexloop_workloads::clock;

use super::delayed::Delayed;
use super::ifb_name;
use super::step::{Making, TcStep, index_of, signed};
use crate::link::LinkError;
use crate::link::netlink::RouteSocket;
use crate::link::tc::codec::{Discipline, Place};
use crate::link::tc::handle::Handle;
use crate::link::tc::htb_class::{PreparedClass, UNLIMITED_BYTES_PER_S};
use crate::link::tc::steering::{Seen, Steering};

/// Between two looks while packets wait, and while none do. Where there are many classes, looking
/// takes this part of the time at most.
const BUSY_LOOK_NS: u64 = 2_000_000;
const IDLE_LOOK_NS: u64 = 10_000_000;
const LOOKING_PART: u64 = 4;

/// A class that is steered.
#[derive(Debug)]
struct SteeredClass {
    interface: String,
    handle: Handle,
    direction: Direction,
    class: PreparedClass,
    steering: Steering,
    /// Where its queue delays packets.
    delayed: Option<Delayed>,
}

/// All classes of an interface.
#[derive(Debug)]
pub(crate) struct SteeredClasses {
    classes: Vec<SteeredClass>,
}

impl SteeredClasses {
    /// Those that these steps have made on the interface with this number. What it sends goes up.
    ///
    /// # Errors
    /// The interface is gone.
    pub(crate) fn of(
        socket: &mut RouteSocket,
        steps: &[TcStep],
        interface_index: u32,
        mtu: u32,
    ) -> Result<SteeredClasses, LinkError> {
        let ifb = ifb_name(interface_index);
        let mut classes = Vec::new();
        for pair in steps.windows(2) {
            let [step, below] = pair else { continue };
            let (Making::Class(class), Making::Qdisc(leaf)) = (&step.making, &below.making) else {
                continue;
            };
            let place = Place {
                index: signed(index_of(socket, &step.interface)?),
                ..class.place
            };
            classes.push(SteeredClass {
                interface: step.interface.clone(),
                handle: place.handle,
                direction: if step.interface == ifb {
                    Direction::Down
                } else {
                    Direction::Up
                },
                class: PreparedClass::new(place, class.htb.rate, mtu),
                steering: Steering::new(mtu),
                delayed: matches!(leaf.discipline, Discipline::Netem(_)).then(Delayed::default),
            });
        }
        Ok(SteeredClasses { classes })
    }

    /// The IP bytes that each has sent.
    #[cfg(test)]
    pub(super) fn sent_bytes(&mut self, socket: &mut RouteSocket) -> Vec<(Direction, u64)> {
        let classes = self.classes.iter_mut();
        let sent = classes.map(|one| (one.direction, one.class.ask(socket).unwrap().bytes));
        sent.collect()
    }

    /// Whether there is anything to steer.
    pub(crate) const fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Whether this step makes one of them: then its rate is set here alone.
    pub(crate) fn have(&self, step: &TcStep) -> bool {
        let Making::Class(class) = &step.making else {
            return false;
        };
        let is_it = |one: &SteeredClass| {
            one.handle == class.place.handle && one.interface == step.interface
        };
        self.classes.iter().any(is_it)
    }

    /// Looks at all of them at `now_ns` since the start of the schedules, which are in the order of
    /// [`Direction::BOTH`], and sets their rates, so that the trace is met when they are looked at next: at the moment that is returned, or at
    /// `change_ns`, when the trace goes on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn steer(
        &mut self,
        socket: &mut RouteSocket,
        schedules: &[Schedule; 2],
        now_ns: u64,
        change_ns: u64,
    ) -> Result<u64, LinkError> {
        let started = clock::now();
        let at_ns = || now_ns + clock::now().saturating_sub(started);
        let mut waits = false;
        for one in &mut self.classes {
            let seen = one.class.ask(socket).map_err(one.failed("read"))?;
            let at_ns = at_ns();
            let queued = u64::from(seen.queue.backlog_bytes);
            waits |= queued > 0;
            let schedule = one.schedule(schedules);
            let state = schedule.state_at(at_ns);
            let backlog_bytes = match &mut one.delayed {
                Some(delayed) => {
                    let delay_ns = state.delay_ns.saturating_add(u64::from(state.jitter_ns));
                    delayed.waiting_bytes(at_ns, seen.bytes, queued, delay_ns)
                }
                None => queued,
            };
            if state.rate_bps != UNLIMITED_RATE_BPS {
                let bytes = seen.bytes;
                let seen = Seen {
                    at_ns,
                    bytes,
                    backlog_bytes,
                };
                one.steering.look(schedule, seen);
            }
        }
        let pause_ns = if waits { BUSY_LOOK_NS } else { IDLE_LOOK_NS };
        let pause_ns = pause_ns.max((at_ns() - now_ns) * LOOKING_PART);
        let next_ns = (at_ns() + pause_ns).min(change_ns.max(at_ns() + 1));
        for one in &mut self.classes {
            let now_ns = at_ns();
            let schedule = one.schedule(schedules);
            let bytes_per_s = match schedule.state_at(now_ns).rate_bps {
                // Nothing leaves, and what will finds the rate of before until it is looked at again.
                0 => continue,
                UNLIMITED_RATE_BPS => UNLIMITED_BYTES_PER_S,
                _ => {
                    let bps = one.steering.rate_bps(schedule, now_ns, next_ns);
                    (bps / 8).clamp(1, UNLIMITED_BYTES_PER_S)
                }
            };
            if bytes_per_s != one.class.bytes_per_s() {
                let set = one.class.set(socket, bytes_per_s);
                set.map_err(one.failed("set the rate of"))?;
            }
        }
        Ok(next_ns)
    }
}

impl SteeredClass {
    fn schedule<'a>(&self, schedules: &'a [Schedule; 2]) -> &'a Schedule {
        let [down, up] = schedules;
        match self.direction {
            Direction::Down => down,
            Direction::Up => up,
        }
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> LinkError {
        let action = format!("{what} class {} on {}", self.handle, self.interface);
        move |source| LinkError::Netlink { action, source }
    }
}
