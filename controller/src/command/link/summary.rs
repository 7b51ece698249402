//! What a link did while a command ran behind it: for standard error and as JSON.

use std::error::Error as _;

use hexloop_agent::behind::{BehindReport, Disturbance, END_WITHIN_NS, Forwarded};
use hexloop_agent::link::{LinkDescription, LinkError, LinkPhaseReport, RelayMode};
use hexloop_proto::{LateHistogram, LinkWindow};
use hexloop_traces::Direction;
use serde::Serialize;

use crate::failure::Failure;
use crate::format::{bit_rate, count_to_f64, milliseconds, ns_to_s, rounded, trimmed};
use crate::verdict::{BacklogSums, Grain};

/// Fewest windows with a queue that carry a verdict on the rate.
const WINDOWS_NEEDED: u64 = 50;

/// Largest |delivered / trace - 1| of a link that is as asked, in parts per million.
const RATE_ERROR_PPM: u64 = 10_000;

/// Largest 99th percentile of the shaper's lateness of a link that is as asked.
const LATENESS_NS: u64 = 1_000_000;

/// What was counted in the windows of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sums {
    backlog: BacklogSums,
    dropped_packets: u64,
    lost_packets: u64,
}

impl Sums {
    /// Of no window yet, of a link whose packets are at most so long.
    pub(super) fn new(mtu: u32) -> Sums {
        let grain = Grain {
            packet_bytes: u64::from(mtu),
            rate_error_ppm: RATE_ERROR_PPM,
        };
        Sums {
            backlog: BacklogSums::new(grain),
            dropped_packets: 0,
            lost_packets: 0,
        }
    }

    pub(super) fn add(&mut self, window: &LinkWindow) {
        self.dropped_packets += window.dropped_packets;
        self.lost_packets += window.lost_packets;
        self.backlog.add(window);
    }
}

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    schema: u32,
    hexloop: &'static str,
    /// How the far end is reached: `veth`, `peer`, `forwarder`.
    mode: &'static str,
    datapath: &'static str,
    /// How the relay works: `exact`, `low-latency`, `bulk`; `null` for another datapath.
    relay_mode: Option<&'static str>,
    datapath_reason: String,
    scheduling: String,
    /// The CPUs that what shapes packets could run on; `null` where the link failed.
    relay_cpus: Option<Vec<u32>>,
    trace: String,
    gateway: [String; 2],
    command_status: Option<u8>,
    /// What the command at the far end ended with before the other did; `null` where it had not
    /// ended or there is none.
    peer_status: Option<u8>,
    duration_s: f64,
    directions: Vec<DirectionSummary>,
    /// `null` where nothing is forwarded.
    forwarder: Option<Forwarding>,
    /// `null`, as what follows, where the link failed.
    relay_cpu_s: Option<f64>,
    clock_step_ns: Option<i64>,
    windows_dropped: Option<u64>,
    packets_missed: Option<u64>,
    /// What somebody else did to the link while the command ran, in order of time.
    disturbances: Vec<DisturbanceSummary>,
    /// `as-asked`, `invalid`, or `not-measured`.
    verdict: &'static str,
    /// Why, in words.
    reasons: Vec<String>,
    notes: Vec<String>,
}

/// The document where it did not come to a summary.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Failed {
    schema: u32,
    hexloop: &'static str,
    /// Always `null`: the command was not run, or nothing is known of its end.
    command_status: Option<u8>,
    /// Always `invalid`.
    verdict: &'static str,
    /// The error and its causes.
    reasons: Vec<String>,
    /// What can be done about it, where that is known.
    remedy: Option<String>,
}

