//! The table for the rest of a playback, when something was asked for meanwhile.

use hexloop_traces::{
    Direction, EndPolicy, LinkState, PlaybackChange, Schedule, StateOverride, Trace,
};

use super::{LONGEST_ENTRY_NS, MOST_ENTRIES, Stretch, Table, TableError, cut};

/// What is played from the last thing on that was asked for.
struct Last {
    at_ns: u64,
    /// Where the trace is then.
    position_ns: u64,
    running: bool,
    overrides: StateOverride,
}

impl Last {
    fn of(schedule: &Schedule) -> Last {
        let mut last = Last {
            at_ns: 0,
            position_ns: 0,
            running: true,
            overrides: StateOverride::NONE,
        };
        for intervention in schedule.interventions() {
            last.at_ns = intervention.at_ns;
            match intervention.change {
                PlaybackChange::Pause => last.running = false,
                PlaybackChange::Resume => last.running = true,
                PlaybackChange::Jump { .. } => {}
                PlaybackChange::Override(overrides) => last.overrides = overrides,
            }
        }
        last.position_ns = schedule.position_ns(last.at_ns);
        last
    }

    /// From when on the playback repeats itself, or does not change any more.
    fn settles_ns(&self, trace: &Trace, from_ns: u64) -> u64 {
        let duration_ns = trace.duration_ns();
        if !self.running {
            return self.at_ns.max(from_ns);
        }
        match trace.metadata().end {
            EndPolicy::Loop => {
                let rest_ns = (duration_ns - self.position_ns % duration_ns) % duration_ns;
                let first_ns = self.at_ns.saturating_add(rest_ns);
                let laps = from_ns.saturating_sub(first_ns).div_ceil(duration_ns);
                first_ns.saturating_add(laps.saturating_mul(duration_ns))
            }
            EndPolicy::Hold | EndPolicy::Clear => {
                let rest_ns = duration_ns.saturating_sub(self.position_ns);
                self.at_ns.saturating_add(rest_ns).max(from_ns)
            }
        }
    }
}

