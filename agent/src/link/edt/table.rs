//! A trace as the table that the BPF program searches: the integral of the rate, in 64 bits.
//!
//! The integral C is counted in units of 2^-k bit. A packet of b bits that finds the bottleneck
//! busy until C has reached v is through when C reaches v + b: one number, so that nothing is
//! rounded from packet to packet. Only the two conversions round, each once per packet and never
//! into the next one: C(arrival) down to a unit, and C^-1 up to a nanosecond. k is as large as
//! 62 bits for a whole day of the trace and its queue allow, for the program compares modulo 2^64,
//! and a link may be idle for as long as a phase lasts; and no larger than a day at 10 Gbit/s
//! allows, for such a rate may be asked for while the trace plays. One unit takes less than a
//! nanosecond at rates above 10^9 / 2^k bit/s (at k = 11, half a megabit per second).
//!
//! What follows the end of a trace is part of the table: it has a lead-in, played once, and a
//! body, played for ever, which begins anew at a whole unit: each time adds up to a unit. A trace that loops is all body; one that holds or clears is all
//! lead-in, and its body a piece of the last state or of a transparent one.
//!
//! A stretch without a limit begins with a jump of the integral by more than any queue holds,
//! spread over one nanosecond; what comes later in it passes at once.
//!
//! What is asked for while a trace plays makes another table ([`Table::following`]), which goes on
//! where the first one is and counts in the same units. So do the windows of a trace that is too long
//! for one table (see `window`).

mod rest;
mod window;

use hexloop_traces::{Direction, EndPolicy, LinkState, Trace, UNLIMITED_RATE_BPS};
use window::Window;

/// Bytes of one entry.
pub(super) const ENTRY_BYTES: usize = 64;

/// The same as an offset: where a field of the following entry is.
pub(super) const NEXT: i16 = 64;

// Offsets of an entry's fields.
pub(super) const START: i16 = 0;
pub(super) const INTEGRAL: i16 = 8;
pub(super) const MULTIPLIER: i16 = 16;
pub(super) const SHIFT: i16 = 24;
/// How likely the packet is doubled, and the flags below.
pub(super) const DOUBLED: i16 = 28;
pub(super) const DELAY: i16 = 32;
pub(super) const JITTER: i16 = 40;
pub(super) const LOSS_ENTER: i16 = 44;
pub(super) const LOSS_STAY: i16 = 48;
pub(super) const CORRUPTED: i16 = 52;
pub(super) const QUEUE_LIMIT: i16 = 56;

/// Of the word at [`DOUBLED`]: there is no limit of the rate; and the trace limits the queue in
/// bytes, whatever the link is set to. A share of 10^9 takes 30 bits.
pub(super) const UNLIMITED_BIT: i32 = 31;
pub(super) const OWN_QUEUE_BIT: i32 = 30;

/// Longer rows are cut into entries of at most this length (268 ms), so that the product of a
/// time within an entry and its multiplier fits 63 bits with 35 bits for the multiplier: over
/// the whole entry it is 2^-34 x 2^28 = 1/64 ns wrong at most.
const LONGEST_ENTRY_NS: u64 = 1 << 28;
const MULTIPLIER_BITS: u32 = 35;

/// The longest playback: a day, as experiment files allow.
const LONGEST_PLAYBACK_NS: u64 = 86_400_000_000_000;

/// As in the traces' own integral.
const HIGHEST_FINITE_RATE_BPS: u64 = 1_000_000_000_000_000;

/// Rates up to this one can be asked for while any trace plays.
const HEADROOM_BPS: u64 = 10_000_000_000;

/// The finest unit: 2^-30 bit.
const FINEST_UNIT_BITS: u32 = 30;

/// The longest table: 64 MiB per direction.
const MOST_ENTRIES: usize = 1 << 20;

/// Greater than every key that is searched for.
const NEVER: u64 = i64::MAX as u64;

const NS_PER_S: u128 = 1_000_000_000;

/// Parts of a whole in which losses are counted.
const PARTS: u64 = 1_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    start_ns: u64,
    /// Units of the integral at `start_ns`.
    integral: u64,
    /// Units per nanosecond, times 2^shift.
    multiplier: u64,
    shift: u32,
    unlimited: bool,
    /// The trace has a queue of its own here.
    own_queue: bool,
    delay_ns: u64,
    jitter_ns: u32,
    dup_ppb: u32,
    corrupt_ppb: u32,
    /// Of 10^9: how likely a loss follows a packet that was not lost, and one that was.
    loss_enter_ppb: u32,
    loss_stay_ppb: u32,
    /// Units of bits that may wait.
    queue_limit: u64,
}

