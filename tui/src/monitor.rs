//! A monitor for terminals and logs alike: plain lines.

use std::collections::BTreeSet;

use hexloop_proto::{
    AskedAndGot, Event, EventBody, GpuSample, IdlePower, LinkCalibration, Measurement, PhaseEnd,
};

use crate::line::PhaseTally;
use crate::progress::RunOutline;

const NS_PER_SECOND: i64 = 1_000_000_000;

/// Turns events into lines: one when a phase begins and ends, at most one per second of
/// experiment time between them, and one for each thing the reader should know.
#[derive(Debug)]
pub struct LineMonitor {
    outline: RunOutline,
    phase: PhaseTally,
    /// The second that the last line spoke of.
    second: i64,
    /// What was said about GPUs already: once is enough.
    said_of_gpus: BTreeSet<String>,
}

impl LineMonitor {
    /// A monitor of a run of which that much is known.
    #[must_use]
    pub fn new(outline: RunOutline) -> LineMonitor {
        LineMonitor {
            outline,
            phase: PhaseTally::default(),
            second: 0,
            said_of_gpus: BTreeSet::new(),
        }
    }

    /// What is wrong with a GPU, the first time.
    fn gpu(&mut self, sample: &GpuSample) -> Option<String> {
        let trouble = match (&sample.trouble, &sample.foreign_processes, sample.throttled) {
            (Some(trouble), ..) => trouble.clone(),
            (None, Some(pids), _) if !pids.is_empty() => {
                format!(
                    "{} is used by processes {pids:?} of somebody else",
                    sample.uuid
                )
            }
            (None, _, Some(true)) => format!("{} lowers its clocks", sample.uuid),
            _ => return None,
        };
        let line = format!("warning: {trouble}");
        self.said_of_gpus.insert(line.clone()).then_some(line)
    }

    /// The lines that an event calls for.
    pub fn on_event(&mut self, event: &Event) -> Vec<String> {
        let mut lines = self.due_line(event);
        match &event.body {
            EventBody::PhaseStarted { .. } => lines.extend(self.begin(event)),
            EventBody::PhaseEnded(end) => lines.extend(self.end(event, end)),
            EventBody::Request { record, .. } => self.phase.request(record),
            EventBody::LinkWindow(window) => {
                let is_granted = self.outline.links_of_cells.contains(&window.link);
                self.phase.window(window, is_granted);
            }
            EventBody::NodeSample(sample) => self.phase.sample(sample),
            EventBody::LinkUp {
                link,
                datapath,
                mode,
                reason,
                ..
            } => {
                let mode = mode.as_ref().map(|mode| format!(", {mode}"));
                let mode = mode.unwrap_or_default();
                lines.push(format!("link {link}: {datapath}{mode} ({reason})"));
            }
            EventBody::LinkChanged(changed) => {
                let control = &changed.control;
                lines.push(format!("link {} {}", control.link, control.change));
            }
            EventBody::Calibrated(calibration) => lines.push(calibrated(calibration)),
            EventBody::Warning { message } => lines.push(format!("warning: {message}")),
            EventBody::Dropped { count } => {
                lines.push(format!(
                    "warning: {count} events were dropped: the reader was slow"
                ));
            }
            EventBody::Failed { message, .. } => lines.push(format!("failed: {message}")),
            EventBody::TakenDown { leftovers, .. } => {
                lines.extend(leftovers.iter().map(|what| format!("left behind: {what}")));
            }
            EventBody::Idle(idle) => lines.push(idle_line(idle)),
            EventBody::Settings { settings } => {
                lines.extend(settings.iter().filter_map(setting_line));
            }
            EventBody::Cooling(cooling) => lines.extend(cooling.after_c.map(|after| {
                format!(
                    "cooled down to {after} C, at most {} C asked",
                    cooling.asked_c
                )
            })),
            EventBody::Gpu(sample) => lines.extend(self.gpu(sample)),
            EventBody::AgentUp(_)
            | EventBody::Noise(_)
            | EventBody::Meters(_)
            | EventBody::NodeUp(_)
            | EventBody::JobReady { .. }
            | EventBody::Traffic { .. }
            | EventBody::Study { .. }
            | EventBody::Exchange { .. }
            | EventBody::CommandExit(_)
            | EventBody::Cores(_)
            | EventBody::Captured(_)
            | EventBody::Log { .. } => {}
        }
        lines
    }

