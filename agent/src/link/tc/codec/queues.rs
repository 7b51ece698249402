//! What waits below a class: fifos, plug and the disciplines that manage a queue actively
//! (linux/pkt_sched.h).

use super::Writing;
use crate::link::tc::wire::{Attributes, Writer, u32_at, words};

/// CoDel's own discipline (net/sched/sch_codel.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Codel {
    pub(crate) target_us: u32,
    pub(crate) limit_packets: u32,
    pub(crate) interval_us: u32,
    pub(crate) ecn: bool,
}

/// CoDel on the queues of flows (net/sched/sch_fq_codel.c); one flow makes it CoDel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FqCodel {
    pub(crate) codel: Codel,
    pub(crate) flows: u32,
    pub(crate) quantum: u32,
}

/// PIE (net/sched/sch_pie.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pie {
    pub(crate) target_us: u32,
    pub(crate) limit_packets: u32,
    pub(crate) update_us: u32,
    pub(crate) ecn: bool,
}

/// Fair queueing with departure times (net/sched/sch_fq.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fq {
    pub(crate) limit_packets: u32,
    pub(crate) flow_limit_packets: u32,
    pub(crate) quantum: u32,
    pub(crate) initial_quantum: u32,
    /// Bytes per second of any flow; `u32::MAX` is no limit.
    pub(crate) flow_max_rate: u32,
    /// How far ahead a departure time may lie, in microseconds.
    pub(crate) horizon_us: u32,
    /// Drop what lies beyond instead of bringing it forward.
    pub(crate) horizon_drop: bool,
}

/// What a plug does next (net/sched/sch_plug.c). It cannot be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plug {
    /// Hold everything from now on.
    Hold,
    /// Let go, and hold nothing any more.
    Release,
    /// Bytes that it holds.
    Limit(u32),
}

fn number(options: &[u8], kind: u16) -> Option<u32> {
    Attributes::find(options, kind).and_then(|payload| u32_at(payload, 0))
}

impl Codel {
    /// As the kernel keeps it: in units of 1.024 us (CODEL_SHIFT in net/codel.h).
    pub(crate) fn as_kept(self) -> Codel {
        let kept = |us: u32| {
            let units = (u64::from(us) * 1000) >> 10;
            u32::try_from((units << 10) / 1000).unwrap_or(u32::MAX)
        };
        Codel {
            target_us: kept(self.target_us),
            interval_us: kept(self.interval_us),
            ..self
        }
    }

    // TCA_CODEL_*: target, limit, interval, ecn.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.u32(1, self.target_us).u32(2, self.limit_packets);
        writer.u32(3, self.interval_us).u32(4, u32::from(self.ecn));
    }

    pub(super) fn read(options: &[u8]) -> Option<Codel> {
        Some(Codel {
            target_us: number(options, 1)?,
            limit_packets: number(options, 2)?,
            interval_us: number(options, 3)?,
            ecn: number(options, 4)? == 1,
        })
    }
}

impl FqCodel {
    // TCA_FQ_CODEL_*: target, limit, interval, ecn, flows, quantum.
    pub(super) fn write(&self, writer: &mut Writer, writing: Writing) {
        self.codel.write(writer);
        // Who has flows refuses to hear how many (fq_codel_change in net/sched/sch_fq_codel.c).
        if writing == Writing::Whole {
            writer.u32(5, self.flows);
        }
        writer.u32(6, self.quantum);
    }

    pub(super) fn read(options: &[u8]) -> Option<FqCodel> {
        Some(FqCodel {
            codel: Codel::read(options)?,
            flows: number(options, 5)?,
            quantum: number(options, 6)?,
        })
    }
}

impl Pie {
    // TCA_PIE_*: target, limit, tupdate, alpha, beta, ecn.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.u32(1, self.target_us).u32(2, self.limit_packets);
        writer.u32(3, self.update_us).u32(6, u32::from(self.ecn));
    }

    pub(super) fn read(options: &[u8]) -> Option<Pie> {
        Some(Pie {
            target_us: number(options, 1)?,
            limit_packets: number(options, 2)?,
            update_us: number(options, 3)?,
            ecn: number(options, 6)? == 1,
        })
    }
}

impl Fq {
    // TCA_FQ_*: plimit 1, flow_plimit 2, quantum 3, initial_quantum 4, flow_max_rate 7,
    // horizon 14, horizon_drop 15 (u8).
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.u32(1, self.limit_packets);
        writer.u32(2, self.flow_limit_packets);
        writer.u32(3, self.quantum).u32(4, self.initial_quantum);
        writer.u32(7, self.flow_max_rate);
        writer.u32(14, self.horizon_us);
        writer.u8(15, u8::from(self.horizon_drop));
    }

    pub(super) fn read(options: &[u8]) -> Option<Fq> {
        let horizon_drop = Attributes::find(options, 15)?.first()?;
        Some(Fq {
            limit_packets: number(options, 1)?,
            flow_limit_packets: number(options, 2)?,
            quantum: number(options, 3)?,
            initial_quantum: number(options, 4)?,
            flow_max_rate: number(options, 7)?,
            horizon_us: number(options, 14)?,
            horizon_drop: *horizon_drop == 1,
        })
    }
}

impl Plug {
    // struct tc_plug_qopt: action, limit.
    pub(super) fn write(self, writer: &mut Writer) {
        let (action, limit) = match self {
            Plug::Hold => (0, 0),             // TCQ_PLUG_BUFFER
            Plug::Release => (2, 0),          // TCQ_PLUG_RELEASE_INDEFINITE
            Plug::Limit(limit) => (3, limit), // TCQ_PLUG_LIMIT
        };
        writer.raw(&words(&[action, limit]));
    }

    pub(super) fn read(options: &[u8]) -> Option<Plug> {
        match u32_at(options, 0)? {
            0 => Some(Plug::Hold),
            2 => Some(Plug::Release),
            3 => Some(Plug::Limit(u32_at(options, 4)?)),
            _ => None,
        }
    }
}
