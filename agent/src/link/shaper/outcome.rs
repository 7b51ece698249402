//! What a shaper is made for, and what it says of packets.

/// What a shaper is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShaperSetup<'a> {
    /// Longest IP packet.
    pub(crate) mtu: u32,
    /// Packets that it has room for from the start; more may come, and make it take more memory.
    pub(crate) most_packets: usize,
    pub(crate) seed: u64,
    /// Names its streams of randomness.
    pub(crate) purpose: &'a str,
    /// Whether a cell divides the capacity: then only [`super::Shaper::grant`] gives any.
    pub(crate) granted: bool,
}

/// What becomes of a packet before the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Lost, as the trace asks.
    Lost,
    /// It goes on to the queue.
    Arrives {
        /// And so does a copy of it.
        duplicated: bool,
    },
}

/// What becomes of a packet at the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Dropped: the queue has no room, or the discipline does not want it.
    Dropped,
    /// Taken in; [`super::Shaper::next_edit`] may say more about it.
    Taken {
        /// A number to choose a bit with that is to be flipped.
        corrupt: Option<u32>,
    },
}

/// What the owner of the packets must do to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edit {
    /// It was dropped after it had been taken in.
    Discard {
        /// What its owner knows it by.
        slot: u32,
    },
    /// It is to say that it met congestion.
    Mark {
        /// What its owner knows it by.
        slot: u32,
    },
}
