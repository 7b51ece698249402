//! How exactly an interface that exists already follows a trace, shaped as `hexloop link apply` does it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use hexloop_topologies::plan::DatapathChoice;
use hexloop_workloads::clock;

use super::super::flow::Paced;
use super::super::scene::{BarePair, LEAD_NS, Nodes, SECOND, Wanted, steps};
use super::super::schedule::Exactness;
use super::super::{BenchError, Measured, Scale, to_f64};
use super::exact::{self, Flow, QUEUE_PACKETS};
use crate::hold::{FollowedSoFar, HoldError, Unguarded, shape_and_follow};
use crate::node::with_causes;

/// From when to when a trace is followed, in nanoseconds since the machine was started.
type Span = (u64, u64);

/// What the thread that follows the trace did.
struct Followed {
    so_far: FollowedSoFar,
    cpu_ns: u64,
}

/// Shapes an end of a bare pair, and compares what a faster flow out of it brings to the other one.
pub(super) fn ten_milliseconds(scale: Scale) -> Result<Measured, BenchError> {
    let span_ns = scale.pick(SECOND, 10 * SECOND);
    let trace = steps(&exact::four_rates())?;
    let wanted = Wanted::new(DatapathChoice::Tc, trace, QUEUE_PACKETS);
    let nodes = BarePair::with_offloads(&wanted)?.nodes;
    let (shaped, is_shaped) = sync_channel(1);
    let (begin, begins) = sync_channel(1);
    let (followed, (scheduling, found, paced)) = thread::scope(|scope| {
        let (nodes, wanted) = (&nodes, &wanted);
        let follow = move || follow(nodes, wanted, shaped, begins);
        let follower = thread::Builder::new().name("hx-follow".to_owned());
        let follower = follower
            .spawn_scoped(scope, follow)
            .map_err(BenchError::socket("start what follows the trace"))?;
        // The other side of both channels goes when this one is through, however it went.
        let flowed = flow(nodes, wanted, span_ns, (is_shaped, begin));
        let followed = follower
            .join()
            .map_err(|_panic| BenchError::panicked("hx-follow"))??;
        let flowed = flowed?;
        let followed = followed.ok_or_else(|| BenchError::Spoilt {
            why: "the flow that was to be shaped never began".to_owned(),
        })?;
        Ok::<_, BenchError>((followed, flowed))
    })?;
    let mut measured = Measured {
        datapath: format!("tc on an interface, {scheduling}"),
        scale: format!("{} s", span_ns / SECOND),
        ..Measured::default()
    };
    exact::tell(&mut measured, found);
    let FollowedSoFar {
        lateness,
        rows_left_out,
        ..
    } = followed.so_far;
    for (name, ns) in [
        ("row_late_p50", lateness.p50_ns),
        ("row_late_largest", lateness.max_ns),
    ] {
        if let Some(ns) = ns {
            measured.value(name, "us", to_f64(ns) / 1e3);
        }
    }
    measured.value("rows_left_out", "rows", to_f64(rows_left_out));
    let cpu_percent = 100.0 * to_f64(followed.cpu_ns) / to_f64(span_ns);
    measured.value("link_cpu", "% of a core", cpu_percent);
    measured.spoilt = exact::complaint(paced, QUEUE_PACKETS);
    Ok(measured)
}

/// Shapes the first node's interface, says so, and follows the trace when it hears from when on; `None`
/// when nobody says that.
fn follow(
    nodes: &Nodes,
    wanted: &Wanted,
    shaped: SyncSender<String>,
    begins: Receiver<Span>,
) -> Result<Option<Followed>, BenchError> {
    let unguarded = Unguarded {
        interface: &nodes.plan.ends[0].interface,
        trace: &wanted.trace,
        settings: wanted.settings,
    };
    nodes.namespaces[0].run(move || {
        let (mut is_shaped, mut cpu_before_ns) = (false, 0);
        let followed = shape_and_follow(unguarded, |scheduling| {
            is_shaped = true;
            // Who has given up waiting begins nothing.
            let _ = shaped.send(scheduling.description.clone());
            let span = begins.recv().ok();
            cpu_before_ns = clock::thread_cpu_ns();
            span
        });
        let cpu_ns = clock::thread_cpu_ns().saturating_sub(cpu_before_ns);
        match followed {
            Ok(so_far) => Ok(so_far.map(|so_far| Followed { so_far, cpu_ns })),
            Err(error) => Err(failed(is_shaped, &error)),
        }
    })?
}

/// What cannot be shaped on this machine was not measured; what cannot be followed is a failure.
fn failed(is_shaped: bool, error: &HoldError) -> BenchError {
    let why = with_causes(error);
    if is_shaped {
        BenchError::Spoilt { why }
    } else {
        BenchError::Unavailable { why }
    }
}

/// Once the interface is shaped, saturates it from T0 on. Returns how the follower is scheduled, and what
/// arrived.
fn flow(
    nodes: &Nodes,
    wanted: &Wanted,
    span_ns: u64,
    (is_shaped, begin): (Receiver<String>, SyncSender<Span>),
) -> Result<(String, Exactness, Paced), BenchError> {
    let gone = |what: &str| BenchError::Spoilt {
        why: format!("what follows the trace ended before {what}"),
    };
    let scheduling = is_shaped
        .recv()
        .map_err(|_gone| gone("the interface was shaped"))?;
    let mut flow = Flow::open(nodes, nodes.queued_sender()?)?;
    let mut taps = nodes.taps()?;
    taps.drain();
    let t0 = clock::now() + LEAD_NS;
    // Who is shaped by a holder is told the time by the clock that goes on in sleep.
    let ahead_ns = clock::since_boot_ns().saturating_sub(clock::now());
    let start_boot_ns = t0 + ahead_ns;
    let span = (start_boot_ns, start_boot_ns + span_ns + LEAD_NS);
    begin.send(span).map_err(|_gone| gone("the flow began"))?;
    let (recording, paced) = flow.run(&mut taps, t0, span_ns)?;
    let found = exact::compare(&recording, t0, &wanted.curve(), span_ns)?;
    Ok((scheduling, found, paced))
}