impl Failed {
    pub(super) fn of(failure: &Failure) -> Failed {
        let causes = failure.error.chain().map(ToString::to_string);
        Failed {
            schema: 1,
            hexloop: crate::VERSION,
            command_status: None,
            verdict: "invalid",
            reasons: causes.collect(),
            remedy: failure.remedy.clone(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Forwarding {
    /// One TCP connection before anything was shaped; `null` where that failed.
    limit_down_bps: Option<u64>,
    limit_up_bps: Option<u64>,
    #[serde(flatten)]
    done: Forwarded,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct DisturbanceSummary {
    /// When it was seen, since the trace began.
    at_s: f64,
    /// What, where, and what to do about it.
    what: String,
    /// Whether the link was gone for good, and the command ended for that.
    ended_command: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct DirectionSummary {
    direction: &'static str,
    /// Whether the trace limits its rate at all.
    limited: bool,
    /// `null`, as `packets`, where the link failed.
    wire_bytes: Option<u64>,
    packets: Option<u64>,
    dropped_packets: u64,
    lost_packets: u64,
    backlogged_windows: u64,
    /// `null` where no window had a queue throughout.
    delivered_over_trace: Option<f64>,
    lateness: Lateness,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Lateness {
    /// What was counted: the `packets` that left, or the `rows` of the trace that were set.
    of: &'static str,
    /// `null` where the link failed.
    count: Option<u64>,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    max_ns: Option<u64>,
}

impl Lateness {
    fn new(of: &'static str, histogram: &LateHistogram) -> Lateness {
        Lateness {
            of,
            count: Some(histogram.count),
            p50_ns: histogram.p50_ns,
            p99_ns: histogram.p99_ns,
            max_ns: histogram.max_ns,
        }
    }
}

/// What the link was before it played.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) mode: &'static str,
    pub(super) description: LinkDescription,
    pub(super) trace: String,
    /// Whether the trace limits the rate, in the order of [`Direction::BOTH`].
    pub(super) limited: [bool; 2],
    pub(super) gateway: [String; 2],
    pub(super) limit_bps: Option<[u64; 2]>,
    pub(super) forwarded: Option<Forwarded>,
    pub(super) notes: Vec<String>,
}

/// Sums up, in the order of [`Direction::BOTH`].
pub(super) fn summarise(
    setting: Setting,
    report: &BehindReport,
    sums: &[Sums; 2],
    [command_status, peer_status]: [Option<u8>; 2],
) -> Summary {
    let counted = setting.description.lateness_counts();
    let directions: Vec<DirectionSummary> = Direction::BOTH
        .into_iter()
        .zip(sums.iter().zip(setting.limited))
        .map(|(direction, (sums, limited))| of_direction(direction, limited, sums, report, counted))
        .collect();
    let (verdict, reasons) = judge(&directions, report, setting.forwarded, counted);
    let link = report.link.as_ref().ok();
    Summary {
        schema: 1,
        hexloop: crate::VERSION,
        mode: setting.mode,
        datapath: setting.description.datapath,
        relay_mode: setting.description.mode.map(RelayMode::name),
        datapath_reason: setting.description.reason,
        scheduling: setting.description.scheduling,
        relay_cpus: link.map(|link| link.relay_cpus.clone()),
        trace: setting.trace,
        gateway: setting.gateway,
        command_status,
        peer_status,
        duration_s: rounded(ns_to_s(report.played_ns), 6),
        directions,
        forwarder: setting.forwarded.map(|done| Forwarding {
            limit_down_bps: setting.limit_bps.map(|[down, _]| down),
            limit_up_bps: setting.limit_bps.map(|[_, up]| up),
            done,
        }),
        relay_cpu_s: link.map(|link| rounded(ns_to_s(link.relay_cpu_ns), 6)),
        clock_step_ns: link.map(|link| link.clock_step_ns),
        windows_dropped: link.map(|link| link.windows_dropped),
        packets_missed: link.map(|link| link.packets_missed),
        disturbances: report.disturbances.iter().map(of_disturbance).collect(),
        verdict,
        reasons,
        notes: setting.notes,
    }
}

fn of_disturbance(disturbance: &Disturbance) -> DisturbanceSummary {
    DisturbanceSummary {
        at_s: rounded(ns_to_s(disturbance.at_ns), 6),
        what: with_cause(&disturbance.what),
        ended_command: disturbance.is_final,
    }
}

fn with_cause(error: &LinkError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A disturbance in words, when it comes and in the summary.
pub(super) fn told(disturbance: &Disturbance) -> String {
    let seconds = trimmed(ns_to_s(disturbance.at_ns), 3);
    let end = match disturbance.is_final {
        true => format!(
            "; nothing crosses this link any more, so the command is told to end (TERM), and killed \
             after {} s",
            END_WITHIN_NS / 1_000_000_000
        ),
        false => String::new(),
    };
    let what = with_cause(&disturbance.what);
    format!("{seconds} s after the start: {what}{end}")
}

fn of_direction(
    direction: Direction,
    limited: bool,
    sums: &Sums,
    report: &BehindReport,
    counted: &'static str,
) -> DirectionSummary {
    let link = report.link.as_ref().ok();
    let counters = link.and_then(|link| {
        let mut counters = link.counters.iter();
        counters.find(|one| one.direction == direction)
    });
    let lateness = link.and_then(|link| link.lateness.iter().find(|one| one.0 == direction));
    let backlog = sums.backlog.totals();
    DirectionSummary {
        direction: direction.name(),
        limited,
        wire_bytes: counters.map(|counters| counters.wire_bytes),
        packets: counters.map(|counters| counters.packets),
        dropped_packets: sums.dropped_packets,
        lost_packets: sums.lost_packets,
        backlogged_windows: backlog.windows,
        delivered_over_trace: (backlog.trace_bytes > 0).then(|| {
            let delivered = count_to_f64(backlog.delivered_bytes);
            rounded(delivered / count_to_f64(backlog.trace_bytes), 6)
        }),
        lateness: lateness.map_or(
            Lateness {
                of: counted,
                count: None,
                p50_ns: None,
                p99_ns: None,
                max_ns: None,
            },
            |(_, histogram)| Lateness::new(counted, histogram),
        ),
    }
}

/// The verdict and its reasons. Nothing is claimed of what was not measured.
fn judge(
    directions: &[DirectionSummary],
    report: &BehindReport,
    forwarded: Option<Forwarded>,
    counted: &'static str,
) -> (&'static str, Vec<String>) {
    let mut wrong: Vec<String> = forwarded.into_iter().flat_map(own_losses).collect();
    let mut unmeasured = Vec::new();
    for direction in directions {
        let name = direction.direction;
        match direction.delivered_over_trace {
            Some(ratio) if direction.backlogged_windows >= WINDOWS_NEEDED => {
                let bound = count_to_f64(RATE_ERROR_PPM) / 1e6;
                if (ratio - 1.0).abs() > bound {
                    wrong.push(format!(
                        "{name}: delivered {ratio} of what the trace allows"
                    ));
                }
            }
            _ if !direction.limited => {}
            _ => unmeasured.push(format!(
                "{name}: the rate was not measured ({} windows with a queue throughout; \
                 {WINDOWS_NEEDED} are needed)",
                direction.backlogged_windows
            )),
        }
        match direction.lateness.p99_ns {
            Some(p99_ns) if p99_ns > LATENESS_NS => wrong.push(format!(
                "{name}: {counted} were late, p99 {} (1 ms is allowed)",
                milliseconds(p99_ns)
            )),
            Some(_) => {}
            None => unmeasured.push(match direction.lateness.count {
                Some(count) => format!(
                    "{name}: no 99th percentile of lateness ({count} {counted}; 459 are needed)"
                ),
                None => format!("{name}: lateness was not measured, for the link failed"),
            }),
        }
    }
    wrong.extend(report.disturbances.iter().map(told));
    match &report.link {
        Ok(link) => wrong.extend(own_troubles(link)),
        Err(error) => {
            let why = with_cause(error);
            // What was told when it came is not told again.
            let is_new = |one: &Disturbance| with_cause(&one.what) != why;
            if report.disturbances.iter().all(is_new) {
                wrong.push(why);
            }
        }
    }
    if !wrong.is_empty() {
        wrong.extend(unmeasured);
        ("invalid", wrong)
    } else if directions
        .iter()
        .all(|one| one.lateness.p99_ns.is_none() && one.backlogged_windows < WINDOWS_NEEDED)
    {
        ("not-measured", unmeasured)
    } else {
        ("as-asked", unmeasured)
    }
}

/// What the forwarder did not carry, for no reason of the trace's.
fn own_losses(forwarded: Forwarded) -> Vec<String> {
    let mut wrong = Vec::new();
    if forwarded.failed > 0 {
        wrong.push(format!(
            "forwarder: {} connections and datagrams failed for want of sockets; raise the hard limit on open files \
             (`ulimit -Hn`), or run as root, without a forwarder",
            forwarded.failed
        ));
    }
    if forwarded.frames_dropped > 0 {
        wrong.push(format!(
            "forwarder: {} packets were dropped for want of room",
            forwarded.frames_dropped
        ));
    }
    wrong
}

/// What went wrong in the link itself.
fn own_troubles(link: &LinkPhaseReport) -> Vec<String> {
    let mut wrong = Vec::new();
    for (count, what) in [
        (link.packets_missed, "packets were not seen at the receiver"),
        (link.windows_dropped, "windows were not recorded"),
    ] {
        if count > 0 {
            wrong.push(format!("{count} {what}"));
        }
    }
    // Packets that were lost on this machine otherwise than asked.
    wrong.extend(link.warnings.iter().cloned());
    if link.clock_step_ns.unsigned_abs() > LATENESS_NS {
        wrong.push(format!(
            "the wall clock stepped by {} ns",
            link.clock_step_ns
        ));
    }
    wrong
}

impl Summary {
    /// For standard error: one line per direction, one for the verdict.
    pub(super) fn text(&self) -> String {
        let mode = self.relay_mode.map(|mode| format!(", mode {mode}"));
        let mut lines = vec![format!(
            "link: {} s, {}{} ({}), far end by {}",
            trimmed(self.duration_s, 3),
            self.datapath,
            mode.unwrap_or_default(),
            self.scheduling,
            self.mode
        )];
        lines.push(format!("  {}: {}", self.datapath, self.datapath_reason));
        for direction in &self.directions {
            lines.push(direction.text(self.duration_s));
        }
        lines.extend(self.forwarder.map(Forwarding::text));
        lines.extend(self.peer_status.map(|status| {
            format!("  peer: had ended with status {status} before the command did")
        }));
        let verdict = match self.verdict {
            "as-asked" => "as asked, as far as measured",
            "invalid" => "INVALID: this link did not do what was asked",
            _ => "not measured: too little crossed the link to judge it",
        };
        lines.push(format!("  verdict: {verdict}"));
        lines.extend(self.reasons.iter().map(|reason| format!("    {reason}")));
        lines.extend(self.notes.iter().map(|note| format!("  note: {note}")));
        lines.join("\n")
    }
}

impl Forwarding {
    fn text(self) -> String {
        let limit = |bps: Option<u64>| {
            bps.map_or_else(
                || "not measured".to_owned(),
                |bps| bit_rate(count_to_f64(bps)),
            )
        };
        let done = self.done;
        let mut text = format!(
            "  forwarder: at most {} down, {} up (measured unshaped at the start); {} connections, \
             {} datagram flows, {} refused",
            limit(self.limit_down_bps),
            limit(self.limit_up_bps),
            done.connections,
            done.flows,
            done.refused
        );
        for (count, what) in [
            (done.frames_dropped, "packets dropped for want of room"),
            (done.failed, "failed for want of sockets"),
            (done.foreign_echoes, "pings not forwarded"),
        ] {
            if count > 0 {
                text.extend([", ", &count.to_string(), " ", what]);
            }
        }
        text
    }
}

impl DirectionSummary {
    fn text(&self, duration_s: f64) -> String {
        let crossed = match (self.packets, self.wire_bytes) {
            (Some(packets), Some(wire_bytes)) => {
                let mean = if duration_s > 0.0 {
                    bit_rate(8.0 * count_to_f64(wire_bytes) / duration_s)
                } else {
                    "-".to_owned()
                };
                format!("{packets} packets, {wire_bytes} bytes on the wire ({mean})")
            }
            _ => "packets not counted, for the link failed".to_owned(),
        };
        let ratio = self.delivered_over_trace.map_or_else(
            || match self.limited {
                true => "no window with a queue throughout".to_owned(),
                false => "rate not limited".to_owned(),
            },
            |ratio| {
                format!(
                    "delivered/trace {ratio:.4} in {} windows",
                    self.backlogged_windows
                )
            },
        );
        let time = |ns: Option<u64>| ns.map_or_else(|| "-".to_owned(), milliseconds);
        format!(
            "  {:4}  {crossed}, {} dropped, {} lost; {ratio}; late p50 {}, p99 {}, max {}",
            self.direction,
            self.dropped_packets,
            self.lost_packets,
            time(self.lateness.p50_ns),
            time(self.lateness.p99_ns),
            time(self.lateness.max_ns)
        )
    }
}
