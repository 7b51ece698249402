//! The network emulator (linux/pkt_sched.h, net/sched/sch_netem.c): delay, jitter, loss,
//! duplication, corruption and reordering.
//!
//! Its options are a structure of 24 bytes followed by attributes.

use crate::link::tc::wire::{Attributes, Writer, i32_at, u32_at, u64_at, words};

const CORRELATION: u16 = 1;
const REORDER: u16 = 3;
const CORRUPT: u16 = 4;
const LOSS: u16 = 5;
const RATE: u16 = 6;
const ECN: u16 = 7;
const RATE64: u16 = 8;
const LATENCY64: u16 = 10;
const JITTER64: u16 = 11;
const SLOT: u16 = 12;
const PRNG_SEED: u16 = 14;

const LOSS_GENERAL: u16 = 1; // NETEM_LOSS_GI
const LOSS_GILBERT_ELLIOTT: u16 = 2; // NETEM_LOSS_GE

/// Of the structure `tc_netem_qopt`.
const QOPT_BYTES: usize = 24;

/// A probability as netem counts it: of 2^32 - 1. With it, how much the next draw depends on
/// the last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Chance {
    pub(crate) probability: u32,
    pub(crate) correlation: u32,
}

/// Which packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Each with this chance.
    Random(Chance),
    /// The model of Gilbert and Elliott: `enter` the bad state, `leave` it, lose there (as
    /// 1 - h) and in the good one.
    GilbertElliott {
        enter: u32,
        leave: u32,
        keep_in_bad: u32,
        lose_in_good: u32,
    },
    /// The model of four states: p13, p31, p32, p14, p23.
    FourStates([u32; 5]),
}

/// Serialisation, computed when a packet comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NetemRate {
    /// Bytes per second; 0 is none.
    pub(crate) bytes_per_s: u64,
    pub(crate) packet_overhead: i32,
    pub(crate) cell_bytes: u32,
    pub(crate) cell_overhead: i32,
}

/// Packets leave in slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) least_delay_ns: u64,
    pub(crate) most_delay_ns: u64,
    pub(crate) most_packets: i32,
    pub(crate) most_bytes: i32,
    pub(crate) distribution_delay_ns: u64,
    pub(crate) distribution_jitter_ns: u64,
}

/// A netem discipline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Netem {
    pub(crate) delay_ns: u64,
    pub(crate) jitter_ns: u64,
    pub(crate) delay_correlation: u32,
    /// Packets that may be in flight.
    pub(crate) limit: u32,
    pub(crate) loss: Loss,
    pub(crate) duplicate: Chance,
    pub(crate) corrupt: Chance,
    /// Each `gap`th packet (0: none) may leave at once, with this chance.
    pub(crate) gap: u32,
    pub(crate) reorder: Chance,
    pub(crate) rate: NetemRate,
    /// Mark instead of dropping what is to be lost.
    pub(crate) mark: bool,
    pub(crate) slot: Option<Slot>,
    /// Where the kernel has it (6.6 and later).
    pub(crate) seed: Option<u64>,
}

impl Default for Netem {
    fn default() -> Netem {
        Netem {
            delay_ns: 0,
            jitter_ns: 0,
            delay_correlation: 0,
            limit: 1000,
            loss: Loss::Random(Chance::default()),
            duplicate: Chance::default(),
            corrupt: Chance::default(),
            gap: 0,
            reorder: Chance::default(),
            rate: NetemRate::default(),
            mark: false,
            slot: None,
            seed: None,
        }
    }
}

impl Chance {
    fn read(payload: &[u8]) -> Option<Chance> {
        Some(Chance {
            probability: u32_at(payload, 0)?,
            correlation: u32_at(payload, 4)?,
        })
    }

    fn words(self) -> Vec<u8> {
        words(&[self.probability, self.correlation])
    }
}

impl Netem {
    pub(super) fn write(&self, writer: &mut Writer) {
        let loss = match self.loss {
            Loss::Random(chance) => chance,
            Loss::GilbertElliott { .. } | Loss::FourStates(_) => Chance::default(),
        };
        // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter. The times follow
        // in nanoseconds.
        writer.raw(&words(&[
            0,
            self.limit,
            loss.probability,
            self.gap,
            self.duplicate.probability,
            0,
        ]));
        let correlations = [
            self.delay_correlation,
            loss.correlation,
            self.duplicate.correlation,
        ];
        writer.attribute(CORRELATION, &words(&correlations));
        writer.attribute(REORDER, &self.reorder.words());
        writer.attribute(CORRUPT, &self.corrupt.words());
        self.write_loss(writer);
        self.write_rate(writer);
        if self.mark {
            writer.u32(ECN, 1);
        }
        writer.u64(LATENCY64, self.delay_ns);
        writer.u64(JITTER64, self.jitter_ns);
        if let Some(slot) = &self.slot {
            let mut bytes = slot.least_delay_ns.to_ne_bytes().to_vec();
            bytes.extend(slot.most_delay_ns.to_ne_bytes());
            bytes.extend(slot.most_packets.to_ne_bytes());
            bytes.extend(slot.most_bytes.to_ne_bytes());
            bytes.extend(slot.distribution_delay_ns.to_ne_bytes());
            bytes.extend(slot.distribution_jitter_ns.to_ne_bytes());
            writer.attribute(SLOT, &bytes);
        }
        if let Some(seed) = self.seed {
            writer.u64(PRNG_SEED, seed);
        }
    }

