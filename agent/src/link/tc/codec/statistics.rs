//! Statistics of queueing disciplines, classes and filters (linux/gen_stats.h).

use crate::link::tc::wire::{Attributes, Writer, i32_at, u32_at, u64_at, words};

const BASIC: u16 = 1; // TCA_STATS_BASIC
const RATE_EST: u16 = 2; // TCA_STATS_RATE_EST
const QUEUE: u16 = 3; // TCA_STATS_QUEUE
const APP: u16 = 4; // TCA_STATS_APP
const RATE_EST64: u16 = 5; // TCA_STATS_RATE_EST64
const PKT64: u16 = 8; // TCA_STATS_PKT64

/// What the kernel has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    /// Bytes that have left, as the discipline counts them.
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) queue: QueueStatistics,
    /// Where an estimator runs.
    pub(crate) rate: Option<RateEstimate>,
}

/// The queue as it is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct QueueStatistics {
    pub(crate) packets: u32,
    pub(crate) backlog_bytes: u32,
    pub(crate) drops: u32,
    pub(crate) requeues: u32,
    pub(crate) overlimits: u32,
}

/// Of an estimator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RateEstimate {
    pub(crate) bytes_per_s: u64,
    pub(crate) packets_per_s: u64,
}

/// What htb says of a class beside that, in ticks; below zero is debt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HtbStatistics {
    pub(crate) tokens_ticks: i32,
    pub(crate) ceil_tokens_ticks: i32,
}

impl Statistics {
    /// From the payload of TCA_STATS2.
    pub(crate) fn read(payload: &[u8]) -> Option<Statistics> {
        let mut statistics = Statistics::default();
        for (kind, payload) in Attributes::new(payload) {
            match kind {
                BASIC => {
                    statistics.bytes = u64_at(payload, 0)?;
                    statistics.packets = statistics.packets.max(u32_at(payload, 8)?.into());
                }
                PKT64 => statistics.packets = u64_at(payload, 0)?,
                QUEUE => {
                    statistics.queue = QueueStatistics {
                        packets: u32_at(payload, 0)?,
                        backlog_bytes: u32_at(payload, 4)?,
                        drops: u32_at(payload, 8)?,
                        requeues: u32_at(payload, 12)?,
                        overlimits: u32_at(payload, 16)?,
                    };
                }
                RATE_EST if statistics.rate.is_none() => {
                    statistics.rate = Some(RateEstimate {
                        bytes_per_s: u32_at(payload, 0)?.into(),
                        packets_per_s: u32_at(payload, 4)?.into(),
                    });
                }
                RATE_EST64 => {
                    statistics.rate = Some(RateEstimate {
                        bytes_per_s: u64_at(payload, 0)?,
                        packets_per_s: u64_at(payload, 8)?,
                    });
                }
                _ => {}
            }
        }
        Some(statistics)
    }

    /// As the kernel writes them.
    pub(crate) fn write(&self, writer: &mut Writer) {
        let mut basic = self.bytes.to_ne_bytes().to_vec();
        let packets = u32::try_from(self.packets).unwrap_or(u32::MAX);
        basic.extend(packets.to_ne_bytes());
        basic.extend([0; 4]);
        writer.attribute(BASIC, &basic);
        if self.packets > u64::from(u32::MAX) {
            writer.u64(PKT64, self.packets);
        }
        if let Some(rate) = self.rate {
            let mut wide = rate.bytes_per_s.to_ne_bytes().to_vec();
            wide.extend(rate.packets_per_s.to_ne_bytes());
            writer.attribute(RATE_EST64, &wide);
        }
        let queue = &self.queue;
        writer.attribute(
            QUEUE,
            &words(&[
                queue.packets,
                queue.backlog_bytes,
                queue.drops,
                queue.requeues,
                queue.overlimits,
            ]),
        );
    }
}

impl HtbStatistics {
    /// From the payload of TCA_STATS2.
    pub(crate) fn read(payload: &[u8]) -> Option<HtbStatistics> {
        // struct tc_htb_xstats: lends, borrows, giants, tokens, ctokens.
        let application = Attributes::find(payload, APP)?;
        Some(HtbStatistics {
            tokens_ticks: i32_at(application, 12)?,
            ceil_tokens_ticks: i32_at(application, 16)?,
        })
    }
}
