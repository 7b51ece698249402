//! Shapes an interface that exists already, in small steps that can each be noted down before
//! they happen, and taken back.
//!
//! ```text
//! sent:      root htb 6865: -- filter -> class of the peer -- queue, or netem -- queue
//!                           \- no filter: straight to the wire, unshaped
//! received:  ingress hook -- filter -> mirred -> ifb hxi<index>, with the same tree
//! ```
//!
//! Everything carries our mark: root disciplines have [`ROOT`] as their handle, filters a
//! priority from [`FIRST_PRIORITY`] on, links a name that starts with `hx` and a hardware address that
//! was drawn for them. What exists already is never replaced: every object is made with `NLM_F_EXCL`.
//!
//! An interface has one tree, so here netem lies below the class: the delay comes before the
//! bottleneck. The queue of the bottleneck hangs below netem where the kernel allows that (see
//! `below_netem`); elsewhere netem's own limit holds both what is delayed and what waits for its turn.
//! Where the trace has outages, a plug is the queue: it lets everything through, and in an outage nothing.

mod below_netem;
mod delayed;
#[cfg(test)]
mod filter_kernel_tests;
mod ifb;
#[cfg(test)]
mod kernel_tests;
mod netns;
mod queue;
#[cfg(test)]
mod queue_kernel_tests;
mod rehearsal;
mod session;
mod steered;
mod step;
mod steps;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeSet;
use std::net::IpAddr;

use hexloop_traces::{LinkSettings, LinkState};

use crate::link::LinkError;

pub use super::codec::filter::Transport;
pub use super::handle::Handle;
pub(crate) use super::path::is_needed;
pub use below_netem::BelowNetem;
pub use ifb::ifb_name;
pub(crate) use ifb::{KIND as IFB_KIND, draw_address as draw_ifb_address};
pub use netns::{classifier_here, speed_bps};
pub(crate) use queue::{note, stand_in};
pub(crate) use rehearsal::rehearse;
pub use session::Session;
pub(crate) use steered::SteeredClasses;
pub use steered::SteeredDirection;
pub use step::{TcStep, TcUndo};
pub use steps::steps;
#[cfg(test)]
pub(crate) use verify::root;
pub use verify::{ObjectSeen, Root};
pub(crate) use verify::{lost, show, verify};

/// The handle of the root discipline on an interface that is not ours: "he" in ASCII.
pub const ROOT: Handle = Handle::new(0x6865, 0);

/// The lowest priority of our filters; IPv6 has the next one.
pub const FIRST_PRIORITY: u16 = 0x6865;

/// The most peers of one interface: each has a class, a queue and filters of its own.
pub const MOST_PEERS: usize = 4096;

/// Whose packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// All of the interface's.
    Everything,
    /// Those from or to a peer. Everything else stays unshaped.
    Peer {
        /// Its address, or one of its network.
        address: IpAddr,
        /// How many bits of it count.
        prefix_bits: u8,
        /// Only this protocol.
        transport: Option<Transport>,
        /// Only this port of the peer; needs a protocol.
        port: Option<u16>,
    },
}

/// Whether packets are held because the trace lets none through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// It never does that.
    Never,
    /// Not now.
    NotNow,
    /// They are.
    Now,
}

/// What is done to packets of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rate, delay, loss. In an outage the rate is one that the trace has elsewhere: with what passes
    /// before packets are held, a class that has none would run into debt for hours.
    pub state: LinkState,
    /// The queue where the state leaves it open, and who is dropped.
    pub settings: LinkSettings,
    /// Whether all packets are held.
    pub outage: Outage,
}

/// What is done to whose packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shaped {
    /// Whose.
    pub traffic: Traffic,
    /// To what the interface sends.
    pub sent: Option<Shape>,
    /// To what it receives.
    pub received: Option<Shape>,
}

/// How an interface is to be shaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfacePlan {
    /// Its name.
    pub interface: String,
    /// Its number.
    pub index: u32,
    /// The hardware address of the link that what it receives is sent through: the mark by which that is
    /// found when it has another name.
    pub ifb_address: [u8; 6],
    /// Its largest packet, in bytes.
    pub mtu: u32,
    /// The longest packet that it may be handed where offloads join several, in bytes.
    pub longest_bytes: u32,
    /// What it can send, in bit/s, if it says so.
    pub speed_bps: Option<u64>,
    /// [`Traffic::Everything`] alone, or any number of peers.
    pub shaped: Vec<Shaped>,
}

/// Which filters the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterKind {
    /// flower: looks a peer up by hash.
    Flower,
    /// u32: tries one peer after the other, and looks many up by the last byte of their addresses.
    U32,
}

/// What a kernel was found to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// For peers.
    pub filters: FilterKind,
    /// For what is delayed or lost.
    pub below_netem: BelowNetem,
    /// Kinds of queues that it lacks, of those that would be the first choice.
    pub lacks: BTreeSet<String>,
}

impl Kernel {
    /// This one, tried in throw-away namespaces. What neither the states nor the settings of a link
    /// need, whose largest packet has `mtu` bytes, is not tried.
    ///
    /// # Errors
    /// It has no filters, or no namespace can be made.
    pub(crate) fn here(
        states: impl IntoIterator<Item = LinkState>,
        settings: &LinkSettings,
        mtu: u32,
    ) -> Result<Kernel, LinkError> {
        let below_netem = if states.into_iter().any(|state| is_needed(&state)) {
            below_netem::below_netem_here()
        } else {
            BelowNetem::Unusable("nothing is to be delayed or lost".to_owned())
        };
        Ok(Kernel {
            filters: classifier_here()?,
            below_netem,
            lacks: netns::lacking(&queue::choices(settings, mtu))?,
        })
    }
}

/// Why an interface cannot be shaped so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// There is nothing to do.
    #[error("there is nothing to shape on {0}: give a rate, a delay or a loss")]
    Nothing(String),
    /// Everything and peers, or everything twice.
    #[error("{0} is shaped as a whole or peer by peer, not both")]
    Mixed(String),
    /// Too many peers.
    #[error("{interface} would have {peers} peers, and {MOST_PEERS} at most can be shaped")]
    TooManyPeers {
        /// The interface.
        interface: String,
        /// How many.
        peers: usize,
    },
    /// A port without a protocol, or a prefix longer than its address.
    #[error("{address}/{prefix_bits}: {reason}")]
    Peer {
        /// Of the peer.
        address: IpAddr,
        /// Of the peer.
        prefix_bits: u8,
        /// What is wrong.
        reason: &'static str,
    },
    /// A rate that the interface or htb does not have.
    #[error("a rate of {rate_bps} bit/s on {interface}: {reason}")]
    Rate {
        /// The interface.
        interface: String,
        /// The rate.
        rate_bps: u64,
        /// What is wrong.
        reason: String,
    },
    /// What the kernel's disciplines cannot do.
    #[error("{interface}: {reason}")]
    Refused {
        /// The interface.
        interface: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Its name does not fit.
    #[error("interface name `{0}` is empty or longer than 15 bytes")]
    Name(String),
}