    fn write_loss(&self, writer: &mut Writer) {
        match self.loss {
            Loss::Random(_) => {}
            Loss::GilbertElliott {
                enter,
                leave,
                keep_in_bad,
                lose_in_good,
            } => {
                let model = words(&[enter, leave, keep_in_bad, lose_in_good]);
                writer.nested(LOSS, |inside| {
                    inside.attribute(LOSS_GILBERT_ELLIOTT, &model);
                });
            }
            Loss::FourStates([p13, p31, p32, p14, p23]) => {
                let model = words(&[p13, p31, p32, p14, p23]);
                writer.nested(LOSS, |inside| {
                    inside.attribute(LOSS_GENERAL, &model);
                });
            }
        }
    }

    fn write_rate(&self, writer: &mut Writer) {
        let rate = &self.rate;
        let narrow = u32::try_from(rate.bytes_per_s).unwrap_or(u32::MAX);
        let mut bytes = narrow.to_ne_bytes().to_vec();
        bytes.extend(rate.packet_overhead.to_ne_bytes());
        bytes.extend(rate.cell_bytes.to_ne_bytes());
        bytes.extend(rate.cell_overhead.to_ne_bytes());
        writer.attribute(RATE, &bytes);
        if rate.bytes_per_s >= 1 << 32 {
            writer.u64(RATE64, rate.bytes_per_s);
        }
    }

    pub(super) fn read(options: &[u8]) -> Option<Netem> {
        let attributes = options.get(QOPT_BYTES..)?;
        let find = |kind| Attributes::find(attributes, kind);
        let number = |kind| find(kind).and_then(|payload| u64_at(payload, 0));
        let chance = |kind| find(kind).and_then(Chance::read).unwrap_or_default();
        let correlations = find(CORRELATION).unwrap_or(&[]);
        let correlation = |at| u32_at(correlations, at).unwrap_or(0);
        let in_ticks = |at| u32_at(options, at).map(|ticks| u64::from(ticks) << 6);
        Some(Netem {
            delay_ns: number(LATENCY64).or_else(|| in_ticks(0))?,
            jitter_ns: number(JITTER64).or_else(|| in_ticks(20))?,
            delay_correlation: correlation(0),
            limit: u32_at(options, 4)?,
            loss: match find(LOSS) {
                Some(model) => read_loss(model)?,
                None => Loss::Random(Chance {
                    probability: u32_at(options, 8)?,
                    correlation: correlation(4),
                }),
            },
            duplicate: Chance {
                probability: u32_at(options, 16)?,
                correlation: correlation(8),
            },
            corrupt: chance(CORRUPT),
            gap: u32_at(options, 12)?,
            reorder: chance(REORDER),
            rate: match find(RATE) {
                Some(payload) => read_rate(payload, number(RATE64))?,
                None => NetemRate::default(),
            },
            mark: find(ECN).and_then(|payload| u32_at(payload, 0)) == Some(1),
            slot: match find(SLOT) {
                Some(payload) => Some(read_slot(payload)?),
                None => None,
            },
            seed: number(PRNG_SEED),
        })
    }
}

fn read_loss(model: &[u8]) -> Option<Loss> {
    if let Some(payload) = Attributes::find(model, LOSS_GILBERT_ELLIOTT) {
        return Some(Loss::GilbertElliott {
            enter: u32_at(payload, 0)?,
            leave: u32_at(payload, 4)?,
            keep_in_bad: u32_at(payload, 8)?,
            lose_in_good: u32_at(payload, 12)?,
        });
    }
    let payload = Attributes::find(model, LOSS_GENERAL)?;
    let word = |index: usize| u32_at(payload, index * 4);
    Some(Loss::FourStates([
        word(0)?,
        word(1)?,
        word(2)?,
        word(3)?,
        word(4)?,
    ]))
}

fn read_rate(payload: &[u8], wide: Option<u64>) -> Option<NetemRate> {
    Some(NetemRate {
        bytes_per_s: wide.or_else(|| u32_at(payload, 0).map(u64::from))?,
        packet_overhead: i32_at(payload, 4)?,
        cell_bytes: u32_at(payload, 8)?,
        cell_overhead: i32_at(payload, 12)?,
    })
}

fn read_slot(payload: &[u8]) -> Option<Slot> {
    Some(Slot {
        least_delay_ns: u64_at(payload, 0)?,
        most_delay_ns: u64_at(payload, 8)?,
        most_packets: i32_at(payload, 16)?,
        most_bytes: i32_at(payload, 20)?,
        distribution_delay_ns: u64_at(payload, 24)?,
        distribution_jitter_ns: u64_at(payload, 32)?,
    })
}
