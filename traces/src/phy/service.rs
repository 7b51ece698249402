//! What a slot brought a user.

use super::adapter::whole;
use super::eesm::decibel;
use super::timing::AccessDelay;

/// What came of one slot, and what a packet that is sent now can expect.
///
/// Bits are drawn: they arrive in the slot in which their block is decoded, retransmitted or not.
/// Delay, jitter and loss are expectations at the SINR of the last first attempt, so that a row of
/// a trace does not depend on whether that one block failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlotService {
    /// Bits of IP packets that arrived in this slot.
    pub bits: u64,
    /// Expected delay of a packet from its arrival at the transmitter to its being decoded, without
    /// queueing and time of flight, in nanoseconds.
    pub delay_ns: u64,
    /// Standard deviation of that delay in nanoseconds.
    pub jitter_ns: u64,
    /// Expected loss after all retransmissions, in parts per billion.
    pub loss_ppb: u32,
    /// A block was sent in this slot.
    pub sent: bool,
    /// It was decoded.
    pub decoded: bool,
    /// Its attempts so far.
    pub attempts: u8,
    /// Slots since its first attempt.
    pub waited_slots: u64,
    /// Index of the coding scheme of the block sent last.
    pub mcs: u8,
    /// Its layers.
    pub rank: u8,
    /// The effective linear SINR of its layers.
    pub sinr: f64,
    /// The probability with which the last first attempt failed.
    pub bler: f64,
    /// The quality indicator that the transmitter knows: 0 is out of range.
    pub indicator: u8,
}

impl SlotService {
    /// The effective SINR of a layer in dB.
    #[must_use]
    pub fn sinr_db(&self) -> f64 {
        decibel(self.sinr)
    }

    /// Before anything was sent.
    pub(super) fn idle(access: AccessDelay) -> SlotService {
        SlotService {
            bits: 0,
            delay_ns: whole(access.mean_ns),
            jitter_ns: whole(access.deviation_ns),
            loss_ppb: 0,
            sent: false,
            decoded: false,
            attempts: 0,
            waited_slots: 0,
            mcs: 0,
            rank: 1,
            sinr: 0.0,
            bler: 0.0,
            indicator: 0,
        }
    }
}
