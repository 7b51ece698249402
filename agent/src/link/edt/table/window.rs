//! Windows of a trace that is too long for one table: each is a table of its own, made while the one
//! before it is played.
//!
//! A window goes on for some ten thousand rows. Half-way through them the next one is made, from then
//! on, and takes over: both have the same integral in what they share, so that it does not matter which
//! of them a packet meets. What comes last before a window is over may have to wait behind a full queue.
//! Therefore a window reaches further, to where the integral has grown by that queue and a packet, or to
//! fq's horizon, beyond which packets are dropped anyway. Beyond its end a window lets nothing through:
//! should the next one come too late, packets are dropped, and never sent at a moment that the trace does
//! not have.

use hexloop_traces::{
    CapacityCurve, Direction, EndPolicy, LinkState, Schedule, Trace, UNLIMITED_RATE_BPS,
};

use super::{
    HEADROOM_BPS, LONGEST_ENTRY_NS, LONGEST_PLAYBACK_NS, MOST_ENTRIES, NS_PER_S, Stretch, Table,
    TableError, cut, finite_bps, unit_bits,
};
use crate::link::edt::port::HORIZON_NS;

/// A window takes in so many rows or entries, and lasts for so long at least.
const WINDOW_ROWS: usize = 30_000;
const SHORTEST_WINDOW_NS: u64 = 2_000_000_000;

/// Rows that ask for the same are one stretch, of this length at most (17 s, 64 entries).
const LONGEST_STRETCH_NS: u64 = 64 * LONGEST_ENTRY_NS;
const STRETCH_ENTRIES: usize = 64;

/// What may wait takes so many entries at most to leave.
const MOST_ENTRIES_AHEAD: usize = MOST_ENTRIES / 2 - WINDOW_ROWS;

/// The largest packet, and a bit for what is rounded.
const LARGEST_PACKET_BITS: u64 = (8 << 16) + 1;

/// What a table is a window of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::link::edt) struct Window {
    /// From when on the next one is to be made.
    pub(in crate::link::edt) next_ns: u64,
    /// Until when this one serves what comes.
    pub(in crate::link::edt) until_ns: u64,
    /// The longest queue that a row of the trace has of its own, in bytes.
    longest_own_queue_bytes: u32,
}

impl Table {
    /// Whether one table has room for a whole trace.
    pub(in crate::link::edt) fn fits(trace: &Trace) -> bool {
        super::most_entries(trace) < MOST_ENTRIES
    }

    /// The first window of a trace. All that follow will have room for what waits, unless somebody
    /// intervenes.
    ///
    /// # Errors
    /// What waits would take too many rows to leave, or the trace carries too much.
    pub(in crate::link::edt) fn first_window(
        trace: &Trace,
        direction: Direction,
        default_queue_bytes: u64,
    ) -> Result<Table, TableError> {
        let states = || trace.states().map(|(_, states)| of(states, direction));
        let own_bytes = states().map(|state| state.queue_bytes).max().unwrap_or(0);
        let peak_bps = states().map(|state| finite_bps(&state)).max().unwrap_or(0);
        let ahead_bits = ahead_bits(own_bytes, default_queue_bytes);
        let lap_bits = survey(trace, direction, ahead_bits)?;
        let most_bits = bits_of_a_day(trace, direction, lap_bits) + 2 * u128::from(ahead_bits);
        let headroom_bits = u128::from(HEADROOM_BPS) * u128::from(LONGEST_PLAYBACK_NS) / NS_PER_S;
        let unit_bits =
            unit_bits(most_bits.max(headroom_bits), peak_bps).ok_or(TableError::Bits)?;
        let schedule = Schedule::new(CapacityCurve::new(trace, direction));
        of_window(&schedule, 0, default_queue_bytes, own_bytes, (0, unit_bits))
    }

    /// The window of what is played from `from_ns` on, with all that was asked for meanwhile. Up to the
    /// first moment at which that differs from what was played before, both have the same integral.
    ///
    /// # Errors
    /// What is asked for carries too much, or what waits would take too many rows to leave.
    pub(in crate::link::edt) fn next_window(
        &self,
        window: Window,
        schedule: &Schedule,
        from_ns: u64,
        default_queue_bytes: u64,
    ) -> Result<Table, TableError> {
        let base = (self.integral_at(from_ns), self.unit_bits);
        let own_bytes = window.longest_own_queue_bytes;
        of_window(schedule, from_ns, default_queue_bytes, own_bytes, base)
    }
}

