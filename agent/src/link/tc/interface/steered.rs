//! The classes of an interface that follow a trace: their bytes are steered to it, as those of the
//! links between nodes are.
//!
//! Where packets are delayed, the queue below netem says what waits. Where netem takes its place, what
//! waits is told from what is delayed by what had come before (see `delayed`).

use std::io;

use hexloop_traces::{Direction, Schedule, UNLIMITED_RATE_BPS};
use hexloop_workloads::clock;
use serde::{Deserialize, Serialize};

use super::delayed::Delayed;
use super::ifb_name;
use super::step::{Making, TcStep, signed};
use crate::link::LinkError;
use crate::link::netlink::RouteSocket;
use crate::link::tc::codec::{Discipline, Place};
use crate::link::tc::handle::Handle;
use crate::link::tc::htb_class::{PreparedClass, UNLIMITED_BYTES_PER_S};
use crate::link::tc::question::Question;
use crate::link::tc::steering::{Backlogged, Seen, Steering};

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
    waiting: Waiting,
}

/// Where what waits for the bottleneck alone is seen.
#[derive(Debug)]
enum Waiting {
    /// In the class: nothing else is there.
    InClass,
    /// In the queue below netem. What has become due since the class sent last is not there yet.
    BelowNetem(Question),
    /// Among what is delayed.
    Delayed(Delayed),
}

impl Waiting {
    /// Below the class that a step makes; `after` are the steps that follow it.
    fn below_class(after: &[TcStep], index: i32) -> Option<Waiting> {
        let qdisc = |step: &TcStep| match &step.making {
            Making::Qdisc(qdisc) => Some(qdisc.clone()),
            _ => None,
        };
        let first = qdisc(after.first()?)?;
        if !matches!(first.discipline, Discipline::Netem(_)) {
            return Some(Waiting::InClass);
        }
        let second = after.get(1).and_then(qdisc);
        let below = second.filter(|one| one.place.parent.major() == first.place.handle.major());
        Some(match below {
            Some(below) => Waiting::BelowNetem(Question::of_discipline(Place {
                index,
                ..below.place
            })),
            None => Waiting::Delayed(Delayed::default()),
        })
    }
}

