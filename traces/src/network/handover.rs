//! Which cell serves: event A3, handover, failure and re-establishment.
//!
//! Event A3 is that of TS 38.331 clause 5.5.4.4: a neighbour becomes better than the serving cell
//! by an offset. The order of events and what counts as a failure follow TR 36.839 clause 5.2:
//! preparation, the command (lost while T310 runs), execution, and a target in which the user
//! finds a link. How long each takes is an assumption that the scenario states.

use super::{LayerThreeFilter, RadioLinkMonitor, RadioLinkSettings, next_multiple};

/// When a neighbour is reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct A3 {
    /// How much better the neighbour must be, in dB.
    pub offset_db: f64,
    /// Hysteresis of entering and leaving, in dB.
    pub hysteresis_db: f64,
    /// How long it must stay so, in ns.
    pub time_to_trigger_ns: u64,
}

/// What a handover does to the user's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandoverKind {
    /// The source is let go before the target is there: data are interrupted.
    Legacy,
    /// Dual active protocol stacks (Rel-16): the source is kept until the target serves.
    Daps,
    /// Conditional (Rel-16, TS 38.331 clause 5.3.5.13): the target was prepared and the command given
    /// while the link was good; the user goes by itself when A3 holds. Data are interrupted.
    Conditional,
}

/// How a user is kept connected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConnectionSettings {
    /// When a neighbour is reported.
    pub a3: A3,
    /// Coefficient `k` of the layer 3 filter.
    pub filter_k: u32,
    /// Time between measurements, in ns.
    pub measurement_period_ns: u64,
    /// From the report to the command, in ns.
    pub preparation_ns: u64,
    /// How long data are interrupted by a legacy handover, in ns.
    pub interruption_ns: u64,
    /// What a handover does to data.
    pub kind: HandoverKind,
    /// When the radio link counts as failed.
    pub radio_link: RadioLinkSettings,
    /// From a failure until data flow again, in ns.
    pub reestablishment_ns: u64,
}

/// What happened to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// A handover began: from now on data are interrupted (legacy) or sent twice (DAPS).
    HandoverStarted,
    /// The target serves.
    HandoverDone,
    /// The command was lost, or the target was not there.
    HandoverFailed,
    /// T310 ran out.
    RadioLinkFailed,
    /// The connection was established again, in the best cell.
    Reestablished,
}

impl ConnectionEvent {
    /// The name in a trace's event column.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ConnectionEvent::HandoverStarted => "handover",
            ConnectionEvent::HandoverDone => "handover-done",
            ConnectionEvent::HandoverFailed => "handover-failure",
            ConnectionEvent::RadioLinkFailed => "radio-link-failure",
            ConnectionEvent::Reestablished => "re-established",
        }
    }
}

/// What the connection is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ConnectionState {
    /// Served.
    Connected,
    /// Served, and a handover to `target` is being prepared until `until_ns`.
    Preparing {
        /// The cell that will serve.
        target: usize,
        /// When the command comes.
        until_ns: u64,
    },
    /// Between cells until `until_ns`.
    Executing {
        /// The cell that will serve.
        target: usize,
        /// When it does.
        until_ns: u64,
    },
    /// Without a connection until `until_ns`.
    Failed {
        /// When it is looked for again.
        until_ns: u64,
    },
}

/// How often what has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionCounts {
    /// Handovers that came to their end.
    pub handovers: u64,
    /// Of these, back to the cell that was left less than a second before.
    pub ping_pongs: u64,
    /// Handovers that failed.
    pub handover_failures: u64,
    /// Radio links that failed.
    pub radio_link_failures: u64,
}

/// A user's connection to one of several cells.
#[derive(Debug, Clone)]
pub struct Connection {
    settings: ConnectionSettings,
    filter: LayerThreeFilter,
    filtered_dbm: Vec<Option<f64>>,
    /// Since when each neighbour fulfils the entering condition.
    entered_ns: Vec<Option<u64>>,
    next_measurement_ns: u64,
    monitor: RadioLinkMonitor,
    state: ConnectionState,
    serving: usize,
    /// The cell before this one, and when it was left.
    before: Option<(usize, u64)>,
    counts: ConnectionCounts,
}

/// A return within this time is a ping-pong (TR 36.839 clause 5.6: MTS of 1 s).
const PING_PONG_NS: u64 = 1_000_000_000;

impl Connection {
    /// A user that is connected to the strongest cell.
    #[must_use]
    pub fn new(settings: ConnectionSettings, rsrp_dbm: &[f64]) -> Connection {
        Connection {
            settings,
            filter: LayerThreeFilter::new(
                settings.filter_k,
                seconds(settings.measurement_period_ns),
            ),
            filtered_dbm: rsrp_dbm.iter().copied().map(Some).collect(),
            entered_ns: vec![None; rsrp_dbm.len()],
            next_measurement_ns: 0,
            monitor: RadioLinkMonitor::default(),
            state: ConnectionState::Connected,
            serving: strongest(rsrp_dbm),
            before: None,
            counts: ConnectionCounts::default(),
        }
    }

    /// The cell that serves, or did last.
    #[must_use]
    pub const fn serving(&self) -> usize {
        self.serving
    }

    /// What the connection is doing.
    #[must_use]
    pub const fn state(&self) -> ConnectionState {
        self.state
    }

    /// What has happened so far.
    #[must_use]
    pub const fn counts(&self) -> ConnectionCounts {
        self.counts
    }