fn of([down, up]: [LinkState; 2], direction: Direction) -> LinkState {
    match direction {
        Direction::Down => down,
        Direction::Up => up,
    }
}

/// The most bits that can be ahead of the end of a packet that has just come.
fn ahead_bits(own_bytes: u32, default_bytes: u64) -> u64 {
    let bytes = u64::from(own_bytes).max(default_bytes);
    bytes.saturating_mul(8).saturating_add(LARGEST_PACKET_BITS)
}

fn of_window(
    schedule: &Schedule,
    from_ns: u64,
    default_queue_bytes: u64,
    own_bytes: u32,
    base: (u64, u32),
) -> Result<Table, TableError> {
    let ahead_bits = ahead_bits(own_bytes, default_queue_bytes);
    // Neither before nor behind it is anything let through. The queue is what a jump of the integral
    // has to be longer than, in every window alike.
    let nothing = LinkState {
        rate_bps: 0,
        queue_bytes: own_bytes,
        ..schedule.state_at(from_ns)
    };
    let mut stretches = Vec::new();
    if from_ns > 0 {
        stretches.push(Stretch {
            length_ns: from_ns,
            state: nothing,
            jump: false,
        });
    }
    let (mut t_ns, mut rows) = (from_ns, 0);
    let mut run = (0, nothing);
    // Until when it serves what comes, and where it has to end.
    let mut bounds = None;
    while bounds.is_none_or(|(_, end_ns)| t_ns < end_ns) {
        let is_long = rows >= WINDOW_ROWS || stretches.len() >= WINDOW_ROWS;
        if bounds.is_none() && is_long && t_ns - from_ns >= SHORTEST_WINDOW_NS {
            bounds = Some((t_ns, left_by(schedule, t_ns, ahead_bits)));
            continue;
        }
        if stretches.len() + 4 * STRETCH_ENTRIES >= MOST_ENTRIES {
            let at_ns = bounds.map_or(from_ns, |(until_ns, _)| until_ns);
            return Err(TableError::Ahead { at_ns });
        }
        let change_ns = schedule.change_after(t_ns).unwrap_or(u64::MAX);
        let end_ns = change_ns.min(t_ns.saturating_add(LONGEST_STRETCH_NS));
        let state = schedule.state_at(t_ns);
        let (length_ns, before) = run;
        run = if length_ns > 0 && before == state && length_ns < LONGEST_STRETCH_NS {
            (length_ns + (end_ns - t_ns), state)
        } else {
            flush(&mut stretches, run);
            (end_ns - t_ns, state)
        };
        (t_ns, rows) = (end_ns, rows + 1);
    }
    flush(&mut stretches, run);
    let body_starts = stretches.len();
    cut(&mut stretches, LONGEST_ENTRY_NS, nothing);
    let mut table =
        Table::from_stretches(&stretches, body_starts, default_queue_bytes, Some(base))?;
    table.window = bounds.map(|(until_ns, _)| Window {
        next_ns: from_ns + (until_ns - from_ns) / 2,
        until_ns,
        longest_own_queue_bytes: own_bytes,
    });
    Ok(table)
}

fn flush(stretches: &mut Vec<Stretch>, (length_ns, state): (u64, LinkState)) {
    if length_ns > 0 {
        cut(stretches, length_ns, state);
    }
}

/// By when what may be ahead at a moment has left, or is dropped because that takes too long.
fn left_by(schedule: &Schedule, at_ns: u64, ahead_bits: u64) -> u64 {
    let target = schedule.carried_by(at_ns).and_bits(ahead_bits);
    let left_ns = schedule.moment_of(target).unwrap_or(u64::MAX);
    left_ns.min(at_ns.saturating_add(HORIZON_NS))
}

