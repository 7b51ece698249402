//! How frames cross links: over TCP or over QUIC.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The transport of the connections between job processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP without delay (`TCP_NODELAY`): the kernel's.
    #[default]
    Tcp,
    /// QUIC (RFC 9000), one bidirectional stream per connection: the process's own, on UDP.
    Quic {
        /// The largest IP packet that every link of the way takes.
        mtu_bytes: u32,
    },
}

/// The header of UDP.
pub const UDP_HEADER_BYTES: u32 = 8;

/// The header of IPv4 or IPv6, without options.
#[must_use]
pub const fn ip_header_bytes(address: IpAddr) -> u32 {
    if address.is_ipv4() { 20 } else { 40 }
}

impl Transport {
    /// Its name in experiment files, plans and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Quic { .. } => "quic",
        }
    }

    /// Whether it is what is taken where nothing is said.
    #[must_use]
    pub const fn is_default(&self) -> bool {
        matches!(self, Transport::Tcp)
    }
}

/// What the connections of a process put on its links and took from them, below the frames, as QUIC
/// itself counted: encryption, packet headers, acknowledgements and what was sent again included, the
/// headers of UDP and below not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QuicTotals {
    /// UDP datagrams sent.
    pub sent_datagrams: u64,
    /// Bytes in them.
    pub sent_bytes: u64,
    /// UDP datagrams received.
    pub received_datagrams: u64,
    /// Bytes in them.
    pub received_bytes: u64,
    /// Packets that this side took for lost; what was in them was sent again.
    pub lost_packets: u64,
}

impl QuicTotals {
    /// Adds those of a further connection.
    pub const fn add(&mut self, other: QuicTotals) {
        self.sent_datagrams += other.sent_datagrams;
        self.sent_bytes += other.sent_bytes;
        self.received_datagrams += other.received_datagrams;
        self.received_bytes += other.received_bytes;
        self.lost_packets += other.lost_packets;
    }
}
