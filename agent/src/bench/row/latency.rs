//! What a link adds to round trips, beside a bare pair that takes turns with it.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::thread;

use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::LinkState;
use hexloop_workloads::clock;

use super::super::echo::{Echo, Pinger, Sent, Urgency};
use super::super::scene::{BarePair, LEAD_NS, MS, Nodes, SECOND, Shaped, Wanted, state, steps};
use super::super::{BenchError, Measured, Scale, Seen, to_f64};
use crate::link::scheduling;
use crate::link::tap::Taps;

/// Queue of these links: it stays empty.
const QUEUE_PACKETS: u64 = 1000;

/// Before each block.
const PAUSE_NS: u64 = 5 * MS;

/// Gap and number of the round trips of one block that wait for each other.
const GAP_NS: u64 = MS / 2;
const BLOCK: u64 = 100;

/// The same for those that do not wait.
const FLIGHT_GAP_NS: u64 = MS;
const FLIGHT_BLOCK: u64 = 250;

/// Rate of a delaying link: so fast that serialisation takes nothing worth mentioning.
const FAST_BPS: u64 = 10_000_000_000;

/// A link without limit or delay: what it adds to the round trip of two ordinary programs.
pub(super) fn added(scale: Scale) -> Result<Measured, BenchError> {
    let blocks = scale.pick(10, 200);
    let transparent = steps(&[(SECOND, LinkState::TRANSPARENT)])?;
    let wanted = Wanted::new(DatapathChoice::Relay, transparent, QUEUE_PACKETS);
    let mut pair = Pair::new(&wanted, Urgency::Ordinary)?;
    let mut found = Vec::new();
    for _ in 0..blocks {
        let block = pair.pingers.each_mut().map(|pinger| {
            let start = clock::now() + PAUSE_NS;
            let round_trips = pinger.one_by_one(start, GAP_NS, BLOCK);
            round_trips.into_iter().map(|ns| to_f64(ns) / 1e3).collect()
        });
        found.push(block);
    }
    let datapath = pair.finish()?;
    Ok(result(found, 0, BLOCK * blocks, datapath))
}

/// A link with the same delay each way: round trips by the kernel's stamps, in real time.
pub(super) fn delayed(delay_ns: u64, scale: Scale) -> Result<Measured, BenchError> {
    let blocks = scale.pick(3, 40);
    let trace = steps(&[(SECOND, state(FAST_BPS, delay_ns))])?;
    let wanted = Wanted::new(DatapathChoice::Relay, trace, QUEUE_PACKETS);
    let mut pair = Pair::new(&wanted, Urgency::RealTime)?;
    let tail_ns = 2 * delay_ns + 20 * MS;
    let mut taps = [pair.bare.nodes.taps()?, pair.shaped.nodes.taps()?];
    let mut found = Vec::new();
    for _ in 0..blocks {
        let [bare_pinger, pinger] = &mut pair.pingers;
        let [bare_taps, taps] = &mut taps;
        found.push([
            in_flight(bare_pinger, bare_taps, tail_ns)?,
            in_flight(pinger, taps, tail_ns)?,
        ]);
    }
    let datapath = pair.finish()?;
    Ok(result(found, 2 * delay_ns, FLIGHT_BLOCK * blocks, datapath))
}