    /// The line of the second that has just passed, made before the event itself counts.
    fn due_line(&mut self, event: &Event) -> Vec<String> {
        let begins = matches!(event.body, EventBody::PhaseStarted { .. });
        let second = event.done_ns.div_euclid(NS_PER_SECOND);
        let Some((_, phase)) = self.outline.phase(event) else {
            return Vec::new();
        };
        if begins || second <= self.second {
            return Vec::new();
        }
        self.second = second;
        let second = u64::try_from(second).unwrap_or(0);
        vec![self.phase.line(&phase.name, second, phase.offered)]
    }

    fn begin(&mut self, event: &Event) -> Option<String> {
        self.phase = PhaseTally::default();
        self.second = 0;
        let name = event.phase.as_deref()?;
        Some(match self.outline.phase(event) {
            Some((index, phase)) => {
                let requests = phase
                    .offered
                    .map_or_else(String::new, |offered| format!("{offered} requests in "));
                let (number, phases) = (index + 1, self.outline.phases.len());
                let length = seconds(phase.length_ns);
                format!("{name} begins: phase {number} of {phases}, {requests}{length} s")
            }
            None => format!("{name} begins"),
        })
    }

    fn end(&mut self, event: &Event, end: &PhaseEnd) -> Option<String> {
        let name = event.phase.as_deref()?;
        let ended = self.phase.ended;
        let duration = seconds(end.duration_ns);
        let requests = self.outline.phase(event);
        if requests.is_some_and(|(_, phase)| phase.offered.is_none()) {
            return Some(format!("{name} ends after {duration} s"));
        }
        let (completed, unfinished, failed) = (ended.completed, ended.unfinished, ended.failed);
        Some(format!(
            "{name} ends after {duration} s: {completed} requests completed, {unfinished} \
             unfinished, {failed} failed"
        ))
    }
}

#[expect(clippy::cast_precision_loss, reason = "for printing only")]
fn seconds(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1e9)
}

#[expect(clippy::cast_precision_loss, reason = "for printing only")]
fn calibrated(calibration: &LinkCalibration) -> String {
    let LinkCalibration {
        link, direction, ..
    } = calibration;
    let direction = direction.name();
    let windows = calibration.backlogged_windows;
    if calibration.trace_bytes == 0 {
        return format!("link {link} {direction}: nothing to compare in {windows} windows");
    }
    let share = 100.0 * calibration.delivered_bytes as f64 / calibration.trace_bytes as f64;
    format!(
        "link {link} {direction}: delivered {share:.2} % of the trace in {windows} backlogged windows"
    )
}

/// A setting that was asked for; what was only read is in the record.
fn setting_line(setting: &AskedAndGot) -> Option<String> {
    let asked = setting.asked.as_ref()?;
    let got = setting.got.as_deref().unwrap_or("nothing");
    Some(format!("{}: asked {asked}, got {got}", setting.what))
}

/// What the machine draws without jobs.
fn idle_line(idle: &IdlePower) -> String {
    let when = &idle.when;
    match &idle.power_w {
        Measurement::Measured { value, .. }
        | Measurement::Derived { value, .. }
        | Measurement::Estimated { value, .. } => {
            format!("idle power {when} the phases: {value:.1} W")
        }
        Measurement::Unavailable { why } => format!("idle power {when} the phases: none ({why})"),
    }
}

#[cfg(test)]
mod tests {
    use hexloop_proto::{
        Direction, LinkWindow, Measurement, NodeSample, Outcome, PayloadBytes, RequestRecord,
    };

    use super::*;
    use crate::progress::PhaseOutline;

    const MS: u64 = 1_000_000;

    fn monitor() -> LineMonitor {
        let phase = PhaseOutline {
            name: "split".to_owned(),
            length_ns: 20_000 * MS,
            offered: Some(8),
        };
        LineMonitor::new(RunOutline {
            phases: vec![phase],
            links_of_cells: vec!["shared".to_owned()],
        })
    }

    fn at(ms: u64, body: EventBody) -> Event {
        let done_ns = i64::try_from(ms * MS).unwrap();
        Event {
            sequence: 0,
            phase: Some("split".to_owned()),
            due_ns: done_ns,
            done_ns,
            body,
        }
    }

