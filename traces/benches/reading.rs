//! How fast traces are read: mapped columns, rows out of them, and text.
//!
//! `cargo bench -p hexloop-traces --bench reading`; one thread. Throughput is in rows for columns
//! and in bytes for text.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hexloop_traces::format::{MappedTrace, TraceReader, TraceWriter};
use hexloop_traces::generate::control;
use hexloop_traces::{Direction, TraceRow};

/// Half an hour of slots of 1 ms: more than the caches of a core hold.
const ROWS: u64 = 2_000_000;

fn row(index: u64) -> TraceRow {
    let trace = control::constant(1, 0, 0, 1);
    let mut row = trace.map_or_else(
        |error| unreachable!("{error}"),
        |trace| trace.rows()[0].clone(),
    );
    row.t_ns = index * 1_000_000;
    for direction in Direction::BOTH {
        let state = row.direction_mut(direction);
        state.rate_bps = 50_000_000 + index % 977 * 100_003;
        state.delay_ns = 4_000_000 + index % 31 * 10_007;
        state.loss_ppb = u32::try_from(index % 1000).unwrap_or(0);
    }
    row.diagnostics.sinr_cdb = i32::try_from(index % 3000).ok();
    row.diagnostics.los = Some(!index.is_multiple_of(5));
    row
}

fn write(path: &Path) {
    let metadata = control::constant(1, 0, 0, ROWS * 1_000_000).map_or_else(
        |error| unreachable!("{error}"),
        |trace| trace.metadata().clone(),
    );
    let written = TraceWriter::create(path, &metadata).and_then(|mut writer| {
        for index in 0..ROWS {
            writer.write_row(&row(index))?;
        }
        writer.finish()
    });
    if let Err(error) = written {
        unreachable!("{error}");
    }
}

/// What playback looks at, summed up so that nothing is left out: times, rates and delays.
fn sum_of_columns(path: &Path) -> u64 {
    let mapped = MappedTrace::open(path).unwrap_or_else(|error| unreachable!("{error}"));
    let mut sum = 0_u64;
    for batch in 0..mapped.batches() {
        let Ok(Some(columns)) = mapped.columns(batch) else {
            unreachable!("a batch that was written");
        };
        let mut add = |column: &[u64]| sum = column.iter().fold(sum, |sum, value| sum ^ value);
        add(columns.t_ns());
        for direction in Direction::BOTH {
            add(columns.link(direction).rate_bps());
            add(columns.link(direction).delay_ns().unwrap_or(&[]));
        }
    }
    sum
}

fn count_rows(path: &Path) -> u64 {
    let mut reader = TraceReader::open(path).unwrap_or_else(|error| unreachable!("{error}"));
    let mut count = 0;
    while let Ok(Some(row)) = reader.next_row() {
        black_box(&row);
        count += 1;
    }
    count
}

fn reading(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap_or_else(|error| unreachable!("{error}"));
    let path = |name: &str| directory.path().join(name);
    let mut group = criterion.benchmark_group("reading");
    group.sample_size(10);
    let arrow = path("trace.arrow");
    write(&arrow);
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("mapped columns, rows", |bench| {
        bench.iter(|| sum_of_columns(&arrow));
    });
    group.bench_function(
        "mapped rows one by one, checked and hashed, rows",
        |bench| {
            bench.iter(|| assert_eq!(count_rows(&arrow), ROWS));
        },
    );
    let parquet = path("trace.parquet");
    write(&parquet);
    group.bench_function(
        "Parquet rows one by one, checked and hashed, rows",
        |bench| {
            bench.iter(|| assert_eq!(count_rows(&parquet), ROWS));
        },
    );
    let csv = path("trace.csv");
    write(&csv);
    let bytes = std::fs::metadata(&csv).map_or(0, |file| file.len());
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("CSV rows one by one, bytes", |bench| {
        bench.iter(|| assert_eq!(count_rows(&csv), ROWS));
    });
    group.finish();
    for file in [&arrow, &parquet, &csv] {
        let length = std::fs::metadata(file).map_or(0, |file| file.len());
        println!("{}: {length} bytes", file.display());
    }
}

criterion_group!(benches, reading);
criterion_main!(benches);