/// What a trace carries in a day, from what it carries in one lap.
fn bits_of_a_day(trace: &Trace, direction: Direction, lap_bits: u128) -> u128 {
    let duration_ns = trace.duration_ns().max(1);
    match trace.metadata().end {
        EndPolicy::Loop => {
            lap_bits.saturating_mul(u128::from(LONGEST_PLAYBACK_NS.div_ceil(duration_ns)))
        }
        EndPolicy::Hold => {
            let last = trace.states_of(trace.row_count().saturating_sub(1));
            let last_bps = last.map_or(0, |(_, states)| finite_bps(&of(states, direction)));
            let held_bits = u128::from(last_bps) * u128::from(LONGEST_PLAYBACK_NS) / NS_PER_S;
            lap_bits.saturating_add(held_bits)
        }
        EndPolicy::Clear => lap_bits,
    }
}

/// Checks that what may wait at the end of any row leaves within as many entries as a window has room
/// for. Returns the bits of a lap.
fn survey(trace: &Trace, direction: Direction, ahead_bits: u64) -> Result<u128, TableError> {
    let ahead = u128::from(ahead_bits) * NS_PER_S;
    // As the jump of a stretch without a limit: twice what can wait.
    let mut back = Cursor::new(trace, direction, 2 * ahead);
    let mut front = back.clone();
    while back.index < trace.row_count() {
        back.step();
        let (left, least_ns) = (
            back.integral + ahead,
            back.t_ns.saturating_add(SHORTEST_WINDOW_NS),
        );
        let horizon_ns = back.t_ns.saturating_add(HORIZON_NS);
        let goes_on = |front: &Cursor<'_>| {
            front.integral < left && front.t_ns < horizon_ns || front.t_ns < least_ns
        };
        while goes_on(&front) && front.step() {}
        if front.entries - back.entries > MOST_ENTRIES_AHEAD {
            return Err(TableError::Ahead { at_ns: back.t_ns });
        }
    }
    Ok(back.integral / NS_PER_S + 1)
}

/// A row boundary of a trace, with what comes before it.
#[derive(Debug, Clone)]
struct Cursor<'a> {
    trace: &'a Trace,
    direction: Direction,
    /// Rows gone by, over all laps.
    index: usize,
    t_ns: u64,
    /// In bits x 10^9.
    integral: u128,
    /// Entries that a table of them has.
    entries: usize,
    /// The rows before it that ask for the same.
    run: (u64, Option<LinkState>),
    jump: u128,
}

impl<'a> Cursor<'a> {
    const fn new(trace: &'a Trace, direction: Direction, jump: u128) -> Cursor<'a> {
        Cursor {
            trace,
            direction,
            index: 0,
            t_ns: 0,
            integral: 0,
            entries: 0,
            run: (0, None),
            jump,
        }
    }

    /// Goes on by a row; false at the end of a trace that does not begin again.
    fn step(&mut self) -> bool {
        let rows = self.trace.row_count();
        let row = self.index % rows;
        let ends = self.index >= rows && self.trace.metadata().end != EndPolicy::Loop;
        let Some((start_ns, states)) = self.trace.states_of(row).filter(|_| !ends) else {
            return false;
        };
        let next = self.trace.states_of(row + 1);
        let length_ns = next.map_or(self.trace.duration_ns(), |(next_ns, _)| next_ns) - start_ns;
        let state = of(states, self.direction);
        let pieces = |length_ns: u64| usize::try_from(length_ns / LONGEST_ENTRY_NS).unwrap_or(0);
        let (run_ns, before) = self.run;
        let run_ns = if before == Some(state) {
            self.entries += pieces(run_ns + length_ns) - pieces(run_ns);
            run_ns + length_ns
        } else {
            let is_unlimited = state.rate_bps == UNLIMITED_RATE_BPS;
            self.entries += 1 + usize::from(is_unlimited) + pieces(length_ns);
            if is_unlimited {
                self.integral += self.jump;
            }
            length_ns
        };
        self.run = (run_ns, Some(state));
        self.integral += u128::from(finite_bps(&state)) * u128::from(length_ns);
        self.t_ns = self.t_ns.saturating_add(length_ns);
        self.index += 1;
        true
    }
}

#[cfg(test)]
mod tests;
