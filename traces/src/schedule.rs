//! What a link plays when somebody intervenes: the trace paused, resumed, jumped in, or a value
//! overridden, each from a moment on.
//!
//! A [`Schedule`] answers the same questions as [`CapacityCurve`], but in time since T0 and not in
//! the trace's own: its answers are those of the curve as long as nobody intervenes. A packet
//! that is under way when something changes needs no special care: the integral covers what was
//! before and what comes after.

mod carried;
mod intervention;

use crate::curve::{area, effective_bps};
use crate::{CapacityCurve, LinkState, UNLIMITED_RATE_BPS};

pub use carried::Carried;
pub use intervention::{Intervention, PlaybackChange, StateOverride};

/// A stretch of time without interventions. It lasts until the next one.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start_ns: u64,
    /// Integral from T0 to `start_ns`, in bits x 10^9.
    integral: u128,
    /// Where the trace is at `start_ns`.
    position_ns: u64,
    running: bool,
    overrides: StateOverride,
}

/// One direction of a trace with the interventions so far, in time since T0.
#[derive(Debug, Clone)]
pub struct Schedule {
    curve: CapacityCurve,
    /// In order of time.
    interventions: Vec<Intervention>,
    /// One from the start on, and one from each intervention on.
    pieces: Vec<Piece>,
    longest_delay_ns: u64,
    longest_jitter_ns: u64,
}

impl From<CapacityCurve> for Schedule {
    fn from(curve: CapacityCurve) -> Schedule {
        Schedule::new(curve)
    }
}

impl Schedule {
    /// The trace as it is, from its start at T0.
    #[must_use]
    pub fn new(curve: CapacityCurve) -> Schedule {
        Schedule {
            longest_delay_ns: curve.longest_delay_ns(),
            longest_jitter_ns: curve.longest_jitter_ns(),
            curve,
            interventions: Vec::new(),
            pieces: vec![Piece {
                start_ns: 0,
                integral: 0,
                position_ns: 0,
                running: true,
                overrides: StateOverride::NONE,
            }],
        }
    }

    /// The trace with all of these interventions.
    #[must_use]
    pub fn with(curve: CapacityCurve, interventions: &[Intervention]) -> Schedule {
        let mut schedule = Schedule::new(curve);
        for &intervention in interventions {
            schedule.apply(intervention);
        }
        schedule
    }

    /// Changes what is played from a moment on. Interventions may come in any order: those that
    /// are later stay in force after this one, and of two at one moment the later call counts
    /// last.
    pub fn apply(&mut self, intervention: Intervention) {
        let at_ns = intervention.at_ns;
        let index = self
            .interventions
            .partition_point(|earlier| earlier.at_ns <= at_ns);
        self.interventions.insert(index, intervention);
        self.pieces.truncate(index + 1);
        for index in index..self.interventions.len() {
            self.add_piece(self.interventions[index]);
        }
    }

    fn add_piece(&mut self, intervention: Intervention) {
        let at_ns = intervention.at_ns;
        let last = *self.last();
        let mut piece = Piece {
            start_ns: at_ns,
            integral: self.integral_in(&last, at_ns),
            position_ns: position_in(&last, at_ns),
            ..last
        };
        match intervention.change {
            PlaybackChange::Pause => piece.running = false,
            PlaybackChange::Resume => piece.running = true,
            PlaybackChange::Jump { to_ns } => piece.position_ns = to_ns,
            PlaybackChange::Override(overrides) => piece.overrides = overrides,
        }
        let delay_ns = piece.overrides.delay_ns.unwrap_or(0);
        self.longest_delay_ns = self.longest_delay_ns.max(delay_ns);
        let jitter_ns = piece.overrides.jitter_ns.unwrap_or(0);
        self.longest_jitter_ns = self.longest_jitter_ns.max(u64::from(jitter_ns));
        self.pieces.push(piece);
    }

    /// What was done so far, in order of time.
    #[must_use]
    pub fn interventions(&self) -> &[Intervention] {
        &self.interventions
    }

    fn last(&self) -> &Piece {
        &self.pieces[self.pieces.len() - 1]
    }

    /// The index of the piece that `t_ns` is in. Questions are nearly always about the last one.
    fn index_at(&self, t_ns: u64) -> usize {
        let last = self.pieces.len() - 1;
        if self.pieces[last].start_ns <= t_ns {
            return last;
        }
        let after = self.pieces.partition_point(|piece| piece.start_ns <= t_ns);
        after.saturating_sub(1)
    }

    fn piece_at(&self, t_ns: u64) -> &Piece {
        &self.pieces[self.index_at(t_ns)]
    }

    fn state_in(&self, piece: &Piece, t_ns: u64) -> LinkState {
        let state = self.curve.state_at(position_in(piece, t_ns));
        piece.overrides.over(state)
    }

    /// The rate of a piece that has only one.
    fn constant_bps(&self, piece: &Piece) -> Option<u64> {
        match piece.overrides.rate_bps {
            None if piece.running => None,
            None => Some(self.curve.state_at(piece.position_ns).rate_bps),
            rate_bps => rate_bps,
        }
    }

    fn integral_in(&self, piece: &Piece, t_ns: u64) -> u128 {
        let within = match self.constant_bps(piece) {
            Some(rate_bps) => area(rate_bps, t_ns - piece.start_ns),
            None => {
                self.curve.integral_at(position_in(piece, t_ns))
                    - self.curve.integral_at(piece.position_ns)
            }
        };
        piece.integral + within
    }

    /// What the link can have carried from T0 to `t_ns`.
    ///
    /// An unlimited rate counts as 10^15 bit/s here.
    #[must_use]
    pub fn carried_by(&self, t_ns: u64) -> Carried {
        Carried::of_integral(self.integral_in(self.piece_at(t_ns), t_ns))
    }

