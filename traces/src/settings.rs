//! What a link is set to beside its trace: how its queue works and how it serves packets.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, TimeSpan};

/// How much may wait before the bottleneck where the trace leaves it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueLimit {
    /// Bytes of IP packets.
    Bytes(u64),
    /// Packets of whatever size.
    Packets(u32),
}

impl Display for QueueLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            QueueLimit::Bytes(bytes) => ByteSize { bytes }.fmt(f),
            QueueLimit::Packets(packets) => write!(f, "{packets} packets"),
        }
    }
}

/// Which packet is dropped or marked, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueDiscipline {
    /// What comes finds the queue full and is dropped.
    #[default]
    DropTail,
    /// What comes finds the queue full and the oldest waiting packet is dropped for it.
    DropHead,
    /// Controlled delay (RFC 8289): drops at the head once packets have waited longer than the
    /// target for an interval.
    Codel {
        /// Acceptable standing delay, in nanoseconds.
        target_ns: u64,
        /// How long the delay may exceed it before the first drop, in nanoseconds.
        interval_ns: u64,
    },
    /// Proportional integral controller enhanced (RFC 8033): drops on arrival with a probability
    /// that follows the queueing delay.
    Pie {
        /// Queueing delay aimed at, in nanoseconds.
        target_ns: u64,
        /// How often the probability is computed, in nanoseconds.
        update_ns: u64,
    },
}

impl QueueDiscipline {
    /// CoDel with the constants of RFC 8289, section 4.2: 5 ms and 100 ms.
    pub const CODEL: QueueDiscipline = QueueDiscipline::Codel {
        target_ns: 5_000_000,
        interval_ns: 100_000_000,
    };
    /// PIE with the constants of RFC 8033, section 4.1 and 4.2: 15 ms and 15 ms.
    pub const PIE: QueueDiscipline = QueueDiscipline::Pie {
        target_ns: 15_000_000,
        update_ns: 15_000_000,
    };
}

impl Display for QueueDiscipline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |ns| TimeSpan { ns };
        match *self {
            QueueDiscipline::DropTail => f.write_str("drop-tail"),
            QueueDiscipline::DropHead => f.write_str("drop-head"),
            QueueDiscipline::Codel {
                target_ns,
                interval_ns,
            } => write!(f, "codel ({} over {})", span(target_ns), span(interval_ns)),
            QueueDiscipline::Pie {
                target_ns,
                update_ns,
            } => write!(f, "pie ({} every {})", span(target_ns), span(update_ns)),
        }
    }
}

/// How the bottleneck serves packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Bit by bit at the trace's rate: finish = C^-1(C(start) + bits).
    #[default]
    Fluid,
    /// In delivery opportunities at the end of each slot, as mahimahi does: a slot grants what
    /// the trace's rate gives it, a packet may span grants, and what nobody uses is lost.
    Opportunities {
        /// Length of a slot in nanoseconds; 62 500 at least.
        slot_ns: u64,
    },
}

/// What a link is set to beside its trace. Timeline events and live control may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSettings {
    /// The queue where the trace leaves it open.
    pub queue: QueueLimit,
    /// Who is dropped, and when.
    pub discipline: QueueDiscipline,
    /// Mark packets that can carry it (RFC 3168) where the discipline would drop them.
    pub ecn: bool,
    /// How the bottleneck serves.
    pub service: Service,
    /// Let jitter reorder packets. Otherwise they stay in order.
    pub reorder: bool,
}

impl Display for LinkSettings {
    /// What is usual is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queue {}", self.queue)?;
        if self.discipline != QueueDiscipline::DropTail {
            write!(f, " with {}", self.discipline)?;
        }
        if self.ecn {
            f.write_str(", marking (ECN)")?;
        }
        if let Service::Opportunities { slot_ns } = self.service {
            write!(f, ", served every {}", TimeSpan { ns: slot_ns })?;
        }
        if self.reorder {
            f.write_str(", jitter may reorder")?;
        }
        Ok(())
    }
}

impl LinkSettings {
    /// A drop-tail queue of so many bytes, served bit by bit and in order.
    #[must_use]
    pub const fn drop_tail(queue_bytes: u64) -> LinkSettings {
        LinkSettings {
            queue: QueueLimit::Bytes(queue_bytes),
            discipline: QueueDiscipline::DropTail,
            ecn: false,
            service: Service::Fluid,
            reorder: false,
        }
    }

    /// The most IP bytes that the queue can hold, if no packet is longer than `mtu`.
    #[must_use]
    pub const fn most_queue_bytes(&self, mtu: u32) -> u64 {
        match self.queue {
            QueueLimit::Bytes(bytes) => bytes,
            QueueLimit::Packets(packets) => packets as u64 * mtu as u64,
        }
    }
}
