//! Hierarchical token bucket and token bucket filter (linux/pkt_sched.h, net/sched/sch_htb.c,
//! net/sched/sch_tbf.c).

use crate::link::tc::wire::{Attributes, Writer, u32_at, u64_at, words};

/// One tick of the packet scheduler is 64 ns (PSCHED_SHIFT is 6).
pub(crate) const TICK_SHIFT: u32 = 6;

const HTB_PARMS: u16 = 1;
const HTB_INIT: u16 = 2;
const HTB_DIRECT_QLEN: u16 = 5;
const HTB_RATE64: u16 = 6;
const HTB_CEIL64: u16 = 7;

/// Nanoseconds as ticks.
pub(crate) fn ticks(nanoseconds: u64) -> u32 {
    u32::try_from(nanoseconds >> TICK_SHIFT).unwrap_or(u32::MAX)
}

/// An htb queueing discipline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Htb {
    /// Minor number of the class for what no filter claims.
    pub(crate) default_class: u32,
    /// Divides a rate into a quantum where a class has none.
    pub(crate) rate_to_quantum: u32,
    /// Packets that may wait for direct transmission; `None` leaves the interface's length.
    pub(crate) direct_queue: Option<u32>,
}

impl Htb {
    pub(super) fn write(&self, writer: &mut Writer) {
        // struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts.
        let glob = words(&[3, self.rate_to_quantum, self.default_class, 0, 0]);
        writer.attribute(HTB_INIT, &glob);
        if let Some(length) = self.direct_queue {
            writer.u32(HTB_DIRECT_QLEN, length);
        }
    }

    pub(super) fn read(options: &[u8]) -> Option<Htb> {
        let glob = Attributes::find(options, HTB_INIT)?;
        Some(Htb {
            rate_to_quantum: u32_at(glob, 4)?,
            default_class: u32_at(glob, 8)?,
            direct_queue: Attributes::find(options, HTB_DIRECT_QLEN)
                .and_then(|payload| u32_at(payload, 0)),
        })
    }
}

/// A class of an htb discipline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HtbClass {
    /// Bytes per second.
    pub(crate) rate: u64,
    /// Bytes per second with what is borrowed.
    pub(crate) ceil: u64,
    /// Depth of the bucket of `rate`, in ticks at that rate.
    pub(crate) buffer_ticks: u32,
    /// Depth of the bucket of `ceil`.
    pub(crate) ceil_buffer_ticks: u32,
    /// Bytes per round among classes that share.
    pub(crate) quantum: u32,
    /// Smaller goes first.
    pub(crate) priority: u32,
}

/// struct tc_ratespec: cell_log, linklayer (u8), overhead, cell_align, mpu (u16), rate (u32). A
/// link layer (1: Ethernet) spares the kernel its rate tables.
fn rate_spec(bytes_per_s: u64) -> [u8; 12] {
    let rate = u32::try_from(bytes_per_s).unwrap_or(u32::MAX);
    let mut spec = [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    spec[8..].copy_from_slice(&rate.to_ne_bytes());
    spec
}

impl HtbClass {
    pub(super) fn write(&self, writer: &mut Writer) {
        let mut parameters = [rate_spec(self.rate), rate_spec(self.ceil)].concat();
        parameters.extend(words(&[
            self.buffer_ticks,
            self.ceil_buffer_ticks,
            self.quantum,
            0,
            self.priority,
        ]));
        writer.attribute(HTB_PARMS, &parameters);
        // Always, so that a message of one length serves every rate.
        writer.u64(HTB_RATE64, self.rate);
        writer.u64(HTB_CEIL64, self.ceil);
    }

    pub(super) fn read(options: &[u8]) -> Option<HtbClass> {
        let parameters = Attributes::find(options, HTB_PARMS)?;
        let wide = |kind, at| {
            let found = Attributes::find(options, kind).and_then(|payload| u64_at(payload, 0));
            found.or_else(|| u32_at(parameters, at).map(u64::from))
        };
        Some(HtbClass {
            rate: wide(HTB_RATE64, 8)?,
            ceil: wide(HTB_CEIL64, 20)?,
            buffer_ticks: u32_at(parameters, 24)?,
            ceil_buffer_ticks: u32_at(parameters, 28)?,
            quantum: u32_at(parameters, 32)?,
            priority: u32_at(parameters, 40)?,
        })
    }
}

const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_PEAK64: u16 = 5;
const TBF_BURST: u16 = 6;
const TBF_PEAK_BURST: u16 = 7;

/// A token bucket filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tbf {
    /// Bytes per second.
    pub(crate) rate: u64,
    /// Bytes per second of the second bucket; 0 has none.
    pub(crate) peak_rate: u64,
    /// Bytes that may wait.
    pub(crate) limit: u32,
    /// Depth of the bucket.
    pub(crate) burst: TbfBurst,
    /// Depth of the second bucket, in ticks at the peak rate.
    pub(crate) peak_ticks: u32,
}

/// How deep a bucket is: asked in bytes, told in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TbfBurst {
    /// Bytes (TCA_TBF_BURST).
    Bytes(u32),
    /// Ticks at the rate, as a dump says.
    Ticks(u32),
}

impl Tbf {
    pub(super) fn write(&self, writer: &mut Writer) {
        let ticks = match self.burst {
            TbfBurst::Bytes(_) => 0,
            TbfBurst::Ticks(ticks) => ticks,
        };
        // struct tc_tbf_qopt: rate, peakrate, limit, buffer, mtu.
        let peak = if self.peak_rate > 0 {
            rate_spec(self.peak_rate)
        } else {
            [0; 12]
        };
        let mut parameters = [rate_spec(self.rate), peak].concat();
        parameters.extend(words(&[self.limit, ticks, self.peak_ticks]));
        writer.attribute(TBF_PARMS, &parameters);
        writer.u64(TBF_RATE64, self.rate);
        if self.peak_rate > 0 {
            writer.u64(TBF_PEAK64, self.peak_rate);
            writer.u32(TBF_PEAK_BURST, 65536);
        }
        if let TbfBurst::Bytes(bytes) = self.burst {
            writer.u32(TBF_BURST, bytes);
        }
    }

    pub(super) fn read(options: &[u8]) -> Option<Tbf> {
        let parameters = Attributes::find(options, TBF_PARMS)?;
        let wide = |kind, at| {
            let found = Attributes::find(options, kind).and_then(|payload| u64_at(payload, 0));
            found.or_else(|| u32_at(parameters, at).map(u64::from))
        };
        let asked = Attributes::find(options, TBF_BURST).and_then(|payload| u32_at(payload, 0));
        Some(Tbf {
            rate: wide(TBF_RATE64, 8)?,
            peak_rate: wide(TBF_PEAK64, 20)?,
            limit: u32_at(parameters, 24)?,
            burst: match asked {
                Some(bytes) => TbfBurst::Bytes(bytes),
                None => TbfBurst::Ticks(u32_at(parameters, 28)?),
            },
            peak_ticks: u32_at(parameters, 32)?,
        })
    }
}