/// A stretch of one state; `jump` marks the nanosecond that lets everything go.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    length_ns: u64,
    state: LinkState,
    jump: bool,
}

/// One direction of a trace, as the program needs it.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    /// When the lead-in ends, and how long the body is.
    pub(super) lead_ns: u64,
    pub(super) body_ns: u64,
    /// The same in units of the integral.
    pub(super) lead_units: u64,
    pub(super) body_units: u64,
    /// A bit is 2^this units.
    pub(super) unit_bits: u32,
    pub(super) has_loss: bool,
    pub(super) has_jitter: bool,
    pub(super) has_doubles: bool,
    pub(super) has_damage: bool,
    /// Of a trace that is too long for one table.
    pub(super) window: Option<Window>,
}

/// A trace that does not fit a table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    /// Too many rows.
    #[error("the trace may need {entries} table entries; the most is {MOST_ENTRIES}")]
    Rows {
        /// How many it may need.
        entries: usize,
    },
    /// More rows than a window has room for.
    #[error(
        "what waits {} s after the start may take more than half of {MOST_ENTRIES} rows to leave, \
         which is too long to look ahead",
        at_ns / 1_000_000_000
    )]
    Ahead {
        /// When, from T0.
        at_ns: u64,
    },
    /// Rates and times whose product does not fit.
    #[error("the trace carries 2^61 bits or more in a day")]
    Bits,
    /// A rate that was asked for later.
    #[error(
        "a rate above {HEADROOM_BPS} bit/s and above all of the trace cannot be set while it plays"
    )]
    Rate,
}

/// The entries of a stretch.
fn cut(stretch: &mut Vec<Stretch>, length_ns: u64, state: LinkState) {
    let whole = Stretch {
        length_ns,
        state,
        jump: false,
    };
    if state.rate_bps == UNLIMITED_RATE_BPS {
        stretch.push(Stretch {
            length_ns: 1,
            jump: true,
            ..whole
        });
        if length_ns > 1 {
            stretch.push(Stretch {
                length_ns: length_ns - 1,
                ..whole
            });
        }
        return;
    }
    if state.rate_bps == 0 {
        stretch.push(whole);
        return;
    }
    let mut rest_ns = length_ns;
    while rest_ns > 0 {
        let length_ns = rest_ns.min(LONGEST_ENTRY_NS);
        stretch.push(Stretch { length_ns, ..whole });
        rest_ns -= length_ns;
    }
}

fn finite_bps(state: &LinkState) -> u64 {
    match state.rate_bps {
        UNLIMITED_RATE_BPS => 0,
        rate_bps => rate_bps.min(HIGHEST_FINITE_RATE_BPS),
    }
}

const fn queue_bytes(state: &LinkState, default_bytes: u64) -> u64 {
    match state.queue_bytes {
        0 => default_bytes,
        bytes => bytes as u64,
    }
}

/// At most so many entries, and that before any of them is made.
fn most_entries(trace: &Trace) -> usize {
    let pieces = trace.duration_ns() / LONGEST_ENTRY_NS;
    usize::try_from(pieces)
        .unwrap_or(usize::MAX)
        .saturating_add(2 * trace.row_count())
}

impl Table {
    /// Prepares one direction. `default_queue_bytes` is the queue where the trace names none.
    ///
    /// # Errors
    /// The trace is too long, or carries too much.
    pub(crate) fn new(
        trace: &Trace,
        direction: Direction,
        default_queue_bytes: u64,
    ) -> Result<Table, TableError> {
        let entries = most_entries(trace);
        if entries >= MOST_ENTRIES {
            return Err(TableError::Rows { entries });
        }
        let mut stretches = Vec::new();
        let mut last = LinkState::TRANSPARENT;
        for (index, row) in trace.rows().iter().enumerate() {
            last = *row.direction(direction);
            let end_ns = trace.rows().get(index + 1);
            let end_ns = end_ns.map_or(trace.duration_ns(), |next| next.t_ns);
            cut(&mut stretches, end_ns - row.t_ns, last);
        }
        let body_starts = match trace.metadata().end {
            EndPolicy::Loop => 0,
            EndPolicy::Hold | EndPolicy::Clear => stretches.len(),
        };
        match trace.metadata().end {
            EndPolicy::Loop => {}
            EndPolicy::Hold => cut(&mut stretches, LONGEST_ENTRY_NS, last),
            EndPolicy::Clear => cut(&mut stretches, LONGEST_ENTRY_NS, LinkState::TRANSPARENT),
        }
        Table::from_stretches(&stretches, body_starts, default_queue_bytes, None)
    }

