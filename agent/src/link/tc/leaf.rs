//! What waits below the class: the queue of the link.

use hexloop_traces::{LinkSettings, QueueDiscipline, QueueLimit, Service};

use super::codec::Discipline;
use super::codec::queues::{Codel, FqCodel, Pie, Plug};

/// Why a link's settings cannot be had with tc, and what to do.
pub(super) type Refusal = &'static str;

/// Whether the queue is to hold packets for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outages {
    /// There are none.
    Never,
    /// One may be asked for, where the kernel can do it.
    Perhaps,
    /// The trace has some.
    Certainly,
}

/// The queue of a link, and how its limit follows the trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    settings: LinkSettings,
    mtu: u32,
    outages: Outages,
}

fn microseconds(nanoseconds: u64) -> u32 {
    u32::try_from(nanoseconds / 1000).unwrap_or(u32::MAX)
}

impl Leaf {
    /// The queue for these settings.
    ///
    /// # Errors
    /// The kernel has no discipline for them.
    pub(super) fn new(settings: LinkSettings, mtu: u32, outages: Outages) -> Result<Leaf, Refusal> {
        if settings.service != Service::Fluid {
            return Err("delivery opportunities need datapath relay: htb serves bit by bit");
        }
        let plain = settings.discipline == QueueDiscipline::DropTail
            && matches!(settings.queue, QueueLimit::Bytes(_));
        if outages == Outages::Certainly && !plain {
            return Err(
                "outages need a drop-tail queue with a limit in bytes on tc, whose plug holds nothing else; \
                 choose that queue, or datapath relay",
            );
        }
        if settings.discipline == QueueDiscipline::DropHead
            && matches!(settings.queue, QueueLimit::Bytes(_))
        {
            return Err(
                "drop-head on tc needs its queue in packets (pfifo_head_drop); give it so, or choose datapath relay",
            );
        }
        Ok(Leaf {
            settings,
            mtu,
            outages,
        })
    }

    fn bytes(&self, queue_bytes: u32) -> u32 {
        if queue_bytes > 0 {
            return queue_bytes;
        }
        let bytes = self.settings.most_queue_bytes(self.mtu);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    fn packets(&self, queue_bytes: u32) -> u32 {
        match self.settings.queue {
            QueueLimit::Packets(packets) if queue_bytes == 0 => packets,
            _ => (self.bytes(queue_bytes) / self.mtu.max(1)).max(1),
        }
    }

    /// The disciplines that do it, best first. `queue_bytes` is the trace's limit; 0 leaves
    /// the link's own.
    pub(super) fn disciplines(&self, queue_bytes: u32) -> Vec<Discipline> {
        let ecn = self.settings.ecn;
        let limit_packets = self.packets(queue_bytes);
        match (self.settings.discipline, self.settings.queue) {
            (QueueDiscipline::DropTail, QueueLimit::Packets(_)) => {
                vec![Discipline::Pfifo(limit_packets)]
            }
            (QueueDiscipline::DropTail, QueueLimit::Bytes(_)) => {
                // A plug that holds nothing is a fifo.
                let bytes = self.bytes(queue_bytes);
                let (plug, fifo) = (
                    Discipline::Plug(Plug::Limit(bytes)),
                    Discipline::Bfifo(bytes),
                );
                match self.outages {
                    Outages::Never => vec![fifo],
                    Outages::Perhaps => vec![plug, fifo],
                    Outages::Certainly => vec![plug],
                }
            }
            (QueueDiscipline::DropHead, _) => vec![Discipline::PfifoHeadDrop(limit_packets)],
            (
                QueueDiscipline::Codel {
                    target_ns,
                    interval_ns,
                },
                _,
            ) => {
                let codel = Codel {
                    target_us: microseconds(target_ns),
                    limit_packets,
                    interval_us: microseconds(interval_ns),
                    ecn,
                };
                // One flow of fq_codel is CoDel, where the kernel has only that.
                let fair = FqCodel {
                    codel,
                    flows: 1,
                    quantum: self.mtu + 14,
                };
                vec![Discipline::Codel(codel), Discipline::FqCodel(fair)]
            }
            (
                QueueDiscipline::Pie {
                    target_ns,
                    update_ns,
                },
                _,
            ) => vec![Discipline::Pie(Pie {
                target_us: microseconds(target_ns),
                limit_packets,
                update_us: microseconds(update_ns),
                ecn,
            })],
        }
    }

    /// What it was made for.
    pub(super) const fn outages(&self) -> Outages {
        self.outages
    }

    /// The settings that it follows.
    pub(super) const fn settings(&self) -> LinkSettings {
        self.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_has_its_discipline_or_a_refusal_that_says_what_to_do() {
        let tail = LinkSettings::drop_tail(30_000);
        let leaf = Leaf::new(tail, 1500, Outages::Perhaps).unwrap();
        let either = |bytes| {
            let plug = Discipline::Plug(Plug::Limit(bytes));
            [plug, Discipline::Bfifo(bytes)]
        };
        assert_eq!(leaf.disciplines(0), either(30_000));
        assert_eq!(leaf.disciplines(9000), either(9000));
        let plain = Leaf::new(tail, 1500, Outages::Never).unwrap();
        assert_eq!(plain.disciplines(0), [Discipline::Bfifo(30_000)]);
        let holding = Leaf::new(tail, 1500, Outages::Certainly).unwrap();
        let plug = Discipline::Plug(Plug::Limit(30_000));
        assert_eq!(holding.disciplines(0), [plug]);

        let packets = LinkSettings {
            queue: QueueLimit::Packets(20),
            ..tail
        };
        let leaf = Leaf::new(packets, 1500, Outages::Perhaps).unwrap();
        assert_eq!(leaf.disciplines(0), [Discipline::Pfifo(20)]);
        assert!(
            Leaf::new(packets, 1500, Outages::Certainly)
                .unwrap_err()
                .contains("relay")
        );

        let head = LinkSettings {
            discipline: QueueDiscipline::DropHead,
            ..packets
        };
        let leaf = Leaf::new(head, 1500, Outages::Perhaps).unwrap();
        assert_eq!(leaf.disciplines(0), [Discipline::PfifoHeadDrop(20)]);

        let codel = LinkSettings {
            discipline: QueueDiscipline::CODEL,
            ecn: true,
            ..tail
        };
        let [Discipline::Codel(own), Discipline::FqCodel(fair)] =
            Leaf::new(codel, 1500, Outages::Perhaps)
                .unwrap()
                .disciplines(0)[..]
        else {
            panic!("two ways to CoDel");
        };
        assert_eq!(
            (own.target_us, own.limit_packets, own.ecn),
            (5000, 20, true)
        );
        assert_eq!((fair.codel, fair.flows), (own, 1));

        let slots = LinkSettings {
            service: Service::Opportunities { slot_ns: 1_000_000 },
            ..tail
        };
        assert!(Leaf::new(slots, 1500, Outages::Perhaps).is_err());
        // A fifo marks nothing, here as on the relay.
        let marking = LinkSettings { ecn: true, ..tail };
        let leaf = Leaf::new(marking, 1500, Outages::Never).unwrap();
        assert_eq!(leaf.disciplines(0), [Discipline::Bfifo(30_000)]);
    }
}