fn result(
    blocks: Vec<[Vec<f64>; 2]>,
    expected_ns: u64,
    sent_each: u64,
    datapath: String,
) -> Measured {
    let arrived: Vec<usize> = (0..2)
        .map(|path| blocks.iter().map(|block| block[path].len()).sum())
        .collect();
    let bare: Vec<f64> = blocks.iter().flat_map(|[bare, _]| bare.clone()).collect();
    // The delay that is asked for is no error.
    let expected_us = to_f64(expected_ns) / 1e3;
    let blocks: Vec<[Vec<f64>; 2]> = blocks
        .into_iter()
        .map(|[bare, shaped]| [bare, shaped.iter().map(|us| us - expected_us).collect()])
        .collect();
    let mut measured = Measured {
        datapath,
        scale: format!("{sent_each} round trips on each path"),
        ..Measured::default()
    };
    for (name, per_mille) in [("added_p50", 500), ("added_p99", 990)] {
        let blocks = blocks.clone();
        measured.add(name, "us", Seen::Difference { per_mille, blocks });
    }
    for (name, per_mille) in [("bare_p50", 500), ("bare_p99", 990)] {
        let values = bare.clone();
        measured.add(name, "us", Seen::Quantile { per_mille, values });
    }
    let lost = |path: usize| to_f64(sent_each) - to_f64(u64::try_from(arrived[path]).unwrap_or(0));
    measured.value("lost", "round trips", lost(1));
    measured.value("bare_lost", "round trips", lost(0));
    measured
}

/// A bare pair and a link, with the ends of round trips on both, bare first.
struct Pair {
    pingers: [Pinger; 2],
    _echoes: [Echo; 2],
    bare: BarePair,
    shaped: Shaped,
}

impl Pair {
    fn new(wanted: &Wanted, urgency: Urgency) -> Result<Pair, BenchError> {
        let bare = BarePair::with_offloads(wanted)?;
        let mut shaped = Shaped::new(wanted)?;
        let ends = |nodes: &Nodes| -> Result<(Pinger, Echo), BenchError> {
            Ok((Pinger::open(nodes)?, Echo::start(nodes, urgency)?))
        };
        let (bare_pinger, bare_echo) = ends(&bare.nodes)?;
        let (pinger, echo) = ends(&shaped.nodes)?;
        let t0 = clock::now() + LEAD_NS;
        shaped.start(t0)?;
        clock::sleep_until(t0);
        Ok(Pair {
            pingers: [bare_pinger, pinger],
            _echoes: [bare_echo, echo],
            bare,
            shaped,
        })
    }

    fn finish(mut self) -> Result<String, BenchError> {
        self.shaped.stop()?;
        Ok(self.shaped.datapath())
    }
}

/// Round trips that do not wait for each other: microseconds from the send to the kernel's
/// stamp of the answer.
fn in_flight(pinger: &mut Pinger, taps: &mut Taps, tail_ns: u64) -> Result<Vec<f64>, BenchError> {
    let port = pinger.port()?;
    taps.drain();
    let start = clock::now() + PAUSE_NS;
    let end = start + FLIGHT_BLOCK * FLIGHT_GAP_NS + tail_ns;
    let (_, no_windows) = channel();
    let (sent, recording) = thread::scope(|scope| {
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let send = move || {
            scheduling::make_punctual();
            pinger.in_flight(start, FLIGHT_GAP_NS, FLIGHT_BLOCK)
        };
        let sender = named("hx-probe").spawn_scoped(scope, send);
        let sender = sender.map_err(BenchError::socket("start the sender of round trips"))?;
        let recorder =
            named("hx-record").spawn_scoped(scope, move || taps.record(start, end, &no_windows));
        let recorder = recorder.map_err(BenchError::socket("start the recorder of round trips"))?;
        let sent: Vec<Sent> = sender
            .join()
            .map_err(|_panic| BenchError::panicked("hx-probe"))?;
        let recording = recorder
            .join()
            .map_err(|_panic| BenchError::panicked("hx-record"))?;
        Ok::<_, BenchError>((sent, recording))
    })?;
    let [answers, _] = &recording.arrivals;
    let back: BTreeMap<u64, u64> = answers
        .iter()
        .filter(|arrival| arrival.udp_port == Some(port))
        .map(|arrival| (arrival.number, arrival.at))
        .collect();
    let round_trip =
        |sent: &Sent| Some(to_f64(back.get(&sent.number)?.saturating_sub(sent.at)) / 1e3);
    Ok(sent.iter().filter_map(round_trip).collect())
}
