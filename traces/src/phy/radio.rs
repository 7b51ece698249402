//! What one direction of a user's radio link is set to.

use super::error::PhyError;
use super::harq::HarqSettings;
use super::mcs::McsTable;
use super::numerology::{DuplexPattern, Numerology};
use super::timing::Timing;
use crate::Direction;

/// What becomes of a transport block that HARQ gave up (TS 38.322).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RlcMode {
    /// It is lost.
    Unacknowledged,
    /// It is sent again after a status report: late, not lost.
    Acknowledged {
        /// From the loss to its recovery, in nanoseconds: reassembly timer and a round trip.
        recovery_ns: u64,
        /// Retransmissions until the link counts as failed and the packet is lost.
        maximum_retransmissions: u8,
    },
}

/// How the transmitter learns the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelReports {
    /// Slots from one measurement to the next.
    pub period_slots: u32,
    /// Slots from the measurement until it is used: reporting, processing.
    pub age_slots: u32,
    /// The report is one of 15 quality indicators, as in the downlink; else the SINR itself, as
    /// a base station estimates it from sounding.
    pub quantised: bool,
}

/// The outer loop: an offset to the reported SINR that keeps the rate of failed first attempts at
/// a target (A. Sampath et al., VTC 1997).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OuterLoop {
    /// Target block error rate of first attempts.
    pub target: f64,
    /// By how much a failure lowers the offset, in dB.
    pub step_db: f64,
    /// The offset stays within this many dB of 0.
    pub limit_db: f64,
}

/// One direction of a radio link.
#[derive(Debug, Clone, PartialEq)]
pub struct RadioSettings {
    /// Downlink or uplink.
    pub direction: Direction,
    /// Subcarrier spacing.
    pub numerology: Numerology,
    /// Whose the slots are.
    pub pattern: DuplexPattern,
    /// Resource blocks of a carrier, 1 to 275.
    pub resource_blocks: u32,
    /// Carriers of that size that are used alike, each with a transport block per slot. More than
    /// one stands for carrier aggregation; their blocks share one fate.
    pub carriers: u32,
    /// Symbols of each slot that carry control instead of data.
    pub control_symbols: u8,
    /// Resource elements per resource block that reference signals take.
    pub dmrs_elements: u32,
    /// Further overhead in resource elements per resource block.
    pub overhead_elements: u32,
    /// Coding schemes and quality indicators.
    pub mcs_table: McsTable,
    /// The most layers, 1 to 4.
    pub maximum_rank: u8,
    /// How much each further layer disturbs the others: at rank r every layer has
    /// sinr / (r (1 + coupling (r - 1))). 0 is a channel with orthogonal, equally strong layers.
    pub layer_coupling: f64,
    /// How the transmitter learns the channel.
    pub reports: ChannelReports,
    /// The outer loop.
    pub outer_loop: OuterLoop,
    /// Retransmissions.
    pub harq: HarqSettings,
    /// Processing times and uplink access.
    pub timing: Timing,
    /// What becomes of blocks that were given up.
    pub rlc: RlcMode,
    /// The transmitter's buffer, as the time in which it empties at the peak rate.
    pub buffer_ns: u64,
}

impl RadioSettings {
    /// 100 MHz at 30 kHz (273 blocks), `DDDSU`, 256QAM; two layers in the downlink, one in the
    /// uplink; reports every 20 slots that are used 8 slots later; acknowledged RLC.
    #[must_use]
    pub fn new(
        direction: Direction,
        numerology: Numerology,
        pattern: DuplexPattern,
    ) -> RadioSettings {
        let down = direction == Direction::Down;
        RadioSettings {
            direction,
            numerology,
            pattern,
            resource_blocks: 273,
            carriers: 1,
            control_symbols: 1,
            dmrs_elements: 12,
            overhead_elements: 0,
            mcs_table: McsTable::Qam256,
            maximum_rank: if down { 2 } else { 1 },
            layer_coupling: 0.25,
            reports: ChannelReports {
                period_slots: 20,
                age_slots: 8,
                quantised: down,
            },
            outer_loop: OuterLoop {
                target: 0.1,
                step_db: 0.5,
                limit_db: 15.0,
            },
            harq: HarqSettings::default(),
            timing: Timing::default(),
            rlc: RlcMode::Acknowledged {
                recovery_ns: 50_000_000,
                maximum_retransmissions: 4,
            },
            buffer_ns: 100_000_000,
        }
    }

    /// Fills `bandwidth_hz`: with one carrier, or with several equal ones of up to 275 blocks.
    #[must_use]
    pub fn with_bandwidth(mut self, bandwidth_hz: u64) -> RadioSettings {
        let blocks = self.numerology.resource_blocks(bandwidth_hz).max(1);
        self.carriers = blocks.div_ceil(275);
        self.resource_blocks = blocks / self.carriers;
        self
    }

    pub(super) fn check(&self) -> Result<(), PhyError> {
        PhyError::check("resource blocks of a carrier", self.resource_blocks, 1, 275)?;
        PhyError::check("carriers", self.carriers, 1, 64)?;
        PhyError::check("control symbols", self.control_symbols, 0, 3)?;
        PhyError::check("maximum rank", self.maximum_rank, 1, 4)?;
        PhyError::check("layer coupling", self.layer_coupling, 0.0, 10.0)?;
        PhyError::check(
            "period of channel reports in slots",
            self.reports.period_slots,
            1,
            100_000,
        )?;
        PhyError::check(
            "age of channel reports in slots",
            self.reports.age_slots,
            0,
            100_000,
        )?;
        PhyError::check("block error target", self.outer_loop.target, 1e-6, 0.5)?;
        PhyError::check("outer loop step in dB", self.outer_loop.step_db, 0.0, 10.0)?;
        PhyError::check(
            "outer loop limit in dB",
            self.outer_loop.limit_db,
            0.0,
            60.0,
        )?;
        self.harq.check()?;
        self.timing.check()
    }
}