impl Table {
    /// The table for what is played from `from_ns` on, with all that was asked for meanwhile. Up
    /// to the first moment at which this differs from what was played before, both tables have
    /// the same integral.
    ///
    /// # Errors
    /// What is asked for carries too much or has too many rows.
    pub(in crate::link::edt) fn following(
        &self,
        trace: &Trace,
        direction: Direction,
        schedule: &Schedule,
        from_ns: u64,
        default_queue_bytes: u64,
    ) -> Result<Table, TableError> {
        let last = Last::of(schedule);
        let settles_ns = last.settles_ns(trace, from_ns);
        let mut stretches = Vec::new();
        if from_ns > 0 {
            // Nobody asks for what is gone by.
            stretches.push(Stretch {
                length_ns: from_ns,
                state: LinkState {
                    rate_bps: 0,
                    ..schedule.state_at(from_ns)
                },
                jump: false,
            });
        }
        let mut t_ns = from_ns;
        while t_ns < settles_ns {
            if stretches.len() >= MOST_ENTRIES {
                let entries = stretches.len();
                return Err(TableError::Rows { entries });
            }
            let end_ns = schedule.change_after(t_ns).unwrap_or(u64::MAX);
            let end_ns = end_ns.min(settles_ns);
            cut(&mut stretches, end_ns - t_ns, schedule.state_at(t_ns));
            t_ns = end_ns;
        }
        let body_starts = stretches.len();
        if last.running && trace.metadata().end == EndPolicy::Loop {
            let rows = trace.rows();
            for (index, row) in rows.iter().enumerate() {
                let end_ns = rows
                    .get(index + 1)
                    .map_or(trace.duration_ns(), |row| row.t_ns);
                let state = last.overrides.over(*row.direction(direction));
                cut(&mut stretches, end_ns - row.t_ns, state);
            }
        } else {
            let state = schedule.state_at(settles_ns);
            cut(&mut stretches, LONGEST_ENTRY_NS, state);
        }
        if stretches.len() >= MOST_ENTRIES {
            let entries = stretches.len();
            return Err(TableError::Rows { entries });
        }
        let base = Some((self.integral_at(from_ns), self.unit_bits));
        Table::from_stretches(&stretches, body_starts, default_queue_bytes, base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::{MS, state, trace};
    use hexloop_traces::{CapacityCurve, Intervention, UNLIMITED_RATE_BPS};

    const QUEUE_BYTES: u64 = 250_000;

    fn rows() -> [(u64, LinkState); 3] {
        [
            (7 * MS, state(12_000_000, 1)),
            (3 * MS, state(0, 2)),
            (900 * MS, state(48_123_457, 3)),
        ]
    }

    fn rate(rate_bps: u64) -> PlaybackChange {
        PlaybackChange::Override(StateOverride {
            rate_bps: Some(rate_bps),
            ..StateOverride::NONE
        })
    }

    #[test]
    fn every_table_goes_on_where_the_one_before_it_was() {
        let changes = [
            (30 * MS, PlaybackChange::Pause),
            (400 * MS, PlaybackChange::Resume),
            (500 * MS, rate(3_000_000)),
            (700 * MS, PlaybackChange::Jump { to_ns: 905 * MS }),
            (720 * MS, PlaybackChange::Override(StateOverride::NONE)),
            (2000 * MS, PlaybackChange::Jump { to_ns: 5 * MS }),
        ];
        for end in [EndPolicy::Loop, EndPolicy::Hold] {
            let trace = trace(end, &rows());
            let curve = CapacityCurve::new(&trace, Direction::Up);
            let mut schedule = Schedule::new(curve);
            let mut table = Table::new(&trace, Direction::Up, QUEUE_BYTES).unwrap();
            for (at_ns, change) in changes {
                schedule.apply(Intervention { at_ns, change });
                let from_ns = at_ns - 20 * MS;
                let next = table
                    .following(&trace, Direction::Up, &schedule, from_ns, QUEUE_BYTES)
                    .unwrap();
                for t_ns in [from_ns, from_ns + MS, at_ns] {
                    let (old, new) = (table.integral_at(t_ns), next.integral_at(t_ns));
                    assert!(old.abs_diff(new) <= 2, "{end:?} {t_ns}: {old} {new}");
                }
                table = next;
                for t_ns in (0..3000).map(|step| at_ns + step * 777_777) {
                    let bits = schedule.bits_between(0, t_ns);
                    let found = table.integral_at(t_ns) >> table.unit_bits;
                    assert!(found.abs_diff(bits) <= 1, "{end:?} {t_ns}: {found} {bits}");
                }
            }
        }
    }

    #[test]
    fn a_limit_that_is_lifted_lets_everything_go_and_may_come_back() {
        let trace = trace(EndPolicy::Hold, &[(MS, state(8_000_000, 0))]);
        let curve = CapacityCurve::new(&trace, Direction::Up);
        let mut schedule = Schedule::new(curve);
        let table = Table::new(&trace, Direction::Up, QUEUE_BYTES).unwrap();
        schedule.apply(Intervention {
            at_ns: 10 * MS,
            change: rate(UNLIMITED_RATE_BPS),
        });
        let lifted = table
            .following(&trace, Direction::Up, &schedule, 5 * MS, QUEUE_BYTES)
            .unwrap();
        let bits = |t_ns| lifted.integral_at(t_ns) >> lifted.unit_bits;
        assert!(bits(10 * MS).abs_diff(80_000) <= 1);
        assert!(bits(10 * MS + 1) - bits(10 * MS) > QUEUE_BYTES * 8);
        assert_eq!(bits(10 * MS + 1), bits(100 * MS));
        schedule.apply(Intervention {
            at_ns: 50 * MS,
            change: PlaybackChange::Override(StateOverride::NONE),
        });
        let back = lifted
            .following(&trace, Direction::Up, &schedule, 40 * MS, QUEUE_BYTES)
            .unwrap();
        let bits = |t_ns| back.integral_at(t_ns) >> back.unit_bits;
        let passed = bits(60 * MS) - bits(50 * MS);
        assert!(passed.abs_diff(80_000) <= 1, "{passed}");
    }

    #[test]
    fn a_rate_beyond_what_the_units_allow_is_refused() {
        let trace = trace(EndPolicy::Hold, &[(MS, state(8_000_000, 0))]);
        let curve = CapacityCurve::new(&trace, Direction::Up);
        let table = Table::new(&trace, Direction::Up, QUEUE_BYTES).unwrap();
        let following = |rate_bps| {
            let change = Intervention {
                at_ns: MS,
                change: rate(rate_bps),
            };
            let schedule = Schedule::with(curve.clone(), &[change]);
            table.following(&trace, Direction::Up, &schedule, 0, QUEUE_BYTES)
        };
        assert!(following(10_000_000_000).is_ok());
        assert!(matches!(
            following(1_000_000_000_000),
            Err(TableError::Rate)
        ));
    }
}