    /// The table of these stretches, of which those from number `body_starts` on are played for
    /// ever. `base` is where the integral begins, with the bits of its units, where another table
    /// went before.
    fn from_stretches(
        stretches: &[Stretch],
        body_starts: usize,
        default_queue_bytes: u64,
        base: Option<(u64, u32)>,
    ) -> Result<Table, TableError> {
        let longest_queue = stretches
            .iter()
            .map(|s| queue_bytes(&s.state, default_queue_bytes));
        let queue_bits = u128::from(longest_queue.max().unwrap_or(0)) * 8;
        // Twice what can wait: the queue and one packet.
        let jump_bits = 2 * (queue_bits + (8 << 16));
        let area = |stretch: &Stretch| {
            if stretch.jump {
                jump_bits * NS_PER_S
            } else {
                u128::from(finite_bps(&stretch.state)) * u128::from(stretch.length_ns)
            }
        };
        let bits = |part: &[Stretch]| part.iter().map(area).sum::<u128>() / NS_PER_S + 1;
        let (lead, body) = stretches.split_at(body_starts);
        let body_ns = body.iter().map(|s| s.length_ns).sum::<u64>().max(1);
        let bodies = u128::from(LONGEST_PLAYBACK_NS.div_ceil(body_ns));
        let total_bits = bits(lead).saturating_add(bits(body).saturating_mul(bodies));
        let peak_bps = stretches
            .iter()
            .map(|s| finite_bps(&s.state))
            .max()
            .unwrap_or(0);
        let headroom_bits = u128::from(HEADROOM_BPS) * u128::from(LONGEST_PLAYBACK_NS) / NS_PER_S;
        let most_bits = total_bits.saturating_add(jump_bits);
        let (base_units, unit_bits) = match base {
            None => {
                let most_bits = most_bits.max(headroom_bits);
                let bits = unit_bits(most_bits, peak_bps).ok_or(TableError::Bits)?;
                (0, bits)
            }
            Some((units, bits)) => {
                let finest = unit_bits(most_bits, peak_bps).ok_or(TableError::Rate)?;
                if finest < bits {
                    return Err(TableError::Rate);
                }
                (units, bits)
            }
        };
        let units = |bit_ns: u128| u64::try_from((bit_ns << unit_bits) / NS_PER_S).unwrap_or(NEVER);
        let mut table = Table {
            entries: Vec::with_capacity(stretches.len() + 1),
            lead_ns: 0,
            body_ns: 0,
            lead_units: 0,
            body_units: 0,
            unit_bits,
            has_loss: stretches.iter().any(|s| s.state.loss_ppb > 0),
            has_jitter: stretches.iter().any(|s| s.state.jitter_ns > 0),
            has_doubles: stretches.iter().any(|s| s.state.dup_ppb > 0),
            has_damage: stretches.iter().any(|s| s.state.corrupt_ppb > 0),
            window: None,
        };
        let (mut start_ns, mut integral) = (0_u64, 0_u128);
        for (index, stretch) in stretches.iter().enumerate() {
            if index == body_starts {
                table.lead_ns = start_ns;
                table.lead_units = base_units.wrapping_add(units(integral));
            }
            let state = &stretch.state;
            let (multiplier, shift) = if stretch.jump {
                (units(jump_bits * NS_PER_S), 0)
            } else {
                multiplier(finite_bps(state), unit_bits)
            };
            let (loss_enter_ppb, loss_stay_ppb) = loss(state);
            // A bit more: the integral at arrival is rounded.
            let limit_bits = u128::from(queue_bytes(state, default_queue_bytes)) * 8 + 1;
            table.entries.push(Entry {
                start_ns,
                integral: base_units.wrapping_add(units(integral)),
                multiplier,
                shift,
                unlimited: state.rate_bps == UNLIMITED_RATE_BPS,
                own_queue: state.queue_bytes > 0,
                delay_ns: state.delay_ns,
                jitter_ns: state.jitter_ns,
                dup_ppb: parts(state.dup_ppb),
                corrupt_ppb: parts(state.corrupt_ppb),
                loss_enter_ppb,
                loss_stay_ppb,
                queue_limit: units(limit_bits * NS_PER_S),
            });
            start_ns = start_ns.saturating_add(stretch.length_ns);
            integral += area(stretch);
        }
        table.body_ns = start_ns - table.lead_ns;
        let end_units = base_units.wrapping_add(units(integral));
        table.body_units = end_units.wrapping_sub(table.lead_units);
        // What a packet finds that is through exactly at the end of the body.
        if let Some(&first) = table.entries.get(body_starts) {
            table.entries.push(Entry {
                start_ns,
                integral: end_units,
                ..first
            });
        }
        Ok(table)
    }