    /// The first whole nanosecond by which the link can have carried `target`; `None` if that
    /// never happens.
    #[must_use]
    pub fn moment_of(&self, target: Carried) -> Option<u64> {
        let target = target.integral();
        if target == 0 {
            return Some(0);
        }
        let last = self.last();
        let piece = if last.integral < target {
            last
        } else {
            let after = self.pieces.partition_point(|piece| piece.integral < target);
            &self.pieces[after.saturating_sub(1)]
        };
        let missing = target - piece.integral;
        let within_ns = match self.constant_bps(piece) {
            Some(0) => return None,
            Some(rate_bps) => {
                u64::try_from(missing.div_ceil(u128::from(effective_bps(rate_bps)))).ok()?
            }
            None => {
                let sent = self.curve.integral_at(piece.position_ns);
                self.curve.moment_of(sent + missing)? - piece.position_ns
            }
        };
        piece.start_ns.checked_add(within_ns)
    }

    /// Where the trace is at `t_ns` after T0, as an offset from its start. It counts on where the
    /// trace loops.
    #[must_use]
    pub fn position_ns(&self, t_ns: u64) -> u64 {
        position_in(self.piece_at(t_ns), t_ns)
    }

    /// The link's state at `t_ns` after T0.
    #[must_use]
    pub fn state_at(&self, t_ns: u64) -> LinkState {
        self.state_in(self.piece_at(t_ns), t_ns)
    }

    /// As [`CapacityCurve::finish_ns`], in time since T0.
    #[must_use]
    pub fn finish_ns(&self, start_ns: u64, bits: u64) -> Option<u64> {
        if bits == 0 || self.state_at(start_ns).rate_bps == UNLIMITED_RATE_BPS {
            return Some(start_ns);
        }
        let target = self.carried_by(start_ns).and_bits(bits);
        self.moment_of(target).map(|finish| finish.max(start_ns))
    }

    /// As [`CapacityCurve::bits_between`], in time since T0.
    #[must_use]
    pub fn bits_between(&self, from_ns: u64, to_ns: u64) -> u64 {
        let carried = self.carried_by(to_ns.max(from_ns));
        carried.since(self.carried_by(from_ns)).whole_bits()
    }

    /// As [`CapacityCurve::arrivals_between`], in time since T0.
    #[must_use]
    pub fn arrivals_between(&self, from_ns: u64, to_ns: u64) -> u64 {
        self.bits_between(self.left_by(from_ns), self.left_by(to_ns))
    }

    /// The moment from which on bits have not arrived at `t_ns`: the infimum of all s with
    /// s + delay(s) > t.
    #[must_use]
    pub fn left_by(&self, t_ns: u64) -> u64 {
        // Nothing that left earlier can still be under way.
        let mut from_ns = t_ns.saturating_sub(self.longest_delay_ns);
        loop {
            let delay_ns = self.state_at(from_ns).delay_ns;
            let left_ns = from_ns.max(t_ns.saturating_sub(delay_ns));
            match self.change_after(from_ns) {
                Some(change_ns) if change_ns <= left_ns => from_ns = change_ns,
                _ => return left_ns,
            }
        }
    }

    /// Whether jitter of more than `tolerance_ns` (half its width) moves what would arrive between two
    /// moments into or out of that time. What left later can wait behind what jitter holds back.
    #[must_use]
    pub fn jitters_between(&self, from_ns: u64, to_ns: u64, tolerance_ns: u64) -> bool {
        if self.longest_jitter_ns <= tolerance_ns {
            return false;
        }
        let longest_ns = self.longest_delay_ns.saturating_add(self.longest_jitter_ns);
        let mut left_ns = from_ns.saturating_sub(longest_ns);
        loop {
            let state = self.state_at(left_ns);
            let jitter_ns = u64::from(state.jitter_ns);
            let change_ns = self.change_after(left_ns).unwrap_or(u64::MAX);
            let first_ns = left_ns.saturating_add(state.delay_ns.saturating_sub(jitter_ns));
            let last_ns = change_ns.saturating_add(state.delay_ns.saturating_add(jitter_ns));
            // In an outage nothing leaves that could be moved.
            let moves = state.rate_bps > 0 && jitter_ns > tolerance_ns;
            if moves && first_ns < to_ns && last_ns > from_ns {
                return true;
            }
            if change_ns >= to_ns {
                return false;
            }
            left_ns = change_ns;
        }
    }

    /// Until when the state at `t_ns` holds; `None` if for ever. The state may be the same
    /// afterwards.
    #[must_use]
    pub fn change_after(&self, t_ns: u64) -> Option<u64> {
        let index = self.index_at(t_ns);
        let piece = &self.pieces[index];
        let intervention_ns = self.pieces.get(index + 1).map(|next| next.start_ns);
        let row_ns = if piece.running {
            let position_ns = position_in(piece, t_ns);
            let change_ns = self.curve.change_after(position_ns);
            change_ns.and_then(|change_ns| t_ns.checked_add(change_ns - position_ns))
        } else {
            None
        };
        match (intervention_ns, row_ns) {
            (Some(intervention_ns), Some(row_ns)) => Some(intervention_ns.min(row_ns)),
            (change_ns, None) | (None, change_ns) => change_ns,
        }
    }

    /// The longest delay of the trace and of all overrides so far.
    #[must_use]
    pub const fn longest_delay_ns(&self) -> u64 {
        self.longest_delay_ns
    }
}

fn position_in(piece: &Piece, t_ns: u64) -> u64 {
    if piece.running {
        piece.position_ns.saturating_add(t_ns - piece.start_ns)
    } else {
        piece.position_ns
    }
}

#[cfg(test)]
mod tests;