/// How closely the classes of one direction have followed the trace, all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteeredDirection {
    /// Which one: what the interface sends goes up.
    pub direction: Direction,
    /// How many classes there are: one, or one for each peer.
    pub classes: u64,
    /// The largest distance of any class's bytes from the integral of the trace while packets waited.
    pub largest_error_bytes: u64,
    /// How long packets waited in them without a gap, summed over the classes, in nanoseconds. Backlogs of
    /// fewer than 100 packets of the MTU are left out, here and below, and so are outages.
    pub backlogged_ns: u64,
    /// IP bytes that the trace allowed meanwhile.
    pub trace_bytes: u64,
    /// IP bytes that the classes sent meanwhile.
    pub sent_bytes: u64,
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
        for (number, step) in steps.iter().enumerate() {
            let Making::Class(class) = &step.making else {
                continue;
            };
            let index = signed(step.number(socket)?);
            let Some(waiting) = Waiting::below_class(&steps[number + 1..], index) else {
                continue;
            };
            let place = Place {
                index,
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
                waiting,
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

    /// How closely they have followed the trace; a direction without classes is left out.
    pub(crate) fn account(&self) -> Vec<SteeredDirection> {
        let of = |direction| {
            let mut sum = SteeredDirection {
                direction,
                classes: 0,
                largest_error_bytes: 0,
                backlogged_ns: 0,
                trace_bytes: 0,
                sent_bytes: 0,
            };
            for one in self.classes.iter().filter(|one| one.direction == direction) {
                let Backlogged {
                    length_ns,
                    trace_bits,
                    sent_bits,
                } = one.steering.backlogged();
                let largest_bytes = one.steering.largest_error_bytes();
                sum.classes += 1;
                sum.largest_error_bytes = sum.largest_error_bytes.max(largest_bytes);
                sum.backlogged_ns = sum.backlogged_ns.saturating_add(length_ns);
                sum.trace_bytes = sum.trace_bytes.saturating_add(trace_bits / 8);
                sum.sent_bytes = sum.sent_bytes.saturating_add(sent_bits / 8);
            }
            sum
        };
        let sums = Direction::BOTH.map(of).into_iter();
        sums.filter(|sum| sum.classes > 0).collect()
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
    /// [`Direction::BOTH`], and sets their rates, so that the trace is met when they are looked at next: at
    /// the moment that is returned. That is no later than `change_ns`, when the trace goes on, and for all
    /// that no sooner than `rested_ns`: with many classes and short rows, all of the time would go by
    /// otherwise in looking and setting.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn steer(
        &mut self,
        socket: &mut RouteSocket,
        schedules: &[Schedule; 2],
        now_ns: u64,
        (change_ns, rested_ns): (u64, u64),
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
            let backlog_bytes = match &mut one.waiting {
                Waiting::InClass => queued,
                Waiting::BelowNetem(queue) => {
                    let waits = queue.ask(socket);
                    let waits =
                        waits.map_err(failed("read what waits in", one.handle, &one.interface))?;
                    u64::from(waits.queue.backlog_bytes)
                }
                Waiting::Delayed(delayed) => {
                    let delay_ns = state.delay_ns.saturating_add(u64::from(state.jitter_ns));
                    delayed.waiting_bytes(at_ns, seen.bytes, queued, delay_ns)
                }
            };
            if state.rate_bps == UNLIMITED_RATE_BPS {
                one.steering.let_go();
            } else {
                let bytes = seen.bytes;
                let seen = Seen {
                    at_ns,
                    bytes,
                    backlog_bytes,
                };
                one.steering.look(schedule, seen);
            }
        }
        let seen = AllSeen {
            at_ns: at_ns(),
            looked_ns: at_ns() - now_ns,
            waits,
        };
        let next_ns = seen.next_ns(change_ns, rested_ns);
        for one in &mut self.classes {
            let now_ns = at_ns();
            let schedule = one.schedule(schedules);
            let bytes_per_s = match schedule.state_at(now_ns).rate_bps {
                // Nothing leaves, and what will finds the rate of before until it is looked at again.
                0 => continue,
                UNLIMITED_RATE_BPS => UNLIMITED_BYTES_PER_S,
                row_bps => {
                    let bps = one.steering.rate_bps(schedule, row_bps, now_ns, next_ns);
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

/// All classes as they were looked at.
#[derive(Debug, Clone, Copy)]
struct AllSeen {
    /// When the last of them was.
    at_ns: u64,
    /// How long looking took.
    looked_ns: u64,
    /// Whether packets wait in any.
    waits: bool,
}

impl AllSeen {
    /// When to look next.
    fn next_ns(self, change_ns: u64, rested_ns: u64) -> u64 {
        let pause_ns = if self.waits {
            BUSY_LOOK_NS
        } else {
            IDLE_LOOK_NS
        };
        let pause_ns = pause_ns.max(self.looked_ns * LOOKING_PART);
        let next_ns = (self.at_ns + pause_ns).min(change_ns);
        next_ns.max(rested_ns).max(self.at_ns + 1)
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

    fn failed(&self, what: &str) -> impl FnOnce(io::Error) -> LinkError + use<> {
        failed(what, self.handle, &self.interface)
    }
}

fn failed(
    what: &str,
    class: Handle,
    interface: &str,
) -> impl FnOnce(io::Error) -> LinkError + use<> {
    let action = format!("{what} class {class} on {interface}");
    move |source| LinkError::Netlink { action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    const BUSY: AllSeen = AllSeen {
        at_ns: 100 * MS,
        looked_ns: MS / 10,
        waits: true,
    };

    #[test]
    fn the_next_look_is_a_pause_later_or_when_the_trace_goes_on() {
        assert_eq!(BUSY.next_ns(200 * MS, 0), 102 * MS);
        assert_eq!(BUSY.next_ns(101 * MS, 0), 101 * MS);
        let idle = AllSeen {
            waits: false,
            ..BUSY
        };
        assert_eq!(idle.next_ns(200 * MS, 0), 110 * MS);
        let many = AllSeen {
            looked_ns: 5 * MS,
            ..BUSY
        };
        assert_eq!(many.next_ns(200 * MS, 0), 120 * MS);
    }

    #[test]
    fn a_trace_that_goes_on_faster_than_it_is_followed_does_not_take_the_rest() {
        // The row was over before all classes had been looked at.
        assert_eq!(BUSY.next_ns(99 * MS, 0), 100 * MS + 1);
        assert_eq!(BUSY.next_ns(99 * MS, 112 * MS), 112 * MS);
        assert_eq!(BUSY.next_ns(101 * MS, 112 * MS), 112 * MS);
        assert_eq!(BUSY.next_ns(200 * MS, 101 * MS), 102 * MS);
    }
}
