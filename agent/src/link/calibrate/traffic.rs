//! The calibration's own senders: a flow that keeps the queue full, and probes.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use hexloop_topologies::plan::{CalibrationPlan, LinkEnd, LinkPlan};
use hexloop_traces::{CapacityCurve, UNLIMITED_RATE_BPS};
use hexloop_workloads::clock::{self, MonotonicNs};

use crate::link::LinkError;
use crate::link::interfaces::inside;
use crate::namespace::NetworkNamespace;

/// Ports of the two kinds of traffic.
pub(super) const FLOW_PORT: u16 = 47_001;
pub(super) const PROBE_PORT: u16 = 47_002;

/// Headers of IPv4 and UDP.
pub(super) const HEADER_BYTES: u64 = 28;

/// The number and padding of a probe.
const PROBE_PAYLOAD_BYTES: usize = 32;
pub(super) const PROBE_IP_BYTES: u64 = 32 + HEADER_BYTES;

/// How much faster than the trace the flow is, in percent.
const OVERLOAD_PERCENT: u128 = 125;

/// The flow is paced in steps of this length.
const TICK_NS: u64 = 1_000_000;

/// A link without a limit is given a flow of this rate, to have its lateness and delay seen.
const UNLIMITED_FLOW_BPS: u64 = 50_000_000;

/// A send that takes longer than this was interrupted: nobody knows when the packet left.
const LONGEST_SEND_NS: u64 = 100_000;

/// A probe that was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) number: u64,
    pub(super) at: MonotonicNs,
    /// Whether the moment is known well enough to compare with.
    pub(super) certain: bool,
}

/// A UDP socket in the sender's namespace, and one in the receiver's that keeps the kernel from
/// answering with ICMP. Nobody reads from the latter: the tap sees what arrives.
#[derive(Debug)]
pub(super) struct Channel {
    sender: UdpSocket,
    _receiver: UdpSocket,
}

impl Channel {
    pub(super) fn open(
        plan: &LinkPlan,
        (sender, sender_namespace): (&LinkEnd, &NetworkNamespace),
        (receiver, receiver_namespace): (&LinkEnd, &NetworkNamespace),
        port: u16,
    ) -> Result<Channel, LinkError> {
        let target = SocketAddr::new(receiver.ipv4, port);
        let own = SocketAddr::new(sender.ipv4, 0);
        let failed = |action: String| move |source| LinkError::Socket { action, source };
        let receiver = inside(plan, receiver_namespace, || {
            UdpSocket::bind(target).map_err(failed(format!("bind calibration's {target}")))
        })?;
        let sender = inside(plan, sender_namespace, || {
            let open = || -> io::Result<UdpSocket> {
                let socket = UdpSocket::bind(own)?;
                socket.connect(target)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            };
            open().map_err(failed(format!(
                "send calibration traffic from {own} to {target}"
            )))
        })?;
        Ok(Channel {
            sender,
            _receiver: receiver,
        })
    }

    /// Sends faster than the trace from T0 until the flow's end.
    pub(super) fn saturate(
        &self,
        curve: &CapacityCurve,
        t0: MonotonicNs,
        calibration: &CalibrationPlan,
    ) {
        let payload_bytes = calibration.packet_payload_bytes;
        let payload = vec![0x5a; usize::try_from(payload_bytes).unwrap_or(1000)];
        let packet_bits = u128::from((u64::from(payload_bytes) + HEADER_BYTES) * 8);
        let mut sent_bits = 0;
        let mut due_bits = 2 * packet_bits;
        let mut tick_ns = 0;
        while tick_ns < calibration.flow_ns {
            clock::sleep_until(t0 + tick_ns);
            let limited = curve.state_at(tick_ns).rate_bps != UNLIMITED_RATE_BPS;
            due_bits += if limited {
                u128::from(curve.bits_between(tick_ns, tick_ns + TICK_NS)) * OVERLOAD_PERCENT / 100
            } else {
                u128::from(UNLIMITED_FLOW_BPS) * u128::from(TICK_NS) / 1_000_000_000
            };
            while sent_bits + packet_bits <= due_bits {
                // What the kernel refuses is as good as dropped by the full queue.
                let _ = self.sender.send(&payload);
                sent_bits += packet_bits;
            }
            tick_ns += TICK_NS;
        }
    }

    /// Sends a probe now and then from T0 until the flow's end.
    pub(super) fn probe(&self, t0: MonotonicNs, calibration: &CalibrationPlan) -> Vec<Sent> {
        let gap_ns = calibration.probe_gap_ns.max(TICK_NS / 10);
        let count = calibration.flow_ns / gap_ns;
        let mut sent = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        for number in 0..count {
            clock::sleep_until(t0 + number * gap_ns + gap_ns / 2);
            let mut payload = [0; PROBE_PAYLOAD_BYTES];
            payload[..8].copy_from_slice(&number.to_be_bytes());
            let at = clock::now();
            let result = self.sender.send(&payload);
            let certain = clock::now() - at <= LONGEST_SEND_NS;
            if result.is_ok() {
                sent.push(Sent {
                    number,
                    at,
                    certain,
                });
            }
        }
        sent
    }
}