    /// Whether data are held up now.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        match self.state {
            ConnectionState::Connected | ConnectionState::Preparing { .. } => false,
            ConnectionState::Executing { .. } => self.settings.kind != HandoverKind::Daps,
            ConnectionState::Failed { .. } => true,
        }
    }

    /// Takes what is measured at `now_ns` in: the RSRP of every cell in dBm, and the wideband SINR
    /// in dB if a cell served. Moments must not go back.
    pub fn update(
        &mut self,
        now_ns: u64,
        rsrp_dbm: &[f64],
        sinr_db: impl Fn(usize) -> f64,
    ) -> Option<ConnectionEvent> {
        let measured = now_ns >= self.next_measurement_ns;
        if measured {
            self.next_measurement_ns = next_multiple(now_ns, self.settings.measurement_period_ns);
            for (filtered, measured) in self.filtered_dbm.iter_mut().zip(rsrp_dbm) {
                self.filter.update(filtered, *measured);
            }
        }
        match self.state {
            ConnectionState::Connected => {
                if self.radio_link_fails(now_ns, &sinr_db) {
                    return Some(self.fail(now_ns, ConnectionEvent::RadioLinkFailed));
                }
                let target = if measured {
                    self.reported(now_ns)
                } else {
                    None
                };
                let target = target?;
                if self.settings.kind == HandoverKind::Conditional {
                    return Some(self.execute(now_ns, target));
                }
                self.state = ConnectionState::Preparing {
                    target,
                    until_ns: now_ns + self.settings.preparation_ns,
                };
                None
            }
            ConnectionState::Preparing { target, until_ns } => {
                if self.radio_link_fails(now_ns, &sinr_db) {
                    return Some(self.fail(now_ns, ConnectionEvent::RadioLinkFailed));
                }
                if now_ns < until_ns {
                    return None;
                }
                if self.monitor.timer_runs() {
                    return Some(self.fail(now_ns, ConnectionEvent::HandoverFailed));
                }
                Some(self.execute(now_ns, target))
            }
            ConnectionState::Executing { target, until_ns } => {
                if now_ns < until_ns {
                    return None;
                }
                if sinr_db(target) < self.settings.radio_link.q_out_db {
                    return Some(self.fail(now_ns, ConnectionEvent::HandoverFailed));
                }
                let back = self.before.is_some_and(|(cell, left_ns)| {
                    cell == target && now_ns - left_ns < PING_PONG_NS
                });
                self.counts.handovers += 1;
                self.counts.ping_pongs += u64::from(back);
                self.serve(now_ns, target);
                Some(ConnectionEvent::HandoverDone)
            }
            ConnectionState::Failed { until_ns } => {
                if now_ns < until_ns {
                    return None;
                }
                self.serve(now_ns, strongest(rsrp_dbm));
                Some(ConnectionEvent::Reestablished)
            }
        }
    }

    fn radio_link_fails(&mut self, now_ns: u64, sinr_db: impl Fn(usize) -> f64) -> bool {
        let settings = &self.settings.radio_link;
        self.monitor.update(settings, now_ns, sinr_db(self.serving))
    }

    fn execute(&mut self, now_ns: u64, target: usize) -> ConnectionEvent {
        self.state = ConnectionState::Executing {
            target,
            until_ns: now_ns + self.settings.interruption_ns,
        };
        ConnectionEvent::HandoverStarted
    }

    fn fail(&mut self, now_ns: u64, event: ConnectionEvent) -> ConnectionEvent {
        match event {
            ConnectionEvent::HandoverFailed => self.counts.handover_failures += 1,
            _ => self.counts.radio_link_failures += 1,
        }
        self.state = ConnectionState::Failed {
            until_ns: now_ns + self.settings.reestablishment_ns,
        };
        event
    }

    fn serve(&mut self, now_ns: u64, cell: usize) {
        if cell != self.serving {
            self.before = Some((self.serving, now_ns));
        }
        self.serving = cell;
        self.state = ConnectionState::Connected;
        self.monitor.reset(now_ns);
        self.entered_ns.fill(None);
    }

    /// The neighbour for which A3 has held for the time to trigger: the strongest of them.
    ///
    /// Entering: Mn - Hys > Mp + Off; leaving: Mn + Hys < Mp + Off (inequalities A3-1 and A3-2).
    fn reported(&mut self, now_ns: u64) -> Option<usize> {
        let a3 = self.settings.a3;
        let serving_dbm = self.filtered_dbm.get(self.serving).copied().flatten()?;
        let mut best: Option<(usize, f64)> = None;
        let neighbours = self
            .filtered_dbm
            .iter()
            .zip(&mut self.entered_ns)
            .enumerate();
        for (cell, (filtered_dbm, entered_ns)) in neighbours {
            let Some(neighbour_dbm) = *filtered_dbm else {
                continue;
            };
            if cell == self.serving {
                continue;
            }
            let better_db = neighbour_dbm - serving_dbm - a3.offset_db;
            if better_db > a3.hysteresis_db {
                entered_ns.get_or_insert(now_ns);
            } else if better_db < -a3.hysteresis_db {
                *entered_ns = None;
            }
            let triggered =
                entered_ns.is_some_and(|since_ns| now_ns - since_ns >= a3.time_to_trigger_ns);
            if triggered && best.is_none_or(|(_, dbm)| neighbour_dbm > dbm) {
                best = Some((cell, neighbour_dbm));
            }
        }
        best.map(|(cell, _)| cell)
    }
}

#[expect(clippy::cast_precision_loss, reason = "periods lie far below 2^53 ns")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// The first of the strongest.
fn strongest(rsrp_dbm: &[f64]) -> usize {
    let mut best = 0;
    for (cell, dbm) in rsrp_dbm.iter().enumerate() {
        if rsrp_dbm.get(best).is_some_and(|strongest| dbm > strongest) {
            best = cell;
        }
    }
    best
}

#[cfg(test)]
#[path = "handover_tests.rs"]
mod tests;