    /// The binary search takes this many steps.
    pub(super) fn search_steps(&self) -> u32 {
        self.entries.len().next_power_of_two().trailing_zeros()
    }

    /// The table as the program reads it: a power of two of entries for the search, and one.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let room = (1 << self.search_steps()) + 1;
        let mut bytes = Vec::with_capacity(room * ENTRY_BYTES);
        for entry in &self.entries {
            bytes.extend(entry.start_ns.to_ne_bytes());
            bytes.extend(entry.integral.to_ne_bytes());
            bytes.extend(entry.multiplier.to_ne_bytes());
            bytes.extend(entry.shift.to_ne_bytes());
            let flags = u32::from(entry.unlimited) << UNLIMITED_BIT
                | u32::from(entry.own_queue) << OWN_QUEUE_BIT;
            bytes.extend((entry.dup_ppb | flags).to_ne_bytes());
            bytes.extend(entry.delay_ns.to_ne_bytes());
            bytes.extend(entry.jitter_ns.to_ne_bytes());
            bytes.extend(entry.loss_enter_ppb.to_ne_bytes());
            bytes.extend(entry.loss_stay_ppb.to_ne_bytes());
            bytes.extend(entry.corrupt_ppb.to_ne_bytes());
            bytes.extend(entry.queue_limit.to_ne_bytes());
        }
        while bytes.len() < room * ENTRY_BYTES {
            bytes.extend(NEVER.to_ne_bytes());
            bytes.extend(NEVER.to_ne_bytes());
            bytes.extend([0; ENTRY_BYTES - 16]);
        }
        bytes
    }

    /// The integral at a moment, modulo 2^64, as the program computes it.
    pub(super) fn integral_at(&self, t_ns: u64) -> u64 {
        let (periods, local_ns) = match t_ns.checked_sub(self.lead_ns) {
            Some(since_ns) => (
                since_ns / self.body_ns,
                self.lead_ns + since_ns % self.body_ns,
            ),
            None => (0, t_ns),
        };
        let after = self
            .entries
            .partition_point(|entry| entry.start_ns <= local_ns);
        let Some(entry) = self.entries.get(after.saturating_sub(1)) else {
            return 0;
        };
        let within = (local_ns - entry.start_ns).wrapping_mul(entry.multiplier - 1) >> entry.shift;
        let base = periods.wrapping_mul(self.body_units);
        base.wrapping_add(entry.integral).wrapping_add(within)
    }

    /// Whole bytes of so many units, rounded up.
    pub(super) const fn bytes(&self, units: u64) -> u64 {
        units.div_ceil(8 << self.unit_bits)
    }
}

/// How fine a unit can be: `None` if even whole bits do not fit.
fn unit_bits(most_bits: u128, peak_bps: u64) -> Option<u32> {
    let room = most_bits.leading_zeros().checked_sub(128 - 61)?;
    // A multiplier of 35 bits must not need a shift to the left.
    let peak = u128::from(peak_bps).div_ceil(NS_PER_S).max(1);
    let fastest = (MULTIPLIER_BITS - 1).saturating_sub(128 - peak.leading_zeros());
    Some(room.min(fastest).min(FINEST_UNIT_BITS))
}

/// Units per nanosecond of a rate, as a number of 35 bits at most and a shift to the right. It is
/// rounded up, and one less is taken to compute C: both roundings are towards an earlier time by
/// less than 1/64 ns, so that the last one, up to a whole nanosecond, undoes them, and no packet
/// that fits exactly before an outage is held by it.
fn multiplier(rate_bps: u64, unit_bits: u32) -> (u64, u32) {
    if rate_bps == 0 {
        return (1, 62);
    }
    let scaled = u128::from(rate_bps) << unit_bits;
    let fits = |shift: u32| (scaled << shift) / NS_PER_S < 1 << MULTIPLIER_BITS;
    let mut shift = 0;
    while shift < 62 && fits(shift + 1) {
        shift += 1;
    }
    let rounded = (scaled << shift).div_ceil(NS_PER_S);
    (u64::try_from(rounded).unwrap_or(u64::MAX), shift)
}

/// A share of 10^9 that is no more than all of them.
fn parts(ppb: u32) -> u32 {
    u32::try_from(u64::from(ppb).min(PARTS)).unwrap_or(u32::MAX)
}

