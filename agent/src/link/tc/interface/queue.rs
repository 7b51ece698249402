//! What hangs below a class: the queue of the link, or netem and below it the queue.
//!
//! ```text
//! class -- netem (delay, loss) -- queue       where netem counts what hangs below it
//! class -- netem (delay, loss, queue)         elsewhere: one limit for both
//! ```
//!
//! Whenever its class may send, netem hands every packet that has been delayed to the discipline below
//! it and takes the next one from there (`netem_dequeue` in net/sched/sch_netem.c). So the discipline
//! below holds what waits for the bottleneck and nothing else, and any discipline will do. What it
//! thinks of a packet begins then: up to one packet's time late.

use hexloop_traces::units::ByteSize;
use hexloop_traces::{LinkSettings, LinkState, QueueDiscipline, QueueLimit, UNLIMITED_RATE_BPS};

use super::{BelowNetem, InterfacePlan, Kernel, Outage, PlanError, Shape};
use crate::link::tc::codec::Discipline;
use crate::link::tc::codec::queues::Plug;
use crate::link::tc::htb_class::UNLIMITED_BYTES_PER_S;
use crate::link::tc::leaf::{Leaf, Outages};
use crate::link::tc::path::{self, FASTEST_BPS, Path};

/// The smallest packet that a queue with a limit in bytes can hold: the header of IPv4 alone.
const LEAST_PACKET_BYTES: u32 = 20;

/// The disciplines below a class: the first on the class, the second below the first.
pub(super) fn below_class(
    plan: &InterfacePlan,
    shape: &Shape,
    kernel: &Kernel,
) -> Result<(Discipline, Option<Discipline>), PlanError> {
    let Shape {
        state,
        settings,
        outage,
    } = shape;
    let refused = |reason: String| PlanError::Refused {
        interface: plan.interface.clone(),
        reason,
    };
    let outages = match outage {
        Outage::Never => Outages::Never,
        Outage::NotNow | Outage::Now => Outages::Certainly,
    };
    let own = Leaf::new(*settings, plan.mtu, outages);
    let own = own.map_err(|reason| refused(reason.to_owned()))?;
    let queue = chosen(own.disciplines(state.queue_bytes), kernel);
    let queue = queue.ok_or_else(|| refused("no queue".to_owned()))?;
    if !path::is_needed(state) {
        return Ok((queue, None));
    }
    let (limit, queue) = match &kernel.below_netem {
        BelowNetem::Counted => {
            let is_free = state.rate_bps == UNLIMITED_RATE_BPS && *outage != Outage::Now;
            let queue = if is_free { endless(queue) } else { queue };
            let queue = taking(queue, plan.longest_bytes);
            (room(plan, state, &queue), Some(queue))
        }
        BelowNetem::Unusable(why) => {
            let alone = |what: &str, instead: &str| {
                refused(format!(
                    "{what} beside delay or loss needs its queue below netem, which cannot be had here: \
                     {why}; {instead}, or leave out delay and loss"
                ))
            };
            if settings.discipline != QueueDiscipline::DropTail {
                let what = format!("queue discipline {}", settings.discipline);
                return Err(alone(&what, "leave the discipline out"));
            }
            if *outage != Outage::Never {
                return Err(alone("an outage", "choose a trace without outages"));
            }
            (shared_limit(state, settings, plan.mtu), None)
        }
    };
    let path = Path {
        limit,
        reorder: settings.reorder,
        seed: None,
    };
    Ok((Discipline::Netem(path::netem(state, path, 0)), queue))
}

/// The best of these that the kernel has. Where it has none the first stays, so that its name is told
/// when it is refused.
fn chosen(mut disciplines: Vec<Discipline>, kernel: &Kernel) -> Option<Discipline> {
    let has = |discipline: &Discipline| !kernel.lacks.contains(discipline.kind());
    let best = disciplines.iter().position(has).unwrap_or(0);
    (best < disciplines.len()).then(|| disciplines.swap_remove(best))
}