    fn window(direction: Direction, trace_bytes: u64, delivered_bytes: u64) -> EventBody {
        EventBody::LinkWindow(LinkWindow {
            link: "radio".to_owned(),
            direction,
            start_ns: 0,
            length_ns: 100 * MS,
            trace_bytes,
            delivered_bytes,
            delivered_packets: 1,
            backlogged: false,
            queue_bytes: delivered_bytes,
            dropped_packets: 0,
            lost_packets: 0,
            marked_packets: 0,
            duplicated_packets: 0,
            corrupted_packets: 0,
        })
    }

    fn request(outcome: Outcome) -> EventBody {
        let record = RequestRecord {
            id: 0,
            scheduled_ns: 100 * MS,
            sent_ns: 101 * MS,
            token_ns: vec![150 * MS, 200 * MS],
            prompt_tokens: 3,
            tokens: vec![1, 2],
            ties: Vec::new(),
            outcome,
            payload: PayloadBytes::default(),
        };
        EventBody::Request {
            node: "device".to_owned(),
            record,
        }
    }

    fn sample(at_ms: u64, cpu_ms: u64) -> EventBody {
        EventBody::NodeSample(NodeSample {
            node: "device".to_owned(),
            at_ns: at_ms * MS,
            cpu_ns: cpu_ms * MS,
            memory_bytes: 0,
            throttled_periods: None,
        })
    }

    fn phase_start() -> EventBody {
        EventBody::PhaseStarted {
            t0_monotonic_ns: 5,
            t0_wall_clock_ns: 6,
        }
    }

    fn phase_end() -> EventBody {
        EventBody::PhaseEnded(PhaseEnd {
            duration_ns: 20_000 * MS,
            links: vec![],
            jobs: vec![],
            lateness: vec![],
            relay_cpu_ns: vec![],
            interrupt_cpu: vec![],
            energy_uncertainty_j: None,
            energy_by_channel: Vec::new(),
            energy_j: Measurement::Unavailable {
                why: "no sensor".to_owned(),
            },
            cores: None,
            clock_step_ns: 0,
        })
    }

    fn lines(events: impl IntoIterator<Item = Event>) -> String {
        let mut monitor = monitor();
        let lines: Vec<String> = events
            .into_iter()
            .flat_map(|event| monitor.on_event(&event))
            .collect();
        lines.join("\n")
    }

