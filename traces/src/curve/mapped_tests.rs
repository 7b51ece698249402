use proptest::prelude::*;

use super::pages::PAGE_SEGMENTS;
use super::*;
use crate::format::{self, FileFormat, MOST_ROWS_COPIED, TraceWriter};
use crate::generate::control::{self, Link};
use crate::{Schedule, TraceRow};

const PER_GBIT: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// The same trace from a mapped file.
fn mapped(trace: &Trace) -> Trace {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.arrow");
    format::write_file(&path, trace).unwrap();
    // Whoever has mapped a file does not mind that its name goes away.
    format::read_mapped(&path).unwrap()
}

fn steps(end: EndPolicy, steps: &[(u64, u64, u64)]) -> Trace {
    let rates: Vec<(u64, u64)> = steps.iter().map(|&(ns, rate, _)| (ns, rate)).collect();
    let trace = control::step(Link::new(0, 0, 0), &rates).unwrap();
    let mut metadata = trace.metadata().clone();
    metadata.end = end;
    let mut rows = trace.rows().to_vec();
    for (row, &(_, _, delay_ns)) in rows.iter_mut().zip(steps) {
        row.down.delay_ns = delay_ns;
    }
    Trace::new(metadata, rows).unwrap()
}

/// With pages so short that there are several.
fn paged(trace: &Trace, page_segments: usize) -> CapacityCurve {
    let span = (trace.duration_ns(), trace.metadata().end);
    CapacityCurve::of_mapped(
        trace.mapped().unwrap(),
        Direction::Down,
        span,
        page_segments,
    )
}

fn resident(curve: &CapacityCurve) -> usize {
    match &curve.store {
        Store::Memory(segments) => segments.states().count(),
        Store::Mapped(pages) => pages.resident(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_mapped_trace_plays_as_one_in_memory(
        parts in prop::collection::vec((1_u64..40, 0_u64..3, 0_u64..90), 1..14),
        questions in prop::collection::vec((0_u64..900, 1_u64..300), 1..20),
        end in prop::sample::select(vec![EndPolicy::Loop, EndPolicy::Hold, EndPolicy::Clear]),
        page_segments in 1_usize..5,
        faults: bool,
    ) {
        let parts: Vec<_> =
            parts.into_iter().map(|(ns, gbit, delay)| (ns, gbit * PER_GBIT, delay)).collect();
        let (memory, file) = (steps(end, &parts), mapped(&steps(end, &parts)));
        let faulty = |trace: &Trace| match faults {
            true => trace.with_rates_scaled_ppm(700_000).with_delay_added(3),
            false => trace.clone(),
        };
        let (memory, file) = (faulty(&memory), faulty(&file));
        let (whole, pages) =
            (CapacityCurve::new(&memory, Direction::Down), paged(&file, page_segments));
        prop_assert_eq!(whole.longest_delay_ns(), pages.longest_delay_ns());
        prop_assert_eq!(whole.longest_jitter_ns(), pages.longest_jitter_ns());
        prop_assert_eq!(whole.peak_bps(), pages.peak_bps());
        let (whole, pages) = (Schedule::new(whole), Schedule::new(pages));
        for (at_ns, bits) in questions {
            prop_assert_eq!(whole.state_at(at_ns), pages.state_at(at_ns));
            prop_assert_eq!(whole.finish_ns(at_ns, bits), pages.finish_ns(at_ns, bits));
            prop_assert_eq!(whole.change_after(at_ns), pages.change_after(at_ns));
            prop_assert_eq!(whole.bits_between(7, at_ns), pages.bits_between(7, at_ns));
            prop_assert_eq!(whole.arrivals_between(7, at_ns), pages.arrivals_between(7, at_ns));
        }
        prop_assert_eq!(file.rows_in_memory(), 0);
        prop_assert_eq!(&file, &memory);
    }
}

#[test]
fn a_long_trace_is_played_with_a_few_pages_in_memory() {
    let rows = MOST_ROWS_COPIED + 70_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long");
    let one = control::constant(0, 5, 0, rows * MS).unwrap();
    let mut writer = TraceWriter::create_as(&path, FileFormat::Arrow, one.metadata()).unwrap();
    let rate = |index: u64| (index % 7) * 1_000_000;
    for index in 0..rows {
        let mut row: TraceRow = one.rows()[0].clone();
        (row.t_ns, row.down.rate_bps) = (index * MS, rate(index));
        writer.write_row(&row).unwrap();
    }
    writer.finish().unwrap();

    let trace = format::read_file(&path).unwrap();
    assert_eq!(u64::try_from(trace.row_count()), Ok(rows));
    let schedule = Schedule::new(CapacityCurve::new(&trace, Direction::Down));
    let curve = CapacityCurve::new(&trace, Direction::Down);
    let (mut at_ns, mut sent) = (0, 0);
    while at_ns < MS * (rows - 1000) {
        at_ns = schedule.finish_ns(at_ns, 120_000).unwrap();
        sent += 120_000;
        assert_eq!(curve.finish_ns(0, sent), Some(at_ns));
        assert_eq!(curve.state_at(at_ns).rate_bps, rate(at_ns / MS));
        assert!(resident(&curve) <= 4 * (PAGE_SEGMENTS + 1));
    }
    // 3 Mbit/s in the mean: 21 000 bits in every seven rows.
    assert_eq!(curve.bits_between(0, 700_000 * MS), 700_000 * 3000);
    assert_eq!(trace.rows_in_memory(), 0);
}

#[test]
fn a_mapped_file_with_a_mistake_in_a_row_is_no_trace() {
    let trace = steps(EndPolicy::Hold, &[(5, 1, 0), (5, 2, 0)]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.arrow");
    format::write_file(&path, &trace).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // The second rate of the downlink, 2, becomes 3.
    let rates: Vec<u8> = [1_u64, 2]
        .iter()
        .flat_map(|rate| rate.to_le_bytes())
        .collect();
    let place = bytes
        .windows(16)
        .position(|window| window == rates)
        .unwrap();
    bytes[place + 8] = 3;
    std::fs::write(&path, &bytes).unwrap();
    let error = format::read_mapped(&path).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("SHA-256"), "{cause}");
}

#[test]
fn values_over_a_mapped_trace_hold_in_every_row_and_take_no_memory() {
    let file = mapped(&steps(EndPolicy::Hold, &[(5, 1, 2), (5, 2, 3)]));
    let over = crate::StateOverride {
        delay_ns: Some(9),
        ..crate::StateOverride::NONE
    };
    let changed = file
        .with_overrides([over, crate::StateOverride::NONE])
        .unwrap();
    assert_eq!(changed.rows_in_memory(), 0);
    let delays: Vec<_> = changed
        .states()
        .map(|(_, [down, up])| (down.delay_ns, up.delay_ns))
        .collect();
    assert_eq!(delays, [(9, 0), (9, 0)]);
    let impossible = crate::StateOverride {
        loss_ppb: Some(u32::MAX),
        ..crate::StateOverride::NONE
    };
    let error = file.with_overrides([over, impossible]).unwrap_err();
    assert!(error.to_string().contains("up_loss_ppb"), "{error}");
}