/// The disciplines that do what the settings of a link ask for, best first. What plug does it does alone.
pub(super) fn choices(settings: &LinkSettings, mtu: u32) -> Vec<Discipline> {
    let leaf = Leaf::new(*settings, mtu, Outages::Never);
    leaf.map_or_else(|_refused| Vec::new(), |leaf| leaf.disciplines(0))
}

/// Which discipline stands in for the one that does what was asked for; `None` where the kernel has that.
pub(crate) fn stand_in(kernel: &Kernel, settings: &LinkSettings, mtu: u32) -> Option<String> {
    let choices = choices(settings, mtu);
    let asked = choices.first()?.kind().to_owned();
    let used = chosen(choices, kernel)?;
    let used = used.kind();
    (used != asked).then(|| {
        format!("{used} stands in for {asked}, which this kernel does not have, and does the same")
    })
}

/// A link without a limit has no queue: all that has been delayed by a moment leaves then.
fn endless(queue: Discipline) -> Discipline {
    match queue {
        Discipline::Bfifo(_) => Discipline::Bfifo(u32::MAX),
        Discipline::Pfifo(_) => Discipline::Pfifo(u32::MAX),
        Discipline::Plug(Plug::Limit(_)) => Discipline::Plug(Plug::Limit(u32::MAX)),
        managed => managed,
    }
}

/// The queue, long enough to take any packet while it is empty. Else netem would be left without one while htb
/// asks it for one: kernels before "net/sched: Return NULL when htb_lookup_leaf encounters an empty
/// rbtree" (Linux 6.16) fail an assertion then, and later ones go round the other classes until one of them
/// has a packet (`htb_dequeue_tree`). What has a limit in packets takes the first, PIE and CoDel as well
/// (`pie_drop_early` and `codel_should_drop` leave a packet or two alone).
fn taking(queue: Discipline, longest_bytes: u32) -> Discipline {
    match queue {
        Discipline::Bfifo(bytes) => Discipline::Bfifo(bytes.max(longest_bytes)),
        Discipline::Plug(Plug::Limit(bytes)) => {
            Discipline::Plug(Plug::Limit(bytes.max(longest_bytes)))
        }
        other => other,
    }
}

fn longest_ns(state: &LinkState) -> u64 {
    state.delay_ns.saturating_add(u64::from(state.jitter_ns))
}

/// Packets that netem has room for where the queue hangs below it: more than can be there, so that the
/// queue alone drops. It counts what waits as well, and what is delayed comes as fast as it was sent,
/// which may be much faster than the link.
fn room(plan: &InterfacePlan, state: &LinkState, queue: &Discipline) -> u32 {
    let waiting = match queue {
        Discipline::Bfifo(bytes) | Discipline::Plug(Plug::Limit(bytes)) => {
            bytes / LEAST_PACKET_BYTES
        }
        Discipline::Pfifo(packets) | Discipline::PfifoHeadDrop(packets) => *packets,
        Discipline::Codel(codel) => codel.limit_packets,
        Discipline::FqCodel(fair) => fair.codel.limit_packets,
        Discipline::Pie(pie) => pie.limit_packets,
        _ => 0,
    };
    let fastest_bps = plan.speed_bps.unwrap_or(0).max(FASTEST_BPS);
    let bits = u128::from(fastest_bps) * u128::from(longest_ns(state)) / 1_000_000_000;
    let flood = bits / 8 / u128::from(plan.mtu.max(1));
    let flood = u32::try_from(flood).unwrap_or(u32::MAX);
    let delayed = path::packets_in_flight(state).max(flood);
    waiting.saturating_add(delayed)
}

