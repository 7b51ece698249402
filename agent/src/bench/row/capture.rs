//! What a capture of a link's packets costs: CPU time, exactness, and packets that it has not.

use std::collections::BTreeMap;

use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::CapacityCurve;
use hexloop_workloads::clock;

use super::super::flow::Paced;
use super::super::scene::{Counter, MS, Shaped, Wanted, steps};
use super::super::schedule::Exactness;
use super::super::{BenchError, Measured, Scale, Seen, length, to_f64};
use super::exact;
use crate::capture::{Capture, Captured, LinkFiles, PreparedCapture, Room};

const BLOCK_NS: u64 = 500 * MS;

/// After a block a capture gets so long to write what waits: that is part of what it costs.
const WRITE_OUT_NS: u64 = 20 * MS;

/// What stays free on the file system, for everything else.
const KEPT_FREE_BYTES: u64 = 256 << 20;

/// The number of the only link.
const LINK: usize = 0;

/// What one block saw.
#[derive(Debug)]
struct Block {
    found: Exactness,
    paced: Paced,
    /// Packets that came to the receiver.
    packets: u64,
    /// CPU time of the link's threads, and of this whole process.
    link_cpu_ns: u64,
    process_cpu_ns: u64,
}

impl Block {
    /// CPU time of the link's threads for each packet, in microseconds.
    fn link_us(&self) -> f64 {
        to_f64(self.link_cpu_ns) / 1e3 / to_f64(self.packets.max(1))
    }

    /// The same of everything: flow, link, capture, and what the kernel does for them.
    fn process_us(&self) -> f64 {
        to_f64(self.process_cpu_ns) / 1e3 / to_f64(self.packets.max(1))
    }

    fn window_error_percent(&self) -> f64 {
        let errors = &self.found.window_errors_percent;
        errors.iter().sum::<f64>() / to_f64(length(errors).max(1))
    }

    fn late_us(&self) -> Vec<f64> {
        self.found.lateness_ns.iter().map(|ns| ns / 1e3).collect()
    }
}

/// A link that is captured beside one that is not, in turn.
pub(super) fn cost(scale: Scale) -> Result<Measured, BenchError> {
    let blocks = scale.pick(2, 20);
    let trace = steps(&exact::four_rates())?;
    let mut wanted = Wanted::new(DatapathChoice::Relay, trace, exact::QUEUE_PACKETS);
    let curve = wanted.curve();
    let mut plain = Shaped::new(&wanted)?;
    let prepared = PreparedCapture::new(LINK + 1);
    wanted.relay.observer = prepared.observer(LINK);
    let mut shown = Shaped::new(&wanted)?;

    let failed = BenchError::socket;
    let directory = tempfile::tempdir();
    let directory = directory.map_err(failed("make a temporary directory for a capture"))?;
    let room = Room::leaving(KEPT_FREE_BYTES);
    let room = room.map_err(failed("find out how large a capture may be"))?;
    let files = LinkFiles::create(directory.path(), "bench", room);
    let files = files.map_err(failed("make the files of a capture"))?;
    let capture = prepared.start(BTreeMap::from([(LINK, files)]));
    let capture = capture.map_err(failed("start the thread that writes a capture"))?;
    let mut counter = Counter::open(&shown.nodes, 1)?;
    capture.set_open(true);
    let before = counter.packets()?;
    let mut found = Vec::new();
    for _ in 0..blocks {
        found.push([block(&mut plain, &curve)?, block(&mut shown, &curve)?]);
    }
    let carried = counter.packets()? - before;
    let captured = finish(capture)?;

    let place = std::env::temp_dir();
    let mut measured = compare(&found, carried, &captured);
    measured.datapath = shown.datapath();
    measured.scale = format!("{blocks} times {} ms on each path", BLOCK_NS / MS);
    measured.notes.push(format!(
        "the files were in {} (TMPDIR tells where)",
        place.display()
    ));
    Ok(measured)
}

/// A saturated run of one of the two links.
fn block(shaped: &mut Shaped, curve: &CapacityCurve) -> Result<Block, BenchError> {
    let mut counter = Counter::open(&shaped.nodes, 1)?;
    let (before, cpu_before_ns) = (counter.packets()?, clock::process_cpu_ns());
    let run = exact::run(shaped, curve, BLOCK_NS)?;
    clock::sleep_until(clock::now() + WRITE_OUT_NS);
    Ok(Block {
        found: run.found,
        paced: run.paced,
        packets: counter.packets()? - before,
        link_cpu_ns: run.report.relay_cpu_ns,
        process_cpu_ns: clock::process_cpu_ns() - cpu_before_ns,
    })
}

/// What the file of the flow's direction has.
fn finish(capture: Capture) -> Result<Captured, BenchError> {
    let written = capture.finish();
    let mut written = written.map_err(BenchError::socket("write a capture"))?;
    let [_down, up] = written.remove(&LINK).ok_or_else(|| BenchError::Spoilt {
        why: "the writer of the capture gave no account of it".to_owned(),
    })?;
    match up.cut_short {
        // What it cost is not what a whole capture costs.
        Some(why) => Err(BenchError::Unavailable {
            why: format!("the capture ended early: {why}"),
        }),
        None => Ok(up),
    }
}