    #[test]
    fn a_phase_is_told_in_one_line_per_second_with_its_beginning_and_end() {
        let events = [
            at(0, phase_start()),
            at(100, window(Direction::Up, 125_000, 2_500)),
            at(100, window(Direction::Down, 1_000_000, 500)),
            at(200, request(Outcome::Completed)),
            at(900, sample(900, 450)),
            at(1_000, sample(1_000, 500)),
            at(1_100, window(Direction::Up, 0, 0)),
            at(1_100, window(Direction::Down, 0, 0)),
            at(2_000, sample(2_000, 500)),
            at(2_050, request(Outcome::Unfinished)),
            at(
                2_060,
                request(Outcome::Failed {
                    reason: "gone".to_owned(),
                }),
            ),
            at(19_990, phase_end()),
        ];
        insta::assert_snapshot!(lines(events), @"
        split begins: phase 1 of 1, 8 requests in 20.0 s
        split   1 s | requests 1/8 | last ttft 50.0 ms | down 0.04 Mbit/s of 80.00 Mbit/s, queue 500 B | up 0.20 Mbit/s of 10.00 Mbit/s, queue 2.5 kB | device cpu 50 %
        split   2 s | requests 1/8 | last ttft 50.0 ms | down 0.00 Mbit/s of 0.00 Mbit/s, queue 0 B | up 0.00 Mbit/s of 0.00 Mbit/s, queue 0 B | device cpu 50 % | OUTAGE
        split  19 s | requests 1/8 | last ttft 50.0 ms | device cpu 0 %
        split ends after 20.0 s: 1 requests completed, 1 unfinished, 1 failed
        ");
    }

    #[test]
    fn a_link_that_its_cell_grants_nothing_is_not_in_an_outage() {
        let idle = |link: &str| {
            let EventBody::LinkWindow(window) = window(Direction::Down, 0, 0) else {
                panic!("a window");
            };
            let link = link.to_owned();
            EventBody::LinkWindow(LinkWindow { link, ..window })
        };
        for (link, is_outage) in [("shared", false), ("radio", true)] {
            let mut monitor = monitor();
            let events = [
                at(0, phase_start()),
                at(500, idle(link)),
                at(1500, sample(1500, 0)),
            ];
            let lines: Vec<String> = events
                .iter()
                .flat_map(|event| monitor.on_event(event))
                .collect();
            let told = lines.iter().any(|line| line.contains("OUTAGE"));
            assert_eq!(told, is_outage, "{link}: {lines:?}");
        }
    }

    #[test]
    fn of_several_links_those_on_which_something_moves_are_told() {
        let of_link = |link: &str, trace_bytes, delivered_bytes| {
            let EventBody::LinkWindow(window) =
                window(Direction::Down, trace_bytes, delivered_bytes)
            else {
                panic!("a window");
            };
            let link = link.to_owned();
            EventBody::LinkWindow(LinkWindow { link, ..window })
        };
        let told = lines([
            at(0, phase_start()),
            at(100, of_link("busy", 125_000, 125_000)),
            at(100, of_link("idle", 125_000, 0)),
            at(100, of_link("other", 125_000, 0)),
            at(1_500, sample(1_500, 0)),
        ]);
        insta::assert_snapshot!(told, @"
        split begins: phase 1 of 1, 8 requests in 20.0 s
        split   1 s | requests 0/8 | busy down 10.00 Mbit/s of 10.00 Mbit/s, queue 125.0 kB | 2 directions of links quiet
        ");
    }

    #[test]
    fn a_phase_without_requests_speaks_of_none() {
        let outline = RunOutline {
            phases: vec![PhaseOutline {
                name: "split".to_owned(),
                length_ns: 20_000 * MS,
                offered: None,
            }],
            links_of_cells: Vec::new(),
        };
        let mut monitor = LineMonitor::new(outline);
        let events = [
            at(0, phase_start()),
            at(100, window(Direction::Down, 125_000, 125_000)),
            at(1_000, sample(1_000, 500)),
            at(20_000, phase_end()),
        ];
        let lines: Vec<String> = events
            .iter()
            .flat_map(|one| monitor.on_event(one))
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        split begins: phase 1 of 1, 20.0 s
        split   1 s | down 10.00 Mbit/s of 10.00 Mbit/s, queue 125.0 kB
        split  20 s | device cpu 50 %
        split ends after 20.0 s
        ");
    }

    #[test]
    fn many_events_in_one_second_give_one_line_and_a_late_start_none_for_seconds_without_events() {
        let burst = (1..5_000).map(|ms| at(ms, sample(ms, ms)));
        let told = lines([at(0, phase_start())].into_iter().chain(burst));
        assert_eq!(told.lines().count(), 1 + 4, "{told}");
        let told = lines([
            at(0, phase_start()),
            at(9_000, sample(1, 1)),
            at(9_500, sample(2, 2)),
        ]);
        assert_eq!(told.lines().count(), 2, "{told}");
    }

    #[test]
    fn what_the_reader_should_know_is_told_at_once_also_outside_of_phases() {
        let outside = |body| Event {
            sequence: 0,
            phase: None,
            due_ns: 0,
            done_ns: 0,
            body,
        };
        let events = [
            outside(EventBody::LinkUp {
                link: "radio".to_owned(),
                datapath: "relay".to_owned(),
                mode: Some("exact".to_owned()),
                reason: "the kernel has no netem".to_owned(),
                scheduling: "SCHED_OTHER".to_owned(),
            }),
            outside(EventBody::Warning {
                message: "the clock was set".to_owned(),
            }),
            outside(EventBody::Dropped { count: 3 }),
            outside(EventBody::Failed {
                message: "no space".to_owned(),
                exit_code: 4,
            }),
            outside(EventBody::TakenDown {
                leftovers: vec!["namespace hx1".to_owned()],
                energy_j: None,
                metering: None,
            }),
        ];
        insta::assert_snapshot!(lines(events), @"
        link radio: relay, exact (the kernel has no netem)
        warning: the clock was set
        warning: 3 events were dropped: the reader was slow
        failed: no space
        left behind: namespace hx1
        ");
    }
}