/// The two-state model of Gilbert, as the shaper has it: how likely a loss is after a packet that
/// was kept and after one that was lost.
fn loss(state: &LinkState) -> (u32, u32) {
    let loss = u64::from(state.loss_ppb).min(PARTS);
    if loss == 0 || loss == PARTS || state.loss_burst_milli <= 1000 {
        let loss = u32::try_from(loss).unwrap_or(u32::MAX);
        return (loss, loss);
    }
    let leave = PARTS * 1000 / u64::from(state.loss_burst_milli);
    let enter = (leave * loss / (PARTS - loss)).min(PARTS);
    let ppb = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    (ppb(enter), ppb(PARTS - leave))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::{MS, state, trace};
    use hexloop_traces::CapacityCurve;

    fn table(end: EndPolicy, steps: &[(u64, LinkState)]) -> Table {
        Table::new(&trace(end, steps), Direction::Down, 250_000).unwrap()
    }

    #[test]
    fn a_link_that_is_idle_for_a_day_is_not_taken_for_a_busy_one() {
        let steps = [
            (10 * MS, state(10_000_000_000, 0)),
            (MS, state(UNLIMITED_RATE_BPS, 0)),
        ];
        for end in [EndPolicy::Loop, EndPolicy::Hold, EndPolicy::Clear] {
            let table = table(end, &steps);
            let after_a_day = table.integral_at(LONGEST_PLAYBACK_NS);
            assert!(
                after_a_day > 0 && after_a_day < 1 << 63,
                "{end:?}: {after_a_day}"
            );
        }
    }

    #[test]
    fn the_integral_follows_the_traces_own_through_every_end() {
        let steps = [
            (7 * MS, state(12_000_000, 0)),
            (3 * MS, state(0, 0)),
            (900 * MS, state(48_123_457, 0)),
        ];
        for end in [EndPolicy::Loop, EndPolicy::Hold] {
            let table = table(end, &steps);
            let curve = CapacityCurve::new(&trace(end, &steps), Direction::Down);
            for t_ns in (0..5000).map(|step| step * 777_777) {
                let bits = curve.bits_between(0, t_ns);
                let found = table.integral_at(t_ns) >> table.unit_bits;
                assert!(found.abs_diff(bits) <= 1, "{end:?} {t_ns}: {found} {bits}");
            }
        }
    }

    #[test]
    fn long_rows_are_cut_and_the_table_ends_with_the_start_of_its_body() {
        let table = table(EndPolicy::Loop, &[(1000 * MS, state(8_000_000, 5))]);
        assert_eq!(table.entries.len(), 4 + 1);
        let [first, .., last] = table.entries.as_slice() else {
            panic!()
        };
        assert_eq!(last.start_ns, 1000 * MS);
        assert_eq!(last.delay_ns, first.delay_ns);
        assert_eq!(last.integral >> table.unit_bits, 8_000_000);
        assert_eq!(table.search_steps(), 3);
        assert_eq!(table.to_bytes().len(), 9 * ENTRY_BYTES);
    }

    #[test]
    fn a_stretch_without_limit_jumps_by_more_than_the_queue_and_then_stands() {
        let table = table(
            EndPolicy::Clear,
            &[
                (10 * MS, state(8_000_000, 0)),
                (10 * MS, state(UNLIMITED_RATE_BPS, 0)),
            ],
        );
        let [before, after, later] =
            [10 * MS, 10 * MS + 1, 15 * MS].map(|t_ns| table.integral_at(t_ns) >> table.unit_bits);
        assert_eq!(before, 80_000);
        assert!(after - before > 250_000 * 8);
        assert_eq!(after, later);
    }

    #[test]
    fn units_are_fine_and_leave_room() {
        let slow = table(EndPolicy::Loop, &[(60_000 * MS, state(1_000_000, 0))]);
        assert!(slow.unit_bits >= 11, "{}", slow.unit_bits);
        let fast = table(EndPolicy::Loop, &[(60_000 * MS, state(100_000_000_000, 0))]);
        assert!(fast.unit_bits >= 8, "{}", fast.unit_bits);
        assert!(fast.entries.iter().all(|entry| entry.multiplier < 1 << 36));
        let absurd = trace(EndPolicy::Loop, &[(u64::MAX / 2, state(u64::MAX - 1, 0))]);
        assert!(Table::new(&absurd, Direction::Up, 0).is_err());
    }

    #[test]
    fn bursts_keep_the_share_of_losses() {
        let bursty = LinkState {
            loss_ppb: 50_000_000,
            loss_burst_milli: 4000,
            ..state(1, 0)
        };
        let (enter, stay) = loss(&bursty);
        let (enter, leave) = (f64::from(enter), 1e9 - f64::from(stay));
        assert!((enter / (enter + leave) - 0.05).abs() < 1e-6);
        assert_eq!(loss(&state(1, 0)), (0, 0));
    }
}