/// Blocks without and with a capture, of which so many packets came to the receiver.
fn compare(blocks: &[[Block; 2]], carried: u64, captured: &Captured) -> Measured {
    let mut measured = Measured::default();
    let added = |of: fn(&Block) -> f64| {
        let blocks = blocks.iter();
        Seen::Mean(blocks.map(|[plain, shown]| of(shown) - of(plain)).collect())
    };
    // By the receiver's own count, whatever the capture says about itself.
    let lost = to_f64(carried) - to_f64(captured.packets);
    measured.value("lost", "packets", lost);
    measured.add("cpu_added", "us/packet", added(Block::process_us));
    measured.add("link_cpu_added", "us/packet", added(Block::link_us));
    let error_added = added(Block::window_error_percent);
    measured.add("window_error_added", "% points", error_added);
    for (name, per_mille) in [("late_added_p50", 500), ("late_added_p99", 990)] {
        let blocks = blocks.iter();
        let blocks = blocks.map(|pair| pair.each_ref().map(Block::late_us));
        let blocks = blocks.collect();
        measured.add(name, "us", Seen::Difference { per_mille, blocks });
    }
    let paths = [
        [
            "plain_window_error",
            "plain_cumulative_largest",
            "plain_link_cpu",
        ],
        ["window_error", "cumulative_largest", "link_cpu"],
    ];
    for (path, [error, largest, cpu]) in paths.into_iter().enumerate().rev() {
        let of_path = || blocks.iter().map(move |pair| &pair[path]);
        let errors = of_path().flat_map(|block| block.found.window_errors_percent.clone());
        measured.add(error, "%", Seen::Mean(errors.collect()));
        let each = of_path().map(|block| block.found.largest_cumulative_packets);
        measured.value(largest, "packets", each.fold(0.0, f64::max));
        let each = of_path().map(Block::link_us);
        measured.add(cpu, "us/packet", Seen::Mean(each.collect()));
    }
    measured.value("captured", "packets", to_f64(captured.packets));
    if captured.missed > 0 {
        let missed = captured.missed;
        measured.notes.push(format!(
            "by the capture's own account {missed} packets found no room on their way to the file"
        ));
    }
    let longest = blocks.iter().flatten().map(|block| block.paced);
    let longest = longest.max_by_key(|paced| paced.longest_pause_ns);
    let complaint = longest.and_then(|paced| exact::complaint(paced, exact::QUEUE_PACKETS));
    measured.notes.extend(complaint);
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(packets: u64, process_cpu_ns: u64, error_percent: f64) -> Block {
        Block {
            found: Exactness {
                window_errors_percent: vec![error_percent; 2],
                lateness_ns: vec![1000.0],
                largest_cumulative_packets: error_percent,
                delivered_over_trace: 1.0,
            },
            paced: Paced::default(),
            packets,
            link_cpu_ns: process_cpu_ns / 2,
            process_cpu_ns,
        }
    }

    fn seen(measured: &Measured, name: &str) -> Seen {
        let mut quantities = measured.quantities.iter();
        let found = quantities.find(|quantity| quantity.name == name);
        found.unwrap().seen.clone()
    }

    #[test]
    fn what_a_capture_costs_is_what_its_blocks_took_beyond_those_beside_them() {
        let blocks = [
            [block(1000, 4_000_000, 1.0), block(1000, 6_000_000, 1.5)],
            [block(1000, 8_000_000, 2.0), block(500, 8_000_000, 2.0)],
        ];
        let captured = Captured {
            packets: 1500,
            ..Captured::default()
        };
        let measured = compare(&blocks, 1500, &captured);
        assert_eq!(seen(&measured, "lost"), Seen::Value(0.0));
        assert_eq!(seen(&measured, "cpu_added"), Seen::Mean(vec![2.0, 8.0]));
        assert_eq!(
            seen(&measured, "link_cpu_added"),
            Seen::Mean(vec![1.0, 4.0])
        );
        let error_added = seen(&measured, "window_error_added");
        assert_eq!(error_added, Seen::Mean(vec![0.5, 0.0]));
        assert_eq!(seen(&measured, "cumulative_largest"), Seen::Value(2.0));
        let plain_error = seen(&measured, "plain_window_error");
        assert_eq!(plain_error, Seen::Mean(vec![1.0, 1.0, 2.0, 2.0]));
        assert_eq!(measured.notes, Vec::<String>::new());
    }

    #[test]
    fn a_packet_that_came_and_is_not_in_the_file_is_lost_whatever_the_capture_says() {
        let blocks = [[block(10, 1, 0.0), block(10, 1, 0.0)]];
        let mut captured = Captured {
            packets: 9,
            ..Captured::default()
        };
        let silent = compare(&blocks, 10, &captured);
        assert_eq!(seen(&silent, "lost"), Seen::Value(1.0));
        assert_eq!(silent.notes, Vec::<String>::new());
        captured.missed = 1;
        let told = compare(&blocks, 10, &captured);
        assert!(told.notes[0].contains("1 packets"), "{:?}", told.notes);
    }
}