/// Packets that netem has room for where it is the queue too: what waits, and what is under way at the
/// full rate, both in packets of the MTU. Who fills a link sends those, and finds the queue that was
/// asked for. Smaller ones find a shorter one, and the full rate as long as a packet has this share of
/// the MTU: flight / (queue + flight).
fn shared_limit(state: &LinkState, settings: &LinkSettings, mtu: u32) -> u32 {
    let mtu_bytes = u64::from(mtu.max(1));
    let queue = match settings.queue {
        QueueLimit::Packets(packets) if state.queue_bytes == 0 => u64::from(packets),
        _ => {
            let bytes = match state.queue_bytes {
                0 => settings.most_queue_bytes(mtu),
                bytes => u64::from(bytes),
            };
            bytes.div_ceil(mtu_bytes)
        }
    };
    let rate_bps = state.rate_bps.min(UNLIMITED_BYTES_PER_S * 8);
    let bits = u128::from(rate_bps) * u128::from(longest_ns(state)) / 1_000_000_000;
    let flight = u64::try_from(bits / 8).unwrap_or(u64::MAX);
    let packets = queue.saturating_add(flight.div_ceil(mtu_bytes)).max(1);
    u32::try_from(packets).unwrap_or(u32::MAX)
}

/// What is to be told of the queues of these states; `None` where they are what was asked for.
pub(crate) fn note(
    kernel: &Kernel,
    states: impl IntoIterator<Item = LinkState>,
    settings: &LinkSettings,
    (mtu, longest_bytes): (u32, u32),
) -> Option<String> {
    let mut delayed = states.into_iter().filter(path::is_needed);
    let size = |bytes| ByteSize { bytes };
    match &kernel.below_netem {
        BelowNetem::Counted => {
            let leaf = Leaf::new(*settings, mtu, Outages::Never).ok()?;
            let is_longer = |state: LinkState| {
                let queue = leaf.disciplines(state.queue_bytes).into_iter().next();
                // Where nothing limits the rate, nothing limits the queue either: see `endless`.
                state.rate_bps != UNLIMITED_RATE_BPS
                    && matches!(queue, Some(Discipline::Bfifo(bytes)) if bytes < longest_bytes)
            };
            delayed.any(is_longer).then(|| {
                format!(
                    "the queue beside delay or loss has {} where less is asked, since it has to take the \
                     longest packet that offloads join; give it in packets for less",
                    size(longest_bytes.into())
                )
            })
        }
        BelowNetem::Unusable(why) => {
            let limits = delayed.map(|state| shared_limit(&state, settings, mtu));
            let packets = limits.max()?;
            let bytes = u64::from(packets).saturating_mul(mtu.into());
            Some(format!(
                "delay and queue share a limit of {packets} packets of any size, {} at the MTU and more \
                 where offloads join packets, because the queue cannot hang below netem here: {why}",
                size(bytes)
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::{everything, plan, shape};
    use super::super::{FilterKind, steps};
    use super::*;
    use crate::link::tc::interface::step::Making;

    fn kernel(below_netem: BelowNetem) -> Kernel {
        Kernel {
            filters: FilterKind::U32,
            below_netem,
            lacks: BTreeSet::new(),
        }
    }

    fn unusable() -> Kernel {
        kernel(BelowNetem::Unusable("it was so told".to_owned()))
    }

    /// 100 Mbit/s and 10 ms: 125 kB are under way, and 300 kB may wait.
    fn delayed() -> Shape {
        let plain = shape(100_000_000);
        Shape {
            state: LinkState {
                delay_ns: 10_000_000,
                ..plain.state
            },
            settings: LinkSettings::drop_tail(300_000),
            ..plain
        }
    }

    /// The disciplines of an interface that sends so, with their places, and each step in words.
    fn made(shape: Shape, kernel: &Kernel) -> Vec<(String, String, Discipline)> {
        let plan = plan(vec![everything(Some(shape), None)]);
        let steps = steps(&plan, kernel).unwrap();
        let made = steps.iter().filter_map(|step| match &step.making {
            Making::Qdisc(qdisc) | Making::Hold(qdisc) => Some((
                step.describe().to_owned(),
                format!("{} below {}", qdisc.place.handle, qdisc.place.parent),
                qdisc.discipline.clone(),
            )),
            _ => None,
        });
        made.skip(1).collect()
    }

    fn limit(discipline: &Discipline) -> u32 {
        match discipline {
            Discipline::Netem(netem) => netem.limit,
            other => panic!("{other:?} is not netem"),
        }
    }

    #[test]
    fn the_queue_hangs_below_netem_whose_own_limit_is_never_met() {
        let made = made(delayed(), &kernel(BelowNetem::Counted));
        let [(first, above, netem), (second, below, queue)] = &made[..] else {
            panic!("{made:#?}");
        };
        assert_eq!(first, "put netem below class 6865:1 on eth1");
        assert_eq!(above, "6866: below 6865:1");
        assert_eq!(second, "put bfifo below 6866: on eth1");
        assert_eq!(below, "7866: below 6866:1");
        assert_eq!(*queue, Discipline::Bfifo(300_000));
        // All of the queue in packets of 20 bytes, and 10 Gbit/s of 1500 for 10 ms.
        assert_eq!(limit(netem), 15_000 + 8333);
    }

    #[test]
    fn every_discipline_and_the_plug_of_outages_hang_below_netem() {
        let counted = kernel(BelowNetem::Counted);
        for (discipline, kind) in [
            (QueueDiscipline::CODEL, "codel"),
            (QueueDiscipline::PIE, "pie"),
            (QueueDiscipline::DropHead, "pfifo_head_drop"),
        ] {
            let shape = Shape {
                settings: LinkSettings {
                    discipline,
                    queue: QueueLimit::Packets(200),
                    ..delayed().settings
                },
                ..delayed()
            };
            let made = made(shape, &counted);
            let [(_, _, netem), (_, below, queue)] = &made[..] else {
                panic!("{made:#?}");
            };
            assert_eq!((queue.kind(), below.as_str()), (kind, "7866: below 6866:1"));
            assert_eq!(limit(netem), 200 + 8333);
        }
        let outage = Shape {
            outage: Outage::Now,
            ..delayed()
        };
        let made = made(outage, &counted);
        let [_, (_, at, limit), (_, held_at, hold)] = &made[..] else {
            panic!("{made:#?}");
        };
        assert_eq!(*limit, Discipline::Plug(Plug::Limit(300_000)));
        assert_eq!(*hold, Discipline::Plug(Plug::Hold));
        assert_eq!((at, at.as_str()), (held_at, "7866: below 6866:1"));
    }

    #[test]
    fn the_next_discipline_stands_in_for_one_that_the_kernel_lacks_and_is_told() {
        let lacking = |kinds: &[&str]| Kernel {
            lacks: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            ..kernel(BelowNetem::Counted)
        };
        let mut shape = delayed();
        shape.settings.discipline = QueueDiscipline::CODEL;
        for (kinds, used) in [
            (&[][..], "codel"),
            (&["codel"], "fq_codel"),
            // It will be refused by its name.
            (&["codel", "fq_codel"], "codel"),
        ] {
            let kernel = lacking(kinds);
            let [_, (words, _, queue)] = &made(shape, &kernel)[..] else {
                panic!("netem and the queue");
            };
            assert_eq!(queue.kind(), used);
            assert_eq!(*words, format!("put {used} below 6866: on eth1"));
            // Without a delay it hangs below the class.
            let mut plain = shape;
            plain.state.delay_ns = 0;
            assert_eq!(made(plain, &kernel)[0].2.kind(), used);
            let told = stand_in(&kernel, &shape.settings, 1500);
            assert_eq!(told.is_some(), used == "fq_codel", "{told:?}");
            if let Some(told) = told {
                assert!(told.starts_with("fq_codel stands in for codel"), "{told}");
            }
        }
        assert_eq!(choices(&delayed().settings, 1500).len(), 1);
    }

    #[test]
    fn no_queue_below_netem_is_shorter_than_the_longest_packet_which_is_told() {
        let counted = kernel(BelowNetem::Counted);
        let short = Shape {
            settings: LinkSettings::drop_tail(20_000),
            ..delayed()
        };
        assert_eq!(made(short, &counted)[1].2, Discipline::Bfifo(65_600));
        let outage = Shape {
            outage: Outage::Now,
            ..short
        };
        let plug = Discipline::Plug(Plug::Limit(65_600));
        assert_eq!(made(outage, &counted)[1].2, plug);
        let told = |shape: &Shape| note(&counted, [shape.state], &shape.settings, (1500, 65_600));
        let words = told(&short).unwrap();
        assert!(
            words.contains("has 65600 B ") && words.contains("in packets"),
            "{words}"
        );
        let mut packets = short;
        packets.settings.queue = QueueLimit::Packets(2);
        assert_eq!(told(&packets), None);
        assert_eq!(told(&delayed()), None);
        // Without a limit of the rate it has none of its own either.
        let mut free = short;
        free.state.rate_bps = UNLIMITED_RATE_BPS;
        assert_eq!(told(&free), None);
        // Without a delay it hangs below the class, which bears a packet that is refused.
        let mut plain = short;
        plain.state.delay_ns = 0;
        assert_eq!(made(plain, &counted)[0].2, Discipline::Bfifo(20_000));
        assert_eq!(told(&plain), None);
    }

    #[test]
    fn what_is_delayed_on_a_link_without_a_limit_finds_no_queue_to_overflow() {
        let counted = kernel(BelowNetem::Counted);
        let mut free = delayed();
        free.state.rate_bps = UNLIMITED_RATE_BPS;
        let queue = |shape| made(shape, &counted)[1].2.clone();
        assert_eq!(queue(free), Discipline::Bfifo(u32::MAX));
        // What an outage holds is limited all the same.
        free.outage = Outage::NotNow;
        assert_eq!(queue(free), Discipline::Plug(Plug::Limit(u32::MAX)));
        free.outage = Outage::Now;
        assert_eq!(queue(free), Discipline::Plug(Plug::Limit(300_000)));
    }

    #[test]
    fn without_a_queue_below_netem_its_limit_is_that_of_full_packets_and_is_told() {
        let unusable = unusable();
        let made = made(delayed(), &unusable);
        let [(_, _, netem)] = &made[..] else {
            panic!("{made:#?}");
        };
        // 300 kB wait and 125 kB are under way, in packets of 1500 bytes.
        assert_eq!(limit(netem), 200 + 84);
        let Shape {
            state, settings, ..
        } = delayed();
        let slower = LinkState {
            rate_bps: 10_000_000,
            ..state
        };
        let told = |kernel: &Kernel, states: &[LinkState]| {
            note(kernel, states.iter().copied(), &settings, (1500, 65_600))
        };
        let words = told(&unusable, &[slower, state]).unwrap();
        assert!(words.contains("284 packets"), "{words}");
        assert!(words.contains("426 kB"), "{words}");
        assert!(words.contains("it was so told"), "{words}");
        let undelayed = LinkState {
            delay_ns: 0,
            ..state
        };
        assert_eq!(told(&unusable, &[undelayed]), None);
        assert_eq!(told(&kernel(BelowNetem::Counted), &[state]), None);
    }

    #[test]
    fn what_needs_a_queue_of_its_own_is_refused_without_one_and_the_reason_told() {
        let refused = |shape: Shape| {
            let plan = plan(vec![everything(Some(shape), None)]);
            steps(&plan, &unusable()).unwrap_err().to_string()
        };
        let mut managed = delayed();
        managed.settings.discipline = QueueDiscipline::CODEL;
        let words = refused(managed);
        assert!(words.contains("codel") && words.contains("it was so told"));
        assert!(words.contains("leave the discipline out"), "{words}");
        let outage = Shape {
            outage: Outage::NotNow,
            ..delayed()
        };
        let words = refused(outage);
        assert!(words.contains("an outage beside delay"), "{words}");
        // Neither is any trouble without a delay.
        managed.state.delay_ns = 0;
        assert_eq!(made(managed, &unusable())[0].2.kind(), "codel");
    }
}
